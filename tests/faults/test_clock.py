"""The wall clock jumps, by an hour and by ten years, there and back: windows and deadlines stay.

``wall_clock.c``, preloaded into a kernel and all that it starts, moves what they read of the wall
clock while they run; no other clock moves. So what is measured is measured by the monotonic one.
"""

from __future__ import annotations

import ast
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.faults.conftest import Trial, rounds
from tests.faults.nemesis import freeze, thaw
from tests.faults.test_notebook import (
    MESH,
    judge,
    keep_instance,
    kernels,
    nothing_is_left,
    pids,
    python,
    write,
)
from tests.notebook.conftest import ROOT, Kernel, KernelMaker
from tests.support import wait_until

__all__ = ["kernels", "nothing_is_left", "python"]

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(rounds(120, 600))]

HOUR = 3600
TEN_YEARS = 10 * 365 * 24 * HOUR
WINDOW_SEC = 1.0
LATE_SEC = 1.0
"""By how much a busy machine may be late; none of the jumps is that short."""


class WallClock:
    """What processes read that are started with ``environ``."""

    def __init__(self, place: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        library, self._file = place / "wall_clock.so", place / "shift"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run(
            [
                compiler,
                "-shared",
                "-fPIC",
                "-O2",
                "-Wall",
                "-Werror",
                "-o",
                library,
                source,
                "-ldl",
            ],
            check=True,
        )
        self.shift(0)
        self.environ = {"LD_PRELOAD": str(library), "LOGMESH_TEST_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """They are so far from the true time from now on."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("@q", seconds))


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    """It is right at first."""
    return WallClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module", autouse=True)
def right_again(wall_clock: WallClock) -> Iterator[None]:
    """For the next module."""
    yield
    wall_clock.shift(0)


def jumps() -> List[int]:
    """There and back, both ways; each is a place to be at, the last one is where it was."""
    return [place for jump in (HOUR, TEN_YEARS) for place in (jump, 0, -jump, 0)]


def test_the_wall_clock_moves_alone_and_in_all_processes(
    kernels: KernelMaker, wall_clock: WallClock
) -> None:
    """Else the other tests show nothing."""
    kernel = kernels("", **wall_clock.environ)
    before = time.monotonic()
    for place in jumps():
        wall_clock.shift(place)
        cell = kernel.run(
            "import time\n"
            "def clocks():\n"
            "    import time\n"
            "    return time.time(), time.monotonic()\n"
            f"for line in [clocks(), *{MESH}.run(clocks).get(20).values()]: print(*line)"
        )
        assert cell.stdout.count("\n") == 3, cell.error
        for line in cell.stdout.splitlines():
            wall, mono = map(float, line.split())
            assert abs(wall - time.time() - place) < 60
            assert before - 1 < mono < time.monotonic() + 1


def test_windows_last_as_long_as_they_are_told(
    kernels: KernelMaker, wall_clock: WallClock, seed: random.Random
) -> None:
    wall_clock.shift(0)
    kernel = kernels(f"--window {WINDOW_SEC:g}", **wall_clock.environ)
    keep_instance(kernel)
    kernel.run(
        "import time\n"
        "view, ends = instance.view.view, []\n"
        "def groups(report, told=view.groups):\n"
        "    ends.append((time.monotonic(), report.lines, report.last_wall - report.first_wall))\n"
        "    told(report)\n"
        "view.groups = groups"
    )
    kernel.run(
        "%%logmesh run\n"
        "import itertools, threading, time\n"
        "def tick():\n"
        "    for number in itertools.count():\n"
        "        print('tick', number)\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=tick, daemon=True).start()"
    )
    places = rounds(1, 6) * [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, 0]
    for place in places:
        seen = len(ends_of(kernel))
        time.sleep(seed.uniform(0.3, 0.7) * WINDOW_SEC)  # amid a window
        wall_clock.shift(place)
        wait_until(lambda seen=seen: len(ends_of(kernel)) > seen, what=place)
    ends = ends_of(kernel)
    seconds = [after[0] - before[0] for before, after in pairwise(ends[1:])]
    sys.stdout.write(
        f"{len(places)} jumps; {len(ends)} windows of {WINDOW_SEC:g} s lasted "
        f"{min(seconds):.2f} to {max(seconds):.2f} s\n"
    )
    assert min(seconds) > WINDOW_SEC - 0.2
    assert statistics.median(seconds) < WINDOW_SEC + LATE_SEC
    assert min(span for _, _, span in ends) >= 0
    assert kernel.run("%logmesh stop").stdout == "stopped\n"
    told = sum(count for _, count, _ in ends_of(kernel))
    assert kernel.value("instance.store.rows") == str(told)


def ends_of(kernel: Kernel) -> List[tuple[float, int, float]]:
    """When windows ended, with how many lines, and between which wall times these were."""
    found: List[tuple[float, int, float]] = ast.literal_eval(kernel.value("ends"))
    return found


def test_deadlines_are_kept(kernels: KernelMaker, wall_clock: WallClock, trial: Trial) -> None:
    wall_clock.shift(0)
    kernel = kernels("", LOGMESH_FLUSH_TIMEOUT_SEC="30", **wall_clock.environ)
    keep_instance(kernel)
    lines = rounds(500, 5_000)
    of = write(kernel, trial, lines=lines, rate=200, ranks=1)
    stopped = pids(kernel)[1]
    seconds: Dict[int, float] = {}
    for place in jumps()[:: rounds(5, 1)]:
        freeze(stopped)
        request = kernel.send(
            "import time\nprint('begins')\nbegan = time.monotonic()\n"
            "report = %logmesh flush --timeout 1\n"
            "seconds = time.monotonic() - began"
        )
        wait_until(lambda request=request: "begins" in kernel.shown(request).stdout)
        wall_clock.shift(place)
        kernel.finish(request)
        seconds[place] = float(kernel.value("seconds"))
        assert kernel.value("report.late") == "('rank 1',)"
        assert 0.95 < seconds[place] < 1.0 + LATE_SEC
        assert 0.95 < float(kernel.value("report.seconds")) < 1.0 + LATE_SEC
        thaw(stopped)
        wait_until(lambda: kernel.run("report = %logmesh flush\nbool(report)").result == "True")
        wall_clock.shift(0)
    told = ", ".join(f"{place:+,} s: {took:.2f} s" for place, took in seconds.items())
    sys.stdout.write(f"a deadline of 1 s with a jump of {told}\n")
    trial.wait_for_lines(list(of), lines)
    kernel.run("report = %logmesh flush")
    judge(kernel, trial, of)


def test_views_status_and_files_bear_any_time(
    kernels: KernelMaker, wall_clock: WallClock, tmp_path: Path
) -> None:
    wall_clock.shift(0)
    kernel = kernels(f"--files {tmp_path}", **wall_clock.environ)
    for place in jumps():
        wall_clock.shift(place)
        before = time.time() + place
        cell = kernel.run(f"%%logmesh run\nprint('at {place}')")
        assert cell.receipt == "2/2 procs, 2 lines, 0 lost"
        status = kernel.run("status = %logmesh status --json\nstatus['time']")
        assert abs(float(str(status.result)) - before) < 60
        assert "2/2 procs alive" in kernel.run("%logmesh status").stdout
        assert f"at {place}" in kernel.run("%logmesh panel --lines 2").text
    kernel.run(f"logs = {MESH}.logs\nmesh = {MESH}")
    rows = len(jumps()) * 2
    for code in ("len(logs)", "logs.to_arrow().num_rows", "len(logs.to_text().splitlines())"):
        assert kernel.value(code) == str(rows), code
    written = kernel.run(f"logs.to_parquet({str(tmp_path / 'logs.parquet')!r})\nlogs[-3:]")
    assert written.reply["status"] == "ok", written.error
    since = kernel.value(f"len(logs.where(since={time.time() + HOUR // 2}))")
    assert since == "4"  # of what was an hour and ten years ahead
    assert len(list(tmp_path.glob("*.stdout"))) == 2
    assert kernel.run("%logmesh stop").stdout == "stopped\n"


ASKED = {
    ("clock.py", "time.time"): "the clock itself",
    ("crashed_sessions.py", "time.time"): "how old a file is",
    ("doctor_system.py", "time.time"): "shown",
    ("gate.py", "SYSTEM_CLOCK.wall"): "shown with who was refused",
    ("local_log_sender.py", "self._clock.wall"): "the time of a line",
    ("runtime_directory.py", "time.time"): "how old a directory is",
    ("status.py", "time.time"): "shown",
    ("store_file.py", "time.time"): "a file's name",
    ("store_writer.py", "clock.wall"): "kept in a file",
    ("store_writer.py", "self._clock.wall"): "kept in a file",
    ("views/panel.py", "self._clock.wall"): "what ages are counted from",
}
"""Who asks for the wall clock, and what for: none of it is a window or a deadline."""
_ASKS = re.compile(r"time\.time(_ns)?|.*clock\.wall|.*datetime\.(now|utcnow|today)", re.IGNORECASE)


def test_nothing_asks_for_the_wall_clock_but_to_show_or_keep_it() -> None:
    package = ROOT / "logmesh_ipy"
    asked = {
        (path.relative_to(package).as_posix(), ast.unparse(node))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and _ASKS.fullmatch(ast.unparse(node))
    }
    assert asked == set(ASKED)
