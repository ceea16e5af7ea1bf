"""Frames doubled, replayed, swapped, held back, left out; and a peer that has the token and lies.

What a stream between two honest ends cannot do, a relay can. Whatever comes, the store holds each
line once and in order, a barrier that says so is true, and honest forwarders get through again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Callable, Dict, Iterator, List

import pytest

from logmesh_ipy import ProcMesh
from logmesh_ipy.channel import Connection, dial
from logmesh_ipy.frames import HEADER
from logmesh_ipy.handshake import Role
from logmesh_ipy.model import LogMessage, OutputTarget
from logmesh_ipy.wire import (
    Attach,
    End,
    Fenced,
    Flushed,
    GapFrame,
    Message,
    Ping,
    Resume,
    Written,
    decode,
    encode,
)
from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import Proxy
from tests.faults.test_links import (
    Behind,
    Counting,
    assert_covered,
    behind,
    client_socket,
    cut_all,
    written_by,
)
from tests.integration.conftest import MeshMaker, run_async, until
from tests.support import wait_until

__all__ = ["behind"]

_HANDSHAKE = range(32, 36)


class Twist:
    """Does to frames towards the client what no stream does; ``counts`` tells what.

    A frame may be of any connection and generation before. The handshake is left alone.
    """

    def __init__(self, dice: random.Random, chance: float) -> None:
        self._dice = dice
        self._chance = chance
        self._seen: List[bytes] = []
        self.counts: Dict[str, int] = dict.fromkeys(
            ("doubled", "replayed", "swapped", "left out", "held back"), 0
        )
        self._held: List[bytes] = []

    def __call__(self, frames: List[bytes]) -> List[bytes]:
        out: List[bytes] = []
        for data in frames:
            if data[HEADER.size - 1] in _HANDSHAKE:
                out.append(data)
                continue
            self._remember(data)
            kind = self._dice.choice(list(self.counts))
            if self._dice.random() >= self._chance:
                out.append(data)
                continue
            self.counts[kind] += 1
            if kind == "doubled":
                out += [data, data]
            elif kind == "replayed":
                out += [data, *self._dice.choices(self._seen, k=3)]
            elif kind == "swapped":
                out.insert(self._dice.randrange(len(out) + 1) if self._no_hello(out) else 0, data)
            elif kind == "held back":
                self._held.append(data)
                if len(self._held) > 3:
                    out.append(self._held.pop(0))
        return out

    def _no_hello(self, frames: List[bytes]) -> bool:
        return not any(data[HEADER.size - 1] in _HANDSHAKE for data in frames)

    def _remember(self, data: bytes) -> None:
        if len(self._seen) < 200:
            self._seen.append(data)
        else:
            self._seen[self._dice.randrange(200)] = data


@pytest.mark.timeout(240)
def test_frames_doubled_replayed_swapped_and_left_out(
    start: MeshMaker, trial: Trial, seed: random.Random, behind: Behind
) -> None:
    mesh = start(2)
    seconds = rounds(2, 40)
    twist = Twist(seed, 0.02)
    proxy = behind(client_socket(mesh))
    proxy.twist = twist
    mesh.run("count = 0").get(10)
    lines = 2000 * seconds
    sources = trial.write_in_procs(mesh, lines=lines, rate=2000, streams="12")
    cut_all(mesh)
    runs = Counting(mesh)
    end = time.monotonic() + seconds
    flushes = true = 0
    while time.monotonic() < end:
        flushes += 1
        before = written_by(trial, sources)
        if mesh.flush(2).get(10):
            true += 1
            assert_covered(mesh, trial, before)
        time.sleep(seed.random() * 0.1)
    done = runs.stop()
    proxy.twist = None
    proxy.cut()
    for stream in (1, 2):
        trial.wait_for_lines(sources, lines, stream)
    # One that was late is not waited for until it has answered: ask until all have.
    wait_until(lambda: mesh.flush(10).get(15), 30, "a true barrier")
    duplicates = sum(
        ledger.duplicates
        for record in mesh.instance.actor.records.values()
        for ledger in record.ledgers.values()
    )
    sys.stdout.write(
        f"{twist.counts}, {proxy.connections} connections, {duplicates} duplicates dropped, "
        f"{mesh.instance.actor.protocol_errors} links closed for what came, "
        f"{true}/{flushes} barriers within 2 s, {done} runs\n"
    )
    assert sum(twist.counts.values()) > 0
    assert not WHOLE or (min(twist.counts.values()) and mesh.instance.actor.protocol_errors)
    trial.judge(mesh)


# --- one that has the token -----------------------------------------------------------------------


class Liar:
    """A forwarder by hand. ``said`` is what the client answers."""

    def __init__(self) -> None:
        self.said: List[Message] = []
        self.lost = False
        self._connection: Connection

    @classmethod
    async def dial(cls, mesh: ProcMesh, name: str = "0", role: Role = Role.FORWARDER) -> Liar:
        liar = cls()
        liar._connection = await dial(mesh.instance.address, liar, mesh.instance.token, role, name)
        return liar

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        self.said.append(decode(kind, body))

    def connection_lost(self, connection: Connection, error: object) -> None:
        self.lost = True

    def say(self, *messages: Message) -> None:
        for message in messages:
            self._connection.send_bytes(encode(message))

    async def heard(self, kind: type) -> Message:
        return await until(
            lambda: next((m for m in self.said if type(m) is kind), None), 10, str(kind)
        )  # type: ignore[return-value]

    def close(self) -> None:
        self._connection.abort()


def log(seq: int, offset: int, *, generation: int, epoch: int = 1, proc: int = 0) -> LogMessage.Log:
    payload = b"made up\n"
    return LogMessage.Log(
        proc=proc, epoch=epoch, generation=generation, output_target=OutputTarget.STDOUT, seq=seq,
        offset=offset, size=len(payload), lines=1, wall=0.0, mono=0.0, pid=1, hostname="x",
        ends_line=True, payload=payload,
    )  # fmt: skip


@pytest.fixture
def writing(start: MeshMaker, trial: Trial) -> Iterator[ProcMesh]:
    """A mesh of one proc that writes for a while; in the end all of it is there, once."""
    mesh = start(1)
    lines = rounds(1500, 5000)
    sources = trial.write_in_procs(mesh, lines=lines, rate=2000)
    trial.wait_for_lines(sources, 200)
    assert mesh.flush(10).get(15)
    yield mesh
    trial.wait_for_lines(sources, lines)
    assert mesh.flush(10).get(15)
    assert mesh.run("1").get(10) == {0: 1}
    assert trial.judge(mesh).written == lines


def test_older_generations_and_epochs_are_fenced(writing: ProcMesh) -> None:
    record = writing.instance.actor.records[0]
    generation, errors = record.generation, writing.instance.actor.protocol_errors
    assert generation >= 1

    async def main() -> None:
        for old in (
            Attach(proc=0, epoch=1, generation=generation - 1, pid=1, hostname="x"),
            Attach(proc=0, epoch=0, generation=generation, pid=1, hostname="x"),
        ):
            liar = await Liar.dial(writing)
            liar.say(old)
            assert await liar.heard(Fenced) == Fenced(proc=0, generation=old.generation)
            ledger = record.ledgers[OutputTarget.STDOUT]
            due = (ledger.next_seq, ledger.next_offset)
            liar.say(
                log(*due, generation=old.generation, epoch=old.epoch),
                log(*due, generation=generation),
                Written(proc=0, epoch=1, target=1, next_seq=10**6, lines=10**9, bytes=10**9),
                GapFrame(
                    proc=0, epoch=1, generation=generation, target=1, seq=due[0],
                    last_seq=10**6, offset=due[1], size=10**6, lines=0, ends_line=True, reason="-",
                ),
                End(proc=0, epoch=1, generation=generation, target=1, seq=due[0]),
                Flushed(proc=0, version=10**6, next_stdout=0, next_stderr=0),
            )  # fmt: skip
            liar.say(Attach(proc=99, epoch=1, generation=1, pid=1, hostname="x"))
            await until(lambda liar=liar: liar.lost)  # type: ignore[misc]
            assert not any(type(message) is Resume for message in liar.said)

    run_async(main)
    assert writing.instance.actor.protocol_errors == errors + 2
    assert record.generation == generation


def test_who_takes_a_proc_over_and_lies_about_its_numbers_is_closed_and_the_proc_comes_back(
    writing: ProcMesh,
) -> None:
    record = writing.instance.actor.records[0]

    async def main() -> None:
        wrong: List[Callable[[int], Message]] = [
            lambda generation: log(10**6, 0, generation=generation),
            lambda generation: log(0, 0, generation=generation, epoch=2),
            lambda generation: Written(proc=0, epoch=1, target=1, next_seq=10**6, lines=1, bytes=1),
            lambda generation: Flushed(proc=0, version=1, next_stdout=10**6, next_stderr=0),
            lambda generation: Flushed(proc=0, version=1, next_stdout=0, next_stderr=10**6),
            lambda generation: End(proc=0, epoch=1, generation=generation, target=1, seq=10**6),
            lambda generation: log(0, 0, generation=1, proc=77),
            lambda generation: Resume(proc=0, epoch=1, generation=1, next_stdout=0, next_stderr=0),
        ]
        for make in wrong:
            liar = await Liar.dial(writing)
            generation = record.generation
            attach = Attach(proc=0, epoch=1, generation=generation, pid=1, hostname="x")
            message = make(generation)
            # All at once: the honest one comes back within moments.
            liar.say(attach, log(0, 0, generation=generation), message)
            await until(lambda liar=liar: liar.lost, what=str(message))  # type: ignore[misc]
            await until(lambda: record.attached, what="the honest one is back")
            report = await writing.flush(10)
            assert report, report

    run_async(main, 60)
    assert record.ledgers[OutputTarget.STDOUT].duplicates >= 1


def test_who_takes_a_proc_over_and_stays_silent_does_not_keep_it(writing: ProcMesh) -> None:
    record = writing.instance.actor.records[0]

    async def main() -> None:
        liar = await Liar.dial(writing)
        liar.say(
            Attach(proc=0, epoch=1, generation=record.generation, pid=1, hostname="x"), Ping(n=0)
        )
        await liar.heard(Resume)
        await liar.heard(Fenced)
        assert await writing.flush(10)
        liar.close()

    run_async(main)


@pytest.mark.skipif(not WHOLE, reason="the whole round")
@pytest.mark.timeout(240)
def test_a_liar_that_never_stops(writing: ProcMesh, seed: random.Random) -> None:
    """Replays what it has seen of the proc's own numbers, in any order, for a while."""
    record = writing.instance.actor.records[0]

    async def main() -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            liar = await Liar.dial(writing)
            generation = seed.randrange(1, record.generation + 1)
            attach = Attach(proc=0, epoch=1, generation=generation, pid=1, hostname="x")
            due = record.ledgers[OutputTarget.STDOUT].next_seq
            for _ in range(20):
                if liar.lost:
                    break
                liar.say(attach, log(seed.randrange(due), 0, generation=generation))
                await asyncio.sleep(seed.random() * 0.02)
            liar.close()
            await asyncio.sleep(0.01)

    run_async(main, 60)


def test_frames_of_one_proc_on_the_link_of_another_move_neither(
    start: MeshMaker, trial: Trial, behind: Behind
) -> None:
    """A relay hands each proc's attach to all: numbers of one are never taken for another's."""
    mesh = start(2)
    proxy: Proxy = behind(client_socket(mesh))
    attaches: List[bytes] = []

    def mix(frames: List[bytes]) -> List[bytes]:
        out: List[bytes] = []
        for data in frames:
            out.append(data)
            if type(decode(data[HEADER.size - 1], data[HEADER.size :])) is Attach:
                out += attaches[-4:]
                attaches.append(data)
        return out

    proxy.twist = mix
    sources = trial.write_in_procs(mesh, lines=rounds(700, 3000), rate=1000, streams="12")
    cut_all(mesh)
    for stream in (1, 2):
        trial.wait_for_lines(sources, rounds(700, 3000), stream)
    proxy.twist = None
    proxy.cut()
    wait_until(lambda: mesh.flush(10).get(15), 30, "a true barrier")
    assert len(attaches) >= 2
    trial.judge(mesh)
