"""Whatever lines and names hold is shown as text: nothing runs, no element is made of it."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Opener, Server
from tests.security.test_text import FORGED, shown_in_a_notebook

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LINES = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'>",
    "<div data-commandlinker-command='apputils:reset' data-commandlinker-args='{}'>click</div>",
    "[link](javascript:window.pwned=3) javascript:window.pwned=4",
    "<a href='javascript:window.pwned=5'>click me</a>",
    "\x1b]8;;javascript:window.pwned=6\x1b\\osc 8 link\x1b]8;;\x1b\\ after",
    "\x1b]52;c;cHduZWQ=\x07 osc 52",
    "\x1b[2J\x1b[H\x1b[?1049h cleared",
    "\u202eright to left\u202c and \u2066isolated\u2069 and zero\u200bwidth",
    "<style>*{display:none}</style><svg onload='window.pwned=7'>",
    "${7*7} {{7*7}} &lt;b&gt; \\u003cscript\\u003e",
    'File "<img src=x onerror=window.pwned=8>", line 12',
    "nul \x00 bell \x07 backspace \x08 delete \x7f",
    "long " * 24 + "[1] forged 4/4 procs, 12,003 lines, 0 lost " * 3,
]
HOST = "<img src=x onerror='window.pwned=9'>"
CELLS = [
    "%load_ext logmesh_ipy",
    # The host's and the job's names come from the machine: give them hostile ones.
    (
        f"import socket; socket.gethostname = lambda: {HOST!r}\n"
        "import logmesh_ipy.model as m\n"
        "m.ProcInfo.name = property(lambda self: '<script>pwned=10</script>')"
    ),
    "%logmesh start --procs 2",
    f"%%logmesh run\nimport json, os\nfor line in json.loads({json.dumps(LINES)!r}): print(line)\n",
    (
        "%%logmesh run --ranks 0\nos.write(1, b'y' * 1_000_000 + b'\\n')\n"
        'print(\'Traceback (most recent call last):\\n  File "<script>pwned=11</script>", line 1\\n'
        "<img src=x onerror=pwned=12>Error: <b>bold</b>')"
    ),
    "%logmesh panel",
]
MINE = "script, img, style, svg:not(.lm-icon), a, iframe, [data-commandlinker-command], [onerror]"

LEFT_OF_BODIES = """
() => [...document.querySelectorAll('.lm-row > .lm-body, .lm-sub > :last-child')].filter(body => {
  const range = document.createRange();
  range.selectNodeContents(body);
  const who = body.parentElement.querySelector(':scope > .lm-who');
  const left = who ? who.getBoundingClientRect().right : 0;
  return [...range.getClientRects()].some(rect => rect.left < left);
}).map(body => body.textContent)
"""
"""Rows of which text stands where only a prefix does."""
EDGES = """
() => [...document.querySelectorAll('pre > div')].map(row => {
  const range = document.createRange();
  range.selectNodeContents(row);
  const lefts = new Map();
  for (const rect of range.getClientRects()) {
    const line = Math.round(rect.top);
    lefts.set(line, Math.min(lefts.get(line) ?? 1e9, Math.round(rect.left)));
  }
  return [...lefts.entries()].sort((a, b) => a[0] - b[0]).map(entry => entry[1]);
})
"""
"""Of each row of a snapshot, where each of its lines on the screen begins."""


def test_in_a_snapshot_lines_of_a_row_are_indented_but_the_first(chromium: Browser) -> None:
    texts = [f"{'long ' * 40}{forged} {'x ' * 100}".encode() for forged in FORGED]
    page = chromium.new_page(viewport={"width": 500, "height": 900})
    page.set_content(shown_in_a_notebook(texts)["text/html"])
    rows = page.evaluate(EDGES)
    assert len(rows) > 2 * len(texts)
    edge = rows[0][0]
    assert {row[0] for row in rows} == {edge}
    assert min(left for row in rows for left in row[1:]) > edge + 20
    assert sum(len(row) > 2 for row in rows) >= 2 * len(texts)
    page.close()


def test_nothing_of_hostile_text_becomes_more_than_text(
    server: Server, open_notebook: Opener
) -> None:
    notebook = open_notebook(server, CELLS)
    page = notebook.page
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    notebook.run_all(0, 1, 2, 3, 4, 5)
    view = notebook.view(3)
    expect(view.locator(".lm-row")).to_have_count(2 * len(LINES))
    shown = view.inner_text()
    for text in ("<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 2'>",
                 "data-commandlinker-command='apputils:reset'", "javascript:window.pwned=4",
                 "\u241b]8;;javascript:", "\u241b]52;c;", "\u241b[2J", "\\u202eright to left",
                 "zero\\u200bwidth", "nul \u2400 bell \u2407"):  # fmt: skip
        assert text in shown, text
    assert page.evaluate(LEFT_OF_BODIES) == []
    long = notebook.view(4)
    expect(long).to_contain_text("line of 1,000,000 bytes")
    assert len(long.inner_text()) < 20_000
    for index in (3, 4, 5):
        view = notebook.view(index)
        view.scroll_into_view_if_needed()
        view.hover()
        for fold in view.locator(".lm-row button[aria-expanded=false]").all():
            if fold.is_visible():
                fold.click()
        for row in view.locator(".lm-row").all()[:8]:
            row.click()
        assert page.evaluate(LEFT_OF_BODIES) == []
        assert view.locator(MINE).count() == 0, view.locator(MINE).first.evaluate(
            "n => n.outerHTML"
        )
    snapshots = page.locator(".logmesh-snapshot")
    for number in range(snapshots.count()):
        assert snapshots.nth(number).locator(MINE).count() == 0
    assert page.evaluate("() => window.pwned") is None
    notebook.shot("hostile")
    # The saved notebook, opened without trust by a page that runs what may run.
    notebook.save()
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.pwned") is None
    assert notebook.errors == []
