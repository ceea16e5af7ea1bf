"""Messages for browsers account for each row once, stay small, and tell what they leave out."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import LogStore
from logmesh_ipy.views import feed as feed_module
from logmesh_ipy.views.cut import SHORTENED
from logmesh_ipy.views.feed import HISTORY_BYTES, MAX_MESSAGE_BYTES, Message, RowFeed, live_message

INFOS = [
    ProcInfo(proc=proc, rank=rank, hostname="h", pid=100 + proc, job=job)
    for proc, rank, job in ((0, 0, ""), (1, 1, ""), (2, 0, "job 1"))
]


def append(store: LogStore, source: int, text: bytes, wall: float = 1.0) -> None:
    log = LogMessage.Log(
        proc=source, epoch=0, generation=0, output_target=OutputTarget.STDOUT, seq=0, offset=0,
        size=len(text), lines=text.count(b"\n"), wall=wall, mono=wall, pid=1, hostname="h",
        ends_line=text.endswith(b"\n"), payload=text,
    )  # fmt: skip
    store.append(INFOS[source], log)


Lines = Dict[int, str]


def interleaves(pieces: List[str], text: str) -> bool:
    """Whether a template's constants stand in a line in their order, from its start to its end."""
    pattern = ".*?".join(
        re.escape(piece[:500]) + (".*?" if len(piece) > 500 else "") for piece in pieces
    )
    return len(text) >= 8192 or "\r" in text or re.fullmatch(pattern, text, re.DOTALL) is not None


def unpack(message: Message) -> Tuple[Lines, List[Tuple[int, int]]]:
    """The rows of a message by number, and the ranges it skips; checks that it is whole."""
    content, payload = message
    assert len(json.dumps(content)) + len(payload) <= MAX_MESSAGE_BYTES
    lines: Lines = {}
    covered: List[Tuple[int, int]] = []
    position = 0
    for _, _, _, first_row, _, count, _, size in content["chunks"]:
        texts = payload[position : position + size].decode().split("\n")
        position += size
        assert texts.pop() == ""
        assert len(texts) == count
        lines.update({first_row + index: text for index, text in enumerate(texts)})
        covered.append((first_row, first_row + count))
    skips = [(skip["first"], skip["end"]) for skip in content["skips"]]
    at = content["first"]
    for first, end in sorted(covered + skips):
        assert first == at
        at = end
    assert at == content["end"]
    ids = struct.unpack(f"<{len(lines)}I", payload[position:])
    told = {telling[0]: telling for telling in content["templates"]}
    if not content["live"]:
        assert told.keys() >= {*ids} - {0}
    for number, row in zip(ids, lines, strict=True):
        if number in told:
            assert interleaves(told[number][2], lines[row]), (told[number], lines[row])
    for skip in content["skips"]:
        told = sum(group[4] for group in skip["groups"]) + skip["others"]
        assert told == skip["end"] - skip["first"] == sum(cell[1] for cell in skip["cells"])
    return lines, skips


SIZES = st.sampled_from([0, 1, 10, 100, 1000, 9_000])
BATCHES = st.lists(
    st.tuples(st.integers(0, 2), SIZES, st.integers(1, 400), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(st.lists(BATCHES, min_size=1, max_size=3), st.integers(1 << 16, 1 << 20))
def test_live_messages_continue_each_other_and_hold_the_store_s_text(
    rounds: List[List[Tuple[int, int, int, bool]]], memory: int
) -> None:
    store = LogStore(memory_bytes=memory)
    feed = RowFeed(store)
    texts: List[str] = []
    number = 0
    for batches in rounds:
        for source, size, count, same in batches:
            number += 1
            lines = [f"{0 if same else number}:{i} " + "x" * size for i in range(count)]
            append(store, source, "".join(line + "\n" for line in lines).encode())
            texts += lines
        end = feed.cursor
        while (message := feed.live()) is not None:
            assert message.content["first"] == end
            end = message.content["end"]
            check(message, texts)
        assert end == store.rows
    page_end = 0
    for message in feed.page(0, store.rows, whole=True):
        assert message.content["first"] == page_end
        page_end = message.content["end"]
        lines_of, skips = unpack(message)
        assert not skips
        assert all(texts[row] == text for row, text in lines_of.items())
    assert page_end == store.rows
    store.close()


def check(message: Message, texts: List[str]) -> None:
    lines, _ = unpack(message)
    marks = {row: flags for row, flags, _ in message.content["marks"]}
    for row, text in lines.items():
        if marks.get(row, 0) & SHORTENED:
            assert text == texts[row][:8192]
        else:
            assert text == texts[row]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60_000), st.integers(0, 60_000))
def test_a_page_covers_exactly_what_was_asked_for(first: int, end: int) -> None:
    store = full_store()
    rows: Lines = {}
    at = first
    for message in RowFeed(store).page(first, end):
        assert message.content["first"] == at
        at = message.content["end"]
        rows.update(unpack(message)[0])
        for source, _, _, row, line, *_ in message.content["chunks"]:
            assert (row // 100 % 3, row // 300 * 100 + row % 100) == (source, line)
    assert sorted(rows) == list(range(first, end))
    assert all(text.endswith(f" {row % 100}") for row, text in rows.items())


_stores: Dict[str, LogStore] = {}


def full_store() -> LogStore:
    """60,000 lines of three sources, in chunks of 100."""
    store = _stores.get("full")
    if store is None:
        store = _stores["full"] = LogStore(memory_bytes=1 << 20)
        for batch in range(600):
            lines = "".join(f"line of batch {batch} {index}\n" for index in range(100))
            append(store, batch % 3, lines.encode())
    return store


def test_what_is_too_much_is_skipped_but_for_the_newest_and_told_in_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "_SUMMARY_SEC", 60.0)
    store = LogStore()
    feed = RowFeed(store)
    for batch in range(40):
        append(
            store,
            batch % 2,
            b"".join(b"step %d of many, %s\n" % (i, b"x" * 80) for i in range(1000)),
        )
    append(store, 2, b"ERROR: 1 of a kind\n" * 3)
    append(store, 0, b"y" * 99 + b"\n" + b"the last\n")
    message = feed.live()
    assert message is not None
    lines, skips = unpack(message)
    assert lines[store.rows - 1] == "the last"
    assert skips == [(0, min(lines))]
    (skip,) = message.content["skips"]
    groups = {group[3]: group for group in skip["groups"]}
    step = groups[f"step 0 of many, {'x' * 80}"]
    templates = {told[0]: told for told in message.content["templates"]}
    assert templates[step[7]][2:4] == (["step ", f" of many, {'x' * 80}"], "#")
    assert step[4] + skip["others"] == skip["end"]
    assert step[5] == "0-1"
    assert step[6] == 1
    assert feed.live() is None


def test_many_kinds_are_told_as_their_largest_groups_and_the_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Else what it looks at is a matter of time.
    monkeypatch.setattr(feed_module, "_SUMMARY_SEC", 60.0)
    store = LogStore()
    feed = RowFeed(store)
    words = [f"{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(3000)]
    for word in words:
        append(store, 0, f"{word}{'x' * 500}\n".encode() * 2)
    append(store, 0, b"ERROR: rare but telling\n")
    append(store, 0, b"z" * 1000 + b"\n")
    for _ in range(20):
        append(store, 1, b"common\n" * 2000 + b"p" * 4000 + b"\n")
    message = feed.live()
    assert message is not None
    unpack(message)
    (skip,) = message.content["skips"]
    assert len(skip["groups"]) <= 100
    texts = [group[3] for group in skip["groups"]]
    assert texts[0] == "common"
    assert "ERROR: rare but telling" in texts


def test_history_is_the_end_then_one_skip_for_what_is_older() -> None:
    store = full_store()
    feed = RowFeed(store)
    while feed.live() is not None:
        pass
    messages = list(feed.history(0))
    rows: Lines = {}
    for message in messages:
        rows.update(unpack(message)[0])
    assert sorted(rows) == list(range(60_000))  # less than what history may hold
    assert [m.content["first"] for m in messages] == sorted(
        (m.content["first"] for m in messages), reverse=True
    )
    assert list(feed.history(60_000)) == []
    some = [unpack(message)[0] for message in feed.history(59_990)]
    assert [sorted(lines) for lines in some] == [list(range(59_990, 60_000))]


def test_messages_stay_small_with_many_ranks_kinds_and_escapes() -> None:
    store = LogStore()
    feed = RowFeed(store)
    for proc in range(2000):
        info = ProcInfo(proc=proc, rank=proc * 2, hostname="a-host-with-a-long-name", pid=10_000)
        for kind in range(proc % 7, 40, 7):
            text = b"\x1b\x00\x01\x02" * 45 + b"kind %c\n" % (65 + kind)
            log = LogMessage.Log(
                proc=proc, epoch=0, generation=0, output_target=OutputTarget.STDOUT, seq=0,
                offset=0, size=len(text), lines=1, wall=1.0, mono=1.0, pid=1, hostname="h",
                ends_line=True, payload=text,
            )  # fmt: skip
            store.append(info, log)
    end = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "_SUMMARY_SEC", 60.0)
        while (message := feed.live()) is not None:
            unpack(message)
            assert message.content["first"] == end
            end = message.content["end"]
    assert end == store.rows
    for message in feed.page(0, store.rows):
        unpack(message)


def test_bytes_that_take_more_room_as_text_make_smaller_messages() -> None:
    store = LogStore()
    feed = RowFeed(store)
    append(store, 0, (b"\xff" * 90 + b"\n") * 9000)
    ends = [0]
    while (message := feed.live()) is not None:
        unpack(message)
        assert message.content["first"] == ends[-1]
        ends.append(message.content["end"])
    assert ends[-1] == 9000
    assert len(ends) > 10


def test_history_looks_at_little_more_than_it_sends(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1 << 20, directory=str(tmp_path))
    feed = RowFeed(store)
    for _ in range(400):
        append(store, 0, (b"w" * 9_999 + b"\n") * 20)  # 80 MB, most of it in the file
    while feed.live() is not None:
        pass
    tracemalloc.start()
    messages = feed.history(0)
    first = next(messages)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.content["skips"]
    assert peak < 40 << 20
    start = first.content["end"]
    whole = sum(len(line) for row in store.lines(start) for line in [row.text])
    assert HISTORY_BYTES * 0.9 < whole <= HISTORY_BYTES
    store.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 300)), min_size=8, max_size=60))
def test_a_page_that_comes_back_is_told_where_each_cell_s_lines_are(
    cells: List[Tuple[int, int]],
) -> None:
    store = LogStore(memory_bytes=1 << 16)
    feed = RowFeed(store)
    rows: List[int] = []
    for cell, count in cells:
        store.begin_cell(cell)
        append(store, 0, b"z" * 999 + b"\n" + b"x\n" * (count - 1))
        rows += [cell] * count
    while feed.live() is not None:
        pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "HISTORY_BYTES", 4_000)
        messages = list(feed.history(0))
    for message in messages:
        for skip in message.content["skips"]:
            part = rows[skip["first"] : skip["end"]]
            assert {told[0]: told[1] for told in skip["cells"]} == {c: part.count(c) for c in part}
            for cell, lines, first, end in skip["cells"]:
                assert rows[first:end].count(cell) == lines
    held = [row for message in messages for row in unpack(message)[0]]
    assert len(held) == len(set(held))
    store.close()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"10%\r20%\r30%", "30%"),
        (b"10%\r20%\r", "20%"),
        (b"\x1b[31mred\r20%\x1b[K", "\x1b[31m20%\x1b[K"),
        (b"dos line\r", "dos line"),
        (b"\r", ""),
        (b"up\r\x1b[A", "up\r\x1b[A"),  # moves the cursor: the browser plays it
        (b"bad \xff", "bad \\xff"),
        ("grüße".encode(), "grüße"),
        (b"nul \x00", "nul \x00"),
    ],
)
def test_text_comes_settled_and_as_utf_8(raw: bytes, shown: str) -> None:
    store = LogStore()
    append(store, 0, raw + b"\n")
    message = RowFeed(store).live()
    assert message is not None
    assert unpack(message)[0] == {0: shown}


def test_unfinished_lines_are_few_and_short() -> None:
    store = LogStore()
    for source in range(3):
        append(store, source, b"0%\r" * 3000 + b"%d%%" % source)
    content: Dict[str, Any] = live_message(store.open_lines()).content
    assert [line[4] for line in content["lines"]] == ["0%", "1%", "2%"]
    assert content["more"] == 0
    assert live_message(store.open_lines(), 2).content["more"] == 1


def test_a_message_of_long_kinds_stays_small_and_loses_no_line() -> None:
    store = LogStore()
    feed = RowFeed(store)
    words = [f"{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(400)]
    for word in words:
        append(store, 0, b"".join(f"{word}{n * word} {'y' * 3500}\n".encode() for n in range(2)))
    append(store, 1, b"".join(b"short %d\n" % number for number in range(1000)))
    told: set[int] = set()
    sent = 0
    while (message := feed.live()) is not None:
        lines, _ = unpack(message)
        sent += len(lines)
        told |= {telling[0] for telling in message.content["templates"]}
        groups = [group for skip in message.content["skips"] for group in skip["groups"]]
        assert all(group[7] == 0 or group[7] in told for group in groups)
    assert sent >= 1000
