"""The LogForwardActor on real sockets, with real senders and a real client."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Self, Tuple

import pytest

from logmesh_ipy.addresses import socket_path
from logmesh_ipy.channel import Connection, Server, dial, serve
from logmesh_ipy.errors import AddressInUseError, ProtocolError, TransportError
from logmesh_ipy.handshake import Role
from logmesh_ipy.local_log_sender import LocalLogSender
from logmesh_ipy.log_client_actor import LogClientActor
from logmesh_ipy.log_forward_actor import LogForwardActor
from logmesh_ipy.model import (
    BOOTSTRAP_LOG_CHANNEL,
    STREAMS,
    FlushReport,
    LogClientMessage,
    LogForwardMessage,
    LogMessage,
    OutputTarget,
    ProcInfo,
)
from logmesh_ipy.sequence import SendQueue
from logmesh_ipy.sockets import any_address
from logmesh_ipy.spool import FileSpool
from logmesh_ipy.stream_fwder import RecentLines, StreamFwder
from logmesh_ipy.uplink import Uplink
from logmesh_ipy.wire import (
    Attach,
    Drained,
    Fenced,
    Flushed,
    FlushRequest,
    Message,
    Open,
    Ping,
    Pong,
    Resume,
    decode,
    encode,
)
from tests.integration.conftest import ERR, OUT, run_async, until

TOKEN = secrets.token_bytes(32)


class Sink:
    """Keeps what arrives as bytes per proc and stream."""

    def __init__(self) -> None:
        self.data: Dict[Tuple[int, OutputTarget], bytearray] = {}
        self.batches = 0
        self.left_out = 0
        self.ended: List[Tuple[int, OutputTarget]] = []

    def append(self, info: ProcInfo, log: LogMessage.Log) -> None:
        self.batches += 1
        self.data.setdefault((info.proc, log.output_target), bytearray()).extend(log.payload)

    def leave_out(self, info: ProcInfo, target: OutputTarget, ends_line: bool) -> None:
        self.left_out += 1

    def end(self, info: ProcInfo, target: OutputTarget) -> None:
        self.ended.append((info.proc, target))

    def forget(self, proc: int) -> None:
        pass

    def of(self, target: OutputTarget = OUT, proc: int = 0) -> bytes:
        return bytes(self.data.get((proc, target), b""))


class Client:
    """A LogClientActor behind a real server."""

    def __init__(self, directory: str) -> None:
        self.sink = Sink()
        self.actor = LogClientActor(self.sink)
        self.address = f"unix:{directory}/client.sock"
        self.server: Optional[Server] = None

    async def serve(self) -> None:
        self.server = await serve(self.address, lambda connection: self.actor, TOKEN)
        self.actor.expect(ProcInfo(proc=0, rank=0, hostname="here", pid=1), has_runtime=False)

    def flush(self, timeout: Optional[float] = 10.0) -> asyncio.Future[FlushReport]:
        return self.actor.start_sync_flush(
            LogClientMessage.StartSyncFlush(expected_procs=(0,), timeout_sec=timeout)
        )

    def break_links(self) -> int:
        assert self.server is not None
        broken = list(self.server.connections)
        for connection in broken:
            connection.abort()
        return len(broken)


class Parent:
    """The bootstrap's side of one proc: two pipes, their StreamFwders and senders."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.spools: List[FileSpool] = []
        self.generation = 0
        self.connects = 0
        self._task: Optional[asyncio.Task[None]] = None
        self._closed = False
        self.write_fds: Dict[OutputTarget, int] = {}
        self.senders: Dict[OutputTarget, LocalLogSender] = {}
        self.fwders: Dict[OutputTarget, StreamFwder] = {}
        for target in STREAMS:
            read, self.write_fds[target] = os.pipe()
            os.set_blocking(read, False)
            spool = FileSpool(tempfile.gettempdir(), 1 << 30)
            self.spools.append(spool)
            sender = LocalLogSender(
                self, SendQueue(spool), proc=0, epoch=1, target=target, pid=1, hostname="here"
            )
            self.senders[target] = sender
            self.fwders[target] = StreamFwder(read, sender, recent=RecentLines(1000))

    async def start(self) -> None:
        for fwder in self.fwders.values():
            fwder.start()
        self.sender_lost(self.senders[OUT])
        await until(lambda: all(s.streaming for s in self.senders.values()), what="streaming")

    def write(self, data: bytes, target: OutputTarget = OUT) -> None:
        os.write(self.write_fds[target], data)

    def sender_lost(self, sender: LocalLogSender) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        while not all(sender.connected for sender in self.senders.values()):
            self.generation += 1
            self.connects += 1
            try:
                for sender in self.senders.values():
                    await sender.connect(self.address, self.generation)
            except OSError:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for target in STREAMS:
            self.senders[target].disconnect()
            self.fwders[target].close()
            os.close(self.write_fds[target])
        for spool in self.spools:
            spool.close()


class World:
    """A client, forwarders with their uplinks, a parent; closes all of it."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="logmesh-")
        self.client = Client(self.directory)
        self._close: List[Callable[[], Any]] = []
        self.fatal: List[Exception] = []

    async def __aenter__(self) -> Self:
        await self.client.serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        # asyncio leaks what it is accepting at the moment when its server is closed.
        await asyncio.sleep(0.01)
        for close in reversed(self._close):
            close()
        assert self.client.server is not None
        self.client.server.close()
        shutil.rmtree(self.directory)
        await asyncio.sleep(0)

    def address(self, name: str = "p0") -> str:
        return f"unix:{self.directory}/{name}.sock"

    async def forwarder(self, address: Optional[str], connect: bool = True) -> LogForwardActor:
        actor = LogForwardActor(address, proc=0, on_fatal=self.fatal.append)
        self._close.append(actor.close)
        if connect:
            uplink = Uplink(
                self.client.address,
                TOKEN,
                Role.FORWARDER,
                "0",
                on_frame=lambda kind, body: actor.client_message(decode(kind, body)),
                on_up=actor.link_up,
                on_down=actor.link_down,
            )
            actor.use_link(uplink)
            uplink.start()
            self._close.append(uplink.close)
        await actor.start()
        return actor

    async def parent(self, address: str) -> Parent:
        parent = Parent(address)
        self._close.append(parent.close)
        await parent.start()
        return parent


class Peer:
    """A raw connection to a forwarder's channel."""

    def __init__(self) -> None:
        self.received: List[Message] = []
        self.lost = False
        self.connection: Optional[Connection] = None

    @classmethod
    async def dial(cls, address: str) -> Peer:
        peer = cls()
        peer.connection = await dial(address, peer)
        return peer

    def send(self, message: Message) -> None:
        assert self.connection is not None
        self.connection.send(message)

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        self.received.append(decode(kind, body))

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        self.lost = True


class LinkSpy:
    """In the place of an uplink: keeps what the forwarder sends, in order."""

    def __init__(self) -> None:
        self.sent: List[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def send_bytes(self, data: bytes) -> None:
        self.sent.append(decode(data[4], data[5:]))


def opening(target: OutputTarget, generation: int = 1) -> Open:
    return Open(proc=0, epoch=1, generation=generation, target=target, pid=1, hostname="here")


def batch(seq: int, payload: bytes, generation: int = 1, offset: int = 0) -> LogMessage.Log:
    return LogMessage.Log(
        proc=0, epoch=1, generation=generation, output_target=OUT, seq=seq, offset=offset,
        size=len(payload), lines=payload.count(b"\n"), wall=0.0, mono=0.0, pid=1,
        hostname="here", ends_line=payload.endswith(b"\n"), payload=payload,
    )  # fmt: skip


def test_it_serves_the_address_that_bootstrap_log_channel_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with World() as world:
            monkeypatch.setenv(BOOTSTRAP_LOG_CHANNEL, world.address())
            named = LogForwardActor.address_from_environment()
            actor = await world.forwarder(named)
            assert actor.address == named == world.address()
            assert actor.stream_to_client
            peer = await Peer.dial(world.address())
            peer.send(Ping(n=7))
            await until(lambda: peer.received == [Pong(n=7)])
            assert peer.connection is not None
            peer.connection.abort()

    run_async(main)


def test_without_the_variable_it_serves_any_unix_address_and_barriers_still_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        monkeypatch.delenv(BOOTSTRAP_LOG_CHANNEL, raising=False)
        async with World() as world:
            actor = await world.forwarder(LogForwardActor.address_from_environment())
            directory = Path(socket_path(actor.address)).parent
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert not actor.stream_to_client
            for _ in range(3):
                report = await world.client.flush()
                assert report
                assert report.acked == ("rank 0",)
        assert not directory.exists()

    run_async(main)


def test_the_barrier_covers_every_byte_that_was_in_the_pipes_when_it_began() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            written = {OUT: b"", ERR: b""}
            for number in range(200):
                for target in STREAMS:
                    data = f"{number} {target.label}".encode() + b"\n" * (number % 3)
                    parent.write(data, target)
                    written[target] += data
                report = await world.client.flush()
                assert report
                assert {target: world.client.sink.of(target) for target in STREAMS} == written

    run_async(main)


def test_a_barrier_asks_both_parents_and_puts_its_marker_behind_their_data() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address(), connect=False)
            link = LinkSpy()
            actor.use_link(link)
            actor.link_up()
            out, err = await Peer.dial(actor.address), await Peer.dial(actor.address)
            out.send(opening(OUT))
            err.send(opening(ERR))
            await until(lambda: any(type(m) is Attach for m in link.sent))
            actor.client_message(
                Resume(proc=0, epoch=1, generation=1, next_stdout=0, next_stderr=0)
            )
            actor.client_message(LogForwardMessage.ForceSyncFlush(version=5))
            for peer in (out, err):
                await until(
                    lambda peer=peer: FlushRequest(version=5) in peer.received  # type: ignore[misc]
                )
            offset = 0
            for seq in range(100):
                out.send(batch(seq, b"x" * 1000 + b"\n", offset=offset))
                offset += 1001
            out.send(Drained(version=5, target=OUT, next_seq=0))
            out.send(Ping(n=1))
            await until(lambda: Pong(n=1) in out.received)
            assert not any(type(m) is Flushed for m in link.sent), "stderr is not drained yet"
            err.send(Drained(version=5, target=ERR, next_seq=0))
            await until(lambda: type(link.sent[-1]) is Flushed)
            kinds = [type(message) for message in link.sent]
            assert kinds == [Attach] + [LogMessage.Log] * 100 + [Flushed]
            out.connection.abort()  # type: ignore[union-attr]
            err.connection.abort()  # type: ignore[union-attr]

    run_async(main)


class Relay:
    """A forwarder between raw parents and a LinkSpy, both streaming under generation 1."""

    def __init__(self, actor: LogForwardActor) -> None:
        self.actor = actor
        self.link = LinkSpy()
        self.peers: Dict[OutputTarget, Peer] = {}
        actor.use_link(self.link)
        actor.link_up()

    async def open(self, generation: int) -> None:
        for target in STREAMS:
            peer = self.peers[target] = await Peer.dial(self.actor.address)
            peer.send(opening(target, generation))
        await until(lambda: self.attached == generation)
        self.actor.client_message(
            Resume(proc=0, epoch=1, generation=generation, next_stdout=0, next_stderr=0)
        )
        for peer in self.peers.values():
            await until(lambda peer=peer: peer.received)  # type: ignore[misc]
            assert type(peer.received[0]) is Resume

    @property
    def attached(self) -> int:
        return max((m.generation for m in self.link.sent if type(m) is Attach), default=0)

    @property
    def flushed(self) -> List[int]:
        return [m.version for m in self.link.sent if type(m) is Flushed]

    async def drain(self, target: OutputTarget, version: int) -> None:
        peer = self.peers[target]
        await until(lambda: FlushRequest(version=version) in peer.received)
        peer.send(Drained(version=version, target=target, next_seq=0))
        peer.send(Ping(n=version))
        await until(lambda: peer.lost or Pong(n=version) in peer.received)

    def close(self) -> None:
        for peer in self.peers.values():
            peer.connection.abort()  # type: ignore[union-attr]


def test_a_barrier_that_a_broken_link_met_drains_both_streams_again() -> None:
    async def main() -> None:
        async with World() as world:
            relay = Relay(await world.forwarder(world.address(), connect=False))
            await relay.open(1)
            relay.actor.client_message(LogForwardMessage.ForceSyncFlush(version=4))
            await relay.drain(OUT, 4)
            relay.actor.link_down(None)
            await until(lambda: all(peer.lost for peer in relay.peers.values()))
            relay.actor.link_up()
            await relay.open(2)
            # What stdout had drained may have gone down with the link: it is asked again.
            await relay.drain(ERR, 4)
            assert relay.flushed == []
            await relay.drain(OUT, 4)
            await until(lambda: relay.flushed == [4])
            relay.close()

    run_async(main)


def test_a_marker_posted_before_the_link_broke_proves_nothing() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address(), connect=False)
            relay = Relay(actor)
            post = actor._post

            def post_and_break(version: int) -> None:
                post(version)
                actor._post = post  # type: ignore[method-assign]
                actor.link_down(None)
                actor.link_up()

            await relay.open(1)
            actor._post = post_and_break  # type: ignore[method-assign]
            actor.client_message(LogForwardMessage.ForceSyncFlush(version=4))
            for target in STREAMS:
                await relay.drain(target, 4)
            await relay.open(2)
            peer = await Peer.dial(actor.address)
            peer.send(Ping(n=9))
            await until(lambda: Pong(n=9) in peer.received)
            assert relay.flushed == []
            actor.client_message(LogForwardMessage.ForceSyncFlush(version=4))
            for target in STREAMS:
                await relay.drain(target, 4)
            await until(lambda: relay.flushed == [4])
            peer.connection.abort()  # type: ignore[union-attr]
            relay.close()

    run_async(main)


def test_a_connection_that_is_closed_ends_though_a_forked_process_holds_a_copy() -> None:
    async def main() -> None:
        async with World() as world:
            accepted: List[Connection] = []

            def accept(connection: Connection) -> Peer:
                accepted.append(connection)
                return Peer()

            server = await serve(world.address(), accept)
            peer = await Peer.dial(world.address())
            await until(lambda: accepted)
            transport = accepted[0]._transport
            assert transport is not None
            copy = os.dup(transport.get_extra_info("socket").fileno())
            try:
                accepted[0].abort()
                await until(lambda: peer.lost)
            finally:
                os.close(copy)
                server.close()

    run_async(main)


def test_a_marker_that_it_did_not_post_is_refused() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address(), connect=False)
            link = LinkSpy()
            actor.use_link(link)
            peer = await Peer.dial(actor.address)
            peer.send(LogMessage.Flush(sync_version=None))
            peer.send(LogMessage.Flush(sync_version=1))
            await until(lambda: peer.lost)
            assert link.sent == []

    run_async(main)


def test_it_beats_once_a_second() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address(), connect=False)
            started, first = time.monotonic(), actor.heartbeats
            await until(lambda: actor.heartbeats >= first + 2)
            assert 1.8 < time.monotonic() - started < 3.5

    run_async(main)


def test_in_silent_mode_batches_are_skipped_and_counted() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            client = world.client
            parent.write(b"heard\n")
            assert await client.flush()
            client.actor.set_mode([0], stream_to_client=False, level=None)
            parent.write(b"one\ntwo\n")
            assert await client.flush()
            totals = client.actor.totals()
            assert (totals.stored_lines, totals.skipped_lines) == (1, 2)
            assert totals.skipped_bytes == len(b"one\ntwo\n")
            assert totals.in_flight_bytes == 0
            client.actor.set_mode([0], stream_to_client=True, level=None)
            parent.write(b"again\n")
            assert await client.flush()
            assert client.sink.of() == b"heard\nagain\n"
            assert client.sink.left_out == 1

    run_async(main)


def test_silent_mode_holds_from_the_first_batch_of_a_new_forwarder() -> None:
    async def main() -> None:
        async with World() as world:
            client = world.client
            client.actor.set_mode([0], stream_to_client=False, level=None)
            actor = await world.forwarder(world.address())
            parent = Parent(actor.address)
            world._close.append(parent.close)
            parent.write(b"not to be heard\n")
            await parent.start()
            assert await client.flush()
            assert client.sink.of() == b""
            assert client.actor.totals().skipped_lines == 1

    run_async(main)


def test_an_address_that_is_served_is_refused_in_words() -> None:
    async def main() -> None:
        async with World() as world:
            await world.forwarder(world.address(), connect=False)
            with pytest.raises(AddressInUseError, match="is already served by another process"):
                await serve(world.address(), lambda connection: Peer())

    run_async(main)


@pytest.mark.parametrize("taken", ["served", "impossible"])
def test_where_its_address_cannot_be_served_it_serves_another_and_says_so(taken: str) -> None:
    async def main() -> None:
        async with World() as world:
            if taken == "served":
                address = world.address()
                await world.forwarder(address, connect=False)
            else:
                address = f"unix:{world.directory}/missing/p0.sock"
            second = await world.forwarder(address)
            assert second.address != address
            (error,) = world.fatal
            assert f"serving {second.address} instead" in str(error)
            assert ("already served" if taken == "served" else "cannot serve") in str(error)
            peer = await Peer.dial(second.address)
            peer.send(Ping(n=1))
            await until(lambda: peer.received)
            peer.connection.abort()  # type: ignore[union-attr]
            # It has no parents, so it must not answer for what they may still hold.
            report = await world.client.flush(timeout=0.2)
            assert report.late == ("rank 0",)

    run_async(main)


def test_a_stale_socket_file_is_taken_over() -> None:
    async def main() -> None:
        async with World() as world:
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(socket_path(world.address()))
                stale.listen()
            actor = await world.forwarder(world.address())
            assert actor.address == world.address()
            parent = await world.parent(actor.address)
            parent.write(b"line\n")
            assert await world.client.flush()

    run_async(main)


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")

    async def main() -> None:
        with pytest.raises(TransportError, match="cannot serve"):
            await serve(f"unix:{path}", lambda connection: Peer())

    run_async(main)
    assert path.read_text() == "precious"


def test_links_broken_in_the_middle_lose_and_double_nothing(seed: random.Random) -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            written = {OUT: bytearray(), ERR: bytearray()}
            over = threading.Event()

            def write() -> None:
                number = 0
                while not over.is_set():
                    for target in STREAMS:
                        data = f"{number} {target.label} {'x' * (number % 300)}\n".encode()
                        # It may wait for this loop to empty the pipe: so nothing waits for it.
                        os.write(parent.write_fds[target], data)
                        written[target] += data
                    number += 1
                    if number % 10 == 0:
                        time.sleep(0.001)

            thread = threading.Thread(target=write, name="writer")
            thread.start()
            try:
                for _ in range(25):
                    await asyncio.sleep(seed.uniform(0.0, 0.05))
                    before = {target: bytes(written[target]) for target in STREAMS}
                    report = world.client.flush()
                    await asyncio.sleep(seed.choice([0.0, 0.0, 0.001, 0.003]))
                    world.client.break_links()
                    assert await report, "the barrier completes on the next link"
                    for target in STREAMS:
                        arrived = world.client.sink.of(target)
                        assert arrived[: len(before[target])] == before[target]
            finally:
                over.set()
                await asyncio.to_thread(thread.join)
            assert await world.client.flush()
            assert {t: world.client.sink.of(t) for t in STREAMS} == written
            assert parent.connects > 10
            assert world.client.actor.protocol_errors == 0
            assert world.client.actor.totals().in_flight_bytes == 0

    run_async(main)


def test_what_a_flat_out_writer_prints_line_by_line_travels_in_large_batches() -> None:
    lines, line = 200_000, "x" * 99
    source = f"for _ in range({lines}): print({line!r}, flush=True)"

    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            writer = await asyncio.create_subprocess_exec(
                sys.executable, "-c", source, stdout=parent.write_fds[OUT]
            )
            try:
                assert await asyncio.wait_for(writer.wait(), 60) == 0
            finally:
                if writer.returncode is None:
                    writer.kill()
            assert await world.client.flush()
            sink = world.client.sink
            assert sink.of(OUT) == f"{line}\n".encode() * lines
            assert len(sink.of(OUT)) / sink.batches > 16 << 10

    run_async(main)


def test_a_batch_that_the_store_cannot_take_is_a_gap_and_not_silence() -> None:
    async def main() -> None:
        async with World() as world:
            shown: List[str] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda loop, context: shown.append(context["message"])
            )
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            append = world.client.sink.append

            def refuse(*_: object) -> None:
                world.client.sink.append = append  # type: ignore[method-assign]
                raise OSError("no space")

            world.client.sink.append = refuse  # type: ignore[assignment, method-assign]
            parent.write(b"lost\n")
            report = await world.client.flush()
            assert [(gap.lines, gap.bytes) for gap in report.gaps] == [(1, 5)]
            assert shown == ["the store failed: OSError: no space"]
            parent.write(b"kept\n")
            assert await world.client.flush()
            assert world.client.sink.of() == b"kept\n"
            assert world.client.sink.left_out == 1
            totals = world.client.actor.totals()
            assert (totals.written_lines, totals.stored_lines, totals.gap_lines) == (2, 1, 1)
            assert parent.connects == 1

    run_async(main)


def test_the_end_of_a_stream_is_sent_again_until_it_is_known() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            parent.write(b"last words")
            parent.fwders[OUT].read_available()
            parent.fwders[OUT].close()
            parent.senders[OUT].end()
            world.client.break_links()
            await until(lambda: parent.senders[OUT].finished)
            assert world.client.sink.ended == [(0, OUT)]
            assert world.client.sink.of() == b"last words"

    run_async(main)


def test_what_an_older_generation_still_sends_is_fenced() -> None:
    async def main() -> None:
        async with World() as world:
            old = await world.forwarder(world.address("old"))
            out, err = await Peer.dial(old.address), await Peer.dial(old.address)
            out.send(opening(OUT))
            err.send(opening(ERR))
            await until(lambda: any(type(m) is Resume for m in out.received))
            out.send(batch(0, b"from the old one\n"))
            await until(lambda: world.client.sink.of() == b"from the old one\n")

            new = await world.forwarder(world.address("new"))
            parent = Parent(new.address)
            world._close.append(parent.close)
            parent.generation = 1
            parent.senders[OUT].queue.push(b"from the old one\n", 0.0, 0.0)
            await parent.start()
            assert old._link is not None
            old._link.send(batch(1, b"from the dead\n", offset=17))
            parent.write(b"from the new one\n")
            assert await world.client.flush()
            old._link.send(batch(1, b"from the dead\n", offset=17))
            assert await world.client.flush()
            assert world.client.sink.of() == b"from the old one\nfrom the new one\n"
            await until(lambda: out.lost and err.lost, what="the old one is told to stop")

    run_async(main)


def test_an_attach_of_an_older_generation_is_answered_by_fenced() -> None:
    async def main() -> None:
        async with World() as world:
            answers: List[Message] = []
            up = asyncio.Event()
            uplink = Uplink(
                world.client.address,
                TOKEN,
                Role.FORWARDER,
                "0",
                on_frame=lambda kind, body: answers.append(decode(kind, body)),
                on_up=up.set,
                on_down=lambda error: None,
            )
            uplink.start()
            await up.wait()
            attach = Attach(proc=0, epoch=1, generation=3, pid=1, hostname="here")
            uplink.send(attach)
            uplink.send(replace(attach, generation=2))
            await until(lambda: Fenced(proc=0, generation=2) in answers)
            assert [type(m) for m in answers if type(m) in (Resume, Fenced)] == [Resume, Fenced]
            uplink.close()

    run_async(main)


def test_who_attaches_for_a_proc_that_was_given_up_is_fenced() -> None:
    async def main() -> None:
        async with World() as world:
            answers: List[Message] = []
            up = asyncio.Event()
            uplink = Uplink(
                world.client.address,
                TOKEN,
                Role.FORWARDER,
                "0",
                on_frame=lambda kind, body: answers.append(decode(kind, body)),
                on_up=up.set,
                on_down=lambda error: None,
            )
            world.client.actor.host_lost([0], "gone")
            uplink.start()
            await up.wait()
            uplink.send(Attach(proc=0, epoch=1, generation=3, pid=1, hostname="here"))
            await until(lambda: Fenced(proc=0, generation=3) in answers)
            assert not any(type(answer) is Resume for answer in answers)
            uplink.close()

    run_async(main)


def test_a_parent_of_another_proc_or_stream_is_refused() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address(), connect=False)
            for wrong in (replace(opening(OUT), proc=1), replace(opening(OUT), target=3)):
                peer = await Peer.dial(actor.address)
                peer.send(wrong)
                await until(lambda peer=peer: peer.lost)  # type: ignore[misc]
            peer = await Peer.dial(actor.address)
            peer.send(Drained(version=1, target=OUT, next_seq=0))
            await until(lambda: peer.lost)

    run_async(main)


def test_any_address_is_free_and_private() -> None:
    first, second = any_address(), any_address()
    assert first != second
    for address in (first, second):
        directory = os.path.dirname(socket_path(address))
        assert os.stat(directory).st_mode & 0o777 == 0o700
        os.rmdir(directory)


def test_frames_that_no_forwarder_sends_close_the_parents_connection() -> None:
    async def main() -> None:
        async with World() as world:
            actor = await world.forwarder(world.address())
            parent = await world.parent(actor.address)
            sender = parent.senders[OUT]
            frame = encode(Drained(version=1, target=OUT, next_seq=0))
            with pytest.raises(ProtocolError):
                sender.frame_received(sender._connection_or_fail(), frame[4], frame[5:])

    run_async(main)
