"""A million lines in one cell: the page stays fluid and small, and ends at the last line."""

from __future__ import annotations

import re
import sys

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener, Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PROCS = 2
LINES = 1_000_000
CELLS = [
    "%load_ext logmesh_ipy",
    f"%logmesh start --procs {PROCS}",
    "%%logmesh run\nprint('warm')",
    (
        "%%logmesh run\n"
        "import os\n"
        f"for i in range({LINES // PROCS - 1}):\n"
        "    print('step', i, 'of a storm: loss 0.123, ' + 'x' * 60)\n"
        "print('the last line of rank', os.environ['RANK'])"
    ),
    (
        "from logmesh_ipy import context\nstore = context().actor_instance.store\n"
        "print(store.rows, next(store.lines(store.rows - 1)).text.decode(), sep='|')"
    ),
]

FRAMES = """() => {
    const frames = window.frames_seen = [];
    let before = performance.now();
    const next = now => { frames.push(now - before); before = now; requestAnimationFrame(next); };
    requestAnimationFrame(next);
}"""


def test_a_million_lines_in_one_cell(server: Server, open_notebook: Opener) -> None:
    notebook = open_notebook(server, CELLS)
    page = notebook.page
    notebook.run_all(0, 1, 2)
    page.evaluate(FRAMES)
    notebook.start(3)
    notebook.finish(3, 120)
    frames = sorted(page.evaluate("() => window.frames_seen"))
    p95, p99 = frames[len(frames) * 95 // 100], frames[len(frames) * 99 // 100]
    view = notebook.view(3)
    expect(view).to_contain_text(f"{PROCS}/{PROCS} procs, {LINES:,} lines, 0 lost", timeout=15_000)
    left_out = view.locator(".lm-skip").first
    notebook.shot("storm")
    page.evaluate("() => window.gc && window.gc()")
    heap = page.evaluate("() => performance.memory.usedJSHeapSize") / 1e6
    notebook.save()
    size = (server.work / notebook.name).stat().st_size
    sys.stdout.write(
        f"frames: {len(frames)}, p95 {p95:.1f} ms, p99 {p99:.1f}, max {frames[-1]:.0f}; "
        f"heap {heap:.0f} MB; notebook {size / 1e3:.0f} KB\n"
    )
    rows, last = notebook.run(4).locator(".jp-OutputArea-output").inner_text().strip().split("|")
    assert int(rows) == LINES + PROCS
    assert view.locator(".lm-row").last.inner_text().endswith(last)
    assert "rate exceeded" not in server.words()
    assert "IOPub" not in notebook.cell(3).inner_text()
    assert p95 < 33
    assert heap < 300
    assert size < 1_000_000
    # What was not shown can be paged in.
    view.get_by_role("log").focus()
    page.keyboard.press("Home")
    expect(left_out).to_be_visible()
    text = left_out.inner_text()
    assert re.search(r"[\d,]+ lines not shown here, all in the store", text), text
    left_out.get_by_role("button", name=re.compile("^the first")).click()
    expect(view).to_contain_text("step 0 of a storm", timeout=15_000)
    assert notebook.errors == []
