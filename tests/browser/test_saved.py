"""What stays: a page that is loaded again, a notebook without a kernel, nbconvert's HTML."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Notebook, Opener, Server, screenshots

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CELLS = [
    "%load_ext logmesh_ipy",
    "%logmesh start --procs 2",
    (
        "%%logmesh run\nfor i in range(30): print('kept line', i)\n"
        "print('\\x1b[32mgreen\\x1b[0m <b>x</b>')"
    ),
    (
        "%%logmesh run\nimport time\n"
        "for i in range(400):\n    print('late line', i)\n    time.sleep(0.02)"
    ),
]


@pytest.fixture(scope="module", params=["lab", "notebook"])
def saving(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    yield made
    made.stop()


def test_a_reload_in_the_middle_of_a_run_brings_the_view_back_with_its_history(
    saving: Server, open_notebook: Opener
) -> None:
    notebook = open_notebook(saving, CELLS)
    notebook.run_all(0, 1, 2)
    notebook.start(3)
    expect(notebook.view(3)).to_contain_text("late line 20")
    notebook.save()
    notebook.reload()
    view = notebook.view(3)
    expect(view).to_contain_text("late line", timeout=15_000)
    kept = notebook.view(2)
    expect(kept).to_contain_text("kept line 29", timeout=15_000)
    notebook.shot("reloaded")
    # It goes on streaming, to the end.
    expect(view).to_contain_text("late line 399", timeout=20_000)
    view.get_by_role("log").focus()
    notebook.page.keyboard.press("Home")
    expect(view).to_contain_text("late line 0", timeout=10_000)
    expect(notebook.cell(2).locator(".logmesh-snapshot")).to_be_hidden()
    assert notebook.errors == []


def saved(server: Server, open_notebook: Opener) -> Notebook:
    """A notebook of which a cell with output has run, written to the disk."""
    notebook = open_notebook(server, CELLS[:3])
    notebook.run_all(0, 1, 2)
    expect(notebook.view(2)).to_contain_text("kept line 29")
    notebook.save()
    return notebook


def test_without_a_kernel_the_snapshot_is_seen_and_nothing_else(
    saving: Server, open_notebook: Opener, chromium: Browser
) -> None:
    notebook = saved(saving, open_notebook)
    notebook.page.context.close()
    saving.end_sessions()
    # Opened again: the notebook's kernel is a new one that knows nothing of the lines.
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    again = Notebook(saving, page, notebook.name)
    snapshot = again.cell(2).locator(".logmesh-snapshot")
    expect(snapshot).to_be_visible()
    expect(snapshot).to_contain_text("[1] kept line 29")
    expect(snapshot).to_contain_text("green <b>x</b>")
    expect(snapshot).to_contain_text("2/2 procs, 62 lines, 0 lost")
    page.wait_for_timeout(4000)  # until the view has given up waiting for its session
    expect(snapshot).to_be_visible()
    assert again.view(2).count() == 0 or not again.view(2).is_visible()
    assert "Error displaying widget" not in again.cell(2).inner_text()
    outputs = again.cell(2).locator(".jp-OutputArea-child")
    heights = [outputs.nth(n).bounding_box() for n in range(outputs.count())]
    assert sum(box is not None and box["height"] > 2 for box in heights) == 1, heights
    again.shot("no-kernel")
    page.context.close()


def test_nbconvert_s_html_shows_the_snapshot(
    saving: Server, open_notebook: Opener, chromium: Browser
) -> None:
    notebook = saved(saving, open_notebook)
    path = saving.work / notebook.name
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output", "page.html", path],
        check=True, capture_output=True, cwd=saving.work,
    )  # fmt: skip
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    web = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: handler(*args, directory=str(saving.work))
    )
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{web.server_port}/page.html", wait_until="commit")
        snapshot = page.locator(".logmesh-snapshot").last
        expect(snapshot).to_contain_text("[1] kept line 29")
        expect(snapshot).to_be_visible()
        expect(snapshot).to_contain_text("2/2 procs, 62 lines, 0 lost")
        page.screenshot(path=str(screenshots() / f"{saving.kind}-nbconvert.png"))
        page.close()
    finally:
        web.shutdown()
        web.server_close()


def test_a_cell_s_snapshot_takes_at_most_200_kb_of_the_notebook(
    saving: Server, open_notebook: Opener
) -> None:
    source = (
        "%%logmesh run\nfor i in range(20_000): print('\\x1b[3%dm\"ü\\x1b[0m' % (i % 8) * 40, i)"
    )
    notebook = open_notebook(saving, [*CELLS[:2], source])
    notebook.run_all(0, 1, 2)
    notebook.save()
    cell = json.dumps(
        json.loads(Path(saving.work, notebook.name).read_text())["cells"][2],
        ensure_ascii=False, indent=1,
    )  # fmt: skip
    sys.stdout.write(f"{len(cell.encode()) / 1000:.0f} KB\n")
    assert len(cell.encode()) < 200_000
    assert re.search("earlier lines", cell)
