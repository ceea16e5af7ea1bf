"""Log text is inert and visible wherever it is shown, and nobody's prefix can be forged.

In each view what is ours stands where a line of a proc cannot: at the left edge, or in an element
of its own. So whatever a line looks like, it is seen whose it is.
"""

from __future__ import annotations

import fcntl
import html
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import nbformat
import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nbconvert import HTMLExporter

from logmesh_ipy.aggregator import Aggregator, Report
from logmesh_ipy.errors import MeshError
from logmesh_ipy.logs import Logs
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.sanitize import inert, to_json
from logmesh_ipy.status import describe_status, recent_lines
from logmesh_ipy.store import Chunk, LogStore, OpenLine
from logmesh_ipy.views.group_text import add_values
from logmesh_ipy.views.plain import PlainView
from logmesh_ipy.views.terminal import TerminalView
from logmesh_ipy.views.wrap import wrapped
from tests.faults.conftest import nothing_is_left, rounds, start
from tests.integration.conftest import ROOT, MeshMaker

__all__ = ["nothing_is_left", "start"]

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
COLUMNS, ROWS = 60, 400

ESCAPES = [
    "\x1b]8;;http://x.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;cHduZWQ=\x07",
    "\x1bP1$r0m\x1b\\",
    "\x1b_apc\x1b\\",
    "\x1b^pm\x1b\\",
    "\x1bX sos \x1b\\",
    "\x1b]0;title\x07",
    "\x1b]2;title\x1b\\",
    "\x1b[2J\x1b[3J\x1b[H",
    "\x1bc",
    "\x1b[?1049h",
    "\x1b[?25l",
    "\x1b[10A\x1b[2K",
    "\x1b[5;5H",
    "\x1b[s\x1b[u",
    "\x1b7\x1b8",
    "\x1b[99D[3] forged",
    "\x1b[1G[3] forged",
    "\x1b[6n",
    "\x1b[c",
    "\x1b[21t",
    "\x1b#8",
    "\x1b(0lqk\x1b(B",
    "\x1b[20h",
    "\x1b[8m hidden \x1b[28m",
    "\x1b[31m[3]\x1b[0m",
    "\x0e\x0f",
    "\x05",
    "\x9b2J",
    "\x9d0;title\x9c",
    "\x90q\x9c",
    "\x85next",
    "\x84\x8d\x88",
    "\b\b\b\b\b\b[3] forged",
    "\v\f[3] forged",
    "\r[3] forged",
    "[3] \rforged",
    "x\r\x1b[K[3] forged",
    "\x1b",
    "\x1b[",
    "\x1b[31",
    "\x7f\x00",
]
HIDDEN = [
    "\u202e]3[ degrof\u202c",
    "\u2066\u2069\u200e\u200f\u061c",
    "a\u200bb\u2060c\ufeff",
    "\u2028[3] forged",
    "\u2029[3] forged",
    "".join(chr(0xE0000 + ord(c)) for c in "[3] tags"),
    "\u3164\u115f\uffa0",
    "a\u034fb",
    "a\ufe0fb\U000e0100",
    "\u00ad\u180e\u17b5",
    "\ufff9a\ufffab\ufffb",
]
FORGED = [
    "[3] forged",
    "[3 err] forged",
    "[0-7 400×] forged",
    ">>> Aggregated Logs (2026-01-31 10:00:00, 4 lines) >>>",
    "└ loss 0.1 [0] … 2 [7]",
    "4/4 procs, 12,003 lines, 0 lost",
    "12,003 earlier lines not shown here",
    "logmesh: rank 3 failed first",
    "Out[3]: 1",
    "MeshError: rank 3 of 4 failed",
    "[rank 3] traceback on the proc:",
    "In [7]: ",
    "10:00:00 [3] forged",
    "stopped",
]
MARKUP = [
    "<script>pwned</script>",
    "</pre></div><img src=x onerror=pwned>",
    "<!-- ",
    "]]>",
    "&lt;b&gt;",
    "<style>*{}",
    "' onmouseover=pwned \" onmouseover=pwned",
    "${7*7} {{7*7}} `x` **b** [l](javascript:pwned) $$x$$",
]
RAW = [b"\xff\xfe", b"\x9b2J", b"\x90q\x9c", b"\xc2", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]
LINES = [
    *(text.encode() for text in (*ESCAPES, *HIDDEN, *FORGED, *MARKUP)),
    *RAW,
    # Where a terminal begins a new row by itself:
    *(b"x" * (COLUMNS * 2 - size) + text.encode() for text in FORGED[:3] for size in (0, 3, 4, 5)),
    *("数".encode() * n + b"[3] forged" for n in range(COLUMNS // 2 - 4, COLUMNS // 2 + 2)),
    *("👩‍🚀❤️".encode() * n + b"[3] forged" for n in range(8, 16)),
    *(b"a\t" * n + b"[3] forged" for n in range(5, 9)),
    b"\x1b[31m" + b"y" * (COLUMNS - 4) + b"\x1b[44m[3] forged " + b"z" * 200,
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
INVISIBLE = re.compile(
    "[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\U000e0000-\U000e007f]"
)
SGR = re.compile(r"\x1b\[[0-9;:]*m")


def assert_inert(text: str, *, sgr: bool = False) -> None:
    """Nothing acts or hides in it but newlines, tabs and, where allowed, colours."""
    bare = SGR.sub("", text) if sgr else text
    for pattern in (CONTROL, INVISIBLE):
        found = pattern.search(bare)
        assert not found, repr(bare[max(0, found.start() - 40) : found.end() + 40])


def info(rank: int = 0, *, job: str = "", hostname: str = "h") -> ProcInfo:
    return ProcInfo(proc=rank, rank=rank, hostname=hostname, pid=1, job=job)


def chunk(lines: Sequence[bytes], rank: int = 0, target: OutputTarget = OUT) -> Chunk:
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    return Chunk(info(rank), target, 1, 0, 0, len(lines), 1.0, 1.0, data, ())


def report_of(lines: Sequence[bytes]) -> Report:
    """A window's report with what stands in its slots."""
    store = LogStore()
    for rank in range(2):
        for seq, line in enumerate(lines):
            put(store, rank, seq, line + b"\n")
    aggregator = Aggregator(3, store.templates)
    aggregator.add(store.read(), 0.0)
    report = aggregator.flush()[0]
    add_values(store, report)
    store.close()
    return report


def put(store: LogStore, rank: int, seq: int, payload: bytes) -> None:
    log = LogMessage.Log(
        proc=rank, epoch=1, generation=1, output_target=OUT, seq=seq, offset=0, size=len(payload),
        lines=payload.count(b"\n"), wall=1.0, mono=1.0, pid=1, hostname="h", payload=payload,
        ends_line=payload.endswith(b"\n"),
    )  # fmt: skip
    store.append(info(rank), log)


# --- a terminal ---------------------------------------------------------------------------------


class Terminal:
    """A real pty, and an emulator that shows what reaches it."""

    def __init__(self, columns: int = COLUMNS) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", ROWS, columns, 0, 0))
        self.columns = columns
        self.raw = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # EIO: all writers are gone
                return
            self.raw += data

    def close(self) -> None:
        """The writers are gone: what they wrote has been read."""
        os.close(self.theirs)
        self._reader.join(10)
        assert not self._reader.is_alive()
        os.close(self._ours)

    def rows(self) -> List[str]:
        """What is on the screen and above it, without empty rows at the end."""
        screen = pyte.HistoryScreen(self.columns, ROWS, history=100_000)
        stream = pyte.ByteStream(screen)
        stream.feed(bytes(self.raw))
        above = ["".join(row[x].data for x in range(self.columns)) for row in screen.history.top]
        found = [row.rstrip() for row in (*above, *screen.display)]
        while found and not found[-1]:
            found.pop()
        return found

    def text(self) -> str:
        return self.raw.decode().replace("\r\n", "\n")


def shown_on_a_terminal(columns: int, show: Any) -> Terminal:
    """``show(view)`` with a terminal's view on a pty of that width."""
    terminal = Terminal(columns)
    with open(terminal.theirs, "w", encoding="utf-8", closefd=False) as out:
        view = TerminalView(out, out)
        show(view)
        view.close()
    terminal.close()
    return terminal


def assert_ours_at_the_edge(terminal: Terminal, ours: str) -> None:
    """Each row of the screen begins with ``ours`` (a pattern), or is indented."""
    assert_inert(terminal.text(), sgr=True)
    for row in terminal.rows():
        assert not row or re.match(rf"(?:{ours})|  ", row), row


@pytest.mark.parametrize("columns", [COLUMNS, 17, 200])
def test_on_a_terminal_each_row_begins_with_our_prefix_or_is_indented(columns: int) -> None:
    terminal = shown_on_a_terminal(columns, lambda view: view.lines(1, [chunk(LINES)]))
    assert_ours_at_the_edge(terminal, r"\[0\] ?")
    assert sum(row.startswith("[0]") for row in terminal.rows()) == len(LINES)


def test_plain_lines_are_cut_as_well() -> None:
    """They go out in bulk, with nothing to make safe in them."""
    lines = [b"x" * (COLUMNS - 4) + b"[3] forged", b"short", b"a\tb" * 30 + b"[3] forged"]
    for some in (lines, lines[:1], lines[1:2] * 100 + lines[:1]):
        terminal = shown_on_a_terminal(
            COLUMNS, lambda view, some=some: view.lines(1, [chunk(some)])
        )
        assert_ours_at_the_edge(terminal, r"\[0\] ")


def test_groups_headers_and_receipts_on_a_terminal_cannot_be_forged() -> None:
    lines = [*LINES, *(b"loss %d of [3] forged \x1b[2J%d" % (n, n) for n in range(9))]
    lines += [b"opened /tmp/%c\x1b]0;x\x07" % n + b"y" * 90 + b"[3] forged" for n in range(65, 75)]
    report = report_of(lines)

    def show(view: TerminalView) -> None:
        view.groups(report)
        view.receipt(1, "4/4 procs, 2 lines, 0 lost; late: \x1b[2J\n[3] forged", False)

    terminal = shown_on_a_terminal(COLUMNS, show)
    assert_ours_at_the_edge(terminal, r"\[0-1( \d+×)?\] ?|>>> Aggregated|└ |4/4 procs")
    assert sum(row.startswith("[0-1") for row in terminal.rows()) == len(report.groups)


@pytest.mark.timeout(rounds(120, 600))
@settings(max_examples=rounds(60, 1000))
@given(st.lists(st.binary(max_size=90), min_size=1, max_size=5), st.integers(12, 90))
@example([b"\r\x1b[1m\r"], 12)
def test_random_bytes_on_a_terminal_stay_behind_their_prefix(
    lines: List[bytes], columns: int
) -> None:
    terminal = shown_on_a_terminal(columns, lambda view: view.lines(1, [chunk(lines, 3)]))
    assert_ours_at_the_edge(terminal, r"\[3\] ?")
    assert sum(row.startswith("[3]") for row in terminal.rows()) == len(lines)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.integers(1, 100))
@example("数" * 10, 2)
def test_cutting_keeps_every_character_and_its_order(text: str, columns: int) -> None:
    line = inert(text)
    rows = wrapped(line, columns).split("\n")
    indent = min(4, columns // 2)
    assert "".join([rows[0], *(row[indent:] for row in rows[1:])]) == line
    assert all(row.startswith(" " * indent) for row in rows[1:])


def test_colours_go_on_in_the_next_row_but_not_in_its_indentation() -> None:
    shown = wrapped("\x1b[1m\x1b[31m" + "r" * 10 + "\x1b[0m" + "p" * 10, 8)
    assert shown.split("\n") == [
        "\x1b[1m\x1b[31mrrrrrrrr\x1b[0m",
        "    \x1b[1m\x1b[31mrr\x1b[0mpp",
        "    pppp",
        "    pppp",
    ]


# --- the command --------------------------------------------------------------------------------

PRINT_LINES = "import os, sys; [os.write(1, line + b'\\n') for line in eval(sys.argv[1])]"


def command(*options: str) -> List[str]:
    return [
        sys.executable, "-m", "logmesh_ipy", "run", *options, "--",
        sys.executable, "-c", PRINT_LINES, repr([line.replace(b"\n", b"") for line in LINES]),
    ]  # fmt: skip


def test_the_command_on_a_terminal() -> None:
    terminal = Terminal()
    subprocess.run(
        command(), stdout=terminal.theirs, stderr=terminal.theirs, timeout=60, check=True
    )
    terminal.close()
    assert_ours_at_the_edge(terminal, r"\[0\] ?")
    assert sum(row.startswith("[0]") for row in terminal.rows()) == len(LINES)


def test_the_command_with_a_window_on_a_terminal() -> None:
    terminal = Terminal()
    out = terminal.theirs
    subprocess.run(command("--window", "60"), stdout=out, stderr=out, timeout=60, check=True)
    terminal.close()
    assert_ours_at_the_edge(terminal, r"\[0( \d+×)?\] ?|>>> Aggregated|└ ")


def test_the_command_into_a_pipe() -> None:
    done = subprocess.run(command(), capture_output=True, timeout=60, check=True)
    text = done.stdout.decode()
    assert_inert(text)
    lines = text.split("\n")[:-1]
    assert len(lines) == len(LINES)
    assert all(line.startswith("[0] ") for line in lines)


def test_json_is_one_inert_line_for_each_and_says_what_was_written() -> None:
    done = subprocess.run(command("--json"), capture_output=True, timeout=60, check=True)
    text = done.stdout.decode()
    assert_inert(text)
    found = [json.loads(line)["text"] for line in text.split("\n")[:-1]]
    assert found == [line.decode(errors="backslashreplace") for line in LINES]


def test_errors_of_the_command_are_inert() -> None:
    hostile = "/no/such/\x1b]0;title\x07\u202e\n[3] forged"
    for words in (
        ["run", "--", hostile],
        ["run", hostile, "--", "true"],
        ["run", "--files", hostile, "--", "true"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "logmesh_ipy", *words],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (2, 127)
        shown = done.stderr.decode()
        assert_inert(shown)
        assert "title" in shown
        assert not re.search(r"^\[3\]", shown, re.MULTILINE)


# --- a notebook ---------------------------------------------------------------------------------


class Cells:
    """A publisher that keeps what each cell shows."""

    def __init__(self) -> None:
        self.bundles: Dict[int, Dict[str, str]] = {}

    def publish(self, cell: int, bundle: Dict[str, str]) -> None:
        self.bundles[cell] = bundle


def shown_in_a_notebook(lines: Sequence[bytes], receipt: str = "") -> Dict[str, str]:
    """A cell with lines, the same as groups, an unfinished line and a receipt."""
    cells = Cells()
    view = PlainView(cells)
    view.lines(1, [chunk(lines), chunk(lines, 2, ERR)])
    view.groups(report_of(lines))
    view.live(1, None, [OpenLine(info(5), OUT, 1, 1.0, lines[0].replace(b"\n", b""))])
    view.receipt(1, receipt or "4/4 procs, 2 lines, 0 lost", True)
    view.render(final=True)
    return cells.bundles[1]


OURS = re.compile(
    r"\[0\] |\[2 err\] |\[0-1( \d+×)?\] |\[5\] |>>> Aggregated|└ |4/4 procs|"
    r"\d+ (earlier|more|lines?) "
)


class Page(HTMLParser):
    """What a browser makes of a snapshot: its elements, and the text of each row."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: List[str] = []
        self.attributes: List[Tuple[str, Optional[str]]] = []
        self.rows: List[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "div":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        self.rows[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def check_bundle(bundle: Dict[str, str]) -> None:
    text, markup = bundle["text/plain"], bundle["text/html"]
    assert_inert(text)
    assert_inert(html.unescape(markup))
    for line in text.split("\n"):
        assert OURS.match(line), line
    page = Page(markup)
    assert {*page.tags} <= {"div", "pre", "span", "i"}
    assert {name for name, _ in page.attributes} <= {"style", "class", "title"}
    for name, value in page.attributes:
        assert name != "style" or "url" not in str(value)
    # An element for each row, with the same text.
    rows = [row.rstrip() for row in page.rows if row]
    assert rows == [line.rstrip() for line in text.split("\n")]


def test_the_plain_view_and_its_snapshot_are_inert_and_show_whose_each_row_is() -> None:
    bundle = shown_in_a_notebook(LINES, "4/4 procs; late: \x1b[2J<b>\n[3] forged")
    check_bundle(bundle)
    assert "<script>pwned</script>" in bundle["text/plain"]


@settings(max_examples=rounds(50, 1000))
@given(st.lists(st.binary(max_size=120), min_size=1, max_size=6))
def test_random_bytes_in_the_plain_view_do_nothing(lines: List[bytes]) -> None:
    check_bundle(shown_in_a_notebook(lines))


def test_what_nbconvert_makes_of_a_saved_notebook_is_no_more_than_text() -> None:
    output = nbformat.v4.new_output("display_data", data=shown_in_a_notebook(LINES))
    plain = nbformat.v4.new_output(
        "display_data", data={"text/plain": shown_in_a_notebook(LINES)["text/plain"]}
    )
    clean = {"text/plain": "", "text/html": '<div style="x"><pre></pre></div>'}
    empty = nbformat.v4.new_output("display_data", data=clean)

    def converted(outputs: List[Any]) -> str:
        cell = nbformat.v4.new_code_cell("x", outputs=outputs)
        page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
        return str(page)

    hostile, harmless = Elements(converted([output, plain])), Elements(converted([empty, empty]))
    assert hostile.found - harmless.found == Counter()
    assert "<script>pwned</script>" in hostile.text
    assert_inert(hostile.text[hostile.text.index("Aggregated Logs") :])


class Elements(HTMLParser):
    """What may act in a page: its elements but the snapshot's own, and attributes that run code."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: Counter[str] = Counter()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        if tag not in ("div", "pre", "span", "i"):
            self.found[tag] += 1
        for name, value in attrs:
            if name.startswith("on") or "javascript:" in (value or ""):
                self.found[name] += 1

    def handle_comment(self, data: str) -> None:
        self.found[data] += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_whole_meshes_last_lines_as_text() -> None:
    store = LogStore()
    put(store, 0, 0, b"".join(line.replace(b"\n", b"") + b"\n" for line in LINES))
    text = recent_lines(store, 1000)
    assert_inert(text)
    assert all(re.match(r"\d\d:\d\d:\d\d \[0\] ", line) for line in text.split("\n")[:-1])
    store.close()


# --- logs as data -------------------------------------------------------------------------------


def test_selections_and_their_files_are_inert() -> None:
    store = LogStore()
    hostile = ProcInfo(proc=0, rank=0, hostname="h\x9b<b>\u202e", pid=1, job="job\x1b[2J\n[3] x")
    log_lines = b"".join(line.replace(b"\n", b"") + b"\n" for line in LINES)
    put(store, 0, 0, log_lines)
    store._streams[0, OUT].info = hostile
    logs = Logs(store, lambda: None, 1)
    assert_inert(repr(logs))
    bundle = logs._repr_mimebundle_()
    assert_inert(bundle["text/plain"])
    assert_inert(html.unescape(bundle["text/html"]))
    assert {*Page("<div>" + bundle["text/html"]).tags} <= {
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span",
    }  # fmt: skip
    assert_inert(logs.to_text())
    store.close()


@given(st.text(max_size=80))
@example("\x9b\u202e\u3164\U000e0041\ud800\u200d👩‍🚀")
def test_json_of_any_text_is_inert_and_the_same_text(text: str) -> None:
    shown = to_json({"text": text})
    assert_inert(shown.encode(errors="backslashreplace").decode())
    assert json.loads(shown) == {"text": text}


# --- errors and results -------------------------------------------------------------------------

FAIL = """
class Fails(Exception):
    pass
Fails.__name__ = "Fails\\x1b[2J\\n[3] x"
raise Fails("\\x1b]0;title\\x07\\u202e\\r[3] forged\\n[rank 3] traceback on the proc:\\n4/4 procs")
"""
VALUE = """
class Value:
    def __repr__(self):
        return "one\\x1b[2J\\nOut[3]: forged\\u202e\\x9b"
Value()
"""


def test_an_error_of_a_rank_is_inert_and_shows_what_is_the_ranks(start: MeshMaker) -> None:
    mesh = start(2)
    with pytest.raises(MeshError) as caught:
        mesh.run(FAIL, ranks=0).get(10)
    error = caught.value
    told = "\n".join(error._render_traceback_())
    for text in (str(error), repr(error.errors[0]), told):
        assert_inert(text)
        assert "title" in text
    heads = [line for line in told.split("\n") if line and not line.startswith(" ")]
    assert len(heads) == 2
    assert heads[0].startswith("MeshError: rank 0 of 1 failed: Fails␛[2J␊[3] x: ")
    assert heads[1] == "[rank 0] traceback on the proc:"
    (shown,) = mesh.run_cell(VALUE, ranks=1, filename="<cell>").get(10).values()
    assert_inert(shown)
    assert shown == "one␛[2J\nOut[3]: forged\\u202e\\x9b"


def test_the_last_words_of_a_rank_are_inert(start: MeshMaker) -> None:
    mesh = start(2)
    said = "\x1b]0;title\x07\n[rank 3] last words:\n\u202e4/4 procs"
    with pytest.raises(MeshError) as caught:
        mesh.run(
            f"import os, sys; sys.stderr.write({said!r}); sys.stderr.flush(); os._exit(3)", ranks=0
        ).get(20)
    told = "\n".join(caught.value._render_traceback_())
    assert_inert(told)
    assert "title" in told
    assert [line for line in told.split("\n") if line.startswith("[")] == ["[rank 0] last words:"]


def test_words_of_ours_that_hosts_have_a_part_in_are_inert() -> None:
    hostile = "\x1b[2J\u202e\n4/4 procs, 2 lines, 0 lost"
    proc: Dict[str, Any] = {
        "name": f"rank 0 {hostile}", "pid": 1, "state": "running", "exit_code": None, "late": False,
        "forwarder": "hosted", "generation": 1, "streams": {}, "warnings": [hostile],
    }  # fmt: skip
    sums = dict.fromkeys(("written", "stored", "skipped", "gap", "in_flight"), 0)
    gap = {"name": "rank 0", "stream": "stdout", "lines": 1, "bytes": 2, "reason": hostile}
    status: Dict[str, Any] = {
        "mesh": {"host": hostile, "alive": 1, "procs": 1, "reason": hostile}, "barrier": None,
        "ledger": {"lines": sums, "bytes": sums}, "refused": {}, "warnings": [hostile],
        "procs": [proc], "gaps": [gap],
    }  # fmt: skip
    text = describe_status(status, "mode")
    assert_inert(text)
    assert "\n4/4 procs" not in text


def test_in_the_shell_errors_results_and_lines_are_inert(tmp_path: Path) -> None:
    """IPython in a real terminal, as a person sees it."""
    cells = [
        "%load_ext logmesh_ipy",
        "%logmesh start --procs 2",
        f"print(); get_ipython().run_cell_magic('logmesh', 'run --ranks 0', {PRINT!r})",
        f"print(); get_ipython().run_cell_magic('logmesh', 'run --ranks 0', {VALUE!r})",
        f"print(); get_ipython().run_cell_magic('logmesh', 'run --ranks 0', {FAIL!r})",
        "%logmesh run \x1b",
        "%logmesh start --hosts=-oProxyCommand=x",
        "%logmesh exec --ranks 0 -- /no/such\u202e/program",
        "%logmesh status",
        "%logmesh stop",
        "exit",
    ]
    terminal = Terminal(100)
    environ = {**os.environ, "IPYTHONDIR": str(tmp_path), "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [
            sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor",
            "--HistoryManager.enabled=False",
        ],
        input="\n".join(cells).encode() + b"\n",
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        env=environ,
        timeout=60,
        check=True,
    )  # fmt: skip
    terminal.close()
    text = terminal.text()
    assert_inert(text.replace("\x1b[?2004h", "").replace("\x1b[?2004l", ""), sgr=True)
    rows = terminal.rows()
    assert "[0] shell␛]0;title␇" in rows
    assert "Out[0]:" in rows
    assert "    Out[3]: forged\\u202e\\x9b" in rows
    assert not [row for row in rows if row.startswith(("[3]", "Out[3]", "[rank 3]", "4/4"))], rows
    assert "stopped" in "\n".join(rows[-5:])


PRINT = (
    "print('shell\\x1b]0;title\\x07')\nprint('x' * 96 + '[3] forged')\nprint('[3] y\\r4/4 procs')"
)
