from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy import blocks as blocks_module
from logmesh_ipy import reopen
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import Chunk, LogStore, Row
from logmesh_ipy.store_places import SessionPlace
from tests.support import wait_until

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
INFOS = [ProcInfo(proc=p, rank=p, hostname="h", pid=100 + p) for p in range(3)]
JOB = ProcInfo(proc=9, rank=0, hostname="h", pid=9, job="job 1", cell=1)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are full after a few lines."""
    monkeypatch.setattr(blocks_module, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(blocks_module, "_BLOCK_CHUNKS", 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    made = LogStore(directory=str(tmp_path))
    yield made
    made.close()


def batch(data: bytes, target: OutputTarget = OUT, wall: float = 1.0) -> LogMessage.Log:
    """What the store looks at; the ledger has judged the rest."""
    return LogMessage.Log(
        proc=0, epoch=1, generation=1, output_target=target, seq=0, offset=0, size=len(data),
        lines=data.count(b"\n"), wall=wall, mono=wall + 0.5, pid=1, hostname="h",
        ends_line=data.endswith(b"\n"), payload=data,
    )  # fmt: skip


def put(
    store: LogStore, data: bytes, info: ProcInfo = INFOS[0], target: OutputTarget = OUT
) -> None:
    store.append(info, batch(data, target))


def texts(store: LogStore) -> List[bytes]:
    return [row.text for row in store.lines()]


def test_rows_come_in_the_order_of_arrival_numbered_over_all_and_within_their_stream(
    store: LogStore,
) -> None:
    put(store, b"a0\na1\n")
    put(store, b"b0\n", INFOS[1])
    put(store, b"e0\n", INFOS[0], ERR)
    put(store, b"a2\n")
    found = [(r.row, r.info.rank, r.target, r.seq, r.text) for r in store.lines()]
    assert found == [
        (0, 0, OUT, 0, b"a0"),
        (1, 0, OUT, 1, b"a1"),
        (2, 1, OUT, 0, b"b0"),
        (3, 0, ERR, 0, b"e0"),
        (4, 0, OUT, 2, b"a2"),
    ]
    assert (store.rows, store.bytes) == (5, 15)


def test_a_line_is_one_row_however_it_was_cut_and_streams_do_not_mix(store: LogStore) -> None:
    put(store, b"hel")
    put(store, b"warn", INFOS[0], ERR)
    put(store, b"lo\nwor")
    put(store, b"ing\n", INFOS[0], ERR)
    assert texts(store) == [b"hello", b"warning"]
    assert [line.text for line in store.open_lines()] == [b"wor"]
    store.end(INFOS[0], OUT)
    assert store.open_lines() == []
    last = list(store.lines(2))
    assert [(row.text, row.flags) for row in last] == [(b"wor", LineFlag.PARTIAL)]


def test_open_lines_say_whose_they_are_and_when_they_grew(store: LogStore) -> None:
    store.cell = 4
    store.append(INFOS[1], batch(b"50%", ERR, wall=7.0))
    [line] = store.open_lines()
    assert (line.info, line.target, line.cell, line.wall, line.text) == (
        INFOS[1], ERR, 4, 7.0, b"50%",
    )  # fmt: skip


def test_reading_begins_at_the_chunk_that_holds_the_row_and_ends_when_it_has_enough(
    store: LogStore,
) -> None:
    for number in range(10):
        put(store, b"x%d\ny%d\nz%d\n" % (number, number, number))
    assert [c.first_row for c in store.read(7)] == [6, 9, 12, 15, 18, 21, 24, 27]
    assert [c.first_row for c in store.read(7, 3)] == [6, 9]
    assert [c.first_row for c in store.read(6, 3)] == [6]
    assert store.read(30) == []
    assert [row.text for row in store.lines(28)] == [b"y9", b"z9"]


def test_a_new_cell_cuts_unfinished_lines_and_marks_their_continuation(store: LogStore) -> None:
    store.begin_cell(1)
    put(store, b"whole\nhalf")
    put(store, b"job ha", JOB)
    store.begin_cell(1)
    assert store.rows == 1
    store.begin_cell(2)
    put(store, b" and half\nnext\n")
    put(store, b"lf\n", JOB)
    rows = [(r.text, r.cell, r.flags) for r in store.lines()]
    none = LineFlag(0)
    assert rows == [
        (b"whole", 1, none),
        (b"half", 1, LineFlag.PARTIAL),
        (b" and half", 2, LineFlag.CONTINUED),
        (b"next", 2, none),
        (b"job half", 1, none),
    ]
    assert [store.cell_lines(cell) for cell in (1, 2, 3)] == [3, 2, 0]


def test_the_end_of_a_cell_makes_rows_of_what_is_unfinished(store: LogStore) -> None:
    put(store, b"prompt> ")
    store.cut_unfinished()
    put(store, b"yes\n")
    rows = [(r.text, r.flags) for r in store.lines()]
    assert rows == [(b"prompt> ", LineFlag.PARTIAL), (b"yes", LineFlag.CONTINUED)]


def test_lines_around_bytes_left_out_are_marked_and_not_joined(store: LogStore) -> None:
    put(store, b"be")
    store.leave_out(INFOS[0], OUT, False)
    put(store, b"ter\nwhole\n")
    rows = [(r.text, r.flags) for r in store.lines()]
    assert rows == [
        (b"be", LineFlag.PARTIAL | LineFlag.BROKEN),
        (b"ter", LineFlag.BROKEN),
        (b"whole", LineFlag(0)),
    ]


def test_long_lines_carry_their_true_length(tmp_path: Path) -> None:
    store = LogStore(max_line_bytes=16, directory=str(tmp_path))
    put(store, b"short\n" + b"x" * 100 + b"\n")
    rows = [(r.text, r.true_bytes) for r in store.lines()]
    assert rows == [(b"short", 5), (b"x" * 16, 100)]


def test_listeners_hear_of_every_change_until_they_leave(store: LogStore) -> None:
    heard: List[int] = []
    undo = store.subscribe(lambda: heard.append(store.rows))
    put(store, b"a\n")
    put(store, b"b")
    store.leave_out(INFOS[0], OUT, True)
    store.end(INFOS[0], OUT)
    assert heard == [1, 1, 2, 2]
    undo()
    undo()
    put(store, b"c\n")
    assert len(heard) == 4


def test_a_listener_may_leave_while_it_is_told(store: LogStore) -> None:
    heard: List[str] = []

    def once() -> None:
        heard.append("once")
        undo()

    undo = store.subscribe(once)
    store.subscribe(lambda: heard.append("always"))
    put(store, b"a\n")
    put(store, b"b\n")
    assert heard == ["once", "always", "always"]


# --- the file -------------------------------------------------------------------------------


def all_rows(store: LogStore) -> List[Row]:
    return list(store.lines())


step = st.tuples(
    st.sampled_from(["append", "append", "append", "cell", "out", "end"]),
    st.integers(0, 2),
    st.sampled_from([OUT, ERR]),
    st.lists(st.sampled_from([b"ab", b"\n", b"long line, cut\n", b"x\n", b"\r", b"\0"]), min_size=1)
    .map(b"".join),
)  # fmt: skip


@given(st.lists(step, max_size=60))
@settings(max_examples=150)
def test_what_comes_back_from_the_file_is_what_was_put_in(
    steps: List[Tuple[str, int, OutputTarget, bytes]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "_BLOCK_CHUNKS", 3)
        spilling = LogStore(memory_bytes=1, max_line_bytes=10)
        in_memory = LogStore(max_line_bytes=10)
        for number, (what, proc, target, data) in enumerate(steps):
            info = INFOS[proc]
            if number > 20:
                info = dataclasses.replace(info, hostname="known now")
            for store in (spilling, in_memory):
                if what == "append":
                    store.append(info, batch(data, target, wall=float(number)))
                elif what == "cell":
                    store.begin_cell(number)
                elif what == "out":
                    store.leave_out(info, target, data.endswith(b"\n"))
                else:
                    store.end(info, target)
        held = [block.chunks for block in list(spilling._blocks)[:-1]]
        assert held == [None] * len(held)
        assert spilling.read() == in_memory.read()
        assert all_rows(spilling) == all_rows(in_memory)
        for first in range(0, in_memory.rows, 7):
            assert spilling.read(first, 4) == in_memory.read(first, 4)
        spilling.close()
        in_memory.close()


@pytest.mark.usefixtures("small_blocks")
def test_what_is_held_stays_within_its_bound_and_one_block(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=20_000, directory=str(tmp_path))
    for number in range(500):
        put(store, b"line %d\n" % number * 10)
        held = sum(len(c.data) for b in store._blocks if b.chunks is not None for c in b.chunks)
        assert held <= store._blocks.in_memory <= 20_000 + 2 * 4096
    assert texts(store) == [b"line %d" % n for n in range(500) for _ in range(10)]
    store.close()


@pytest.mark.usefixtures("small_blocks")
def test_the_file_has_no_name(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1, directory=str(tmp_path))
    for _ in range(20):
        put(store, b"x\n")
    opened = store._writer.file._opened
    assert opened is not None
    assert opened.stat().st_size > 0
    assert opened.stat().st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    fd = opened.fd
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("fault", ["refused", "cut short"])
def test_a_disk_that_fails_costs_memory_and_no_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, pwritev = os.pwrite, os.pwritev

    def refuse(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    def full(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if fault == "refused":
            refuse()
        data = b"".join(buffers)
        return pwrite(fd, data[: len(data) // 2], offset)

    store = LogStore(memory_bytes=1, directory=str(tmp_path))
    put(store, b"first\n" * 3)
    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(os, "pwrite", refuse)
    for number in range(30):
        put(store, b"%d\n" % number)
    assert "cannot write its file" in store.trouble
    assert "lines are in memory only" in store.trouble
    want = [b"first"] * 3 + [b"%d" % number for number in range(30)]
    assert texts(store) == want
    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "pwrite", pwrite)
    for number in range(30, 40):
        put(store, b"%d\n" % number)
    assert store.trouble == ""
    assert all(block.chunks is None for block in list(store._blocks)[:-1])
    assert texts(store) == [*want, *(b"%d" % number for number in range(30, 40))]
    store.close()


def test_a_disk_that_hangs_is_waited_for_by_nobody_who_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwritev, goes_on = os.pwritev, threading.Event()

    def hang(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        assert goes_on.wait(60)
        return pwritev(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", hang)
    store = LogStore(memory_bytes=1 << 20, session=SessionPlace(str(tmp_path / "stores")))
    many = (b"x" * 1023 + b"\n") * 1024
    longest = 0.0
    for _ in range(40):
        began = time.monotonic()
        put(store, many)
        longest = max(longest, time.monotonic() - began)
    assert longest < 2.0
    assert store.bytes == 40 << 20
    goes_on.set()
    wait_until(lambda: store._blocks.in_memory <= (1 << 20) + blocks_module._BLOCK_BYTES)
    assert store.trouble == ""
    assert len(texts(store)) == 40 * 1024
    store.close()


def test_whatever_the_writer_meets_is_told_and_it_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwritev = os.pwritev

    def fail(*_: object) -> int:
        raise MemoryError("no room")

    store = LogStore(session=SessionPlace(str(tmp_path / "stores")))
    for data in (b"whole\n", b"unfinished"):
        monkeypatch.setattr(os, "pwritev", fail)
        put(store, data)
        tried = threading.Event()
        assert store.save(tried.set)
        assert tried.wait(20)
        assert "MemoryError: no room" in store.trouble
        monkeypatch.setattr(os, "pwritev", pwritev)
        wait_until(lambda: not store.trouble)
    assert [row.text for row in reopen(store.session_name, str(tmp_path / "stores"))] == [b"whole"]
    store.close()


@pytest.mark.usefixtures("small_blocks")
def test_a_directory_that_is_not_there_is_told_and_costs_no_line(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1, directory=str(tmp_path / "gone"))
    for number in range(30):
        put(store, b"%d\n" % number)
    assert "No such file" in store.trouble
    assert texts(store) == [b"%d" % number for number in range(30)]


@pytest.mark.usefixtures("small_blocks")
def test_a_closed_store_reads_as_empty_and_ends_every_reader(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1, directory=str(tmp_path))
    for _ in range(2):
        for number in range(10_000):
            put(store, b"%d\n" % number)
        reader = store.lines(store.rows - 10_000)
        assert next(reader).text == b"0"
        store.close()
        assert len(list(reader)) < 10_000
        assert list(store.lines()) == []
        assert store.read() == []


def test_200_mb_pass_through_in_bounded_memory(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=8 << 20, directory=str(tmp_path))
    piece = b"".join(b"%06d %s\n" % (n, b"x" * 92) for n in range(1310))
    tracemalloc.start()
    try:
        for number in range((200 << 20) // len(piece)):
            store.append(INFOS[number % 3], batch(bytes(bytearray(piece))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.bytes > 199 << 20
    assert peak < (8 << 20) + 4 * (4 << 20)  # the bound, the open block, one being written
    last = list(store.lines(store.rows - 1))
    assert last[0].text == b"001309 " + b"x" * 92
    store.close()


def test_a_million_chunks_of_one_line_keep_a_small_index(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1 << 20, directory=str(tmp_path))
    line = batch(b"x\n")
    for _ in range(100_000):
        store.append(INFOS[0], line)
    before = deep_size(store)
    for _ in range(900_000):
        store.append(INFOS[0], line)
    assert store.rows == 1_000_000
    assert len(list(store._blocks)) < 300
    assert deep_size(store) - before < 200_000
    assert [row.row for row in store.lines(999_998)] == [999_998, 999_999]
    store.close()


def deep_size(store: LogStore) -> int:
    """Bytes of the blocks and of the chunks they hold in memory."""
    total = 0
    for block in store._blocks:
        total += sys.getsizeof(block) + sys.getsizeof(block.place) + 64
        for chunk in block.chunks or ():
            total += sys.getsizeof(chunk) + sys.getsizeof(chunk.data) + 96
    return total


def test_a_chunk_costs_no_more_memory_than_it_is_counted_for(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1 << 30, directory=str(tmp_path))
    tracemalloc.start()
    try:
        for number in range(50_000):
            store.append(INFOS[0], batch(b"%d\n" % number, wall=number * 1.0))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / 2 < store._blocks.in_memory < held * 2
    store.close()


@pytest.mark.usefixtures("small_blocks")
def test_readers_in_other_threads_see_every_row_once_while_lines_arrive(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=10_000, directory=str(tmp_path))
    total = 20_000
    failures: List[str] = []
    deadline = time.monotonic() + 60

    def read_all() -> None:
        row = 0
        while row < total and time.monotonic() < deadline:
            for found in store.lines(row):
                if found.row != row or found.text != b"%d" % row:
                    failures.append(f"row {row}: {found}")
                    return
                row += 1
        if row != total:
            failures.append(f"only {row} rows")

    readers = [threading.Thread(target=read_all) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(0, total, 4):
        put(store, b"%d\n%d\n%d\n%d" % (number, number + 1, number + 2, number + 3))
        put(store, b"\n")
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert failures == []
    store.close()


def test_a_chunk_gives_its_lines_without_newlines() -> None:
    chunk = Chunk(INFOS[0], OUT, 0, 0, 0, 3, 0.0, 0.0, b"a\n\nb\r\n")
    assert chunk.lines() == [b"a", b"", b"b\r"]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("memory_bytes", [1, 1 << 20])
def test_a_run_has_what_the_chunks_have_side_by_side(tmp_path: Path, memory_bytes: int) -> None:
    store = LogStore(memory_bytes=memory_bytes, directory=str(tmp_path), max_line_bytes=9)
    for number in range(40):
        put(store, b"%d\nlonger than it may be\n%d" % (number, number), INFOS[number % 3])
    for first in range(store.rows):
        run = store.read_run(first, 4)
        chunks = store.read(first, 4)[: len(run.heads)]
        assert run.heads
        assert bytes(run.data) == b"".join(chunk.data for chunk in chunks)
        assert [(*dataclasses.astuple(head)[:8], head.marks, head.size) for head in run.heads] == [
            (*dataclasses.astuple(c)[:8], c.marks, len(c.data)) for c in chunks
        ]
    assert store.read_run(store.rows, 4).heads == []
    store.close()
    assert store.read_run(0, 4).heads == []
