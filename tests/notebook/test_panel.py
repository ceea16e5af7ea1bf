"""The interactive view's kernel side in a real kernel: what browsers are told, and may ask."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Dict, List

import pytest

from tests.notebook.browser import Browser, SeenLine
from tests.notebook.conftest import Kernel, KernelMaker
from tests.support import wait_until

pytestmark = pytest.mark.notebook


def start(kernels: KernelMaker, options: str = "", procs: int = 2) -> Browser:
    kernel = kernels("", procs=procs) if not options else kernels(options, procs=procs)
    browser = Browser(kernel)
    browser.until(lambda page: page.session)
    browser.answer("hello", have=0)
    return browser


def settle(browser: Browser) -> None:
    """The second in which a page came is over: its greeting takes room from what follows."""
    browser.until(lambda page: time.monotonic() - page.times[0] > 1.2)
    browser.times.clear()


def subshells(kernel: Kernel) -> bool:
    features = kernel.ask(kernel.client.kernel_info()).get("supported_features", [])
    return "kernel subshells" in features


def test_the_lines_of_a_cell_arrive_before_its_receipt(kernels: KernelMaker) -> None:
    browser = start(kernels)
    cell = browser.kernel.run("%%logmesh run\nfor i in range(50): print('line', i)\n")
    bundle = next(d for d in cell.displays if "application/vnd.logmesh.cell+json" in d)
    view = bundle["application/vnd.logmesh.cell+json"]
    assert view == {
        "session": browser.session, "comm": f"logmesh-{browser.session}", "cell": view["cell"],
    }  # fmt: skip
    browser.until(lambda page: any(r[0] == view["cell"] for r in page.receipts))
    expected = [f"line {i}" for i in range(50)]
    assert browser.texts(view["cell"]) == {0: expected, 1: expected}
    number, rows_before, text = browser.receipts[-1]
    assert (number, text) == (view["cell"], "2/2 procs, 100 lines, 0 lost")
    assert rows_before == 100
    assert browser.numbers == list(range(browser.numbers[0], browser.numbers[-1] + 1))
    states = {row[1]: (row[5], row[7]) for row in browser.procs.values()}
    assert set(states) == {0, 1}
    browser.until(lambda page: sum(row[7] for row in page.procs.values()) == 100)


def test_lines_come_with_what_is_alike_and_a_group_s_values_can_be_asked_for(
    kernels: KernelMaker,
) -> None:
    browser = start(kernels)
    cell = browser.kernel.run(
        "%%logmesh run\n"
        "import os\n"
        "rank = int(os.environ['RANK'])\n"
        "for i in range(100): print(f'step {i} loss {i * 0.5 + rank} on cuda:{rank}')\n"
        "print('loss nan')\nprint('WARNING: rank is late')\n"
    )
    number = next(iter(cell.displays))["application/vnd.logmesh.cell+json"]["cell"]
    browser.until(lambda page: page.receipts and len(page.rows) == 204)
    groups: Dict[int, List[SeenLine]] = {}
    for line in browser.rows.values():
        groups.setdefault(browser.group_of(line)[0], []).append(line)
    assert sorted(map(len, groups.values())) == [2, 2, 200]
    (steps,) = (group for group, lines in groups.items() if len(lines) == 200)
    told = browser.templates[steps]
    assert (told[2][0], told[2][1], told[3][:2]) == ("step ", " loss ", "##")
    (late,) = (group for group, lines in groups.items() if "late" in lines[0].text)
    assert browser.templates[late][4] == 30

    reply = browser.answer(
        "values", template=steps, target=1, job="", cell=number, first=0, end=204
    )
    assert (reply["ok"], reply["lines"], reply["whole"]) == (True, 200, True)
    step, loss = reply["values"][:2]
    assert step[:3] == ["#", 200, 0]
    assert step[4:6] == [49.5, 99]
    assert loss == ["#", 200, 0, 0, 25.25, 50.5, 1]
    for wrong in ({"template": -1}, {"target": 3}, {"first": "x"}):
        asked = {"template": steps, "target": 1, "job": "", "cell": None, "first": 0, "end": 1}
        refused = browser.answer("values", **{**asked, **wrong})
        assert not refused["ok"]
        assert refused["error"]


@pytest.mark.parametrize("listens", [True, False])
def test_the_snapshot_is_renewed_at_once_where_nobody_listens(
    kernels: KernelMaker, listens: bool
) -> None:
    """Where a browser does, it is what a saved notebook keeps, and is renewed seldom."""
    kernel = start(kernels, procs=1).kernel if listens else kernels("", procs=1)
    kernel.run(
        "%%logmesh run\nimport time\nfor i in range(40): print('step', i); time.sleep(0.05)\n"
    )
    snapshots = [
        message.content["data"]["text/plain"].count("step ")
        for message in kernel.messages
        if "text/plain" in message.content.get("data", {})
    ]
    sys.stdout.write(f"lines in each snapshot: {snapshots}\n")
    assert snapshots[-1] == 40
    if listens:
        assert len(set(snapshots)) < 5
    else:
        assert len(set(snapshots)) > 8


def test_the_mode_is_told_with_the_cell_from_which_on_it_holds(kernels: KernelMaker) -> None:
    """Whenever a page hears of it: cells that were run at once have gone on meanwhile."""
    browser = start(kernels)
    for words, window in (("--window 3", 3.0), ("--window none", None)):
        last = browser.kernel.send(f"%logmesh set_mode {words}\nprint('set')")
        for number in range(5):
            last = browser.kernel.send(f"%%logmesh run\nprint('after', {number})")
        browser.kernel.finish(last)
        browser.until(lambda page, window=window: page.state["mode"]["window"] == window)
        shown = [
            cell.displays[0]["application/vnd.logmesh.cell+json"]["cell"]
            for cell in browser.kernel.notebook().values()
            if cell.displays
        ][-5:]
        assert shown == list(range(shown[0], shown[0] + 5))
        assert browser.state["cell"] == shown[0] - 1


def test_a_storm_is_told_within_the_bounds_and_can_be_paged_in(kernels: KernelMaker) -> None:
    browser = start(kernels)
    settle(browser)
    lines = 80_000
    browser.kernel.run(
        f"%%logmesh run\nfor i in range({lines}): print('step', i, 'of a storm ' + 'x' * 60)\n"
        "print('ERROR at last')\n",
        timeout=60,
    )
    total = 2 * (lines + 1)
    browser.until(lambda page: page.receipts[-1][2] == f"2/2 procs, {total:,} lines, 0 lost")
    assert browser.live_end == total
    assert browser.skips, "a storm beyond what may be sent must leave something out"
    assert browser.untold(total) == 0
    # In any second ten messages at most; they travel for a moment.
    for first, moment in enumerate(browser.times):
        within = sum(moment <= other < moment + 0.9 for other in browser.times[first:])
        assert within <= 11, browser.times
    assert browser.rows[total - 1].text == "ERROR at last" or any(
        line.text == "ERROR at last" for line in browser.rows.values()
    )
    browser.fetch_all(total)
    assert len(browser.rows) == total
    cell = browser.receipts[-1][0]
    expected = [f"step {i} of a storm {'x' * 60}" for i in range(lines)] + ["ERROR at last"]
    assert browser.texts(cell) == {0: expected, 1: expected}


def test_a_page_that_comes_back_gets_the_last_lines_and_the_rest_as_a_skip(
    kernels: KernelMaker,
) -> None:
    browser = start(kernels)
    browser.kernel.run("%%logmesh run\nfor i in range(60_000): print('y' * 100, i)\n", timeout=60)
    browser.until(lambda page: page.live_end == 120_000)
    again = Browser(browser.kernel)
    again.session = browser.session
    again.skip_to_now()
    again.answer("hello", have=0)
    again.until(lambda page: page.state and 119_999 in page.rows and page.receipts)
    again.until(lambda page: page.untold(120_000) == 0)
    held = sorted(again.rows)
    assert held == list(range(held[0], 120_000))
    assert {(skip["first"], skip["end"]) for skip in again.skips} == {(0, held[0])}
    assert 30_000 < len(held) < 60_000


def test_requests_are_answered_while_a_cell_blocks_where_there_are_subshells(
    kernels: KernelMaker,
) -> None:
    browser = start(kernels)
    kernel = browser.kernel
    at_once = subshells(kernel)
    assert browser.until(lambda page: page.state)["atOnce"] is at_once
    kernel.run(
        "import logging\njob = %logmesh exec --bg -- "
        "python -uc \"import time\nfor i in range(200): print('tick', i); time.sleep(0.02)\""
    )
    if at_once:
        browser.open_subshell()
    request = kernel.send("import time\ntime.sleep(3)\nprint('woke up')")
    browser.until(lambda page: page.state["busy"])
    asked = time.monotonic()
    reply = browser.answer("set_mode", level=30, window=3)
    took = time.monotonic() - asked
    browser.until(lambda page: page.state["mode"]["level"] == 30)
    told = time.monotonic() - asked
    assert reply["ok"]
    assert reply["n"] > browser.state["n"]  # the state is told before it is said to be so
    assert "level WARNING" in reply["text"]
    assert "windows of 3 s" in reply["text"]
    if at_once:
        assert told < 2.0, (took, told)  # the benchmark tells how fast; this, that it did not wait
        assert "woke up" not in kernel.shown(request).stdout
        flush = browser.answer("flush")
        assert flush["ok"]
        assert "lost" in flush["text"]
        assert "woke up" not in kernel.shown(request).stdout
    kernel.finish(request)
    assert "level WARNING" in kernel.run("%logmesh set_mode").stdout
    kernel.run("%logmesh set_mode --level DEBUG --window none")
    browser.until(lambda page: page.state["mode"]["level"] == 10)
    assert browser.state["mode"]["window"] is None
    kernel.run("job.stop().get()")


def test_lines_stream_to_browsers_while_a_cell_blocks_the_main_thread(
    kernels: KernelMaker,
) -> None:
    """Each line carries the time of its printing; a browser is told of it soon."""
    browser = start(kernels)
    settle(browser)
    kernel = browser.kernel
    job = "for i in $(seq 40); do echo at $(date +%s.%N); sleep 0.05; done"
    kernel.run(f"job = %logmesh exec --bg -- sh -c '{job}'")
    browser.until(lambda page: page.rows)
    first = len(browser.rows)
    kernel.run("import time; time.sleep(3)")
    to_wall = time.time() - time.monotonic()
    browser.until(lambda page: len(page.rows) == 80)
    delays = sorted(
        browser.arrived[row] + to_wall - float(line.text.split()[1])
        for row, line in browser.rows.items()
        if row >= first
    )
    sys.stdout.write(f"p50 {statistics.median(delays):.3f} s, max {delays[-1]:.3f} s\n")
    assert statistics.median(delays) < 0.2
    assert delays[len(delays) * 95 // 100] < 0.4


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("dance", {}, "there is no request 'dance'"),
        ("fetch", {"first": -1, "end": 3}, "it must be a whole number"),
        ("fetch", {"first": "x", "end": 3}, "it must be a whole number"),
        ("set_mode", {"window": 0.5}, "it must be 1 second or more, or none"),
        ("set_mode", {"level": "loud"}, "level must be one of"),
        ("set_mode", {"stream": False, "window": 3}, "cannot aggregate without streaming"),
        ("set_mode", {"stream": "no"}, "it must be true or false"),
        ("download", {"format": "pdf", "cell": None, "ranks": None}, "allowed are 'text'"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_with_words(
    kernels: KernelMaker, kind: str, arguments: dict[str, object], said: str
) -> None:
    browser = start(kernels)
    reply = browser.answer(kind, **arguments)
    assert not reply["ok"]
    assert said in reply["error"]
    assert browser.kernel.run("%%logmesh run\nprint('still here')").text.count("still here") == 2


def test_many_hellos_to_a_busy_kernel_are_answered_as_one(kernels: KernelMaker) -> None:
    browser = start(kernels)
    kernel = browser.kernel
    for _ in range(30):  # each with a receipt
        kernel.run("%%logmesh run\nprint('x' * 50)")
    kernel.run("%%logmesh run\nfor i in range(3000): print('line', i)")
    page = Browser(kernel)
    page.session = browser.session
    page.skip_to_now()
    asked = [page.ask("hello", have=0) for _ in range(100)]
    began = time.monotonic()
    page.until(lambda page: page.rows and page.untold(6060) == 0)
    assert len({cell for cell, _, _ in page.receipts}) >= 31
    assert page.replies
    assert time.monotonic() - began < 5
    assert sum(request in page.replies for request in asked) < 50
    assert len(page.numbers) < 60
    assert page.answer("fetch", first=0, end=10)["ok"]


def test_unfinished_lines_are_told_as_they_stand_and_go_when_they_end(
    kernels: KernelMaker,
) -> None:
    browser = start(kernels)
    kernel = browser.kernel
    request = kernel.send(
        "%%logmesh run\nimport sys, time\n"
        "for i in range(101):\n    sys.stderr.write(f'\\r{i}% done'); sys.stderr.flush()\n"
        "time.sleep(1.0)\nsys.stderr.write('\\n')\n"
    )
    browser.until(lambda page: [line[4] for line in page.live] == ["100% done"] * 2)
    kernel.finish(request)
    browser.until(lambda page: page.live == [] and page.receipts[-1][2].startswith("2/2 procs, 2 "))
    assert [line.text for line in browser.rows.values()] == ["100% done"] * 2


def test_bytes_that_are_no_text_arrive_as_escapes_and_long_lines_shortened(
    kernels: KernelMaker,
) -> None:
    browser = start(kernels)
    browser.kernel.run(
        "%%logmesh run --ranks 0\nimport os\n"
        "os.write(1, b'bad \\xff\\xfe\\n' + b'z' * 1_000_000 + b'\\n')\n"
        "os.write(1, bytes(range(128, 256)) * 2000 + b'\\n')\n"
        "os.write(1, (b'\\xff' * 90 + b'\\n') * 3000)\n"
    )
    browser.until(lambda page: page.live_end == 3003)
    assert browser.rows[0].text == "bad \\xff\\xfe"
    long = browser.rows[1]
    assert long.text == "z" * 8192
    assert long.flags == 1 | 32
    browser.answer("fetch", first=1, end=2, whole=True)
    assert browser.rows[1].text == "z" * 65536
    assert browser.rows[1].flags == 1
    browser.fetch_all(3003)
    assert browser.rows[3002].text == "\\xff" * 90


def test_what_a_stopped_mesh_printed_can_still_be_asked_for(kernels: KernelMaker) -> None:
    browser = start(kernels)
    kernel = browser.kernel
    kernel.run("%%logmesh run\nprint('one')\nprint('two')")
    kernel.run("%logmesh stop")
    browser.until(lambda page: page.state["mesh"] == "stopped")
    threads = kernel.value("[t.name for t in __import__('threading').enumerate()]")
    wait_until(
        lambda: "logmesh" not in kernel.value(
            "[t.name for t in __import__('threading').enumerate()]"
        ),
        5, threads,
    )  # fmt: skip
    again = Browser(kernel)
    again.session = browser.session
    again.skip_to_now()
    again.answer("hello", have=0)
    again.until(lambda page: len(page.rows) == 4)
    refused = again.answer("set_mode", level=10)
    assert "no mesh runs" in refused["error"]
    kernel.run("%logmesh start --procs 1")
    again.until(lambda page: page.session != browser.session)
    assert browser.session in [
        m.content["comm_id"].removeprefix("logmesh-")
        for m in kernel.messages
        if m.kind == "comm_close"
    ]
    new = Browser(kernel)
    new.until(lambda page: page.session not in ("", browser.session))
    new.answer("hello", have=0)
    kernel.run("%%logmesh run\nprint('three')")
    new.until(lambda page: [line.text for line in page.rows.values()] == ["three"])


def test_a_file_that_is_too_large_is_refused_and_says_what_to_do(kernels: KernelMaker) -> None:
    browser = start(kernels)
    browser.kernel.run("import logmesh_ipy.notebook_panel as p; p._MAX_DOWNLOAD_BYTES = 1 << 20")
    browser.kernel.run("%%logmesh run\nfor i in range(9000): print('x' * 99)")
    reply = browser.answer("download", format="text", cell=None, ranks=None)
    assert "the file has 1 MB; at most 1 go through" in reply["error"]
    assert "mesh.logs.write(" in reply["error"]


@pytest.mark.parametrize("file_format", ["text", "jsonl", "parquet"])
def test_the_lines_of_a_cell_come_as_a_file(kernels: KernelMaker, file_format: str) -> None:
    browser = start(kernels)
    cell = browser.kernel.run("%%logmesh run\nfor i in range(3): print('row', i)")
    number = next(iter(cell.displays[0].values()))["cell"]
    browser.kernel.run("%%logmesh run\nprint('another cell')")
    request = browser.ask("download", format=file_format, cell=number, ranks=[1])
    browser.until(lambda page: page.replies.get(request))
    assert browser.replies[request]["ok"], browser.replies[request]
    body = b"".join(browser.files[request])
    if file_format == "parquet":
        import io

        import pyarrow.parquet

        texts = pyarrow.parquet.read_table(io.BytesIO(body)).column("text").to_pylist()
    elif file_format == "jsonl":
        texts = [json.loads(line)["text"] for line in body.splitlines()]
    else:
        assert b"row 2" in body.splitlines()[-1]
        texts = ["row 0", "row 1", "row 2"]
        assert len(body.splitlines()) == 3
    assert texts == ["row 0", "row 1", "row 2"]


def test_the_whole_mesh_is_displayed_by_the_panel_magic(kernels: KernelMaker) -> None:
    browser = start(kernels)
    browser.kernel.run("%%logmesh run\nprint('seen')")
    cell = browser.kernel.run("%logmesh panel")
    assert cell.displays[0]["application/vnd.logmesh.cell+json"]["cell"] is None
    assert cell.text.count("seen") == 2
    assert f"logmesh-of-{browser.session}-all" in cell.displays[1]["text/html"]


def test_a_front_end_without_the_extension_gets_a_widget_that_carries_the_code_once(
    kernels: KernelMaker,
) -> None:
    kernel = kernels("", procs=2)
    for _ in range(3):
        kernel.run("%%logmesh run\nprint('x')")
    opened = [m.content for m in kernel.messages if m.kind == "comm_open"]
    codes = [len(m["data"].get("state", {}).get("code", "")) for m in opened]
    assert sum(size > 0 for size in codes) == 1
    small = [
        json.dumps(m["data"])
        for m in opened
        if "state" in m["data"] and not m["data"]["state"].get("code")
    ]
    assert max(map(len, small)) < 3000


def test_the_plain_view_has_no_comm_and_no_widget(kernels: KernelMaker) -> None:
    kernel = kernels("--view plain", procs=2)
    cell = kernel.run("%%logmesh run\nprint('x')")
    assert cell.text.count("] x") == 2
    assert not [m for m in kernel.messages if m.kind.startswith("comm_")]
    assert "view is 'fancy'; allowed are panel, plain" in (
        kernel.run("%logmesh stop").stderr
        + (bad := kernel.run("%logmesh start --view fancy")).stderr
        + bad.error
    )
