"""A million lines in one cell: the page stays fluid and small, and ends at the last line."""

from __future__ import annotations

import re
import sys

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Notebook, Opener, Server
from tests.support import wait_until

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


def first_skip(notebook: Notebook, view: Locator) -> str:
    """What the first row says that tells of lines left out: some came before it was too much.

    "" for none; rows may come and go meanwhile.
    """
    view.get_by_role("log").focus()
    notebook.page.keyboard.press("Home")
    for _ in range(500):
        texts = view.locator(".lm-skip").all_inner_texts()
        if texts:
            return texts[0]
        notebook.page.keyboard.press("PageDown")
    return ""


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
    # Two frames of a 60 Hz screen, and a little: one is lost now and then, since procs, kernel and
    # browser share the machine's cores.
    assert p95 < 35
    assert heap < 300
    assert size < 1_000_000
    # What was not shown can be paged in.
    left_out = first_skip(notebook, view)
    found = re.search(r"([\d,]+) lines not shown here, all in the store", left_out)
    assert found, left_out
    skip = view.locator(".lm-skip").first
    skip.get_by_role("button", name=re.compile("^the first")).click()
    # They come in several messages; with each the row tells of fewer lines, and moves down.
    fewer = int(found[1].replace(",", "")) - 5000
    wait_until(
        lambda: f"{fewer:,} lines not shown here" in first_skip(notebook, view),
        30,
        lambda: f"{fewer:,} lines wanted, not {first_skip(notebook, view)!r}",
    )
    assert notebook.errors == []
