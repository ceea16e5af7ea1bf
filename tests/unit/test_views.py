from __future__ import annotations

import html as html_module
import io
import os
import pty
import re
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

import pytest

from logmesh_ipy.aggregator import Aggregator, Group, Report
from logmesh_ipy.lines import LineFlag, LineMark
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import Chunk, LogStore, OpenLine
from logmesh_ipy.template_table import TemplateTable
from logmesh_ipy.views import plain as plain_module
from logmesh_ipy.views.base import chunk_lines, line_prefix, marked_text, plural
from logmesh_ipy.views.driver import ViewDriver
from logmesh_ipy.views.group_text import group_prefix
from logmesh_ipy.views.plain import (
    MAX_BYTES_PER_SEC,
    MAX_HTML_BYTES,
    MAX_LIVE_HTML_BYTES,
    MAX_ROWS,
    PlainView,
)
from logmesh_ipy.views.terminal import LevelFilter, TerminalView
from logmesh_ipy.views.wrap import write_rows

T = TypeVar("T")
OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR


class FakeClock:
    """Time that only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def source(rank: int = 0, *, job: str = "", cell: Optional[int] = None) -> ProcInfo:
    proc = rank if cell is None else 1000 * cell + rank
    return ProcInfo(proc=proc, rank=rank, hostname="h", pid=rank, job=job, cell=cell)


def chunk(
    lines: Sequence[bytes],
    rank: int = 0,
    target: OutputTarget = OUT,
    *,
    job: str = "",
    cell: int = 1,
    marks: Sequence[LineMark] = (),
) -> Chunk:
    data = b"".join(line + b"\n" for line in lines)
    return Chunk(
        source(rank, job=job), target, cell, 0, 0, len(lines), 1.0, 1.0, data, tuple(marks)
    )


def open_line(text: bytes, rank: int = 0) -> OpenLine:
    return OpenLine(source(rank), OUT, 1, 1.0, text)


def report_of(*chunks: Chunk) -> Report:
    aggregator = Aggregator(3, TemplateTable())
    aggregator.add(chunks, 0.0)
    return aggregator.flush()[0]


def wait_until(predicate: Callable[[], T], timeout: float = 5.0) -> T:
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.002)
    return value


# --- words of all views -------------------------------------------------------------------------


def test_prefixes_say_who_and_how_often() -> None:
    assert line_prefix(source(3), OUT) == "[3]"
    assert line_prefix(source(3), ERR) == "[3 err]"
    assert line_prefix(source(3, job="job 1"), ERR) == "[3 job 1 err]"
    group = Group(OUT, "", 1, b"x", 0, 1, 1.0, 1.0, count=1, ranks={0, 1, 2, 3})
    assert group_prefix(group, ()) == "[0-3]"
    often = replace(group, target=ERR, job="job 1", count=1200)
    assert group_prefix(often, ()) == "[0-3 job 1 err 1,200\N{MULTIPLICATION SIGN}]"
    assert group_prefix(replace(group, ranks={0, 2}), range(3)) == "[0,2]"
    most = replace(group, ranks={*range(128)} - {33, 66, 99})
    assert group_prefix(most, range(128)) == "[all but 33,66,99]"
    assert group_prefix(most, range(4, 128)) == "[0-32,34-65,67-98,100-127]"
    assert [plural(n, "line") for n in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


def test_marks_say_what_is_special_about_a_line() -> None:
    cut = LineMark(0, LineFlag.TRUNCATED, 70_000)
    bar = LineMark(0, LineFlag.TRUNCATED | LineFlag.OVERWRITTEN, 70_000)
    assert marked_text(b"x", None) == (b"x", "")
    assert marked_text(b"x", cut) == (b"x", "  [line of 70,000 bytes, cut]")
    assert marked_text(b"x", bar) == (b"x", "  [line of 70,000 bytes, end kept]")
    for flag in (LineFlag.CONTINUED, LineFlag.BROKEN):
        assert marked_text(b"x", LineMark(0, flag, 1)) == ("\N{HORIZONTAL ELLIPSIS}x".encode(), "")


@pytest.mark.parametrize("most", [-1, 0, 1, 2, 3, 4])
def test_the_last_lines_of_a_chunk_keep_their_marks(most: int) -> None:
    marks = [LineMark(0, LineFlag.BROKEN, 1), LineMark(2, LineFlag.PARTIAL, 1)]
    some = chunk([b"a", b"", b"c"], marks=marks)
    wanted = [(b"a", marks[0]), (b"", None), (b"c", marks[1])]
    assert list(chunk_lines(some, most)) == (wanted[-most:] if most > 0 else [])


# --- the notebook view --------------------------------------------------------------------------


class Screen:
    """What a notebook would show: the last bundle of each cell, and how often it was sent."""

    def __init__(self) -> None:
        self.cells: Dict[int, Dict[str, str]] = {}
        self.sent: List[Tuple[int, int]] = []

    def publish(self, cell: int, bundle: Dict[str, str]) -> None:
        self.cells[cell] = bundle
        self.sent.append((cell, sum(len(part.encode()) for part in bundle.values())))

    def text(self, cell: int = 1) -> List[str]:
        return self.cells[cell]["text/plain"].split("\n")

    def html(self, cell: int = 1) -> str:
        return self.cells[cell]["text/html"]


class Notebook:
    """A plain view with a screen and a clock."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.clock = FakeClock()
        self.view = PlainView(self.screen, self.clock)

    def show(self, *chunks: Chunk, cell: int = 1) -> List[str]:
        self.view.lines(cell, chunks)
        assert self.view.render(final=True)
        return self.screen.text(cell)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def html_text(markup: str) -> List[str]:
    """What a browser shows of the markup's rows."""
    found = re.search(r"<pre[^>]*>(.*)</pre>", markup, re.DOTALL)
    assert found
    text = html_module.unescape(re.sub(r"<[^>]*>", "", found[1]))
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


def left_out(text: List[str]) -> int:
    found = re.fullmatch(r"([\d,]+) earlier lines? not shown here, all in the store", text[0])
    return int(found[1].replace(",", "")) if found else 0


def test_lines_stand_in_order_with_their_sources_as_text_and_as_html(notebook: Notebook) -> None:
    notebook.show(chunk([b"a", b"b"]), chunk([b"oh"], 2, ERR))
    shown = notebook.show(chunk([b"c"], job="job 1"))
    assert shown == ["[0] a", "[0] b", "[2 err] oh", "[0 job 1] c"]
    assert html_text(notebook.screen.html()) == shown


def test_a_cell_without_lines_gets_no_display(notebook: Notebook) -> None:
    notebook.view.live(1, None, [])
    notebook.view.render(final=True)
    notebook.view.close()
    assert notebook.screen.sent == []


def test_what_has_not_changed_is_not_sent_again(notebook: Notebook) -> None:
    notebook.show(chunk([b"a"], cell=1), cell=1)
    notebook.show(chunk([b"b"], cell=2), cell=2)
    notebook.view.live(1, None, [])
    assert notebook.view.render(final=True)
    assert [cell for cell, _ in notebook.screen.sent] == [1, 2]


@pytest.mark.parametrize("counts", [[MAX_ROWS], [MAX_ROWS + 1], [700, 700], [1, 5000, 1, 1]])
def test_only_the_last_rows_stand_and_the_others_are_counted_exactly(
    notebook: Notebook, counts: List[int]
) -> None:
    number = 0
    for count in counts:
        some = [b"%d" % (number + index) for index in range(count)]
        number += count
        notebook.view.lines(1, [chunk(some)])
    notebook.view.render(final=True)
    shown = notebook.screen.text()
    rows = shown[1:] if number > MAX_ROWS else shown
    assert rows == [f"[0] {index}" for index in range(max(0, number - MAX_ROWS), number)]
    assert left_out(shown) == max(0, number - MAX_ROWS)


def test_rendering_in_between_changes_nothing_of_what_is_shown_at_last() -> None:
    some = [[b"%d-%d" % (batch, index) for index in range(170)] for batch in range(20)]
    often, once = Notebook(), Notebook()
    for lines in some:
        often.show(chunk(lines))
        once.view.lines(1, [chunk(lines)])
    once.view.render(final=True)
    assert often.screen.cells == once.screen.cells


@pytest.mark.parametrize("character", ["x", "<", "\N{SNOWMAN}", "\x1b[31m!\x1b[0m", "\x07"])
def test_html_stays_within_its_bound_whatever_the_lines_hold(
    notebook: Notebook, character: str
) -> None:
    lines = [character.encode() * 300] * 600
    shown = notebook.show(chunk(lines))
    assert len(notebook.screen.html().encode()) < MAX_HTML_BYTES + 2000
    rows = len(shown) - 1
    assert 0 < rows < 600
    assert left_out(shown) == 600 - rows


def test_a_long_line_is_cut_between_characters_and_says_so(notebook: Notebook) -> None:
    (row,) = notebook.show(chunk(["\N{SNOWMAN}".encode() * 3000]))
    assert row == f"[0] {'☃' * 1333}  [9,000 bytes, cut]"


def test_a_long_progress_bar_shows_what_a_terminal_would_show_at_last(notebook: Notebook) -> None:
    bar = b"".join(b"\r%3d%%|%s" % (n, b"#" * n) for n in range(101))
    assert notebook.show(chunk([bar, bar + b"\r"])) == [f"[0] 100%|{'#' * 100}"] * 2


def test_a_text_behind_a_carriage_return_that_is_too_long_says_so(notebook: Notebook) -> None:
    (row,) = notebook.show(chunk([b"5%\r" + b"<" * 5000]))
    assert row == f"[0] {'<' * 4000}  [5,003 bytes, end shown]"


def test_marked_lines_are_marked(notebook: Notebook) -> None:
    marks = [LineMark(1, LineFlag.CONTINUED, 1), LineMark(2, LineFlag.TRUNCATED, 99_999)]
    assert notebook.show(chunk([b"a", b"b", b"c"], marks=marks)) == [
        "[0] a", "[0] …b", "[0] c  [line of 99,999 bytes, cut]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "attack",
    [
        b"<script>alert(1)</script>",
        b"</pre></div><img src=x onerror=alert(1)>",
        b'" onmouseover="x',
        b"&lt;b&gt;",
        b"\x1b]0;title\x07",
        b"\x1b]8;;http://x\x1b\\link",
        b"\x1b[2J\x1b[H",
        "\u202etxt".encode(),
    ],
)
def test_log_text_is_never_markup_nor_a_command(notebook: Notebook, attack: bytes) -> None:
    notebook.view.lines(1, [chunk([attack])])
    notebook.view.groups(report_of(chunk([attack], rank=1)))
    notebook.view.live(1, report_of(chunk([attack], rank=2)), [open_line(attack, rank=3)])
    notebook.view.render(final=True)
    markup = notebook.screen.html()
    assert set(re.findall(r"<(/?\w+)", markup)) <= {"div", "/div", "pre", "/pre", "span", "/span"}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", markup)
    text = "\n".join(notebook.screen.text())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert html_text(markup) == notebook.screen.text()
    assert sum("[" in row for row in notebook.screen.text()) >= 4


def test_colours_become_spans_and_leave_the_text(notebook: Notebook) -> None:
    assert notebook.show(chunk([b"\x1b[31mred\x1b[0m"])) == ["[0] red"]
    assert re.search(r'<span style="color:[^"]*red[^"]*">red</span>', notebook.screen.html())


def test_a_receipt_stands_below_all_and_shows_whether_it_is_good(notebook: Notebook) -> None:
    notebook.view.receipt(1, "1/1 procs", complete=True)
    notebook.show(chunk([b"a"]))
    assert notebook.screen.text() == ["[0] a", "1/1 procs"]
    good = notebook.screen.html()
    notebook.view.receipt(1, "0/1 procs; late: <rank 0>", complete=False)
    notebook.view.render(final=True)
    assert notebook.screen.text() == ["[0] a", "0/1 procs; late: <rank 0>"]
    assert "&lt;rank 0&gt;" in notebook.screen.html()
    assert "error-color" in notebook.screen.html()
    assert "error-color" not in good


def test_unfinished_lines_stand_below_until_they_are_told_to_be_gone(notebook: Notebook) -> None:
    notebook.view.live(1, None, [open_line(b"50%"), open_line(b"60%", rank=1)])
    assert notebook.show(chunk([b"a"])) == ["[0] a", "[0] 50%", "[1] 60%"]
    notebook.view.live(1, None, [open_line(b"70%", rank=1)])
    assert notebook.show(chunk([b"100%"])) == ["[0] a", "[0] 100%", "[1] 70%"]
    notebook.view.live(1, None, [])
    notebook.view.render(final=True)
    assert notebook.screen.text() == ["[0] a", "[0] 100%"]


def test_the_live_part_is_bounded_and_says_what_it_leaves_out(notebook: Notebook) -> None:
    notebook.view.live(1, None, [open_line(b"50%", rank) for rank in range(512)])
    notebook.view.render(final=True)
    assert len(notebook.screen.text()) == 201
    assert notebook.screen.text()[-1] == "312 more unfinished lines"
    notebook.view.live(1, None, [open_line(b"<" * 3000, rank) for rank in range(512)])
    notebook.view.render(final=True)
    assert len(notebook.screen.html()) < MAX_LIVE_HTML_BYTES + 2000
    assert re.fullmatch(r"\d+ more rows not shown here for now", notebook.screen.text()[-1])


def test_groups_show_counts_ranks_and_the_windows_header(notebook: Notebook) -> None:
    notebook.view.groups(report_of(chunk([b"step 1", b"ok"]), chunk([b"step 2"], 1)))
    notebook.view.render(final=True)
    header, *rows = notebook.screen.text()
    assert re.fullmatch(r">>> Aggregated Logs \([-\d]+ [:\d]+, 3 lines\) >>>", header)
    assert rows == ["[0-1 2×] step <#>", "[0] ok"]


def test_lines_and_groups_stand_in_the_order_in_which_they_were_given(notebook: Notebook) -> None:
    notebook.view.lines(1, [chunk([b"before"])])
    notebook.view.groups(report_of(chunk([b"grouped"])))
    first, _, *rest = notebook.show(chunk([b"after"]))
    assert [first, *rest] == ["[0] before", "[0] grouped", "[0] after"]


def many_kinds(count: int, each: int = 1) -> Chunk:
    names = [str(n).translate(str.maketrans("0123456789", "abcdefghij")) for n in range(count)]
    return chunk([name.encode() for name in names for _ in range(each)])


def test_groups_that_are_not_shown_are_counted_with_their_lines(notebook: Notebook) -> None:
    notebook.view.live(1, report_of(many_kinds(300, 2)), [])
    notebook.view.render(final=True)
    assert notebook.screen.text()[-1] == "100 more groups (200 lines) not shown here"
    notebook.view.live(1, None, [])
    report = report_of(many_kinds(20_000))
    notebook.view.groups(report)
    notebook.view.render(final=True)
    more, others = len(report.groups) - 500, report.others
    assert more > 0 < others
    assert notebook.screen.text()[-2:] == [
        f"{more:,} more groups ({more:,} lines) not shown here",
        f"{others:,} lines of other kinds, all in the store",
    ]


def test_rows_of_groups_that_scroll_out_leave_with_all_their_lines(notebook: Notebook) -> None:
    notebook.view.groups(report_of(chunk([b"same"] * 70), chunk([b"other"])))
    shown = notebook.show(chunk([b"x"] * (MAX_ROWS - 1)))
    assert left_out(shown) == 70
    assert notebook.show(chunk([b"x"]))[0] == "71 earlier lines not shown here, all in the store"


# --- its rate -----------------------------------------------------------------------------------


def fat(count: int = 900) -> Chunk:
    return chunk([b"x" * 90] * count)


def test_updates_stay_below_the_cap_on_bytes_and_nothing_stays_back(notebook: Notebook) -> None:
    seconds, wanted = 20, 0
    for tick in range(seconds * 10):
        notebook.view.lines(1, [chunk([b"%06d" % tick + b"x" * 90] * 300)])
        wanted += 300
        notebook.view.render(final=False)
        notebook.clock.now += 0.1
    sent = sum(size for _, size in notebook.screen.sent)
    assert sent < (seconds + 1) * MAX_BYTES_PER_SEC
    assert sent > seconds * MAX_BYTES_PER_SEC / 2
    while not notebook.view.render(final=False):
        notebook.clock.now += 0.1
    shown = notebook.screen.text()
    assert shown[-1].startswith("[0] 000199")
    assert left_out(shown) + len(shown) - 1 == wanted


def test_the_cap_holds_over_all_cells_and_each_gets_its_turn(notebook: Notebook) -> None:
    for _ in range(100):
        for cell in range(1, 6):
            notebook.view.lines(cell, [fat(300)])
        notebook.view.render(final=False)
        notebook.clock.now += 0.1
    assert sum(size for _, size in notebook.screen.sent) < 11 * MAX_BYTES_PER_SEC
    times = [cell for cell, _ in notebook.screen.sent]
    assert len(times) > 10
    assert max(times.count(cell) for cell in range(1, 6)) - min(
        times.count(cell) for cell in range(1, 6)
    ) <= 1  # fmt: skip


def test_behind_an_interactive_view_it_is_updated_seldom_but_at_each_barrier() -> None:
    screen, clock = Screen(), FakeClock()
    view = PlainView(screen, clock, refresh_sec=lambda: 5.0)
    for tick in range(101):  # ten seconds
        view.lines(1, [chunk([b"%d" % tick])])
        assert view.render(final=False) == (tick % 50 == 0)
        clock.now += 0.1
    assert len(screen.sent) == 3  # the first lines at once, then each five seconds
    view.lines(1, [chunk([b"the end"])])
    assert view.render(final=True)
    assert screen.text()[-1] == "[0] the end"
    assert len(screen.text()) == 102


def test_a_view_says_that_something_waits_until_it_has_been_shown(notebook: Notebook) -> None:
    notebook.view.lines(1, [fat()])
    assert notebook.view.render(final=False)
    notebook.view.lines(1, [chunk([b"late"])])
    assert not notebook.view.render(final=False)
    assert not notebook.view.render(final=False)
    assert notebook.screen.text()[-1] != "[0] late"
    notebook.clock.now += 2.0
    assert notebook.view.render(final=False)
    assert notebook.screen.text()[-1] == "[0] late"


def test_the_render_at_a_barrier_is_never_held_back(notebook: Notebook) -> None:
    for number in range(50):
        assert notebook.show(chunk([b"x" * 90] * 900), chunk([b"%d" % number]))[-1].endswith(
            f" {number}"
        )
    assert len(notebook.screen.sent) == 50


def test_many_barriers_do_not_silence_the_stream_for_long(notebook: Notebook) -> None:
    for _ in range(200):
        notebook.show(fat())
    notebook.view.lines(1, [chunk([b"next"])])
    assert not notebook.view.render(final=False)
    notebook.clock.now += 1.0
    assert notebook.view.render(final=False)
    assert notebook.screen.text()[-1] == "[0] next"


def test_a_million_lines_cost_what_the_last_rows_cost(notebook: Notebook) -> None:
    million = [chunk([b"x" * 20] * 100_000)] * 10
    began = time.process_time()
    shown = notebook.show(*million)
    took = time.process_time() - began
    assert left_out(shown) == 1_000_000 - MAX_ROWS
    assert took < 0.2
    (one,) = [Chunk(source(), OUT, 1, 0, 0, 1_000_000, 1.0, 1.0, b"\n" * 1_000_000)]
    began = time.process_time()
    shown = notebook.show(one)
    assert time.process_time() - began < 0.2
    assert left_out(shown) == 2_000_000 - MAX_ROWS


def test_a_storm_between_two_renders_keeps_no_more_than_its_last_chunks(notebook: Notebook) -> None:
    for _ in range(2000):
        notebook.view.lines(1, [chunk([b"x"] * 600)])
    waiting = notebook.view._cells[1]._waiting
    assert len(waiting) <= 3
    notebook.view.render(final=True)
    assert left_out(notebook.screen.text()) == 2000 * 600 - MAX_ROWS


# --- old cells ----------------------------------------------------------------------------------


def test_rows_of_old_cells_are_forgotten_but_never_miscounted(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_module, "MAX_KEPT_BYTES", 100_000)
    for cell in range(1, 201):
        notebook.show(chunk([b"line %d" % cell] * 10, cell=cell), cell=cell)
    assert len(notebook.view._cells) < 50
    shown = notebook.show(chunk([b"from a job"], job="job 1", cell=1), cell=1)
    assert shown == [
        "10 earlier lines not shown here, all in the store",
        "[0 job 1] from a job",
    ]
    assert notebook.show(chunk([b"more"], cell=200), cell=200)[:2] == ["[0] line 200"] * 2


def test_a_cell_that_a_job_keeps_writing_to_keeps_its_rows(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_module, "MAX_KEPT_BYTES", 20_000)
    for cell in range(2, 60):
        notebook.view.lines(1, [chunk([b"beat %d" % cell], job="job 1", cell=1)])
        notebook.show(chunk([b"x"], cell=cell), cell=cell)
    assert [row.split(" ")[-1] for row in notebook.screen.text(1)] == [
        str(cell) for cell in range(2, 60)
    ]
    assert len(notebook.view._cells) < 15


# --- the driver ---------------------------------------------------------------------------------


def log(data: bytes, target: OutputTarget = OUT) -> LogMessage.Log:
    return LogMessage.Log(
        proc=0, epoch=1, generation=1, output_target=target, seq=0, offset=0, size=len(data),
        lines=data.count(b"\n"), wall=1.0, mono=1.0, pid=1, hostname="h",
        ends_line=data.endswith(b"\n"), payload=data,
    )  # fmt: skip


class Recorder:
    """A view that remembers what it was given. ``rendered``: what had been given by then."""

    def __init__(self) -> None:
        self.given: List[Tuple[int, bytes]] = []
        self.reports: List[Report] = []
        self.lives: List[Tuple[int, int, List[bytes]]] = []
        self.receipts: List[Tuple[int, str, bool]] = []
        self.renders: List[Tuple[bool, int]] = []
        self.answers: List[bool] = []
        self.closed = 0
        self.fail_at = ""

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        self._maybe_fail("lines")
        assert {each.cell for each in chunks} == {cell}
        for each in chunks:
            self.given += [(each.first_row + n, line) for n, line in enumerate(each.lines())]

    def groups(self, report: Report) -> None:
        self._maybe_fail("groups")
        self.reports.append(report)

    def live(self, cell: int, pending: Optional[Report], unfinished: Sequence[OpenLine]) -> None:
        count = 0 if pending is None else pending.lines
        self.lives.append((cell, count, [line.text for line in unfinished]))

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        self.receipts.append((cell, text, complete))

    def render(self, *, final: bool) -> bool:
        self._maybe_fail("render")
        self.renders.append((final, len(self.given)))
        return self.answers.pop(0) if self.answers else True

    def close(self) -> None:
        self.closed += 1

    def _maybe_fail(self, where: str) -> None:
        if self.fail_at == where:
            raise ValueError(f"broken {where}")

    @property
    def texts(self) -> List[bytes]:
        return [line for _, line in self.given]

    @property
    def grouped_lines(self) -> int:
        return sum(report.lines for report in self.reports)


class Rig:
    """A driver between a real store and a recording view."""

    def __init__(self, directory: Path) -> None:
        self.store = LogStore(directory=str(directory))
        self.store.begin_cell(1)
        self.view = Recorder()
        self.clock = FakeClock()
        self.window: Optional[float] = None
        self.driver = ViewDriver(self.store, self.view, lambda: self.window, self.clock)

    def put(self, data: bytes, info: Optional[ProcInfo] = None, target: OutputTarget = OUT) -> None:
        self.store.append(info or source(), log(data, target))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.driver.close()
    made.store.close()
    assert "logmesh-view" not in [thread.name for thread in threading.enumerate()]


def test_a_new_line_is_shown_without_being_asked_for(rig: Rig) -> None:
    time.sleep(0.15)  # idle
    rig.put(b"a\n")
    wait_until(lambda: rig.view.texts == [b"a"])
    wait_until(lambda: rig.view.renders[-1:] == [(False, 1)])


def test_sync_shows_all_that_is_in_the_store(rig: Rig) -> None:
    for number in range(200):
        rig.put(b"%d\n" % number)
        rig.driver.sync((1, f"receipt {number}", True))
        assert rig.view.given[-1] == (number, b"%d" % number)
        assert rig.view.receipts[-1] == (1, f"receipt {number}", True)
        assert rig.view.renders[-1] == (True, number + 1)
    assert len([final for final, _ in rig.view.renders if final]) == 200


def test_each_line_is_shown_once_and_in_order_under_a_storm(rig: Rig) -> None:
    for number in range(3000):
        rig.put(b"%d a\n%d b\n" % (number, number), source(number % 5))
        if number % 500 == 0:
            rig.driver.sync()
    rig.driver.close()
    assert [row for row, _ in rig.view.given] == list(range(6000))
    assert rig.view.texts == [b"%d %c" % (n, c) for n in range(3000) for c in b"ab"]


def test_lines_go_to_their_cells(rig: Rig) -> None:
    rig.put(b"a\n")
    rig.store.begin_cell(2)
    rig.put(b"b\n")
    rig.put(b"job\n", source(0, job="job 1", cell=1))
    rig.driver.sync()
    assert rig.view.texts == [b"a", b"b", b"job"]


def test_at_most_ten_rounds_a_second_are_made_without_a_barrier(rig: Rig) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        rig.put(b"x\n")
        time.sleep(0.001)
    assert 3 <= len(rig.view.renders) <= 7


def test_an_idle_driver_sleeps(rig: Rig) -> None:
    rig.put(b"x\nunfinished")
    rig.driver.sync()
    time.sleep(0.15)
    before = len(rig.view.renders)
    time.sleep(0.5)
    assert len(rig.view.renders) == before


def test_what_a_view_holds_back_is_asked_for_again_until_it_is_shown(rig: Rig) -> None:
    rig.view.answers = [False, False, False, True]
    rig.put(b"x\n")
    wait_until(lambda: len(rig.view.renders) == 4)
    time.sleep(0.3)
    assert len(rig.view.renders) == 4


def test_a_round_ends_although_lines_come_faster_than_the_view_takes_them(rig: Rig) -> None:
    inner = rig.view.lines

    def slow(cell: int, chunks: Sequence[Chunk]) -> None:
        inner(cell, chunks)
        if len(rig.view.given) < 100_000:
            rig.put(b"x\n" * 100)

    rig.view.lines = slow  # type: ignore[method-assign]
    rig.put(b"x\n")
    rig.driver.sync()
    assert len(rig.view.given) < 1000


def test_a_live_part_is_told_when_it_changes_and_when_it_is_gone(rig: Rig) -> None:
    rig.put(b"10%")
    rig.driver.sync()
    rig.driver.sync()
    rig.put(b"\r20%")
    rig.driver.sync()
    rig.store.begin_cell(2)  # ends the line
    rig.driver.sync()
    rig.driver.sync()
    assert rig.view.lives == [(1, 0, [b"10%"]), (1, 0, [b"10%\r20%"]), (1, 0, [])]
    assert rig.view.texts == [b"10%\r20%"]


def test_an_unfinished_line_of_an_older_cells_job_goes_when_it_is_whole(rig: Rig) -> None:
    job = source(0, job="job 1", cell=1)
    rig.put(b"50%", job)
    rig.store.begin_cell(2)
    rig.driver.sync()
    rig.put(b" done\n", job)
    rig.driver.sync()
    assert rig.view.lives == [(1, 0, [b"50%"]), (1, 0, [])]
    assert rig.view.texts == [b"50% done"]


def test_a_window_is_reported_when_it_ends_and_shown_as_pending_until_then(rig: Rig) -> None:
    rig.window = 3
    rig.put(b"step 1\n")
    wait_until(lambda: rig.view.lives)
    assert rig.view.reports == []
    assert rig.view.lives == [(1, 1, [])]
    rig.clock.now += 2.9
    time.sleep(0.25)
    assert rig.view.reports == []
    rig.clock.now += 0.1
    (report,) = wait_until(lambda: rig.view.reports)
    assert report.lines == 1
    wait_until(lambda: rig.view.lives[-1] == (1, 0, []))


def test_a_window_like_the_one_before_is_shown_again(rig: Rig) -> None:
    rig.window = 3
    for _ in range(2):
        before = len(rig.view.lives)
        rig.put(b"step 1\n")
        wait_until(lambda before=before: len(rig.view.lives) > before)
        assert rig.view.lives[-1] == (1, 1, [])
        rig.put(b"step 1\n")
        rig.driver.sync()
        assert rig.view.lives[-1] == (1, 0, [])
    assert [report.lines for report in rig.view.reports] == [2, 2]


def test_a_barrier_reports_a_window_that_goes_on(rig: Rig) -> None:
    rig.window = 60
    rig.put(b"a\n")
    rig.driver.sync()
    assert [report.lines for report in rig.view.reports] == [1]
    assert rig.view.given == []


def test_switching_the_window_on_and_off_loses_no_line(rig: Rig) -> None:
    for number in range(400):
        rig.window = None if number % 3 else 5.0
        rig.put(b"x\n" * 7)
        if number % 40 == 0:
            rig.driver.sync()
        if number % 25 == 0:
            time.sleep(0.02)
    rig.window = None
    rig.driver.sync()
    assert len(rig.view.given) + rig.view.grouped_lines == 2800
    assert rig.view.given
    assert rig.view.reports


def test_switching_aggregation_off_reports_the_open_window_before_the_next_lines(rig: Rig) -> None:
    rig.window = 60.0
    rig.put(b"grouped\n")
    wait_until(lambda: rig.view.lives)
    rig.window = None
    rig.put(b"single\n")
    wait_until(lambda: rig.view.given)
    assert [report.lines for report in rig.view.reports] == [1]
    assert rig.view.texts == [b"single"]


@pytest.mark.parametrize("broken", ["read", "templates"])
def test_a_store_that_cannot_be_read_is_told_and_nobody_waits_for_ever(
    rig: Rig, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "the file lost bytes")

    rig.window = 60.0
    rig.put(b"step 1\nstep 2\n")
    wait_until(lambda: rig.view.lives)
    monkeypatch.setattr(rig.store if broken == "read" else rig.store.templates, broken, fail)
    rig.put(b"step 3\n")
    rig.driver.sync((1, "receipt", True))
    assert isinstance(rig.driver.error, OSError)
    rig.driver.sync()  # its thread lives
    assert rig.store.rows == 3


@pytest.mark.parametrize("where", ["lines", "render", "groups"])
def test_a_view_that_raises_is_told_and_the_store_goes_on(rig: Rig, where: str) -> None:
    told: List[str] = []
    rig.driver.on_error = lambda: told.append("told")
    rig.window = 5.0 if where == "groups" else None
    rig.view.fail_at = where
    rig.put(b"a\n")
    rig.driver.sync()
    rig.put(b"b\n")
    rig.driver.sync((1, "receipt", True))
    assert str(rig.driver.error) == f"broken {where}"
    assert told == ["told"]
    assert rig.view.receipts == []
    assert [row.text for row in rig.store.lines()] == [b"a", b"b"]
    rig.driver.close()
    assert rig.view.closed == 0


def test_close_shows_the_rest_once_and_leaves_no_thread(rig: Rig) -> None:
    rig.window = 60.0
    rig.put(b"a\n")
    rig.driver.close()
    rig.driver.close()
    assert rig.view.grouped_lines == 1
    assert rig.view.renders[-1][0]
    assert rig.view.closed == 1
    rig.put(b"b\n")
    rig.driver.sync((1, "after", True))
    assert rig.view.receipts == []


def test_a_view_may_close_its_driver(rig: Rig) -> None:
    rig.view.render = lambda *, final: rig.driver.close() or True  # type: ignore[assignment, func-returns-value]
    rig.put(b"a\n")
    wait_until(lambda: rig.view.closed)


def test_an_interrupted_sync_loses_no_line(rig: Rig) -> None:
    gate = threading.Event()
    inner = rig.view.lines

    def slow(cell: int, chunks: Sequence[Chunk]) -> None:
        gate.wait(5.0)
        inner(cell, chunks)

    rig.view.lines = slow  # type: ignore[method-assign]
    rig.put(b"a\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Event, "wait", _interrupted_once(threading.Event.wait))
        with pytest.raises(KeyboardInterrupt):
            rig.driver.sync()
    gate.set()
    rig.driver.sync()
    assert rig.view.texts == [b"a"]


def _interrupted_once(wait: Callable[..., bool]) -> Callable[..., bool]:
    main = threading.current_thread()

    def waiting(event: threading.Event, timeout: Optional[float] = None) -> bool:
        if threading.current_thread() is main:
            raise KeyboardInterrupt
        return wait(event, timeout)

    return waiting


def test_the_notebook_view_shows_all_of_a_storm_through_the_driver(tmp_path: Path) -> None:
    store, screen = LogStore(directory=str(tmp_path)), Screen()
    store.begin_cell(1)
    driver = ViewDriver(store, PlainView(screen), lambda: None)
    for number in range(500):
        store.append(source(number % 4), log(b"%d\n" % number * 100))
    driver.sync((1, "4/4 procs", True))
    shown = screen.text()
    assert (left_out(shown), shown[-2:]) == (50_000 - MAX_ROWS, ["[3] 499", "4/4 procs"])
    driver.close()
    store.close()


# --- the terminal view --------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Text output that counts its flushes."""

    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self.tty = tty
        self.flushes = 0

    def isatty(self) -> bool:
        return self.tty

    def flush(self) -> None:
        self.flushes += 1


def terminal(*, tty: bool = False, **options: Any) -> Tuple[TerminalView, Terminal, Terminal]:
    out, err = Terminal(tty=tty), Terminal(tty=tty)
    return TerminalView(out, err, **options), out, err


def test_lines_are_printed_to_their_streams_with_their_sources() -> None:
    view, out, err = terminal()
    view.lines(1, [chunk([b"a", b"", b"b"]), chunk([b"oh"], 2, ERR), chunk([b"c"], job="job 1")])
    assert view.render(final=False)
    assert out.getvalue() == "[0] a\n[0] \n[0] b\n[0 job 1] c\n"
    assert err.getvalue() == "[2 err] oh\n"


@pytest.mark.parametrize(
    "line", [b"plain", b"tab\there", "\N{SNOWMAN}".encode(), b"\x1b[2Jx", b"\x1b[31mred", b"a\rb"]
)
def test_lines_printed_in_bulk_look_like_lines_printed_one_by_one(line: bytes) -> None:
    view, out, _ = terminal()
    view.lines(1, [chunk([b"first", line, b"last"])])
    single, wanted, _ = terminal(least_level=1)  # looks at each line
    single.lines(1, [chunk([b"first", line, b"last"])])
    assert out.getvalue() == wanted.getvalue()
    assert "\x1b" not in out.getvalue()


def test_colours_are_for_terminals_only_and_end_with_their_line() -> None:
    view, out, _ = terminal(tty=True)
    view.lines(1, [chunk([b"\x1b[31mred", b"\x1b[2Jx"])])
    red, clear = out.getvalue().splitlines()
    assert red.startswith("\x1b[")
    assert red.endswith("\x1b[31mred\x1b[0m")
    assert "\x1b[2J" not in clear


def test_a_terminal_sees_both_streams_in_the_order_of_the_lines() -> None:
    view, out, err = terminal()
    view.lines(1, [chunk([b"a"]), chunk([b"b"], 0, ERR), chunk([b"c"])])
    assert (out.flushes, err.flushes) == (1, 1)


def test_lines_below_the_least_level_are_hidden_and_lines_without_one_are_shown() -> None:
    view, out, _ = terminal(least_level=30)
    view.lines(1, [chunk([b"INFO: quiet", b"WARNING: loud", b"no level", b"ERROR: louder"])])
    assert out.getvalue() == "[0] WARNING: loud\n[0] no level\n[0] ERROR: louder\n"
    view.groups(report_of(chunk([b"INFO: quiet"])))
    assert out.getvalue().count("\n") == 3


def test_levels_are_looked_up_once_per_masked_line(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = LevelFilter(30)
    assert levels.passes(b"INFO: step 10") is False
    monkeypatch.setattr("logmesh_ipy.views.terminal.level_of", None)
    assert levels.passes(b"INFO: step 99") is False
    assert LevelFilter(0).passes(b"anything")


@pytest.mark.parametrize("empty", [b"", b"\r"])
def test_empty_lines_pass_the_level_filter(empty: bytes) -> None:
    assert LevelFilter(30).passes(empty)


def test_groups_are_printed_below_a_header_with_what_they_leave_out() -> None:
    view, out, err = terminal()
    view.groups(report_of(chunk([b"step 1", b"step 2"]), chunk([b"oh"], 1, ERR)))
    header, row = out.getvalue().splitlines()
    assert ", 3 lines) >>>" in header
    assert row == "[0 2×] step <#>"
    assert err.getvalue() == "[1 err] oh\n"
    view.groups(Report(1, (), 1.0, 1.0, 5, 5))
    assert out.getvalue().splitlines()[-1] == "5 lines of other kinds not shown here"


def test_of_very_many_lines_the_last_are_printed_and_the_others_counted() -> None:
    view, out, _ = terminal(max_lines_per_render=3)
    view.lines(1, [chunk([b"a", b"b"]), chunk([b"c", b"d"], 1), chunk([b"e"])])
    assert out.getvalue() == "2 lines not shown here\n[1] c\n[1] d\n[0] e\n"


def test_receipts_go_to_stderr_if_wanted() -> None:
    view, out, err = terminal()
    view.receipt(1, "1/1 procs", complete=True)
    silent, _, nothing = terminal(receipts=False)
    silent.receipt(1, "1/1 procs", complete=True)
    assert (out.getvalue(), err.getvalue(), nothing.getvalue()) == ("", "1/1 procs\n", "")


def test_a_closed_stream_counts_as_no_terminal() -> None:
    out = io.StringIO()
    out.close()
    TerminalView(out, out)


def test_rows_of_an_answer_are_wrapped_on_a_terminal_and_nowhere_else() -> None:
    text = "[0] " + "x" * 36 + "[7] forged\n[1] short\n"
    main, terminal = pty.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, 40))
        with open(terminal, "w", encoding="utf-8") as stream:
            write_rows(stream, text)
            stream.flush()
            shown = os.read(main, 1000).decode().replace("\r", "")
    finally:
        os.close(main)
    assert shown == "[0] " + "x" * 36 + "\n    [7] forged\n[1] short\n"
    stored = io.StringIO()
    write_rows(stored, text)
    assert stored.getvalue() == text
