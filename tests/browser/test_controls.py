"""Every control of the view does what it says: in JupyterLab and Notebook 7, in a real browser."""

from __future__ import annotations

import json
import re
from typing import Iterator, List

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import Notebook, Server, screenshots, show_controls

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LEVELS, TRACEBACK, BARS, MANY, MODE, READ_MODE, DIES = range(2, 9)
CELLS = [
    "%load_ext logmesh_ipy",
    "%logmesh start --procs 4",
    (
        "%%logmesh run\n"
        "import sys\n"
        "rank = int(__import__('os').environ['RANK'])\n"
        "print('plain', rank)\n"
        "print('DEBUG: details', rank)\n"
        "print('WARNING: careful', rank)\n"
        "print('ERROR: broken', rank, file=sys.stderr)\n"
        "print('\\x1b[31mred\\x1b[0m and \\x1b[1;38;2;1;2;3mtrue colour\\x1b[0m')\n"
    ),
    (
        "%%logmesh run\n"
        "import traceback\n"
        "def load(): raise ValueError('no such file')\n"
        "try:\n    load()\nexcept ValueError:\n    traceback.print_exc()\n"
    ),
    (
        "%%logmesh run\n"
        "import time\n"
        "for i in range(101):\n"
        "    sys.stderr.write(f'\\repoch 1: {i}%|{\"#\" * (i // 10)}'); sys.stderr.flush()\n"
        "    time.sleep(0.005)\n"
        "sys.stderr.write('\\n')\n"
        "print('trained')\n"
    ),
    (
        "%%logmesh run\n"
        "for i in range(500):\n"
        "    print('step', i, 'loss', 1 / (i + 1))\n"
        "    if i % 100 == 50: print('ERROR: overflow in step', i)\n"
        "    if i % 50 == 0: time.sleep(0.1)\n"
    ),
    "%logmesh set_mode --window 2 --level WARNING",
    "%logmesh set_mode",
    "%%logmesh run --ranks 3\nimport os\nprint('last words', flush=True)\nos._exit(3)",
]


@pytest.fixture(scope="module")
def notebook(server: Server, chromium: Browser) -> Iterator[Notebook]:
    """One page in which the first cells have run."""
    server.write("controls.ipynb", CELLS)
    context = chromium.new_context(
        viewport={"width": 1280, "height": 1000}, permissions=["clipboard-read", "clipboard-write"]
    )
    made = Notebook(server, context.new_page(), "controls.ipynb")
    made.run_all(0, 1, LEVELS, TRACEBACK, BARS, MANY)
    yield made
    assert made.errors == []
    context.close()
    server.end_sessions()


def rows(view: Locator) -> Locator:
    return view.locator(".lm-row")


def texts(view: Locator) -> List[str]:
    return [text.strip() for text in rows(view).locator(".lm-body").all_inner_texts()]


def test_lines_stand_under_their_cell_with_rank_level_colour_and_receipt(
    notebook: Notebook,
) -> None:
    view = notebook.view(LEVELS)
    expect(rows(view)).to_have_count(20)
    expect(view).to_contain_text("4/4 procs, 20 lines, 0 lost")
    assert set(texts(view)) == {
        *(f"{what} {rank}" for rank in range(4)
          for what in ("plain", "DEBUG: details", "WARNING: careful", "ERROR: broken")),
        "red and true colour",
    }  # fmt: skip
    error = rows(view).filter(has_text="ERROR: broken 2")
    expect(error).to_contain_text("[2 err]")
    expect(error.locator(".lm-letter")).to_contain_text("E")
    red = view.get_by_text("red", exact=True).first
    assert red.evaluate("node => getComputedStyle(node).color") != view.get_by_text(
        "plain 0"
    ).evaluate("node => getComputedStyle(node).color")
    assert view.get_by_text("true colour", exact=True).first.evaluate(
        "node => getComputedStyle(node).fontWeight"
    ) in ("700", "bold")
    # The snapshot is there for the saved notebook, and hidden now.
    snapshot = notebook.cell(LEVELS).locator(".logmesh-snapshot")
    expect(snapshot).to_have_count(1)
    expect(snapshot).to_be_hidden()
    notebook.shot("levels")


def test_identical_tracebacks_of_all_ranks_are_one_row_that_unfolds(notebook: Notebook) -> None:
    view = notebook.view(TRACEBACK)
    expect(rows(view)).to_have_count(1)
    block = rows(view).first
    expect(block).to_contain_text("ValueError: no such file")
    expect(block).to_contain_text("[0-3 err]")
    expect(block).to_contain_text("4×")
    expect(view).not_to_contain_text("Traceback (most recent call last)")
    block.locator("button[aria-expanded]").click()
    expect(view).to_contain_text("Traceback (most recent call last)")
    notebook.shot("traceback")
    block.locator("button[aria-expanded]").click()
    expect(view).not_to_contain_text("Traceback (most recent call last)")


def test_a_progress_bar_is_one_row_of_each_rank(notebook: Notebook) -> None:
    view = notebook.view(BARS)
    expect(rows(view)).to_have_count(8)
    assert texts(view).count("epoch 1: 100%|##########") == 4
    assert texts(view).count("trained") == 4
    notebook.shot("bars")


def test_level_filters_and_sets_the_mesh_s_level(notebook: Notebook) -> None:
    view = show_controls(notebook.view(LEVELS))
    level = view.get_by_role("combobox", name="Level")
    level.select_option("30")
    expect(rows(view)).to_have_count(8)
    assert all("WARNING" in text or "ERROR" in text for text in texts(view))
    expect(view).to_contain_text("hidden")
    cell = notebook.run(READ_MODE)
    expect(cell).to_contain_text("level WARNING")
    level.select_option("20")
    expect(rows(view)).to_have_count(16)
    expect(notebook.run(READ_MODE)).to_contain_text("level INFO")
    view.get_by_role("button", name="More").click()
    view.get_by_role("button", name="Clear filters").click()
    expect(rows(view)).to_have_count(20)


def test_the_mode_shown_is_the_mesh_s_also_when_the_magic_sets_it(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    window = view.get_by_role("checkbox", name="Aggregate lines in windows")
    expect(window).not_to_be_checked()
    notebook.run(MODE)
    expect(window).to_be_checked()
    expect(view.get_by_role("combobox", name="Level")).to_have_value("30")
    expect(view.get_by_role("spinbutton", name="Window in seconds")).to_have_value("2")
    # What stands under an earlier cell stays as it is.
    expect(view.get_by_role("button", name="Grouped")).to_have_attribute("aria-pressed", "false")
    expect(view.get_by_text("hidden by filters")).to_have_count(0)
    window.uncheck()
    expect(notebook.run(READ_MODE)).to_contain_text("every line")
    view.get_by_role("combobox", name="Level").select_option("20")
    expect(notebook.run(READ_MODE)).to_contain_text("level INFO")


def test_stream_and_flush(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    stream = view.get_by_role("button", name="Stream", exact=True)
    stream.click()
    expect(stream).to_have_attribute("aria-pressed", "false")
    expect(notebook.run(READ_MODE)).to_contain_text("not streaming")
    stream.click()
    expect(stream).to_have_attribute("aria-pressed", "true")
    expect(notebook.run(READ_MODE)).not_to_contain_text("not streaming")
    view.get_by_role("button", name="Flush").click()
    expect(view.locator("[role=status]").filter(has_text="4/4 procs").first).to_be_visible()


def test_groups_open_to_their_lines_per_rank(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    clear(view)
    view.get_by_role("button", name="Grouped").click()
    expect(rows(view)).to_have_count(2)
    group = rows(view).filter(has_text="step <#> loss <#>")
    expect(group).to_contain_text("2,000×")
    expect(group).to_contain_text("[0-3]")
    group.locator("button[aria-expanded]").click()
    expect(group).to_contain_text("step 1 loss 0.5")
    group.get_by_role("button", name="rank 2").click()
    expect(group.locator(".lm-sub").first).to_contain_text("[2]")
    assert {text[:3] for text in group.locator(".lm-sub").all_inner_texts()} == {"[2]"}
    notebook.shot("group-opened")
    view.get_by_role("button", name="Grouped").click()
    expect(rows(view).nth(10)).to_be_visible()


def clear(view: Locator) -> None:
    view.get_by_role("button", name="More").click()
    view.get_by_role("button", name="Clear filters").click()


def test_ranks_streams_and_text_filter(notebook: Notebook) -> None:
    view = show_controls(notebook.view(LEVELS))
    clear(view)
    ranks = view.get_by_role("textbox", name="Ranks to show")
    ranks.fill("0-1,3")
    expect(rows(view)).to_have_count(15)
    ranks.fill("9-1x")
    expect(view).to_contain_text("ranks are written like 0-6,8")
    ranks.fill("2")
    expect(rows(view)).to_have_count(5)
    view.get_by_role("combobox", name="Streams").select_option("2")
    expect(rows(view)).to_have_count(1)
    clear(view)
    view.get_by_role("combobox", name="Streams").select_option("3")
    search = view.get_by_role("searchbox", name="Search text")
    filtering = view.get_by_role("button", name="Filter: show only lines that match")
    filtering.click()
    search.fill("CAREFUL")
    expect(rows(view)).to_have_count(4)
    view.get_by_role("button", name="Match case").click()
    expect(rows(view)).to_have_count(0)
    view.get_by_role("button", name="Regular expression").click()
    search.fill(r"(careful|broken) [02]$")
    expect(rows(view)).to_have_count(4)
    search.fill("(careful")
    expect(view.locator(".lm-invalid").first).to_be_visible()
    search.fill("")
    filtering.click()
    view.get_by_role("button", name="Match case").click()
    view.get_by_role("button", name="Regular expression").click()
    expect(rows(view)).to_have_count(20)


def test_find_steps_through_what_matches_and_counts_it(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    clear(view)
    search = view.get_by_role("searchbox", name="Search text")
    search.fill("step 77 ")
    counted = view.locator(".lm-search .lm-count")
    expect(counted).to_have_text(re.compile(r"\d/4$"))
    view.get_by_role("button", name="Next match").click()
    expect(rows(view).filter(has_text="step 77 ").first).to_be_visible()
    first = counted.inner_text()
    view.get_by_role("button", name="Previous match").click()
    expect(counted).not_to_have_text(first)
    search.fill("")
    view.get_by_role("button", name="Next error").click()
    expect(view.locator(".lm-current")).to_contain_text("ERROR: overflow")
    view.get_by_role("button", name="Previous error").click()
    expect(view.locator(".lm-current")).to_contain_text("ERROR: overflow")


def test_follow_pauses_on_scroll_and_jumps_to_the_end(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    follow = view.get_by_role("button", name="Follow the end")
    if follow.get_attribute("aria-pressed") == "false":
        follow.click()
    expect(view).to_contain_text("step 499")
    log = view.get_by_role("log")
    log.hover()
    notebook.page.mouse.wheel(0, -2000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    log.press("End")
    expect(follow).to_have_attribute("aria-pressed", "true")
    expect(view).to_contain_text("step 499")


def test_wrap_and_time(notebook: Notebook) -> None:
    view = show_controls(notebook.view(LEVELS))
    wrap = view.get_by_role("button", name="Wrap long lines")
    before = wrap.get_attribute("aria-pressed")
    wrap.click()
    assert wrap.get_attribute("aria-pressed") != before
    wrap.click()
    time = view.get_by_role("button", name=re.compile("^Time"))
    for count in (20, 20, 0):  # absolute, relative, off
        time.click()
        expect(rows(view).locator(".lm-time")).to_have_count(count)


def test_copy_and_downloads(notebook: Notebook) -> None:
    view = show_controls(notebook.view(LEVELS))
    clear(view)
    view.get_by_role("textbox", name="Ranks to show").fill("1")
    expect(rows(view)).to_have_count(5)
    view.get_by_role("button", name="More").click()
    view.get_by_role("button", name=re.compile("^Copy")).last.click()
    notebook.page.wait_for_function(
        "async () => (await navigator.clipboard.readText()).includes('ERROR: broken 1')"
    )
    copied = notebook.page.evaluate("() => navigator.clipboard.readText()")
    assert "broken 2" not in copied

    def download(name: str) -> bytes:
        view.get_by_role("button", name="Download").click()
        with notebook.page.expect_download() as event:
            view.get_by_role("button", name=name).click()
        place = screenshots() / f"{notebook.server.kind}-{event.value.suggested_filename}"
        event.value.save_as(str(place))
        return place.read_bytes()

    shown = download("Shown lines as JSON lines").splitlines()
    assert {json.loads(line)["rank"] for line in shown} == {1}
    assert len(shown) == 5
    assert b"broken 1" in download("Shown lines as text")
    clear(view)
    everything = download(re.compile("All.*as JSON lines"))  # type: ignore[arg-type]
    assert len(everything.splitlines()) == 20
    import io

    import pyarrow.parquet

    table = pyarrow.parquet.read_table(
        io.BytesIO(download(re.compile("All.*Parquet")))  # type: ignore[arg-type]
    )
    assert table.num_rows == 20


def test_the_histogram_zooms_in_time(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    clear(view)
    canvas = view.locator(".lm-histogram canvas")
    expect(canvas).to_be_visible()
    canvas.evaluate("node => node.scrollIntoView({ block: 'center' })")
    notebook.page.wait_for_timeout(200)  # for the page to settle
    box = canvas.bounding_box()
    assert box is not None
    mouse = notebook.page.mouse
    mouse.move(box["x"] + 2, box["y"] + 10)  # bars are twelve pixels wide at most
    mouse.down()
    mouse.move(box["x"] + 80, box["y"] + 10, steps=5)
    mouse.up()
    hidden = view.get_by_text("hidden by filters")
    expect(hidden).to_be_visible()
    found = re.match(r"[\d,]+", hidden.inner_text())
    assert found
    assert 0 < int(found[0].replace(",", "")) < 2020
    canvas.dblclick()
    expect(hidden).to_have_count(0)


def test_the_proc_strip_tells_states_and_filters(notebook: Notebook) -> None:
    view = show_controls(notebook.view(LEVELS))
    clear(view)
    strip = view.get_by_role("group", name="Ranks", exact=True)
    if not strip.is_visible():
        view.get_by_role("button", name="Ranks", exact=True).click()
    procs = strip.get_by_role("button")
    expect(procs).to_have_count(4)
    expect(procs.nth(2)).to_have_attribute("aria-label", re.compile("rank 2, running"))
    procs.nth(2).click()
    expect(rows(view)).to_have_count(5)
    expect(view.get_by_role("textbox", name="Ranks to show")).to_have_value("2")
    clear(view)
    cell = notebook.run(DIES)
    expect(cell).to_contain_text("exited with code 3")
    expect(procs.nth(3)).to_have_attribute("aria-label", re.compile("rank 3, exited 3"))
    expect(notebook.view(DIES)).to_contain_text("last words")
    notebook.shot("proc-died")


def test_keys_are_listed_and_typing_does_not_reach_the_notebook(notebook: Notebook) -> None:
    view = show_controls(notebook.view(MANY))
    before = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    log = view.get_by_role("log")
    log.focus()
    for key in ("a", "b", "d", "d", "x", "j", "k"):
        notebook.page.keyboard.press(key)
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == before
    log.focus()
    notebook.page.keyboard.press("?")
    dialog = view.get_by_role("dialog")
    expect(dialog).to_be_visible()
    notebook.shot("keys")
    notebook.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
