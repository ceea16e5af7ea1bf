"""Peers are counted rightly, told when they lose lines or fail, and leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import psutil
import pytest

from tests.benchmarks.peers import runner
from tests.benchmarks.peers.runner import PEERS, Arrivals, Peer, PeerError, count_lines

SETUP = Path(__file__).parent / "peers" / "setup"
LINE = b"aaa theta theta step 000000001 loss 000000000001 .....\n"


@pytest.mark.parametrize(
    ("name", "window", "shown", "lines"),
    [
        ("monarch", False, b"[vm anon-1<rx>@ipc://@e8] [1] " + LINE, 1),
        ("monarch", False, LINE * 3, 0),  # teed by the bootstrap: not the mesh's
        ("monarch", True, b"\x1b[33m[334 similar log lines]\x1b[0m [1] " + LINE, 334),
        ("ipyparallel", False, b"[stdout:1] \n" + LINE * 2, 2),
        ("ray", False, b"\x1b[36m(Printer pid=321)\x1b[0m " + LINE, 1),
        ("ray", True, LINE[:-1] + b"\x1b[32m [repeated 5x across cluster]\x1b[0m\n" + LINE, 6),
        ("ray", True, b"(Printer pid=321) tick\n", 0),
        ("dask", False, LINE * 7, 7),
    ],
)
def test_what_a_driver_shows_stands_for_lines(
    name: str, window: bool, shown: bytes, lines: int
) -> None:
    peer = PEERS[name]
    assert count_lines(shown, peer.mark, peer.many if window else None) == lines


def test_lines_are_counted_once_wherever_reads_cut_them() -> None:
    many: Optional[re.Pattern[bytes]] = PEERS["ray"].many
    read, write = os.pipe()
    arrivals = Arrivals(read, b"....\n", many)
    try:
        repeated = LINE[:-1] + b" [repeated 40x across cluster]\n"
        for _ in range(3):
            for part in (LINE[:-2], LINE[-2:] + repeated[:-20], repeated[-20:]):
                before = time.perf_counter()
                os.write(write, part)
                while time.perf_counter() < before + 0.02:
                    time.sleep(0.001)  # read apart from the next part
        deadline = time.monotonic() + 10
        while arrivals.lines < 3 * 41 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert arrivals.lines == 3 * 41
    finally:
        arrivals.close()
        os.close(write)
        os.close(read)


STAND_IN = """
import subprocess, sys
sys.path.insert(0, {peers!r})
from driving import WORK, drive

class StandIn:
    version = "1"
    def __init__(self, procs, window_sec):
        if {start!r} == "fails":
            raise RuntimeError("no room")
        subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, start_new_session=True)
    def prints(self, count, kinds, values, size):
        if {start!r} == "ends" and count > 5:
            sys.exit("the end")
        work = {{}}
        exec(WORK, work)
        work["prints"](2 * count - {lost}, kinds, values, size)
    def flush(self):
        pass
    def stop(self):
        pass

drive(StandIn)
"""
"""Prints itself what two procs would. It leaves a daemon behind."""


class StandIn(Peer):
    name = "stand_in"
    quiet_sec = 0.3


def stand_in(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, start: str = "works", lost: int = 0
) -> StandIn:
    """A peer that behaves as told, in place of an installed one."""
    binaries = directory / "stand_in" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    script = STAND_IN.format(peers=str(runner.HERE), start=start, lost=lost)
    (directory / "with_stand_in.py").write_text(script, encoding="utf-8")
    monkeypatch.setenv("LOGMESH_PEERS_VENV", str(directory))
    monkeypatch.setattr(runner, "HERE", directory)
    return StandIn()


def left_of(peer: Peer) -> int:
    """How many processes of it there are."""
    count = 0
    for process in psutil.process_iter():
        try:
            count += peer._token in process.environ().values()
        except psutil.Error:
            continue
    return count


def test_a_peer_prints_and_all_its_processes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = stand_in(tmp_path, monkeypatch)
    assert not peer.available()
    (tmp_path / "stand_in" / "complete").touch()
    assert peer.available()
    peer.start(2, None)
    try:
        assert peer.version == "1"
        for count, size in ((10, 100), (20_000, 33)):
            arrival = peer.print_lines(count, 3, values=False, size=size)
            assert (arrival.lines, arrival.expected) == (2 * count, 2 * count)
            assert 0 < arrival.seconds < 30
            assert arrival.rate == arrival.lines / arrival.seconds
        assert left_of(peer) == 2
    finally:
        peer.stop()
    assert left_of(peer) == 0
    assert not peer._directory.exists()


def test_lines_that_never_come_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = stand_in(tmp_path, monkeypatch, lost=7)
    peer.start(2, None)
    try:
        arrival = peer.print_lines(1000, 1, values=True)
        assert (arrival.lines, arrival.expected) == (1993, 2000)
    finally:
        peer.stop()


def test_a_peer_that_does_not_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = stand_in(tmp_path, monkeypatch, start="fails")
    with pytest.raises(PeerError, match="stand_in: RuntimeError: no room"):
        peer.start(2, None)
    assert left_of(peer) == 0
    assert not peer._directory.exists()


def test_a_peer_that_ends_at_its_work_is_told_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = stand_in(tmp_path, monkeypatch, start="ends")
    peer.start(2, None)
    try:
        assert peer.print_lines(5, 1, values=False).lines == 10
        for _ in range(2):
            arrival = peer.print_lines(50, 1, values=False)
            assert (arrival.lines, arrival.failure) == (0, "stand_in: ended: the end")
            peer._driver.wait(10)
    finally:
        peer.stop()
    assert left_of(peer) == 0


def setup(*peers: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SETUP, *peers], capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "PYTHON": sys.executable, **environ},
    )  # fmt: skip


def test_setup_refuses_what_it_does_not_know_and_the_checkout(tmp_path: Path) -> None:
    place = tmp_path / "peers"
    done = setup("dask", "nonsense", LOGMESH_PEERS_VENV=str(place))
    assert done.returncode == 2
    assert "no peer 'nonsense'; there are: monarch ipyparallel ray dask" in done.stderr
    inside = SETUP.parents[3] / "peers"
    done = setup("dask", LOGMESH_PEERS_VENV=str(inside))
    assert done.returncode == 2
    assert "lies in the checkout" in done.stderr
    assert not place.exists()
    assert not inside.exists()


@pytest.mark.slow
def test_setup_tells_which_peer_cannot_be_installed_and_leaves_none_by_halves(
    tmp_path: Path,
) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "complete").write_text(
        f"Python {sys.version.split()[0]} ray==2.60.*\n", encoding="utf-8"
    )
    done = setup("ray", "dask", LOGMESH_PEERS_VENV=str(tmp_path), **nowhere)
    assert done.returncode == 1
    assert "ray          is there" in done.stdout
    assert "setup: cannot install: dask" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ray"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(not os.environ.get("LOGMESH_TEST_SLOW"), reason="LOGMESH_TEST_SLOW is not set")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("window", [None, 3.0])
def test_an_installed_peer_brings_all_lines(name: str, window: Optional[float]) -> None:
    peer = PEERS[name](flush=True)
    if not peer.available():
        pytest.skip(f"not installed: {runner.SETUP} {name}")
    if window is not None and peer.many is None:
        pytest.skip(f"{name} does not aggregate")
    peer.start(2, window)
    try:
        for count in (10, 500):
            arrival = peer.print_lines(count, 3, values=window is not None)
            assert (arrival.lines, arrival.failure) == (2 * count, "")
    finally:
        peer.stop()
    assert left_of(peer) == 0
