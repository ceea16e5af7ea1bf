"""Links that are cut, slow, or never whole for long: exactly once, in order, and no dialling storm.

A :class:`Proxy` stands where the client's socket was: what dials after that goes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from logmesh_ipy import MeshError, ProcMesh, heartbeat, host, instance, remote_proc
from logmesh_ipy.bootstrap import BootstrapProcManager
from logmesh_ipy.channel import Connection, dial, serve
from logmesh_ipy.config import HostOptions
from logmesh_ipy.errors import TransportError
from logmesh_ipy.gate import DialGate
from logmesh_ipy.handshake import Role
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.model import OutputTarget
from logmesh_ipy.rpc import PART_BYTES, Caller, Responder
from logmesh_ipy.uplink import Uplink
from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import Proxy, cut_sockets, freeze, thaw
from tests.faults.oracle import Ledger
from tests.integration.conftest import MeshMaker, run_async, until
from tests.support import wait_until

TOKEN = bytes(range(32))
Behind = Callable[[str], Proxy]


@pytest.fixture
def behind() -> Iterator[Behind]:
    """``behind(path)`` puts a proxy in a socket's place; all step aside when the test ends."""
    proxies: List[Proxy] = []

    def make(path: str) -> Proxy:
        proxies.append(Proxy(path))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


def client_socket(mesh: ProcMesh) -> str:
    return f"{mesh.instance.directory}/client.sock"


def bootstrap_of(mesh: ProcMesh) -> int:
    stat = Path(f"/proc/{mesh.procs[0].pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[1])


def cut_all(mesh: ProcMesh) -> int:
    """Cut every connection that the mesh's processes have to the client; how many."""
    pids = [bootstrap_of(mesh), *(proc.pid for proc in mesh.procs)]
    return sum(cut_sockets(pid, client_socket(mesh)) for pid in pids)


def written_by(trial: Trial, sources: List[int]) -> Dict[int, int]:
    """Bytes of each source whose writing has returned."""
    return {source: trial.has_written(source) for source in sources}


def assert_covered(mesh: ProcMesh, trial: Trial, before: Dict[int, int]) -> None:
    """All that was written before the barrier began is accounted for: it was a true one."""
    for source, size in before.items():
        record = mesh.instance.actor.records[trial.oracle.of[source]]
        (totals, _) = (ledger.totals for ledger in record.ledgers.values())
        assert totals.stored_bytes >= size, source


# --- cut at every byte ----------------------------------------------------------------------------


@pytest.mark.timeout(900 if WHOLE else 120)
def test_an_exchange_cut_at_every_byte_is_exactly_once_with_true_barriers(
    start: MeshMaker, trial: Trial, seed: random.Random, behind: Behind
) -> None:
    """Each rank's command has a forwarder of its own: attach, resume, batches, flush, acks, end."""
    ranks = rounds(8, 16)
    mesh = start(ranks)
    proxy = behind(client_socket(mesh))

    def exchange(lines: int) -> None:
        job = trial.exec(mesh, lines=lines, rate=20)
        sources = trial.sources(job)
        trial.wait_for_lines(sources, 1)
        before = written_by(trial, sources)
        assert mesh.flush(20).get(25)
        assert_covered(mesh, trial, before)
        assert set(job.wait().get(25).values()) == {0}
        ledger = trial.oracle.judge(mesh.instance)
        assert ledger.clean, str(ledger)
        total.add(ledger)
        trial.oracle.of.clear()  # of jobs that are long over the client keeps sums only

    total = Ledger()
    exchange(4)
    whole = proxy.passed // ranks
    assert proxy.connections == ranks
    assert whole > 1000
    places = list(range(min(whole + 100, 4000)))  # a tally has so many sources
    if not WHOLE:
        places = seed.sample(places, 2 * ranks)
    places += places[: -len(places) % ranks]
    for first in range(0, len(places), ranks):
        proxy.cuts.extend(places[first : first + ranks])
        exchange(4)
    assert not proxy.cuts
    sys.stdout.write(
        f"an exchange has {whole} bytes; cut at {len(places)} places; "
        f"{proxy.connections} connections\nledger: {total}\n"
    )
    assert proxy.connections >= len(places) + len(places) // 4
    assert total.written == total.stored == 4 * (len(places) // ranks * ranks + ranks)


class Asked:
    """An answering side behind a proxy, and what it was asked. All on one loop."""

    def __init__(self, address: str) -> None:
        self.runs: List[int] = []
        self.responder = Responder({"run": self.run})
        self.uplink = Uplink(
            address,
            TOKEN,
            Role.RUN,
            "0",
            on_frame=self.responder.receive,
            on_up=lambda: self.responder.connected(self.uplink),
            on_down=lambda error: self.responder.disconnected(),
        )

    async def run(self, number: int, blob: bytes) -> Dict[str, Any]:
        self.runs.append(number)
        self.responder.event("running", number=number)
        await asyncio.sleep(0)
        return {"number": number, "blob": blob[::-1]}


@pytest.mark.timeout(600 if WHOLE else 120)
@pytest.mark.parametrize("blob_bytes", [40, 3 * PART_BYTES])
def test_calls_cut_at_every_byte_are_run_and_answered_once(
    nothing_is_left: str, seed: random.Random, behind: Behind, blob_bytes: int
) -> None:
    blob = seed.randbytes(blob_bytes)

    async def exchange(path: str) -> None:
        events: List[int] = []
        caller = Caller(on_event=lambda name, args: events.append(args["number"]))

        def accept(connection: Connection) -> Caller:
            return caller.connected(connection)

        server = servers[path]
        server.accept = accept
        asked = Asked(f"unix:{path}")
        asked.uplink.start()
        calls = [caller.call("run", number=number, blob=blob) for number in range(3)]
        answers = await asyncio.gather(*calls)
        assert [answer["number"] for answer in answers] == [0, 1, 2] == asked.runs == events
        assert all(answer["blob"] == blob[::-1] for answer in answers)
        asked.uplink.close()
        await until(lambda: not caller.up)

    servers: Dict[str, Any] = {}

    async def main() -> None:
        path = f"{nothing_is_left}/client.sock"
        servers[path] = await serve(f"unix:{path}", lambda connection: Caller(), TOKEN)
        proxy = behind(path)
        await exchange(path)
        size = proxy.passed
        small = blob_bytes < PART_BYTES
        places = list(range(size + 1)) if small else seed.sample(range(size), rounds(4, 60))
        if small and not WHOLE:
            places = seed.sample(places, 20)
        for place in places:
            proxy.cuts.append(place)
            if place % 3 == 0:
                proxy.cuts.append(seed.randrange(size))
            await exchange(path)
            proxy.cuts.clear()
        sys.stdout.write(f"{size} bytes, cut at {len(places)} places\n")
        servers[path].close()

    run_async(main, 590)


# --- the run channel and the control connection of a mesh -----------------------------------------


def test_what_runs_while_every_connection_is_cut_is_finished_once(start: MeshMaker) -> None:
    mesh = start(2)
    mesh.run("count = 0").get(10)
    assert cut_all(mesh) == 2 * 2 + 1
    for number in range(1, rounds(3, 20)):
        task = mesh.run(
            "import time\ncount += 1\ntime.sleep(0.2)\nprint('counted', count)\n"
            "(count, 'x' * 3_000_000)"
        )
        wait_until(lambda: cut_all(mesh) >= 2, what="connections to cut")
        assert {value[0] for value in task.get(30).values()} == {number}
        report = mesh.flush(10).get(15)
        assert report, report
    job = mesh.exec(["sh", "-c", "echo started; sleep 0.3; echo ended; exit 3"]).get(20)
    cut_all(mesh)
    assert job.wait().get(20) == {0: 3, 1: 3}
    assert mesh.flush(10).get(15)
    said = [row.text for row in mesh.instance.store.lines()]
    assert said.count(b"started") == said.count(b"ended") == 2
    assert not mesh.lost


def test_a_cell_is_interrupted_though_the_control_connection_was_just_cut(
    start: MeshMaker,
) -> None:
    mesh = start(1)
    task = mesh.run("import time\nprint('begun')\ntime.sleep(60)")
    wait_until(lambda: list(mesh.instance.store.lines()), what="the run has begun")
    cut_sockets(bootstrap_of(mesh), client_socket(mesh))
    task.cancel()
    assert mesh.run("1 + 1").get(10) == {0: 2}


# --- redialling -----------------------------------------------------------------------------------


def test_a_single_cut_is_repaired_in_tens_of_milliseconds(start: MeshMaker) -> None:
    mesh = start(2)
    seconds = []
    for _ in range(rounds(1, 5)):
        mesh.run("print('before')").get(10)
        time.sleep(2.1)  # as links live: the next cut is a new one
        cut_all(mesh)
        began = time.monotonic()
        assert mesh.flush(10).get(15)
        assert mesh.run("1").get(10) == {0: 1, 1: 1}
        seconds.append(time.monotonic() - began)
    seconds.sort()
    sys.stdout.write(f"repaired after {[f'{1000 * s:.0f} ms' for s in seconds]}\n")
    assert seconds[len(seconds) // 2] < 0.5


@pytest.mark.parametrize(
    ("which", "cut_after"),
    [
        (which, cut_after)
        for which in ("client", "log channel")
        for cut_after in (0, 40, 700)
        if WHOLE or cut_after == 40
    ],
)
def test_redials_are_bounded_whatever_breaks_them(
    start: MeshMaker, trial: Trial, behind: Behind, which: str, cut_after: int
) -> None:
    """At most ten in the first second, then at most one a second, of each that dials."""
    mesh = start(2)
    lines = rounds(500, 2000)
    if which == "client":
        proxy = behind(client_socket(mesh))
        sources = trial.write_in_procs(mesh, lines=lines, rate=500)
        proxy.cut_after = cut_after
        dialled = cut_all(mesh)
        assert dialled == 2 * 2 + 1
    else:
        proxy = behind(f"{mesh.instance.directory}/h1/p{mesh.procs[0].proc}.sock")
        sources = trial.write_in_procs(mesh, lines=lines, rate=500, streams="12")
        proxy.cut_after = cut_after
        dialled = cut_sockets(bootstrap_of(mesh), proxy.path)
        assert dialled == 2
    began = time.monotonic()
    seconds = rounds(2, 8)
    time.sleep(seconds)
    times = [at - began for at in list(proxy.began)]
    first = sum(at < 1 for at in times) / dialled
    later = sum(1 <= at < seconds for at in times) / dialled
    proxy.cut_after = None
    proxy.cut()
    sys.stdout.write(
        f"{which}, cut after {cut_after} bytes: each dials {first:.1f} times in the first second, "
        f"{later:.1f} times in {seconds - 1} more\n"
    )
    assert 1 < first <= 10
    assert later <= seconds
    trial.wait_for_lines(sources, lines)
    assert mesh.flush(20).get(25)
    assert mesh.run("1").get(10) == {0: 1, 1: 1}
    trial.judge(mesh)


# --- links that are never whole for long ----------------------------------------------------------


@pytest.mark.skipif(not WHOLE, reason="the whole round")
@pytest.mark.timeout(240)
def test_a_hundred_flaps_a_minute(
    start: MeshMaker, trial: Trial, seed: random.Random, behind: Behind
) -> None:
    mesh = start(2)
    client = behind(client_socket(mesh))
    seconds = 60
    sources = trial.write_in_procs(mesh, lines=1000 * seconds, rate=1000)
    job = trial.exec(mesh, lines=500 * seconds, rate=500, streams="12")
    cut_all(mesh)
    flaps = flushes = true = 0
    end = time.monotonic() + seconds

    def flap() -> None:
        nonlocal flaps
        while time.monotonic() < end:
            time.sleep(0.6 * seed.uniform(0.5, 1.5))
            client.cut()
            flaps += 1

    flapping = threading.Thread(target=flap)
    flapping.start()
    while flapping.is_alive():
        flushes += 1
        before = written_by(trial, sources)
        if mesh.flush(2).get(10):
            true += 1
            assert_covered(mesh, trial, before)
        flapping.join(0.5)
    assert job.wait().get(60) == {0: 0, 1: 0}
    trial.wait_for_lines(sources, 1000 * seconds)
    assert mesh.flush(20).get(25)
    redials = client.connections
    sys.stdout.write(f"{flaps} flaps, {redials} connections, {true}/{flushes} barriers in 2 s\n")
    assert redials <= 7 * (10 + 1.1 * seconds)
    trial.judge(mesh)


@pytest.mark.timeout(240)
def test_faults_of_all_kinds_on_all_links(
    start: MeshMaker, trial: Trial, seed: random.Random, behind: Behind
) -> None:
    mesh = start(2)
    seconds = rounds(2, 40)
    directory = mesh.instance.directory
    proxies = [behind(client_socket(mesh))]
    proxies += [behind(f"{directory}/h1/p{proc.proc}.sock") for proc in mesh.procs]
    mesh.run("count = 0").get(10)
    sources = trial.write_in_procs(mesh, lines=2000 * seconds, rate=2000, streams="12")
    cut_all(mesh)
    for proxy in proxies[1:]:
        cut_sockets(bootstrap_of(mesh), proxy.path)
    for proc, proxy in zip(mesh.procs, proxies[1:], strict=True):
        assert cut_sockets(proc.pid, proxy.path), "the forwarder's connection to itself"
    runs = Counting(mesh)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seed.random() * 0.5)
        proxy = seed.choice(proxies)
        kind = seed.randrange(5)
        if kind < 3:
            proxy.cut_after = (None, seed.randrange(3000), None)[kind]
            proxy.cut()
        elif kind == 3:
            proxy.silent = not proxy.silent
        else:
            proxy.bytes_per_sec = seed.choice([0, 0, 100_000])
    for proxy in proxies:
        proxy.silent, proxy.cut_after, proxy.bytes_per_sec = False, None, 0
        proxy.cut()
    trial.wait_for_lines(sources, 2000 * seconds)
    trial.wait_for_lines(sources, 2000 * seconds, stream=2)
    report = mesh.flush(40).get(45)
    assert report, report
    done = runs.stop()
    sys.stdout.write(f"{[proxy.connections for proxy in proxies]} connections, {done} runs\n")
    trial.judge(mesh)


class Counting:
    """Calls that follow each other in a thread; each must have run exactly once."""

    def __init__(self, mesh: ProcMesh) -> None:
        self._mesh = mesh
        self._over = threading.Event()
        self._wrong: List[object] = []
        self._done = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """How many; raises AssertionError where one was not run, or run twice."""
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not self._wrong, self._wrong
        return self._done

    def _run(self) -> None:
        while not self._over.is_set() and not self._wrong:
            try:
                answer = self._mesh.run("count += 1\ncount").get(60)
            except Exception as error:  # noqa: BLE001 (the test shows it)
                self._wrong.append(error)
                return
            self._done += 1
            if set(answer.values()) != {self._done}:
                self._wrong.append((self._done, answer))


@pytest.mark.timeout(240)
def test_a_link_of_ten_kilobytes_a_second_is_slow_and_not_taken_for_dead(
    start: MeshMaker, trial: Trial, behind: Behind
) -> None:
    mesh = start(1)
    client = behind(client_socket(mesh))
    cut_all(mesh)
    mesh.run("1").get(10)
    assert mesh.flush(10).get(15)
    connections = client.connections
    client.bytes_per_sec = 10_000
    lines = rounds(60, 800)
    began = time.monotonic()
    (source,) = trial.write_in_procs(mesh, lines=lines)
    trial.wait_for_lines([source], lines)
    blocked = time.monotonic() - began
    report = mesh.flush(0.5).get(10)
    assert not report
    assert report.late == ("rank 0",)
    size = trial.has_written(source)
    wait_until(lambda: mesh.flush(1).get(10) and not mesh.instance.actor.late, 200)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{size:,} bytes in {seconds:.1f} s, {client.connections} connections\n")
    assert size / seconds < 11_000
    assert blocked < 2
    assert client.connections == connections
    assert trial.judge(mesh).written == lines


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"when_full": "drop_oldest", "window_bytes": 256 << 10},
        {"when_full": "spill", "window_bytes": 256 << 10, "spool_max_bytes": 256 << 10},
    ],
    ids=["drop_oldest", "a tiny spool"],
)
def test_gaps_tell_to_the_byte_what_is_absent(
    start: MeshMaker, trial: Trial, seed: random.Random, behind: Behind, options: Dict[str, Any]
) -> None:
    mesh = start(1, **options)
    proxy = behind(client_socket(mesh))
    cut_all(mesh)
    lines = 0
    for _ in range(rounds(1, 5)):
        (source,) = trial.write_in_procs(mesh, lines=100)
        trial.wait_for_lines([source], 100)
        assert mesh.flush(10).get(15)
        proxy.bytes_per_sec = 20_000
        count = seed.randrange(20_000, 30_000)
        (source,) = trial.write_in_procs(mesh, lines=count)
        trial.wait_for_lines([source], count)
        proxy.bytes_per_sec = 0
        if seed.random() < 0.5:
            proxy.cut()
        wait_until(lambda: mesh.flush(10).get(15), 30, "a true barrier")
        lines += 100 + count
    record = mesh.instance.actor.records[0]
    rows = [row for row in mesh.instance.store.lines() if row.info.proc == 0]
    ended = [not row.flags & LineFlag.PARTIAL for row in rows]
    stored = sum(row.true_bytes for row in rows) + sum(ended)
    gaps = [gap for gap in mesh.instance.actor.gaps if gap.proc == 0]
    written = sum(trial.has_written(s) for s, proc in trial.oracle.of.items() if proc == 0)
    told = sum(gap.lines or 0 for gap in gaps), sum(gap.bytes or 0 for gap in gaps)
    sys.stdout.write(f"{len(gaps)} gaps: {told[0]:,} lines, {told[1]:,} bytes of {written:,}\n")
    assert told[0] > 0
    assert told == (lines - sum(ended), written - stored)
    totals = record.ledgers[OutputTarget.STDOUT].totals
    assert told == (totals.gap_lines, totals.gap_bytes)
    assert totals.written_bytes == written == totals.stored_bytes + totals.gap_bytes


# --- what dials, and who stands still -------------------------------------------------------------


def test_a_server_that_takes_no_more_connections_for_a_while_is_dialled_again(
    nothing_is_left: str,
) -> None:
    """The system says nothing of a full backlog but that there is nobody at the other end."""

    async def main() -> None:
        path = f"{nothing_is_left}/s.sock"
        waiting: List[socket.socket] = []
        ends: List[str] = []
        handler = Caller()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            with contextlib.suppress(BlockingIOError):
                while True:
                    waiting.append(socket.socket(socket.AF_UNIX))
                    waiting[-1].setblocking(False)
                    waiting[-1].connect(path)
            with pytest.raises(TransportError, match="takes no more connections"):
                await dial(f"unix:{path}", handler, TOKEN)
            uplink = Uplink(
                f"unix:{path}", TOKEN, Role.RUN, "0",
                on_frame=lambda kind, body: None,
                on_up=lambda: ends.append("up"),
                on_down=lambda error: ends.append(f"down: {error}"),
            )  # fmt: skip
            uplink.start()
            await asyncio.sleep(0.2)  # it has dialled and was not heard
        for one in waiting:
            one.close()
        server = await serve(f"unix:{path}", handler.connected, TOKEN)
        await until(lambda: ends == ["up"], 10, "it is up")
        uplink.close()
        server.close()

    run_async(main)


@pytest.mark.parametrize("turns", range(6))
def test_an_uplink_that_is_closed_as_its_handshake_is_done_stays_closed(
    nothing_is_left: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``turns`` of the loop after the proof: some lie before the dial has returned."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ups: List[bool] = []
        closed = asyncio.Event()
        frame_received = DialGate.frame_received

        def close_after(left: int) -> None:
            if left:
                loop.call_soon(close_after, left - 1)
            else:
                uplink.close()
                closed.set()

        def received(gate: DialGate, connection: Connection, kind: int, body: bytes) -> None:
            frame_received(gate, connection, kind, body)
            if gate.done.done():
                close_after(turns)

        monkeypatch.setattr(DialGate, "frame_received", received)
        handler = Caller()
        server = await serve(f"unix:{nothing_is_left}/s.sock", handler.connected, TOKEN)
        uplink = Uplink(
            server.address, TOKEN, Role.RUN, "0",
            on_frame=lambda kind, body: None,
            on_up=lambda: ups.append(closed.is_set()),
            on_down=lambda error: None,
        )  # fmt: skip
        uplink.start()
        await closed.wait()
        await until(lambda: not server.connections, 5, "nothing is left of it")
        assert True not in ups
        assert not uplink.is_up
        server.close()

    run_async(main)


def test_who_stands_still_on_this_machine_is_never_given_up(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than all patience, which is short here, and with its connections broken meanwhile."""
    monkeypatch.setattr(heartbeat, "BEAT_SEC", 0.1)
    monkeypatch.setattr(instance, "ACCEPTED_PATIENCE_SEC", 0.3)
    monkeypatch.setattr(host, "RECONNECT_SEC", 0.5)
    monkeypatch.setattr(remote_proc, "RECONNECT_SEC", 0.5)
    mesh = start(1)
    pids = [bootstrap_of(mesh), mesh.procs[0].pid]
    mesh.run("kept = 7").get(10)
    for cuts in (False, True):
        run = mesh.run("import time\ntime.sleep(1)\nkept")
        for pid in pids:
            freeze(pid)
        try:
            if cuts:
                cut_all(mesh)
            time.sleep(1.5)
            assert not mesh.lost
        finally:
            for pid in pids:
                thaw(pid)
        if cuts:
            with pytest.raises(MeshError, match="not connected any more"):
                run.get(20)
        else:
            assert run.get(20) == {0: 7}
        wait_until(lambda: mesh.procs[0].caller.up, 20, "it has come back")
        assert mesh.run("kept").get(20) == {0: 7}
    assert mesh.flush(10).get(15)


def test_a_host_gives_up_a_living_kernel_never_and_an_ended_one_at_once() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass

    async def main() -> None:
        for parent, alone in ((os.getpid(), False), (ended.pid, True)):
            config = {
                "directory": "/d", "session_directory": "/d", "uplink": "unix:/d/c",
                "token": TOKEN, "session": "s", "name": "h1", "patience_sec": None,
                "parent": parent, "options": HostOptions().to_map(),
            }  # fmt: skip
            host = BootstrapProcManager(config)
            assert not host._is_alone(1e9), "it has not begun to dial"
            host._disconnected(None)
            assert host._is_alone(1e9) == alone

    run_async(main)
