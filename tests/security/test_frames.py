"""Frames that no peer of ours would send: a protocol error, the connection's end, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
import tracemalloc
from typing import Any, Dict, Iterator, List, Optional, Tuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy import ProcMesh, wire
from logmesh_ipy.bounds import MAX_DEPTH, MAX_VALUES, check_plain
from logmesh_ipy.channel import Connection, Handler, Server, dial, serve
from logmesh_ipy.errors import ProtocolError
from logmesh_ipy.frames import MAX_FRAME_BYTES, FrameDecoder, frame
from logmesh_ipy.handshake import Role
from logmesh_ipy.log_client_actor import LogClientActor
from logmesh_ipy.model import (
    LogForwardMessage,
    LoggerRuntimeMessage,
    LogMessage,
    OutputTarget,
    ProcInfo,
)
from logmesh_ipy.rpc import Caller
from logmesh_ipy.store import LogStore
from logmesh_ipy.wire import (
    Ack,
    Attach,
    Call,
    Challenge,
    Drained,
    End,
    Event,
    Fenced,
    Flushed,
    GapFrame,
    Hello,
    Message,
    Open,
    Ping,
    Received,
    Reply,
    Resume,
    Welcome,
    Written,
    decode,
    encode,
)
from tests.faults.conftest import WHOLE, nothing_is_left, rounds, seed, start
from tests.integration.conftest import MeshMaker, run_async, until
from tests.security.strangers import Member, Stranger, mutated
from tests.support import wait_until

__all__ = ["nothing_is_left", "seed", "start"]

TOKEN = b"t" * 32
AT_ONCE_SEC = 1.0
MB = 1 << 20


def good_frames() -> List[bytes]:
    """One of each kind that travels, as they look in life."""
    said: List[Message] = [
        LogMessage.Log(
            proc=0, epoch=1, generation=1, output_target=OutputTarget.STDOUT, seq=0, offset=0,
            size=12, lines=2, wall=1.7e9, mono=5.0, pid=7, hostname="node", ends_line=True,
            payload=b"step 1\nloss\n",
        ),
        LogMessage.Flush(sync_version=3),
        LogForwardMessage.SetMode(stream_to_client=True),
        LogForwardMessage.ForceSyncFlush(version=4),
        LoggerRuntimeMessage.SetLogging(level=20),
        Challenge(version=1, package="0.6", nonce=bytes(16)),
        Hello(version=1, package="0.6", role="run", name="0", nonce=bytes(16), proof=bytes(32)),
        Welcome(proof=bytes(32)),
        Open(proc=0, epoch=1, generation=1, target=1, pid=7, hostname="node"),
        Attach(proc=0, epoch=1, generation=1, pid=7, hostname="node"),
        Resume(proc=0, epoch=1, generation=1, next_stdout=5, next_stderr=6),
        Ack(proc=0, epoch=1, target=1, next_seq=5),
        GapFrame(
            proc=0, epoch=1, generation=1, target=1, seq=0, last_seq=3, offset=0, size=100,
            lines=4, ends_line=True, reason="the disk is full",
        ),
        End(proc=0, epoch=1, generation=1, target=2, seq=0),
        Written(proc=0, epoch=1, target=1, next_seq=2, lines=3, bytes=40),
        Ping(n=1),
        Drained(version=3, target=1, next_seq=4),
        Flushed(proc=0, version=3, next_stdout=5, next_stderr=6),
        Call(n=1, method="spawn", args={"procs": [{"proc": 1, "environ": {"A": "b"}}]}),
        Reply(n=1, ok=True, value={"0": {"pid": 7, "streams": {"stdout": {"lines": 10**12}}}}),
        Event(name="exited", args={"proc": 0, "code": -9}),
        Received(count=3, sent=4),
    ]  # fmt: skip
    return [encode(message) for message in said]


GOOD = good_frames()
SPOKEN = {Role.FORWARDER: {1, 3, 4, 5, 9, 13, 15}, Role.RUN: {9, 49, 50, 51}}
"""Kinds that peers of these roles send."""


def bodies_of(opening: bytes) -> Iterator[bytes]:
    """A body that begins so, bare and with as much behind it as a frame takes."""
    yield opening
    yield opening.ljust(MAX_FRAME_BYTES - 1, b"\xc0")
    yield opening.ljust(MAX_FRAME_BYTES - 1, b"\x90")


BOMBS: Dict[str, bytes] = {
    "an array of 2^32-1": b"\x93\x01\xc3\xdd\xff\xff\xff\xff",
    "a map of 2^32-1": b"\x93\x01\xc3\xdf\xff\xff\xff\xff",
    "a text of 2^32-1": b"\x93\x01\xc3\xdb\xff\xff\xff\xff",
    "bytes of 2^32-1": b"\x93\x01\xc3\xc6\xff\xff\xff\xff",
    "an extension of 2^32-1": b"\x93\x01\xc3\xc9\xff\xff\xff\xff\x05",
    "an extension": b"\x93\x01\xc3\xd4\x05\x00",
    "a time": b"\x93\x01\xc3\xd6\xff\x00\x00\x00\x00",
    "arrays 10,000 deep": b"\x93\x01\xc3" + b"\x91" * 10_000,
    "maps 10,000 deep": b"\x93\x01\xc3" + b"\x81\xa1k" * 10_000,
    "arrays of a million, 1,000 deep": b"\x93\x01\xc3" + b"\xdd\x00\x0f\xf0\x00" * 1000,
    "arrays of 65,535, 1,000 deep": b"\x93\x01\xc3" + b"\xdc\xff\xff" * 1000,
    "maps of a million, 1,000 deep": b"\x93\x01\xc3" + b"\xdf\x00\x0f\xf0\x00\x01" * 1000,
    "an array of a million arrays": b"\x93\x01\xc3\xdd\x00\x0f\xf0\x00",
    "an array as a key": b"\x93\x01\xc3\x81\x91\x01\x01",
    "nothing that is msgpack": b"\xc1",
}


def refusals(kind: int, body: bytes) -> Optional[str]:
    """What the decoder says against a body; None where it takes it."""
    try:
        decode(kind, body)
    except ProtocolError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once_and_costs_no_memory(name: str) -> None:
    """Measured with all that lies behind it, so that what it claims might be there."""
    for body in bodies_of(BOMBS[name]):
        for kind in (3, 33, 48, 49):
            tracemalloc.start()
            try:
                began = time.process_time()
                assert refusals(kind, body) is not None
                seconds = time.process_time() - began
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 2 * MB, f"{peak:,} bytes for a {kind} of {len(body):,}"
            assert seconds < 0.5, f"{seconds:.2f} s"


def test_the_measure_of_memory_sees_what_a_plain_decoder_does() -> None:
    tracemalloc.start()
    try:
        msgpack.unpackb(b"\xdd\x00\x02\x00\x00" + b"\x90" * 0x20000)
        assert tracemalloc.get_traced_memory()[1] > 4 * MB
    finally:
        tracemalloc.stop()


def test_the_largest_value_that_is_allowed_passes_and_one_more_does_not() -> None:
    most = MAX_VALUES - 4  # the array of three, its first two, and the list itself
    assert decode(49, msgpack.packb([1, True, [None] * most])) == Reply(
        n=1, ok=True, value=[None] * most
    )
    assert "more than" in str(refusals(49, msgpack.packb([1, True, [None] * (most + 1)])))
    with pytest.raises(ProtocolError, match="more than 131,072 values"):
        encode(Reply(n=1, ok=True, value=[None] * (most + 1)))


# --- the walk over the bytes agrees with the decoder --------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
scalars |= st.binary(max_size=300) | st.text(min_size=30, max_size=40)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=20)
    ),
    max_leaves=60,
)


def walks(body: bytes) -> bool:
    try:
        check_plain(body)
    except ProtocolError:
        return False
    return True


def depth_of(value: Any) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    inner = value if isinstance(value, list) else value.values()
    return 1 + max(map(depth_of, inner), default=0)


@given(values)
@settings(max_examples=300 if WHOLE else 50)
def test_whatever_is_plain_passes_the_walk_and_no_shorter_or_longer_one_does(value: Any) -> None:
    body: bytes = msgpack.packb(value)
    assert walks(body) == (depth_of(value) <= MAX_DEPTH)
    assert not walks(body + b"\xc0")
    assert not walks(body[:-1])


@given(st.binary(max_size=60))
@settings(max_examples=2000 if WHOLE else 300)
def test_what_passes_the_walk_is_msgpack_to_the_decoder_too(body: bytes) -> None:
    """Any bytes: texts may be no UTF-8 and keys of any kind, all else is the decoder's."""
    try:
        msgpack.unpackb(body, strict_map_key=False, raw=True)
        takes = True
    except (ValueError, msgpack.UnpackException):
        takes = False
    except TypeError:  # a key that cannot be one
        takes = True
    if walks(body):
        assert takes


# --- fuzz, without a socket ---------------------------------------------------------------------


def rss() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.timeout(900 if WHOLE else 120)
def test_fuzzed_frames_raise_nothing_but_protocol_errors(cut: str, seed: random.Random) -> None:
    """And all frames that come out are such that the encoder makes the same of them again."""
    count = rounds(10_000, 1_000_000)
    decoder = FrameDecoder()
    refused = taken = 0
    before = 0
    began = time.monotonic()
    for number in range(count):
        if number == count // 10:
            before = rss()
        data = mutated(seed, seed.choice(GOOD))
        pieces = [data] if cut == "whole" else [data[at : at + 1] for at in range(len(data))]
        try:
            for piece in pieces:
                for kind, body in decoder.feed(piece):
                    message = decode(kind, body)
                    taken += 1
                    if number % 16 == 0:
                        again = encode(message)
                        assert decode(again[4], again[5:]) == message
        except ProtocolError:
            refused += 1
            decoder = FrameDecoder()
        if decoder.pending_bytes and seed.random() < 0.8:
            decoder = FrameDecoder()  # else the next one's beginning is taken for the rest
    grown = rss() - before
    sys.stdout.write(
        f"{count:,} frames {cut}: {refused:,} refused, {taken:,} taken, "
        f"memory {grown / MB:+.1f} MB, {time.monotonic() - began:.0f} s\n"
    )
    assert refused > count // 4
    assert taken > count // 50
    assert grown < 8 * MB


# --- a live server ------------------------------------------------------------------------------


class Kernel:
    """A client's end beside a mesh that runs, on the same loop: what hurts it hurts the mesh."""

    def __init__(self, mesh: ProcMesh) -> None:
        self.mesh = mesh
        self.loop = mesh.instance.loop
        self.store = LogStore(memory_bytes=1 << 20)
        self.trouble: List[Dict[str, Any]] = []
        self.protocol_errors = 0
        self.server = self.loop.submit(self._open()).get(10)

    async def _open(self) -> Server:
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: self.trouble.append(context)
        )
        self.actor = LogClientActor(self.store)
        for proc in (0, 1, 2):
            self.actor.expect(ProcInfo(proc=proc, rank=proc, pid=0, hostname="node"))
        address = f"unix:{self.mesh.instance.directory}/fuzz.sock"
        return await serve(address, self._accept, TOKEN)

    def _accept(self, connection: Connection) -> Handler:
        assert connection.peer is not None
        if connection.peer[0] is Role.FORWARDER:
            return self.actor
        return Caller().connected(connection)

    def close(self) -> None:
        self.loop.call(self.server.close)
        wait_until(lambda: not self.server.connections, 5)
        self.store.close()


@pytest.fixture
def kernel(start: MeshMaker) -> Iterator[Kernel]:
    made = Kernel(start(1))
    yield made
    made.close()


def honest_peer_gets_through(kernel: Kernel) -> None:
    kernel.mesh.run("print('on it goes')").get(10)
    assert kernel.mesh.flush(10).get()
    with Member(kernel.server.address, TOKEN, Role.FORWARDER, "0") as member:
        generation = kernel.actor.records[0].generation
        member.say(encode(Attach(proc=0, epoch=2**32, generation=generation, pid=7, hostname="n")))
        assert type(member.hear()) is LogForwardMessage.SetMode


ABSURD: Dict[str, bytes] = {
    "4 GiB": b"\xff\xff\xff\xff\x01",
    "1 MiB and a byte": (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
    "no bytes": b"\0\0\0\0",
    "an unknown kind": frame(200, b"\xc0"),
    "a kind of the other side": encode(Fenced(proc=0, generation=1)),
    "a handshake once more": GOOD[6],
    "a Log that lies": frame(1, bytes(59)),
    **{name: frame(49, body) for name, body in BOMBS.items()},
    **{f"{name}, long": frame(3, [*bodies_of(body)][1]) for name, body in BOMBS.items()},
}  # fmt: skip


@pytest.mark.parametrize("role", [Role.FORWARDER, Role.RUN, None], ids=["forwarder", "run", "none"])
def test_an_absurd_frame_ends_its_connection_at_once_and_nothing_else(
    kernel: Kernel, role: Optional[Role]
) -> None:
    """From peers that have proved themselves, and from one that has not."""
    before = rss()
    slowest = 0.0
    for name, data in ABSURD.items():
        for piece in (len(data), 1):
            if piece == 1 and len(data) > 100:
                continue
            caller: Any
            if role is None:
                caller = Stranger(kernel.server.address)
            else:
                caller = Member(kernel.server.address, TOKEN, role, "0")
            with caller:
                began = time.monotonic()
                for at in range(0, len(data), piece):
                    caller.say(data[at : at + piece])
                assert caller.is_closed_within(5), name
                slowest = max(slowest, time.monotonic() - began)
    sys.stdout.write(
        f"slowest end {slowest * 1000:.1f} ms, memory {(rss() - before) / MB:+.1f} MB\n"
    )
    assert slowest < AT_ONCE_SEC
    assert rss() - before < 16 * MB
    assert kernel.trouble == []
    honest_peer_gets_through(kernel)


@pytest.mark.parametrize("role", [Role.FORWARDER, Role.RUN, None], ids=["forwarder", "run", "none"])
@pytest.mark.timeout(600 if WHOLE else 120)
def test_a_live_server_stands_fuzzed_frames(
    kernel: Kernel, role: Optional[Role], seed: random.Random
) -> None:
    """Several in a row on each connection, some cut into bytes, until it is closed."""
    frames, connections = 0, 0
    count = rounds(1500, 350_000)
    before = 0
    began = time.monotonic()
    while frames < count:
        if not before and frames > count // 5:
            before = rss()
        connections += 1
        caller: Any
        if role is None:
            caller = Stranger(kernel.server.address)
        else:
            caller = Member(kernel.server.address, TOKEN, role, str(seed.randrange(3)))
        with caller:
            good = [one for one in GOOD if role is None or one[4] in SPOKEN[role]]
            batch = [
                mutated(seed, one) if seed.random() < 0.5 else one
                for one in seed.choices(good, k=seed.randint(1, 60))
            ]
            frames += len(batch)
            data = b"".join(batch)
            step = 1 if seed.random() < 0.05 else len(data)
            for at in range(0, len(data), step):
                if not caller.say(data[at : at + step]):
                    break
            # It hears an end behind what it has not refused, and not before it has read all.
            with contextlib.suppress(OSError):
                caller.sock.shutdown(socket.SHUT_WR)
            assert caller.is_closed_within(5)
    if role is None:
        wait_until(lambda: kernel.server.refused.count == connections, 10, "all were refused")
    wait_until(lambda: not kernel.server.connections, 10)
    grown = rss() - before
    sys.stdout.write(
        f"{frames:,} frames on {connections:,} connections: memory {grown / MB:+.1f} MB, "
        f"{time.monotonic() - began:.0f} s; {kernel.server.refused}\n"
    )
    assert kernel.trouble == []
    assert grown < 16 * MB
    honest_peer_gets_through(kernel)


def test_a_handler_that_cannot_cope_loses_that_connection_and_the_owner_is_told(
    nothing_is_left: str,
) -> None:
    lost: List[Optional[Exception]] = []

    class Clumsy:
        def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
            if body == msgpack.packb([13]):
                raise ZeroDivisionError("thirteen")
            connection.send(Ping(n=1))

        def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
            lost.append(error)

    class Hearing:
        def __init__(self) -> None:
            self.heard = 0
            self.lost = False

        def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
            self.heard += 1

        def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
            self.lost = True

    async def main() -> None:
        told: List[Tuple[str, Exception]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: told.append((context["message"], context["exception"]))
        )
        server = await serve(f"unix:{nothing_is_left}/x.sock", lambda _: Clumsy(), TOKEN)
        first, second = Hearing(), Hearing()
        unlucky = await dial(server.address, first, TOKEN)
        lucky = await dial(server.address, second, TOKEN)
        unlucky.send(Ping(n=13))
        await until(lambda: first.lost)
        lucky.send(Ping(n=1))
        await until(lambda: second.heard)
        assert not second.lost
        assert [type(error) for error in lost] == [ZeroDivisionError]
        ((message, error),) = told
        assert message.startswith("logmesh_ipy: a frame from process")
        assert str(error) == "thirteen"
        server.close()
        await until(lambda: second.lost)

    run_async(main)


def test_the_decoders_limits_hold_in_msgpacks_own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the compiled msgpack refuses the same."""
    from msgpack import fallback

    def unpackb(packed: bytes, **limits: Any) -> Any:
        unpacker = fallback.Unpacker(None, max_buffer_size=len(packed), **limits)
        unpacker.feed(packed)
        try:
            value = unpacker._unpack()
        except msgpack.OutOfData:
            raise ValueError("incomplete") from None
        if unpacker._got_extradata():
            raise msgpack.ExtraData(value, unpacker._get_extradata())
        return value

    monkeypatch.setattr(wire.msgpack, "unpackb", unpackb)
    for good in GOOD[1:]:
        decode(good[4], good[5:])
    for body in BOMBS.values():
        for kind in (3, 6, 33, 49):
            assert refusals(kind, body) is not None
