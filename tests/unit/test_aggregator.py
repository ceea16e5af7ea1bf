from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy.aggregator import MAX_GROUP_BYTES, MAX_GROUPS, Aggregator, Group, Report
from logmesh_ipy.model import OutputTarget, ProcInfo, fold_ranks
from logmesh_ipy.store import Chunk
from logmesh_ipy.template_table import TemplateTable

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR


def chunk(
    lines: Sequence[bytes],
    rank: int = 0,
    target: OutputTarget = OUT,
    *,
    cell: int = 1,
    job: str = "",
    wall: float = 1.0,
) -> Chunk:
    info = ProcInfo(proc=rank + 100 * bool(job), rank=rank, hostname="h", pid=rank, job=job)
    data = b"".join(line + b"\n" for line in lines)
    return Chunk(info, target, cell, 0, 0, len(lines), wall, wall, data)


NAMES = [b"anna", b"bert", b"carl", b"dora", b"emil", b"frieda", b"gustav", b"hanna"]


def made(window_sec: float = 3) -> Aggregator:
    return Aggregator(window_sec, TemplateTable())


def in_rows(chunks: Sequence[Chunk]) -> List[Chunk]:
    """The chunks as a store holds them, one behind the other."""
    found: List[Chunk] = []
    row = 0
    for each in chunks:
        found.append(replace(each, first_row=row))
        row += each.count
    return found


def grouped(*chunks: Chunk) -> Report:
    aggregator = made()
    for each in in_rows(chunks):
        aggregator.add([each], 0.0)
    (report,) = aggregator.flush()
    return report


def counts(report: Report) -> Dict[bytes, int]:
    return {group.shown: group.count for group in report.groups}


def test_equal_lines_are_one_group_that_shows_their_text() -> None:
    report = grouped(chunk([b"step 7 of 10"] * 5), chunk([b"step 7 of 10"], rank=3))
    (group,) = report.groups
    assert (group.shown, group.count, fold_ranks(group.ranks)) == (b"step 7 of 10", 6, "0,3")
    assert not group.differs


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk([b"step 7 of 10", b"step 8 of 10"])],
        [chunk([b"step 7 of 10"]), chunk([b"step 8 of 10"])],
        [chunk([b"step 7 of 10"]), chunk([b"step 8 of 10"], rank=1)],
        [chunk([b"step 9 of 10", b"step 10 of 10"])],
        [chunk([b"step 7 of 10", b"other", b"step 7 of 10"]), chunk([b"step 7 of 11", b"other"])],
    ],
    ids=["in a chunk", "over chunks", "over ranks", "in length", "beside others"],
)
def test_a_group_whose_numbers_differ_shows_its_template(chunks: List[Chunk]) -> None:
    group = next(group for group in grouped(*chunks).groups if b"step" in group.text)
    assert group.differs
    assert group.shown == b"step <#> of <#>"
    assert group.text in {b"step 7 of 10", b"step 9 of 10"}


def test_a_group_stays_exact_while_another_one_differs() -> None:
    report = grouped(chunk([b"at 1", b"same 5", b"at 2"]), chunk([b"same 5", b"at 3"]))
    assert counts(report) == {b"at <#>": 3, b"same 5": 2}


def test_groups_come_in_the_order_of_their_first_lines() -> None:
    report = grouped(chunk([b"b 1", b"a 1", b"b 2"]), chunk([b"c", b"a 2"]))
    assert [group.text for group in report.groups] == [b"b 1", b"a 1", b"c"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"loss 2.31", b"loss nan"),
        (b"loss 2.31", b"loss inf"),
        (b"loss 2.31", b"loss -inf"),
        (b"grad 1", b"grad None"),
        (b"checksum ok", b"checksum BAD"),
        (b"INFO step 1", b"ERROR step 1"),
        (b"link 3 up", b"link 3 down"),
        (b"connected to 4", b"disconnected from 4"),
        (b"is 5 finite", b"is not 5 finite"),
    ],
)
def test_a_number_and_nan_or_texts_that_differ_in_a_word_never_share_a_group(
    one: bytes, other: bytes
) -> None:
    report = grouped(chunk([one, other, one]), chunk([other], rank=1))
    assert counts(report) == {one: 2, other: 2}


def test_streams_and_jobs_and_cells_are_kept_apart() -> None:
    report = grouped(chunk([b"x"]), chunk([b"x"], target=ERR), chunk([b"x"], job="job 1"))
    assert [(group.target, group.job, group.count) for group in report.groups] == [
        (OUT, "", 1), (ERR, "", 1), (OUT, "job 1", 1),
    ]  # fmt: skip
    aggregator = made()
    aggregator.add([chunk([b"x"], cell=1)], 0.0)
    aggregator.add([chunk([b"x"], cell=2)], 0.0)
    assert [(r.cell, r.lines) for r in aggregator.flush()] == [(1, 1), (2, 1)]


def test_empty_lines_count() -> None:
    report = grouped(chunk([b"", b"", b"x"]))
    assert counts(report) == {b"": 2, b"x": 1}


def test_a_report_has_the_times_of_its_lines() -> None:
    report = grouped(
        chunk([b"a"], wall=5.0), chunk([b"b"], wall=3.0), chunk([b"a"], wall=9.0), chunk([b"b"])
    )
    assert (report.first_wall, report.last_wall) == (1.0, 9.0)
    assert [(group.first_wall, group.last_wall) for group in report.groups] == [
        (5.0, 9.0),
        (3.0, 3.0),
    ]


# --- windows ------------------------------------------------------------------------------------


def test_a_window_opens_with_a_cells_first_line_and_is_reported_once_when_it_has_ended() -> None:
    aggregator = made()
    assert aggregator.due(100.0) == []
    aggregator.add([chunk([b"x"])], 10.0)
    aggregator.add([chunk([b"x"])], 12.9)
    assert aggregator.due(12.99) == []
    assert aggregator.cells() == [1]
    (report,) = aggregator.due(13.0)
    assert report.lines == 2
    assert aggregator.due(13.0) == []
    assert aggregator.cells() == []
    aggregator.add([chunk([b"x"])], 13.1)
    assert aggregator.due(16.0) == []
    assert aggregator.due(16.1)[0].lines == 1


def test_windows_of_cells_end_on_their_own() -> None:
    aggregator = made()
    aggregator.add([chunk([b"x"], cell=1)], 0.0)
    aggregator.add([chunk([b"x"], cell=2)], 2.0)
    assert [report.cell for report in aggregator.due(4.0)] == [1]
    assert [report.cell for report in aggregator.due(5.0)] == [2]


def test_a_new_length_holds_for_the_next_window() -> None:
    aggregator = made(60)
    aggregator.add([chunk([b"x"], cell=1)], 0.0)
    aggregator.window_sec = 1
    aggregator.add([chunk([b"x"], cell=1)], 1.0)
    aggregator.add([chunk([b"x"], cell=2)], 1.0)
    assert [report.cell for report in aggregator.due(2.0)] == [2]
    assert [report.cell for report in aggregator.due(60.0)] == [1]


def test_a_flush_reports_windows_that_go_on_and_empties_them() -> None:
    aggregator = made()
    aggregator.add([chunk([b"x"])], 0.0)
    assert [report.lines for report in aggregator.flush()] == [1]
    assert aggregator.flush() == []
    assert aggregator.due(99.0) == []


def test_pending_shows_a_window_without_ending_it() -> None:
    aggregator = made()
    assert (aggregator.pending(1), aggregator.pending_lines(1)) == (None, 0)
    aggregator.add([chunk([b"x", b"y"])], 0.0)
    pending = aggregator.pending(1)
    assert pending is not None
    assert (counts(pending), aggregator.pending_lines(1)) == ({b"x": 1, b"y": 1}, 2)
    aggregator.add([chunk([b"x"])], 0.1)
    assert counts(aggregator.flush()[0]) == {b"x": 2, b"y": 1}


# --- bounds -------------------------------------------------------------------------------------


def words(number: int) -> bytes:
    """A text of letters only, a different one for each number."""
    return str(number).translate(str.maketrans("0123456789", "abcdefghij")).encode()


def test_lines_of_too_many_kinds_are_others_and_never_in_a_wrong_group() -> None:
    kinds = MAX_GROUPS + 500
    aggregator = made()
    for start in range(0, kinds, 700):
        some = [words(number) for number in range(start, min(start + 700, kinds))]
        aggregator.add([chunk(some)], 0.0)
    aggregator.add([chunk([words(0), words(kinds - 1), words(kinds + 1)])], 0.0)
    (report,) = aggregator.flush()
    assert 2000 < len(report.groups) <= MAX_GROUPS
    assert report.lines == kinds + 3 == sum(counts(report).values()) + report.others
    wanted = {words(number): 1 for number in range(kinds + 2)}
    wanted[words(0)] = wanted[words(kinds - 1)] = 2
    assert all(0 < count <= wanted[text] for text, count in counts(report).items())
    assert counts(report)[words(0)] == 2


def test_long_lines_of_many_kinds_stay_within_the_bound_on_bytes() -> None:
    aggregator = made()
    for number in range(600):
        aggregator.add([chunk([words(number) + b"z" * 64_000])], 0.0)
    (report,) = aggregator.flush()
    size = 2 * sum(len(group.text) for group in report.groups)
    assert size <= MAX_GROUP_BYTES
    assert len(report.groups) == MAX_GROUP_BYTES // (2 * 64_003)
    assert report.others == 600 - len(report.groups)


def test_a_window_that_goes_on_is_charged_for_a_group_once() -> None:
    aggregator = made(1e9)
    names = [words(number).decode() for number in range(1000, 1200)]
    lines = [f"Failed login for user {name} at the front door".encode() for name in names]
    total = 0
    for _ in range(300):
        aggregator.add([chunk([line + b"." * 600 for line in lines])], 0.0)
        total += len(lines)
        pending = aggregator.pending(1)
        assert pending is not None
    assert pending.others == 0
    assert sum(group.count for group in pending.groups) == total
    assert len(pending.groups) < 20


class CallCounter:
    """Counts the Python and C calls that a piece of code makes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event in {"call", "c_call"}


def calls_of(aggregator: Aggregator, some: Chunk) -> int:
    counter = CallCounter()
    sys.setprofile(counter)
    try:
        aggregator.add([some], 0.0)
    finally:
        sys.setprofile(None)
    return counter.calls


@pytest.mark.parametrize(
    "make",
    [lambda n: b"the same", lambda n: b"step %d loss 0.%d" % (100 + n % 900, 10 + n % 90)],
    ids=["equal", "varying numbers"],
)
def test_the_work_for_a_repetitive_chunk_does_not_grow_with_its_lines(make: Any) -> None:
    few, many = made(), made()
    small = calls_of(few, chunk([make(n) for n in range(20)]))
    large = calls_of(many, chunk([make(n) for n in range(20_000)]))
    assert large <= small + 10
    assert calls_of(many, chunk([make(n) for n in range(20_000)])) <= small + 10


# --- against a plain model ----------------------------------------------------------------------


def by_the_book(chunks: Sequence[Chunk]) -> List[Group]:
    """Line by line, as one would write it first."""
    table = TemplateTable()
    of_lines = [
        (some, line, table.ids(line + b"\n")[0]) for some in chunks for line in some.lines()
    ]
    found: Dict[Tuple[OutputTarget, str, int], Group] = {}
    for row, (some, line, number) in enumerate(of_lines):
        root = table.find(number)
        key = (some.target, some.info.job, root)
        group: Optional[Group] = found.get(key)
        if group is None:
            group = found[key] = Group(
                some.target, some.info.job, root, line, row, row + 1, some.wall, some.wall
            )
        group.count += 1
        group.differs |= line != group.text
        group.ranks.add(some.info.rank)
        group.end_row = row + 1
        group.last_wall = max(group.last_wall, some.wall)
    return list(found.values())


def facts(group: Group) -> Tuple[Any, ...]:
    return (
        group.target, group.job, group.text, group.first_row, group.count, group.differs,
        tuple(sorted(group.ranks)),
    )  # fmt: skip


LINES = st.one_of(
    st.sampled_from([b"", b"a", b"a 1", b"a 2", b"a 10", b"nan", b"\r5%\r6%", b"1.0.0", b"1.2"]),
    st.binary(max_size=6).map(lambda data: data.replace(b"\n", b"")),
)
CHUNKS = st.builds(
    chunk,
    st.lists(LINES, min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from([OUT, ERR]),
    job=st.sampled_from(["", "job 1"]),
)


@settings(max_examples=300)
@given(st.lists(CHUNKS, min_size=1, max_size=8), st.booleans())
def test_bulk_grouping_gives_what_grouping_line_by_line_gives(
    chunks: List[Chunk], at_once: bool
) -> None:
    aggregator = made()
    placed = [
        replace(each, wall=1.0 + number * 0.001) for number, each in enumerate(in_rows(chunks))
    ]
    for some in [placed] if at_once else [[each] for each in placed]:
        aggregator.add(some, 0.0)
    (report,) = aggregator.flush()
    book = by_the_book(placed)
    assert list(map(facts, report.groups)) == list(map(facts, book))
    for group, by_hand in zip(report.groups, book, strict=True):
        # To the end of the last chunk that was looked at together with the group's last line.
        ends = [each.first_row + each.count for each in placed]
        assert by_hand.end_row <= group.end_row
        assert group.end_row in ends
        if not at_once:
            assert group.end_row == min(end for end in ends if end >= by_hand.end_row)
        assert group.first_wall == by_hand.first_wall
        assert 0 <= group.last_wall - by_hand.last_wall <= (0.02 if at_once else 0)


def test_groups_that_become_one_are_charged_for_the_text_that_stays() -> None:
    """The group met first has a long text, what it becomes part of an earlier, short one."""
    table = TemplateTable()
    aggregator = Aggregator(3, table)
    line = b"Failed login for user %b at the front door %b"
    names = [one + two for one in NAMES for two in NAMES]
    for row, (name, number) in enumerate([(names[0], b"1"), (names[1], b"9" * 3000)]):
        table.ids(line % (name, b"1") + b"\n")
        aggregator.add([replace(chunk([line % (name, number)]), first_row=1 - row)], 0.0)
    (window,) = aggregator._windows.values()
    assert len(window.groups[OUT, ""]) == 2
    table.ids(b"".join(line % (name, b"1") + b"\n" for name in names))
    report = aggregator.pending(1)
    assert report is not None
    (group,) = report.groups
    assert len(group.text) > 3000
    assert window.group_bytes == 2 * len(group.text)


def test_a_group_whose_first_line_is_met_last_still_differs() -> None:
    aggregator = made()
    aggregator.add(in_rows([chunk([b"x 1"]), chunk([b"at 1"], 1), chunk([b"at 2"])]), 0.0)
    (report,) = aggregator.flush()
    group = next(group for group in report.groups if group.text.startswith(b"at"))
    assert (group.text, group.count, group.differs) == (b"at 1", 2, True)
    assert group.shown == b"at <#>"


def test_a_group_spans_all_its_rows_where_streams_interleave() -> None:
    """Chunks of a stream are looked at together: their rows are not in order then."""
    chunks = in_rows(
        [
            chunk([b"begins", b"also 1"]), chunk([b"step 1", b"also 1"], rank=1),
            chunk([b"step 2", b"step 3"]),
        ]
    )  # fmt: skip
    aggregator = made()
    aggregator.add(chunks, 0.0)
    (report,) = aggregator.flush()
    group = next(group for group in report.groups if group.text.startswith(b"step"))
    assert (group.text, group.first_row, group.end_row) == (b"step 1", 2, 6)
    assert [group.text for group in report.groups] == [b"begins", b"also 1", b"step 1"]
    assert report.lines == sum(some.count for some in chunks)
    assert report.lines == sum(group.count for group in report.groups) + report.others


def test_no_line_is_lost_in_a_storm_of_all_kinds() -> None:
    dice = random.Random(7)
    kinds = [words(number) + b" %d" for number in range(50)]
    wanted: Counter[bytes] = Counter()
    chunks = []
    for _ in range(30):
        some = [dice.choice(kinds) % dice.randrange(10**6) for _ in range(500)]
        wanted.update(line.partition(b" ")[0] for line in some)
        chunks.append(chunk(some, rank=dice.randrange(8)))
    report = grouped(*chunks)
    assert counts(report) == {word + b" <#>": count for word, count in wanted.items()}
