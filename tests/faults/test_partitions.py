"""A peer that is there and says nothing: noticed, named, dialled anew; and nothing is lost by it.

Once through a proxy that falls silent on the client's Unix socket, once between two network
namespaces, over TLS, with the cable pulled.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from logmesh_ipy import MeshError, ProcMesh, heartbeat
from logmesh_ipy.channel import serve
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.engines.base import HostPlan
from logmesh_ipy.handshake import Role
from logmesh_ipy.heartbeat import BEAT_SEC, DIALLED_PATIENCE_SEC, Heartbeat
from logmesh_ipy.instance import Instance
from logmesh_ipy.log_client_actor import LogClientActor
from logmesh_ipy.loop import PythonTask
from logmesh_ipy.model import ProcInfo
from logmesh_ipy.procs import is_running
from logmesh_ipy.rpc import RECONNECT_SEC
from logmesh_ipy.uplink import Uplink
from logmesh_ipy.wire import Call, Ping, encode
from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import Proxy
from tests.faults.test_links import (
    TOKEN,
    Behind,
    assert_covered,
    behind,
    bootstrap_of,
    client_socket,
    cut_all,
    written_by,
)
from tests.integration.conftest import MeshMaker, run_async, until
from tests.integration.test_forwarder import Sink
from tests.support import wait_until

__all__ = ["behind"]

PARTITIONS_SEC = (1, 10, 60) if WHOLE else (1,)


def begin_to_count(mesh: ProcMesh, trial: Trial, seconds: float) -> PythonTask[Dict[int, Any]]:
    """A run that has begun on each proc, and will end after so many seconds."""
    path = f"{trial.path}-run-"
    task = mesh.run(
        "import os, time\ncount += 1\n"
        f"open({path!r} + os.environ['RANK'], 'w').close()\ntime.sleep({seconds})\ncount"
    )
    wait_until(lambda: all(os.path.exists(f"{path}{rank}") for rank in range(len(mesh))))
    return task


def judge_partition(mesh: ProcMesh, trial: Trial, sources: List[int], lines: int) -> None:
    """Everything has arrived, what runs goes on, and the barrier is true again."""
    for stream in (1, 2):
        trial.wait_for_lines(sources, lines, stream)
    before = written_by(trial, sources)
    wait_until(lambda: mesh.flush(10).get(15), 30, "a true barrier")
    assert_covered(mesh, trial, before)
    assert not mesh.lost
    trial.judge(mesh)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", PARTITIONS_SEC)
def test_a_silent_client_is_named_late_and_all_arrives_after(
    start: MeshMaker, trial: Trial, behind: Behind, seconds: int
) -> None:
    mesh = start(2)
    proxy = behind(client_socket(mesh))
    lines = 500 * (seconds + 2)
    sources = trial.write_in_procs(mesh, lines=lines, rate=500, streams="12")
    mesh.run("count = 0").get(10)
    cuts = cut_all(mesh)
    wait_until(lambda: proxy.connections >= cuts, 20, "all have dialled again")
    assert mesh.flush(10).get(15)
    connections = proxy.connections
    run = begin_to_count(mesh, trial, seconds / 2)
    proxy.silent = True
    began = time.monotonic()
    report = mesh.flush(0.3).get(10)
    assert not report
    assert report.late == ("rank 0", "rank 1")
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    dialled = proxy.connections - connections
    assert not run.done()
    proxy.silent = False
    healed = time.monotonic()
    assert run.get(30) == {0: 1, 1: 1}
    wait_until(lambda: mesh.flush(2).get(10), 30, "a true barrier")
    took = time.monotonic() - healed
    sys.stdout.write(f"{seconds} s: {dialled} redials, whole again after {took:.2f} s\n")
    if seconds > DIALLED_PATIENCE_SEC + 2 * BEAT_SEC:
        assert 5 <= dialled <= 5 * seconds / 5
    elif seconds < DIALLED_PATIENCE_SEC:
        assert dialled == 0
    judge_partition(mesh, trial, sources, lines)


def test_a_peer_that_accepts_and_stays_silent_is_noticed_by_both_ends_and_dialled_anew(
    nothing_is_left: str, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a silence of their patience, here of two beats and three."""
    beat_sec = rounds(0.2, BEAT_SEC)
    monkeypatch.setattr(heartbeat, "BEAT_SEC", beat_sec)

    async def main() -> None:
        path = f"{nothing_is_left}/client.sock"
        actor = LogClientActor(Sink())
        actor.expect(ProcInfo(proc=0, rank=0, hostname="here", pid=1))
        accepted: List[Heartbeat] = []

        def accept(connection: object) -> LogClientActor:
            accepted.append(Heartbeat(connection, 3 * beat_sec))  # type: ignore[arg-type]
            return actor

        server = await serve(f"unix:{path}", accept, TOKEN)
        proxy: Proxy = behind(path)
        told: List[Tuple[str, Optional[str]]] = []
        uplink = Uplink(
            f"unix:{path}", TOKEN, Role.FORWARDER, "0",
            on_frame=lambda kind, body: None,
            on_up=lambda: told.append(("up", None)),
            on_down=lambda error: told.append(("down", str(error))),
            patience_sec=2 * beat_sec,
        )  # fmt: skip
        uplink.start()
        await until(lambda: told == [("up", None)])
        greeted = proxy.passed
        ping = len(encode(Ping(n=0)))
        await until(lambda: proxy.passed >= greeted + 4 * ping, 3 * beat_sec + 5, "both ends beat")
        assert told == [("up", None)]
        proxy.silent = True
        began = time.monotonic()
        await until(lambda: len(told) > 1, 4 * beat_sec + 5, "the dialling end notices")
        noticed = time.monotonic() - began
        assert told[1:] == [("down", f"the peer was silent for {2 * beat_sec:g} s")]
        await until(lambda: proxy.connections == 2, 1, "it dials anew")
        proxy.silent = False
        await until(lambda: uplink.is_up, 10, "it is up again")
        sys.stdout.write(f"noticed after {noticed:.1f} s\n")
        await until(lambda: len(server.connections) == 1, 4 * beat_sec + 5, "one is left")
        uplink.close()
        server.close()
        for beating in accepted:
            beating.stop()

    run_async(main)


# --- between two network namespaces -------------------------------------------------------------


class Cable:
    """A network namespace, and a pair of veth interfaces between it and the one of this test."""

    def __init__(self) -> None:
        number = os.getpid() % 16000
        self.namespace = f"lmt{number}"
        self._near, self._far = f"lmt{number}a", f"lmt{number}b"
        self.address = f"10.231.{number // 64}.{number % 64 * 4 + 1}"
        far = f"10.231.{number // 64}.{number % 64 * 4 + 2}"
        _ip(f"netns add {self.namespace}")
        try:
            _ip(f"link add {self._near} type veth peer name {self._far} netns {self.namespace}")
            _ip(f"addr add {self.address}/30 dev {self._near}")
            _ip(f"-n {self.namespace} addr add {far}/30 dev {self._far}")
            _ip(f"-n {self.namespace} link set {self._far} up")
            _ip(f"-n {self.namespace} link set lo up")
            self.plug_in()
        except subprocess.CalledProcessError:
            self.remove()
            raise

    def plug_in(self) -> None:
        _ip(f"link set {self._near} up")

    def pull(self) -> None:
        _ip(f"link set {self._near} down")

    def limit(self, bytes_per_sec: int) -> None:
        """Towards the far end and back, by token buckets."""
        rate = f"root tbf rate {8 * bytes_per_sec} burst 4kb latency 400ms"
        for where in (
            f"dev {self._near}",
            f"-n {self.namespace} dev {self._far}",
        ):
            first, _, rest = where.partition(" dev ")
            flags = f"{first} " if rest else ""
            device = rest or where.removeprefix("dev ")
            _run(f"tc {flags}qdisc add dev {device} {rate}")

    def remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip(f"link del {self._near}")
        _ip(f"netns del {self.namespace}")


def _ip(words: str) -> None:
    _run(f"ip {words}")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, timeout=10)


class FarEngine:
    """Starts the bootstrap in another network namespace, as one that knows no parent."""

    is_local = False

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.process: subprocess.Popen[bytes]

    async def start_host(self, plan: HostPlan) -> FarEngine:
        return self._start(plan)

    def _start(self, plan: HostPlan) -> FarEngine:
        command = ["ip", "netns", "exec", self._namespace, sys.executable, "-m"]
        self.process = subprocess.Popen(
            [*command, "logmesh_ipy.bootstrap"], stdin=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(encode(Call(n=0, method="configure", args=plan.config)))
        self.process.stdin = None
        return self

    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        return ""

    def clean_up(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)


@pytest.fixture
def cable() -> Iterator[Cable]:
    try:
        made = Cable()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.remove()


@pytest.fixture
def far(nothing_is_left: str, cable: Cable) -> Iterator[ProcMesh]:  # noqa: ARG001 (its place)
    """A mesh of two procs whose host is behind the cable."""
    options = replace(MeshOptions(procs=2, host=HostOptions()), listen=f"tls://{cable.address}:0")
    mesh = ProcMesh(Instance(options), options)
    engine = FarEngine(cable.namespace)
    mesh.instance.loop.submit(mesh.start(engine, lambda ready, total: None)).get(30)
    yield mesh
    mesh.stop().get(20)
    mesh.instance.close_loop()
    mesh.instance.store.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", PARTITIONS_SEC)
def test_a_pulled_cable_loses_and_doubles_nothing(
    far: ProcMesh, cable: Cable, trial: Trial, seconds: int
) -> None:
    far.run("count = 0").get(10)
    lines = 500 * (seconds + 2)
    sources = trial.write_in_procs(far, lines=lines, rate=500, streams="12")
    wait_until(lambda: trial.has_written(sources[0]) > 5000)
    assert far.flush(10).get(15)
    run = begin_to_count(far, trial, seconds / 2)
    cable.pull()
    began = time.monotonic()
    report = far.flush(0.3).get(10)
    assert report.late == ("rank 0", "rank 1"), report
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    assert not run.done()
    cable.plug_in()
    healed = time.monotonic()
    assert run.get(60) == {0: 1, 1: 1}
    wait_until(lambda: far.flush(2).get(10), 60, "a true barrier")
    took = time.monotonic() - healed
    sys.stdout.write(f"{seconds} s without a cable: whole again after {took:.2f} s\n")
    judge_partition(far, trial, sources, lines)


@pytest.mark.skipif(not WHOLE, reason="the whole round")
@pytest.mark.timeout(240)
def test_a_line_of_ten_kilobytes_a_second_between_two_hosts(
    far: ProcMesh, cable: Cable, trial: Trial
) -> None:
    cable.limit(10_000)
    lines = 300
    began = time.monotonic()
    sources = trial.write_in_procs(far, lines=lines)
    trial.wait_for_lines(sources, lines)
    wait_until(lambda: far.flush(1).get(20), 200, "a true barrier")
    seconds = time.monotonic() - began
    size = sum(trial.has_written(source) for source in sources)
    sys.stdout.write(f"{size:,} bytes in {seconds:.1f} s\n")
    assert far.run("1").get(60) == {0: 1, 1: 1}
    trial.judge(far)


@pytest.mark.skipif(not WHOLE, reason="the whole round")
@pytest.mark.timeout(240)
def test_a_host_that_stays_away_is_given_up_by_both_ends(
    far: ProcMesh, cable: Cable, trial: Trial
) -> None:
    """It knows no parent to watch: it ends when nobody was there for longer than a partition."""
    sources = trial.write_in_procs(far, lines=200)
    trial.wait_for_lines(sources, 200)
    assert far.flush(10).get(15)
    bootstrap = bootstrap_of(far)
    run = far.run("import time\ntime.sleep(1000)")
    cable.pull()
    began = time.monotonic()
    wait_until(lambda: far.lost, RECONNECT_SEC + 30, "the mesh is told to be lost")
    lost = time.monotonic() - began
    with pytest.raises(MeshError):
        run.get(20)
    wait_until(lambda: not is_running(bootstrap), 30, "the bootstrap has ended")
    ended = time.monotonic() - began
    sys.stdout.write(f"given up after {lost:.0f} s, ended after {ended:.0f} s\n")
    assert lost >= RECONNECT_SEC
    assert not any(is_running(proc.pid) for proc in far.procs)
