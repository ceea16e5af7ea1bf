"""The view obeys while a cell blocks the kernel; the mesh as soon as the kernel hears of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener, Server, ipykernels

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TICKS = """\
import time
for i in range(1500):
    print(("DEBUG: tick", "INFO: tack", "ERROR: tock")[i % 3], i, flush=True)
    time.sleep(0.02)
"""
CELLS = [
    "%load_ext logmesh_ipy",
    "%logmesh start --procs 4",
    "job = %logmesh exec --bg -- python ticks.py",
    "import time; time.sleep(10)",
    "%logmesh set_mode",
]


def version_of(directory: str) -> tuple[int, ...]:
    code = "import ipykernel; print(ipykernel.__version__)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": directory},
    ).stdout  # fmt: skip
    return tuple(int(part) for part in found.strip().split(".")[:2])


@pytest.fixture(
    scope="module", params=ipykernels(), ids=lambda path: Path(path).name or "installed"
)
def kernel_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server("lab", ipykernel=request.param)
    made.version = version_of(request.param)  # type: ignore[attr-defined]
    yield made
    made.stop()


WATCH = """() => {
    // When level and window were clicked, and when the view had obeyed.
    const view = document.querySelectorAll('.jp-Notebook .jp-Cell')[2].querySelector('.lm-root');
    const seen = window.seen = { clicked: 0, filtered: 0, checked: 0, grouped: 0 };
    const rows = () => [...view.querySelectorAll('.lm-row .lm-body')].map(row => row.textContent);
    const look = () => {
        const texts = rows();
        if (seen.clicked && !seen.filtered && texts.length
            && texts.every(text => text.includes('ERROR'))) {
            seen.filtered = performance.now();
        }
        if (seen.checked && !seen.grouped && view.querySelector('.lm-group')) {
            seen.grouped = performance.now();
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    view.querySelector('input[type=checkbox]').addEventListener(
        'change', () => { seen.checked = performance.now(); }, { capture: true });
    view.querySelector('select').addEventListener(
        'change', () => { seen.clicked = performance.now(); }, { capture: true });
}"""

MODE_TIMES = """
import threading, time
from logmesh_ipy import context
seen = []
def watch(instance):
    mesh = instance.meshes[0]
    known = None
    while len(seen) < 3:
        records = list(instance.actor.records.values())
        now = (instance.actor.aggregate_window_sec, records[0].level)
        if now != known:
            known = now
            seen.append((time.time(), now))
        time.sleep(0.005)
threading.Thread(target=watch, args=(context().actor_instance,), daemon=True).start()
"""


def test_a_click_during_a_blocked_cell(kernel_server: Server, open_notebook: Opener) -> None:
    kernel_server.work.joinpath("ticks.py").write_text(TICKS)
    notebook = open_notebook(
        kernel_server, [*CELLS[:2], CELLS[2], MODE_TIMES, CELLS[3], "print(seen)", CELLS[4]]
    )
    at_once = kernel_server.version >= (7, 1)  # type: ignore[attr-defined]
    page = notebook.page
    notebook.run_all(0, 1, 2, 3)
    view = notebook.view(2)
    expect(view.locator(".lm-row")).not_to_have_count(0)
    view.scroll_into_view_if_needed()
    notebook.start(4)
    page.wait_for_timeout(500)
    if not view.locator(".lm-bar").is_visible():
        view.hover()
        view.get_by_role("button", name="Controls", exact=True).click()
    page.evaluate(WATCH)
    before = view.locator(".lm-row").count()
    assert before
    clicked = page.evaluate("() => Date.now() / 1000")
    view.get_by_role("combobox", name="Level").select_option("40")
    page.wait_for_function("() => window.seen.filtered")
    checked = page.evaluate("() => Date.now() / 1000")
    view.get_by_role("checkbox", name="Aggregate lines in windows").check()
    expect(view.get_by_role("button", name="Grouped")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => window.seen.grouped")
    seen = page.evaluate("() => window.seen")
    filtered, grouped = seen["filtered"] - seen["clicked"], seen["grouped"] - seen["checked"]
    if not at_once:
        expect(view).to_contain_text("applies when the cell ends")
    else:
        expect(view.locator(".lm-pending")).to_have_count(0)
    notebook.shot(f"blocked-{'.'.join(map(str, kernel_server.version))}")  # type: ignore[attr-defined]
    # Lines go on streaming in while the cell blocks.
    counted = view.locator(".lm-times").first
    first = counted.inner_text()
    expect(counted).not_to_have_text(first, timeout=5000)
    still_blocked = "*" in notebook.cell(4).locator(".jp-InputPrompt").inner_text()
    assert still_blocked
    notebook.finish(4)
    notebook.run(5)
    times = re.findall(r"\(([\d.]+), \((None|[\d.]+), (\d+)\)\)", notebook.cell(5).inner_text())
    level_at = next(float(at) for at, _, level in times if level == "40")
    window_at = next(float(at) for at, window, _ in times if window == "3.0")
    level_ms, window_ms = (level_at - clicked) * 1000, (window_at - checked) * 1000
    sys.stdout.write(
        f"view after {filtered:.0f} ms (level), {grouped:.0f} ms (window); "
        f"mesh after {level_ms:.0f} ms (level), {window_ms:.0f} ms (window)\n"
    )
    assert max(filtered, grouped) < 100
    if at_once:
        assert max(level_ms, window_ms) < 300
    expect(notebook.run(6)).to_contain_text("grouped in windows of 3 s, level ERROR")
    expect(view.locator(".lm-pending")).to_have_count(0)
    assert notebook.errors == []
