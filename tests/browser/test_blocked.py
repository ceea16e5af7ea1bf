"""The view obeys while a cell blocks the kernel; the mesh as soon as the kernel hears of it."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Notebook, Opener, Server, ipykernels, show_controls

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
    "import time; time.sleep(12)",
    "%logmesh set_mode",
]


@pytest.fixture(
    scope="module", params=ipykernels(), ids=lambda path: Path(path).name or "installed"
)
def kernel_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server("lab", ipykernel=request.param)
    yield made
    made.stop()


WATCH = """() => {
    // Of each choice of a level or a window: when it was made, and how long the view took to obey.
    const view = document.querySelectorAll('.jp-Notebook .jp-Cell')[2].querySelector('.lm-root');
    const choices = window.choices = [];
    const obeyed = {
        level: level => {
            const bodies = [...view.querySelectorAll('.lm-row .lm-body')];
            const texts = bodies.map(body => body.textContent);
            return level === '40'
                ? texts.length > 0 && texts.every(text => text.includes('ERROR'))
                : texts.some(text => text.includes('INFO'));
        },
        window: on => (view.querySelector('.lm-group') !== null) === on,
    };
    const watch = (selector, what, property) => {
        const control = view.querySelector(selector);
        control.addEventListener('change', ({ timeStamp }) => {
            const at = (performance.timeOrigin + timeStamp) / 1000;
            choices.push({ what, value: control[property], at, made: timeStamp, ms: null });
        }, { capture: true });
    };
    watch('select', 'level', 'value');
    watch('input[type=checkbox]', 'window', 'checked');
    const look = () => {
        for (const choice of choices) {
            if (choice.ms === null && obeyed[choice.what](choice.value)) {
                choice.ms = performance.now() - choice.made;
            }
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""

MODE_TIMES = """
import threading, time
from logmesh_ipy import context
seen = []
def watch(instance):
    mesh = instance.meshes[0]
    known = None
    while len(seen) < 20:
        records = list(instance.actor.records.values())
        now = (instance.actor.aggregate_window_sec, records[0].level)
        if now != known:
            known = now
            seen.append((time.time(), now))
        time.sleep(0.005)
threading.Thread(target=watch, args=(context().actor_instance,), daemon=True).start()
"""


CHOICES = 3
"""How often level and window are chosen, for the best of them to count: procs, kernel and browser
share the machine's cores."""


def choose(notebook: Notebook, level: str, *, window: bool, at_once: bool) -> None:
    """Choose a level, then a window; each when the view, and the mesh if it can, has obeyed."""
    view = notebook.view(2)
    for choice in (
        lambda: view.get_by_role("combobox", name="Level").select_option(level),
        lambda: view.get_by_role("checkbox", name="Aggregate lines in windows").set_checked(window),
    ):
        choice()
        notebook.page.wait_for_function("() => window.choices.every(({ ms }) => ms !== null)")
        if at_once:
            expect(view.locator(".lm-pending")).to_have_count(0)


def in_words(times: list[float]) -> str:
    return ", ".join(f"{each:.0f}" for each in times)


def test_a_click_during_a_blocked_cell(kernel_server: Server, open_notebook: Opener) -> None:
    kernel_server.work.joinpath("ticks.py").write_text(TICKS)
    notebook = open_notebook(
        kernel_server, [*CELLS[:2], CELLS[2], MODE_TIMES, CELLS[3], "print(seen)", CELLS[4]]
    )
    at_once = kernel_server.version >= (7, 1)
    page = notebook.page
    notebook.run_all(0, 1, 2, 3)
    view = notebook.view(2)
    expect(view.locator(".lm-row")).not_to_have_count(0)
    notebook.start(4)
    show_controls(view)
    page.evaluate(WATCH)
    before = view.locator(".lm-row").count()
    assert before
    choose(notebook, "40", window=True, at_once=at_once)
    for _ in range(CHOICES - 1):
        choose(notebook, "20", window=False, at_once=at_once)
        choose(notebook, "40", window=True, at_once=at_once)
    expect(view.get_by_role("button", name="Grouped")).to_have_attribute("aria-pressed", "true")
    choices = page.evaluate("() => window.choices")
    if not at_once:
        expect(view).to_contain_text("applies when the cell ends")
    notebook.shot(f"blocked-{'.'.join(map(str, kernel_server.version))}")
    # Lines go on streaming in while the cell blocks.
    counted = view.locator(".lm-times").last
    first = counted.inner_text()
    expect(counted).not_to_have_text(first, timeout=5000)
    still_blocked = "*" in notebook.cell(4).locator(".jp-InputPrompt").inner_text()
    assert still_blocked
    notebook.finish(4)
    notebook.run(5)
    modes = re.findall(r"\(([\d.]+), \((None|[\d.]+), (\d+)\)\)", notebook.cell(5).inner_text())
    for what, wanted, place in (("level", "40", 2), ("window", "3.0", 1)):
        made = [each for each in choices if each["what"] == what and each["value"] in ("40", True)]
        reached = [float(mode[0]) for mode in modes if mode[place] == wanted]
        in_view = [each["ms"] for each in made]
        in_mesh = [
            1000 * (min((at for at in reached if at > each["at"]), default=math.inf) - each["at"])
            for each in made
        ]
        sys.stdout.write(f"{what}: ms until view {in_words(in_view)}; mesh {in_words(in_mesh)}\n")
        assert len(made) == CHOICES
        assert min(in_view) < 100
        if at_once:
            assert min(in_mesh) < 300
    expect(notebook.run(6)).to_contain_text("grouped in windows of 3 s, level ERROR")
    expect(view.locator(".lm-pending")).to_have_count(0)
    assert notebook.errors == []
