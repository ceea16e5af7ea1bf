from __future__ import annotations

import tracemalloc
from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.lines import LineFlag, Lines, LineSplitter

Found = List[Tuple[bytes, LineFlag, int]]
T, P, C, B, O = (  # noqa: E741
    LineFlag.TRUNCATED,
    LineFlag.PARTIAL,
    LineFlag.CONTINUED,
    LineFlag.BROKEN,
    LineFlag.OVERWRITTEN,
)
NONE = LineFlag(0)


def listed(lines: Lines) -> Found:
    """The lines one by one: text, flags, true length."""
    texts = lines.data.split(b"\n")
    assert texts.pop() == b""
    assert len(texts) == lines.count
    marks = {mark.index: mark for mark in lines.marks}
    assert len(marks) == len(lines.marks)
    assert all(0 <= index < lines.count for index in marks)
    return [
        (text, marks[i].flags, marks[i].true_bytes) if i in marks else (text, NONE, len(text))
        for i, text in enumerate(texts)
    ]


def expected(line: bytes, limit: int) -> Tuple[bytes, LineFlag, int]:
    """One line, by the rule of the module's text."""
    if len(line) <= limit:
        return line, NONE, len(line)
    shown = line.rstrip(b"\r")
    if b"\r" in shown:
        return shown[shown.rindex(b"\r") + 1 :][:limit], T | O, len(line)
    return line[:limit], T, len(line)


def one_shot(data: bytes, limit: int) -> Tuple[Found, bytes]:
    """(lines, what is unfinished)."""
    *lines, rest = data.split(b"\n")
    return [expected(line, limit) for line in lines], rest


noisy = st.lists(
    st.sampled_from([b"\n", b"\r", b"\0", b"a", b"bc", b"\r\n", b"xyzuvw", b"\xff", b"\x85"]),
    max_size=60,
).map(b"".join)


@st.composite
def cut_data(draw: st.DrawFn) -> Tuple[bytes, List[bytes]]:
    data = draw(noisy)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(cut_data(), st.integers(1, 12), st.booleans())
def test_lines_do_not_depend_on_where_the_bytes_were_cut(
    given_data: Tuple[bytes, List[bytes]], limit: int, tell_count: bool
) -> None:
    data, pieces = given_data
    splitter = LineSplitter(limit)
    found: Found = []
    for piece in pieces:
        found += listed(splitter.feed(piece, piece.count(b"\n") if tell_count else -1))
    lines, rest = one_shot(data, limit)
    assert found == lines
    assert splitter.open_bytes == len(rest)
    text, flags, _ = expected(rest, limit)
    assert splitter.open_line == (text, flags)
    closing = listed(splitter.cut())
    assert closing == ([(text, flags | P, len(rest))] if rest else [])
    assert splitter.open_bytes == 0


def test_every_pair_of_cuts_gives_the_same_lines() -> None:
    data = b"ab\r\ncd\0\n\n\rlonger than ten\rnow\nlong without end\n\r\r\r\r\r\r\r\r\r\r\r\r\nend"
    for limit in (1, 3, 10, 100):
        want = one_shot(data, limit)[0]
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                splitter = LineSplitter(limit)
                parts = (data[:first], data[first:second], data[second:])
                found = [line for part in parts for line in listed(splitter.feed(part))]
                assert found == want, (limit, first, second)


def test_a_line_of_exactly_the_limit_is_whole_and_one_byte_more_is_marked() -> None:
    splitter = LineSplitter(8)
    found = listed(splitter.feed(b"12345678\n123456789\n" + b"x" * 1000 + b"\nshort\n"))
    assert found == [
        (b"12345678", NONE, 8),
        (b"12345678", T, 9),
        (b"xxxxxxxx", T, 1000),
        (b"short", NONE, 5),
    ]
    for alone in (b"123456789\n", b"a\n123456789\n", b"123456789\na\n"):
        found = listed(LineSplitter(8).feed(alone))
        assert [line for line in found if line[1]] == [(b"12345678", T, 9)]
    assert listed(LineSplitter(8).feed(b"12345678\n")) == [(b"12345678", NONE, 8)]


def test_a_whole_chunk_of_short_lines_is_passed_on_without_a_copy() -> None:
    data = b"one\ntwo\n"
    assert LineSplitter().feed(data).data is data


def test_a_progress_bar_keeps_what_the_terminal_would_show_at_last() -> None:
    splitter = LineSplitter(20)
    for step in range(1000):
        splitter.feed(b"\rstep %4d of 1000" % step)
    assert splitter.open_line == (b"step  999 of 1000", T | O)
    [(text, flags, size)] = listed(splitter.feed(b"\n"))
    assert (text, flags, size) == (b"step  999 of 1000", T | O, 18_000)


def test_a_carriage_return_that_nothing_follows_overwrites_nothing() -> None:
    splitter = LineSplitter(4)
    splitter.feed(b"abcdefgh\r")
    assert splitter.open_line == (b"abcd", T)
    splitter.feed(b"\r")
    assert splitter.open_line == (b"abcd", T)
    splitter.feed(b"Z")
    assert splitter.open_line == (b"Z", T | O)


def test_a_short_line_keeps_its_carriage_returns() -> None:
    assert listed(LineSplitter(20).feed(b"50%\r100%\r\n")) == [(b"50%\r100%\r", NONE, 9)]


def test_only_a_newline_ends_a_line() -> None:
    text = "a\0b\rc\x0b\x0cd\x1c\x85e\u2028f\u2029g".encode() + b"\xff\xfe"
    assert listed(LineSplitter().feed(text + b"\n")) == [(text, NONE, len(text))]


def test_what_follows_a_cut_is_marked_as_its_continuation() -> None:
    splitter = LineSplitter(6)
    splitter.feed(b"half")
    assert listed(splitter.cut()) == [(b"half", P, 4)]
    assert listed(splitter.cut()) == []
    splitter.feed(b"way")
    assert splitter.open_line == (b"way", C)
    assert listed(splitter.cut()) == [(b"way", P | C, 3)]
    assert listed(splitter.feed(b" there it is\nnext\n")) == [
        (b" there", C | T, 12),
        (b"next", NONE, 4),
    ]


def test_a_cut_right_before_the_newline_leaves_an_empty_continuation() -> None:
    splitter = LineSplitter()
    splitter.feed(b"all")
    splitter.cut()
    assert listed(splitter.feed(b"\nnext\n")) == [(b"", C, 0), (b"next", NONE, 4)]


def test_a_cut_without_an_unfinished_line_marks_nothing() -> None:
    splitter = LineSplitter()
    splitter.feed(b"whole\n")
    assert listed(splitter.cut()) == []
    assert listed(splitter.feed(b"next\n")) == [(b"next", NONE, 4)]


@pytest.mark.parametrize("ends_line", [True, False])
@pytest.mark.parametrize("opened", [True, False])
def test_missing_bytes_join_no_two_lines(opened: bool, ends_line: bool) -> None:
    splitter = LineSplitter()
    splitter.feed(b"before\nhe" if opened else b"before\n")
    assert listed(splitter.leave_out(ends_line)) == ([(b"he", P | B, 2)] if opened else [])
    first = (b"llo", NONE if ends_line else B, 3)
    assert listed(splitter.feed(b"llo\nafter\n")) == [first, (b"after", NONE, 5)]


def test_missing_bytes_after_a_cut_leave_no_false_continuation() -> None:
    splitter = LineSplitter()
    splitter.feed(b"part")
    splitter.cut()
    splitter.leave_out(True)
    assert listed(splitter.feed(b"new\n")) == [(b"new", NONE, 3)]
    splitter.feed(b"part")
    splitter.cut()
    splitter.leave_out(False)
    splitter.leave_out(False)
    assert listed(splitter.feed(b"tail\n")) == [(b"tail", B, 4)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["feed", "cut", "out", "out open"]), noisy),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 9),
)
def test_feeds_cuts_and_losses_keep_every_byte_of_short_lines_in_order(
    steps: List[Tuple[str, bytes]], limit: int
) -> None:
    splitter = LineSplitter(limit)
    true_bytes = newlines = fed_bytes = 0
    for what, data in steps:
        if what == "feed":
            found = listed(splitter.feed(data))
            newlines += data.count(b"\n")
            fed_bytes += len(data) - data.count(b"\n")
        elif what == "cut":
            found = listed(splitter.cut())
        else:
            found = listed(splitter.leave_out(what == "out"))
        for text, flags, size in found:
            assert len(text) <= limit
            assert (len(text) < size) == bool(flags & T)
            newlines -= not flags & P
            true_bytes += size
    assert newlines == 0
    assert true_bytes + splitter.open_bytes == fed_bytes


@pytest.mark.parametrize(
    "piece", [b"x" * 65536, b"\r" * 65536, b"\r" + b"y" * 65535, b"ab\r" * 20000]
)
def test_a_line_of_100_mb_takes_bounded_memory(piece: bytes) -> None:
    splitter = LineSplitter(64 << 10)
    times = 100_000_000 // len(piece)
    tracemalloc.start()
    try:
        for _ in range(times):
            splitter.feed(piece)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert splitter.open_bytes == times * len(piece)
    assert held < 1 << 20
    assert peak < 2 << 20
    [(text, flags, size)] = listed(splitter.cut())
    assert len(text) <= 64 << 10
    assert flags & T
    assert size == times * len(piece)


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="max_line_bytes"):
        LineSplitter(0)
