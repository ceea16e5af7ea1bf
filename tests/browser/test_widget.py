"""Front ends without the extension: the same view as a widget. The side panel, in JupyterLab."""

from __future__ import annotations

import re
from typing import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener, Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CELLS = [
    "%load_ext logmesh_ipy",
    "%logmesh start --procs 3",
    "%%logmesh run\nprint('hello')\nprint('ERROR: bad')",
    "import time; time.sleep(6)",
    "%logmesh panel",
    "%%logmesh run --ranks 1\nprint('more')",
    "%logmesh stop",
]


@pytest.fixture(scope="module", params=["lab", "notebook"])
def bare(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on which the extension is disabled."""
    made = Server(request.param, extension=False)
    yield made
    made.stop()


def test_the_widget_shows_lines_and_sets_modes(bare: Server, open_notebook: Opener) -> None:
    notebook = open_notebook(bare, CELLS)
    notebook.run_all(0, 1, 2)
    view = notebook.view(2)
    expect(view.locator(".lm-row")).to_have_count(6)
    expect(view).to_contain_text("3/3 procs, 6 lines, 0 lost")
    expect(notebook.cell(2).locator(".logmesh-snapshot")).to_be_hidden()
    notebook.shot("widget")
    view.hover()
    view.get_by_role("button", name="Controls", exact=True).click()
    notebook.start(3)
    level = view.get_by_role("combobox", name="Level")
    level.select_option("40")
    expect(view.locator(".lm-row")).to_have_count(3, timeout=1000)
    expect(view.locator(".lm-pending")).to_have_count(0, timeout=4000)  # done, while it blocks
    assert "*" in notebook.cell(3).locator(".jp-InputPrompt").inner_text()
    notebook.finish(3)
    notebook.run(4)
    whole = notebook.view(4)
    expect(whole.locator(".lm-row")).to_have_count(6)
    notebook.run(5)
    expect(whole.locator(".lm-row")).to_have_count(7)
    notebook.run(6)
    expect(whole.locator(".lm-row")).to_have_count(7)
    assert notebook.errors == []


def test_the_side_panel_shows_the_whole_mesh_and_the_status_bar_its_state(
    lab: Server, open_notebook: Opener
) -> None:
    notebook = open_notebook(lab, CELLS)
    page = notebook.page
    status = page.locator("#jp-main-statusbar")
    notebook.run_all(0, 1, 2)
    expect(status).to_contain_text(re.compile(r"mesh 3/3 · .*3 errors"))
    status.get_by_text(re.compile("mesh 3/3")).click()
    panel = page.locator("#jp-right-stack .lm-root")
    expect(panel).to_be_visible()
    expect(panel.locator(".lm-row")).to_have_count(6)
    notebook.run(5)
    expect(panel.locator(".lm-row")).to_have_count(7)
    notebook.shot("panel")
    notebook.command("apputils:change-theme", theme="JupyterLab Dark")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    page.wait_for_timeout(500)
    notebook.shot("panel-dark")
    notebook.command("apputils:change-theme", theme="JupyterLab Light")
    notebook.run(6)
    expect(status.get_by_text(re.compile("mesh 3/3"))).to_have_count(0)
    assert notebook.errors == []
