"""Every line stands under the cell that caused it: at once, complete, once."""

from __future__ import annotations

import os
import random
import re
import statistics
import sys
import time
from typing import Callable, Dict, List, Tuple

import pytest

from tests.notebook.conftest import Cell, Kernel, KernelMaker, whole_lines
from tests.support import wait_until

pytestmark = pytest.mark.notebook

WAYS: Dict[str, Callable[[str], Tuple[str, bool]]] = {
    "print": lambda text: (f"print({text!r})", True),
    "os.write": lambda text: (f"os.write(1, {text.encode() + b'.'!r}); None", False),
    "printf": lambda text: (f"libc.printf({text.encode()!r}); None", False),
    "grandchild": lambda text: (f"subprocess.run(['echo', {text!r}], check=True); None", True),
}
IN_FLIGHT = 200  # cells that wait in the kernel: the next one starts at once, no socket is full
PREPARE = (
    "%%logmesh run\nimport ctypes, os, subprocess, sys, threading, time; libc = ctypes.CDLL(None)"
)


TEN_THOUSAND = pytest.param(
    10_000,
    marks=[
        pytest.mark.slow,
        pytest.mark.timeout(600),
        pytest.mark.skipif(
            not os.environ.get("LOGMESH_TEST_SLOW"),
            reason="takes two minutes; LOGMESH_TEST_SLOW=1 runs it",
        ),
    ],
)


@pytest.mark.parametrize("count", [2_000, TEN_THOUSAND])
def test_thousands_of_cells_have_each_their_own_line_and_nothing_else(
    kernels: KernelMaker, dice: random.Random, count: int
) -> None:
    """The proc prints, and at once the cell ends: with print, write(2), printf, a grandchild."""
    kernel = kernels("", procs=2)
    kernel.run(PREPARE)
    unfinished = {0: False, 1: False}
    expected: List[Tuple[str, str]] = []
    ways = [list(WAYS)[number % len(WAYS)] for number in range(count)]
    dice.shuffle(ways)
    wrong = []

    def check(request: str, line: str) -> None:
        cell = kernel.finish(request, 60)
        alone = cell == Cell(request, displays=cell.displays[:2], reply=cell.reply)
        if not alone or cell.text != f"{line}\n2/2 procs, 1 line, 0 lost":
            wrong.append((line, cell))

    began = time.monotonic()
    for number, way in enumerate(ways):
        rank = dice.randrange(2)
        code, ends_line = WAYS[way](f"{way} {number}")
        request = kernel.send(f"%%logmesh run --ranks {rank}\n{code}")
        shown = f"{way} {number}{'.' if way == 'os.write' else ''}"
        # A line that a cell left unfinished goes on in the next one: the sign says so.
        expected.append((request, f"[{rank}] {'…' if unfinished[rank] else ''}{shown}"))
        unfinished[rank] = not ends_line
        if number >= IN_FLIGHT:
            check(*expected[number - IN_FLIGHT])
    for request, line in expected[-IN_FLIGHT:]:
        check(request, line)
    per_cell = (time.monotonic() - began) / len(expected)
    sys.stdout.write(f"{len(expected)} cells, {per_cell * 1000:.2f} ms each\n")
    assert not wrong, (len(wrong), wrong[:3])


@pytest.mark.parametrize("how", ["thread", "job"])
def test_lines_stream_while_a_cell_blocks_the_main_thread(kernels: KernelMaker, how: str) -> None:
    """Each line carries the time of its printing; it is shown within 200 ms of that."""
    kernel = kernels("--view plain", procs=2)
    kernel.run(PREPARE)
    if how == "thread":
        started = kernel.run(
            "%%logmesh run\n"
            "def tick():\n"
            "    for _ in range(40):\n"
            "        print('at', time.time())\n"
            "        time.sleep(0.05)\n"
            "threading.Thread(target=tick, daemon=True).start()"
        )
    else:
        job = "for i in $(seq 40); do echo at $(date +%s.%N); sleep 0.05; done"
        started = kernel.run(f"job = %logmesh exec --bg -- sh -c '{job}'")
    blocked = kernel.run("import time; time.sleep(3)")
    to_wall = time.time() - time.monotonic()
    seen: Dict[Tuple[str, str], float] = {}
    for message in kernel.messages:
        if message.kind in ("display_data", "update_display_data"):
            text = message.content["data"]["text/plain"]
            for prefix, stamp in re.findall(r"^\[(.*?)\] at ([0-9.]+)$", text, re.MULTILINE):
                seen.setdefault((prefix, stamp), message.at + to_wall - float(stamp))
    delays = sorted(seen.values())
    sys.stdout.write(
        f"{len(delays)} lines: p50 {statistics.median(delays) * 1000:.0f} ms, "
        f"p95 {delays[len(delays) * 95 // 100] * 1000:.0f} ms, max {delays[-1] * 1000:.0f} ms\n"
    )
    assert len(delays) == 80
    assert statistics.median(delays) < 0.1
    assert delays[len(delays) * 95 // 100] < 0.2
    # A job's lines are under the cell that started it, a thread's under the cells that run.
    home = {"thread": blocked, "job": started}[how]
    assert len(kernel.shown(home.request).lines) > 60


def test_threads_of_procs_print_under_the_cell_that_runs_then(
    kernels: KernelMaker, dice: random.Random
) -> None:
    kernel = kernels("", procs=2)
    kernel.run(PREPARE)
    count = 300
    kernel.run(
        "%%logmesh run\n"
        "def tick():\n"
        f"    for number in range({count}):\n"
        "        print(number, time.time())\n"
        "        time.sleep(0.005)\n"
        "threading.Thread(target=tick, daemon=True).start()"
    )
    kernel.run("import time")
    requests = [kernel.run(f"time.sleep({dice.random() * 0.05})").request for _ in range(60)]
    kernel.run("%logmesh flush")
    to_wall = time.time() - time.monotonic()
    began: Dict[str, float] = {}
    for message in kernel.messages:
        if message.kind == "execute_input":
            began[message.parent] = message.at + to_wall
    cells = [cell for cell in kernel.notebook().values() if cell.request in began]
    cells.sort(key=lambda cell: began[cell.request])
    for position, cell in enumerate(cells):
        ends = began[cells[position + 1].request] if position + 1 < len(cells) else time.time()
        for stamp in re.findall(r"^\[\d\] \d+ ([\d.]+)$", cell.text, re.MULTILINE):
            # What is printed while no cell runs goes to the one before or after that moment.
            assert began[cell.request] - 0.1 < float(stamp) < ends + 0.1, (stamp, cell)
    lines = whole_lines([line for cell in cells for line in cell.lines])
    numbers = {prefix: [int(line.split()[0]) for line in mine] for prefix, mine in lines.items()}
    assert numbers == {"[0]": list(range(count)), "[1]": list(range(count))}
    assert sum(bool(kernel.shown(request).lines) for request in requests) > 10


def test_the_lines_of_a_background_job_stay_under_the_cell_that_started_it(
    kernels: KernelMaker,
) -> None:
    kernel = kernels("", procs=2)
    script = "for i in 1 2 3 4 5 6; do echo tick $i; sleep 0.05; done; exit 3"
    started = kernel.run(f"job = %logmesh exec --bg -- sh -c '{script}'")
    assert started.result is None
    during = [kernel.run("%%logmesh run\nprint('mine')") for _ in range(5)]
    codes = kernel.run("job.wait().get()")
    assert codes.result == "{0: 3, 1: 3}"
    wait_until(lambda: len(kernel.shown(started.request).lines) == 12, what="the job's 12 lines")
    lines = sorted(kernel.shown(started.request).lines)
    assert lines == sorted(f"[{r} job 1] tick {i}" for r in (0, 1) for i in range(1, 7))
    for cell in during:
        assert sorted(kernel.shown(cell.request).lines) == ["[0] mine", "[1] mine"]
    assert kernel.run("job").result == "<Job job 1: exit code 3: ranks 0-1>"


def test_stdout_stderr_and_unfinished_lines_are_all_there_when_the_cell_ends(
    shared: Kernel,
) -> None:
    cell = shared.run(
        "%%logmesh run --ranks 1,3\n"
        "import sys\n"
        "print('out'); print('err', file=sys.stderr); sys.stderr.write('open end')"
    )
    assert sorted(cell.lines) == [
        "[1 err] err",
        "[1 err] open end",
        "[1] out",
        "[3 err] err",
        "[3 err] open end",
        "[3] out",
    ]
    assert cell.receipt == "4/4 procs, 6 lines, 0 lost"
    after = shared.run("%%logmesh run --ranks 1,3\nprint(' goes on', file=sys.stderr)")
    assert sorted(after.lines) == ["[1 err] … goes on", "[3 err] … goes on"]


def test_output_is_above_the_results_and_the_error_of_its_cell(shared: Kernel) -> None:
    def kinds(request: str) -> List[str]:
        wanted = ("display_data", "stream", "error")
        return [m.kind for m in shared.messages if m.parent == request and m.kind in wanted]

    cell = shared.run("%%logmesh run\nprint('line')\n'value'")
    assert cell.stdout == "Out[0-3]: 'value'\n"
    assert kinds(cell.request) == ["display_data", "display_data", "stream"]
    cell = shared.run("%%logmesh run\nprint('line')\n1/0")
    assert kinds(cell.request) == ["display_data", "display_data", "error"]


def test_nested_cells_belong_to_the_outer_one(shared: Kernel) -> None:
    cell = shared.run(
        "ip = get_ipython()\n"
        "for n in range(3):\n"
        "    ip.run_cell_magic('logmesh', 'run --ranks 0', f'print({n})')\n"
        "ip.run_cell('%%logmesh run --ranks 0\\nprint(3)')\n"
        "ip.run_cell('1/0')\n"
        "ip.run_cell_magic('logmesh', 'run --ranks 0', 'print(4)')"
    )
    assert cell.lines == [f"[0] {n}" for n in range(5)]
    assert cell.receipt == "4/4 procs, 5 lines, 0 lost"
    assert len(cell.displays) == 2
    assert len(cell.snapshots) == 1
    after = shared.run("%%logmesh run --ranks 0\nprint('after')")
    assert after.lines == ["[0] after"]


def test_cells_that_await_have_their_lines(shared: Kernel) -> None:
    cell = shared.run(
        "import asyncio\n"
        "%logmesh exec -- echo before\n"
        "await asyncio.sleep(0.05)\n"
        "get_ipython().run_cell_magic('logmesh', 'run', 'print(\"after\")')"
    )
    assert cell.reply["status"] == "ok", cell
    assert len(cell.lines) == 8
    assert cell.receipt == "4/4 procs, 8 lines, 0 lost"


def test_top_level_await_works_on_the_procs(shared: Kernel) -> None:
    cell = shared.run(
        "%%logmesh run --ranks 0\nimport asyncio\nawait asyncio.sleep(0.01)\nprint('slept')"
    )
    assert cell.lines == ["[0] slept"]


@pytest.mark.parametrize("code", ["", "   \n", "# nothing but a comment", "x = 1", "1/0", "def :"])
def test_cells_that_do_not_use_the_mesh_get_no_receipt(shared: Kernel, code: str) -> None:
    cell = shared.run(code)
    assert cell.displays == []
    assert shared.run("%%logmesh run --ranks 2\nprint('next')").lines == ["[2] next"]


def test_a_cell_that_raises_after_it_printed_keeps_its_lines(shared: Kernel) -> None:
    cell = shared.run(
        "get_ipython().run_cell_magic('logmesh', 'run --ranks 0', 'print(1)')\n"
        "raise KeyError('mine')"
    )
    assert cell.ename == "KeyError"
    assert cell.lines == ["[0] 1"]
    assert cell.receipt == "4/4 procs, 1 line, 0 lost"


def test_hooks_of_others_that_raise_do_not_cost_a_line(kernels: KernelMaker) -> None:
    kernel = kernels()
    kernel.run(
        "def bad(*args):\n    raise RuntimeError('not ours')\n"
        "events = get_ipython().events\n"
        "events.register('pre_run_cell', bad); events.register('post_run_cell', bad)"
    )
    kernel.run("%load_ext logmesh_ipy")
    kernel.run("%logmesh start --procs 2")
    kernel.run("events.register('post_run_cell', lambda result: 1/0)")
    for number in range(5):
        cell = kernel.run(f"%%logmesh run\nprint({number})")
        assert sorted(cell.lines) == [f"[0] {number}", f"[1] {number}"]
        assert cell.receipt == "2/2 procs, 2 lines, 0 lost"


def test_an_escape_sequence_and_markup_are_shown_as_text(shared: Kernel) -> None:
    cell = shared.run(
        "%%logmesh run --ranks 0\nprint('<b>\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 &')"
    )
    html = cell.snapshots[0]["text/html"]
    assert "<b>" not in html.replace("<b style", "")
    assert "&lt;b&gt;" in html
    assert "\x1b" not in html
    assert "\x1b" not in cell.text


def test_a_flood_is_counted_whole_and_its_end_is_shown(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=2)
    cell = kernel.run("%%logmesh run\nfor i in range(50_000): print('line', i)", timeout=60)
    assert cell.receipt == "2/2 procs, 100,000 lines, 0 lost"
    assert "earlier lines not shown here, all in the store" in cell.text
    assert {"[0] line 49999", "[1] line 49999"} & set(cell.lines[-1:])
    sizes = [len(str(m.content)) for m in kernel.messages if m.kind == "update_display_data"]
    assert max(sizes) < 600_000
