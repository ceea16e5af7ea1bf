from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy import blocks as blocks_module
from logmesh_ipy import levels, log_summary
from logmesh_ipy import logs as logs_module
from logmesh_ipy.errors import MeshStateError, OptionError
from logmesh_ipy.levels import level_of
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.log_columns import SCHEMA, levels_of
from logmesh_ipy.logs import Logs
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import LogStore, Row
from tests.unit import test_levels

ROOT = Path(__file__).resolve().parents[2]
OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
PROCS = [ProcInfo(proc=p, rank=p, hostname=f"host{p % 2}", pid=100 + p) for p in range(4)]
JOB = ProcInfo(proc=9, rank=1, hostname="host1", pid=90, job="job 1", cell=7)
NOON = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    made = LogStore(directory=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store spills after a few lines, and is read in pieces of a few lines."""
    monkeypatch.setattr(blocks_module, "_BLOCK_CHUNKS", 3)
    monkeypatch.setattr(logs_module, "_READ_ROWS", 4)
    monkeypatch.setattr(logs_module, "_FIRST_STEP_BACK", 2)


def put(
    store: LogStore,
    data: bytes,
    info: ProcInfo = PROCS[0],
    target: OutputTarget = OUT,
    wall: float = NOON,
) -> None:
    log = LogMessage.Log(
        proc=0, epoch=1, generation=1, output_target=target, seq=0, offset=0, size=len(data),
        lines=data.count(b"\n"), wall=wall, mono=1.0, pid=1, hostname="h",
        ends_line=data.endswith(b"\n"), payload=data,
    )  # fmt: skip
    store.append(info, log)


def all_of(store: LogStore, procs: int = 4) -> Logs:
    return Logs(store, lambda: None, procs)


def texts(logs: Logs) -> List[str]:
    found: List[str] = logs.to_arrow()["text"].to_pylist()
    return found


@pytest.fixture
def varied(store: LogStore) -> Logs:
    """Twelve lines that differ in all that can be asked for."""
    store.begin_cell(1)
    put(store, b"a0\na1 ERROR: bad\n", PROCS[0], wall=NOON)
    put(store, b"b0\n", PROCS[1], ERR, NOON + 1)
    put(store, b"WARNING: c0\n", PROCS[2], wall=NOON + 2)
    store.begin_cell(2)
    put(store, b"DEBUG: d0\nd1\nd2\n", PROCS[3], wall=NOON + 3)
    put(store, b"j0\nERROR: j1\n", JOB, ERR, NOON + 4)
    put(store, b"a.2\na32\nA.2\n", PROCS[0], ERR, NOON + 5)
    return all_of(store)


# --- filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({}, "0 1 2 3 4 5 6 7 8 9 10 11"),
        ({"ranks": 1}, "2 7 8"),
        ({"ranks": "0,2-3"}, "0 1 3 4 5 6 9 10 11"),
        ({"ranks": [3, 2]}, "3 4 5 6"),
        ({"cell": 1}, "0 1 2 3"),
        ({"cell": [2, 7]}, "4 5 6 7 8 9 10 11"),
        ({"cell": 99}, ""),
        ({"stream": "stdout"}, "0 1 3 4 5 6"),
        ({"stream": "stderr"}, "2 7 8 9 10 11"),
        ({"job": "job 1"}, "7 8"),
        ({"job": ""}, "0 1 2 3 4 5 6 9 10 11"),
        ({"job": ["job 1", "job 2"]}, "7 8"),
        ({"host": "host1"}, "2 4 5 6 7 8"),
        ({"since": NOON + 3}, "4 5 6 7 8 9 10 11"),
        ({"until": NOON + 2}, "0 1 2"),
        ({"since": datetime.fromtimestamp(NOON + 4, timezone.utc)}, "7 8 9 10 11"),
        ({"until": datetime.fromtimestamp(NOON + 1)}, "0 1"),  # noqa: DTZ006 (local time)
        ({"contains": "a.2"}, "9"),
        ({"matches": "a.2"}, "9 10"),
        ({"matches": "(?i)^a.2$"}, "9 10 11"),
        ({"contains": "a", "matches": "2"}, "9 10"),
        ({"level": "NOTSET"}, "0 1 2 3 4 5 6 7 8 9 10 11"),
        ({"level": "INFO"}, "0 1 2 3 5 6 7 8 9 10 11"),
        ({"level": "warning"}, "1 3 8"),
        ({"level": 40}, "1 8"),
        ({"level": 41}, ""),
        ({"level": 200}, ""),
        ({"level": "ERROR", "ranks": "0"}, "1"),
        ({"level": 30, "contains": "0", "cell": 1}, "3"),
    ],
)
def test_each_filter_keeps_the_lines_that_it_means(
    varied: Logs, asked: Dict[str, Any], rows: str
) -> None:
    want = [int(row) for row in rows.split()]
    logs = varied.where(**asked)
    assert logs.to_arrow()["row"].to_pylist() == want
    assert [row.row for row in logs] == want
    assert len(logs) == len(want)
    assert bool(logs) == bool(want)


def test_a_line_meant_above_info_states_a_level(varied: Logs) -> None:
    assert None in varied.where(level=20).to_arrow()["level"].to_pylist()
    assert varied.where(level=21).to_arrow()["level"].to_pylist() == [40, 30, 40]


def test_selections_combine_and_leave_the_first_as_it_is(varied: Logs) -> None:
    errors = varied.where(level="ERROR")
    both = errors.where(ranks="0-1").where(ranks=[1, 2], level="DEBUG").where(matches="j")
    assert texts(both) == ["ERROR: j1"]
    assert texts(errors) == ["a1 ERROR: bad", "ERROR: j1"]
    assert texts(varied.where(contains="a").where(contains="3")) == ["a32"]
    assert texts(varied.where(since=NOON + 1).where(until=NOON + 2, since=NOON)) == ["b0"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ranks": "0-9"}, "there is no rank 4|there is no rank 9"),
        ({"ranks": "x"}, "neither a rank nor a range"),
        ({"ranks": -1}, "neither a rank nor a range"),
        ({"ranks": 1.5}, "neither a rank nor a range"),
        ({"ranks": []}, "neither a rank nor a range"),
        ({"level": "loud"}, "level must be one of"),
        ({"level": True}, "level must be one of"),
        ({"cell": "1"}, "cell is '1'; it must be a cell's number"),
        ({"cell": [1, 1.5]}, "it must be a cell's number"),
        ({"cell": True}, "it must be a cell's number"),
        ({"stream": "both"}, "allowed are 'stdout' and 'stderr'"),
        ({"stream": 1}, "allowed are 'stdout' and 'stderr'"),
        ({"since": "noon"}, "since is 'noon'; it must be a datetime"),
        ({"until": float("nan")}, "until is nan"),
        ({"until": 10**400}, "until is 1000"),
        ({"since": datetime(1, 1, 1)}, "since is datetime"),  # noqa: DTZ001 (local time)
        ({"matches": "("}, r"matches is '\('.*RE2.*missing"),
        ({"matches": "(?=x)"}, "no look-around"),
        ({"matches": r"(a)\1"}, "no backreferences"),
        ({"matches": re.compile("x")}, "it must be text"),
        ({"contains": b"x"}, "contains is b'x'; it must be text"),
        ({"contains": "\udc80"}, r"reads \\xNN"),
        ({"job": 1}, "job is 1; it must be a name"),
        ({"host": [None]}, "it must be a name"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_at_once(
    varied: Logs, asked: Dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        varied.where(**asked)
    assert len(str(caught.value)) < 300


def test_only_the_sources_meant_are_read_and_new_ones_join(store: LogStore) -> None:
    meant = {0}
    logs = Logs(store, lambda: frozenset(meant), 4)
    put(store, b"mine\n", PROCS[0])
    put(store, b"another mesh\n", PROCS[1])
    assert texts(logs) == ["mine"]
    meant.add(JOB.proc)
    put(store, b"my job\n", JOB)
    assert texts(logs) == ["mine", "my job"]


def test_a_selection_is_read_up_to_what_is_there_when_it_is_asked(store: LogStore) -> None:
    logs = all_of(store)
    assert list(logs) == []
    put(store, b"1\n2\n")
    batches = logs.to_batches()
    first = next(batches)
    put(store, b"3\n")
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 2
    assert len(logs) == 3


# --- slices -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_reads")
@given(
    lengths=st.lists(st.integers(1, 5), max_size=12),
    start=st.none() | st.integers(-40, 40),
    stop=st.none() | st.integers(-40, 40),
    asked=st.sampled_from([{}, {"ranks": 1}, {"contains": "3"}, {"cell": 5}]),
)
@settings(max_examples=60, deadline=None)
def test_a_slice_is_what_it_is_of_a_list(
    lengths: List[int], start: Optional[int], stop: Optional[int], asked: Dict[str, Any]
) -> None:
    store = LogStore(memory_bytes=1)
    count = 0
    for number, length in enumerate(lengths):
        data = b"".join(b"%d\n" % (count + index) for index in range(length))
        put(store, data, PROCS[number % 2])
        count += length
    logs = all_of(store).where(**asked)
    everything = texts(logs)
    assert texts(logs[start:stop]) == everything[start:stop]
    assert len(logs[start:stop]) == len(everything[start:stop])
    for index in (start, stop):
        if index is not None:
            if -len(everything) <= index < len(everything):
                assert logs[index].text.decode() == everything[index]
            else:
                with pytest.raises(IndexError):
                    logs[index]
    store.close()


def test_a_slice_stays_what_it_was_and_can_be_narrowed(store: LogStore) -> None:
    put(store, b"1\n2\n3\n")
    logs = all_of(store)
    last = logs[-2:]
    put(store, b"4\n")
    assert texts(last) == ["2", "3"]
    assert texts(last.where(contains="3")) == ["3"]
    assert texts(logs.where(contains="3")[:1]) == ["3"]
    assert texts(last[1:]) == ["3"]


def test_the_last_lines_are_found_without_reading_those_before(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5000):
        put(store, b"%d\n" % number)
    read_rows: List[int] = []
    read = store.read_run

    def spy(first_row: int, max_rows: int) -> Any:
        read_rows.append(first_row)
        return read(first_row, max_rows)

    monkeypatch.setattr(store, "read_run", spy)
    assert texts(all_of(store)[-100:]) == [str(number) for number in range(4900, 5000)]
    assert min(read_rows) >= 4700


def test_a_slice_has_no_steps(varied: Logs) -> None:
    with pytest.raises(OptionError, match="step of a slice is 2"):
        varied[::2]


# --- tables -----------------------------------------------------------------------------------


def oracle(rows: Iterator[Row]) -> List[Dict[str, Any]]:
    """The table line by line, from what the store says."""
    return [
        {
            "row": row.row,
            "time": datetime.fromtimestamp(row.wall, timezone.utc),
            "cell": row.cell,
            "host": row.info.hostname,
            "rank": row.info.rank,
            "job": row.info.job,
            "pid": row.info.pid,
            "stream": row.target.label,
            "level": level_of(row.text),
            "seq": row.seq,
            "text": row.text.decode("utf-8", "backslashreplace"),
            "truncated": bool(row.flags & LineFlag.TRUNCATED),
            "true_bytes": row.true_bytes,
        }
        for row in rows
    ]


PIECES = [
    b"\n", b"x", b"ERROR: a\n", b"INFO b 12\n", "ü\n".encode(), b"\xff\n", b"\xc3",
    b"\x80 ERR x\n", b"ER\x1b[0mROR\n", b"\0\r\n", b"long" * 40, "\u2028\n".encode(),
    b"W0423 12:00:00.1 x\n",
]  # fmt: skip
step = st.tuples(
    st.sampled_from(["append", "append", "append", "cell", "out", "end"]),
    st.sampled_from([*PROCS, JOB]),
    st.sampled_from([OUT, ERR]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(b"".join),
)


@pytest.mark.usefixtures("small_reads")
@given(st.lists(step, max_size=40))
@settings(max_examples=100, deadline=None)
def test_the_table_says_of_each_line_what_the_store_says(
    steps: List[Tuple[str, ProcInfo, OutputTarget, bytes]],
) -> None:
    store = LogStore(memory_bytes=1, max_line_bytes=100)
    for number, (what, info, target, data) in enumerate(steps):
        if what == "append":
            put(store, data, info, target, NOON + number / 8)
        elif what == "cell":
            store.begin_cell(number)
        elif what == "out":
            store.leave_out(info, target, data.endswith(b"\n"))
        else:
            store.end(info, target)
    logs = all_of(store)
    assert list(logs) == list(store.lines())
    assert logs.to_arrow().to_pylist() == oracle(store.lines())
    some = logs.where(ranks="0-1", contains="R")
    assert list(some) == [row for row in store.lines() if row.info.rank < 2 and b"R" in row.text]
    assert some.to_arrow().to_pylist() == oracle(iter(some))
    store.close()


def test_an_empty_table_has_its_columns(store: LogStore) -> None:
    logs = all_of(store)
    assert logs.to_arrow().schema == SCHEMA
    assert logs.to_pandas().shape == (0, len(SCHEMA))
    assert logs.to_polars().shape == (0, len(SCHEMA))
    assert list(logs.to_batches()) == []
    assert logs.to_text() == ""


def test_the_docstring_names_the_columns_in_order() -> None:
    table = (Logs.__doc__ or "").split("==========\n")[1]
    named = re.findall(r"^    (\w+) ", table, re.MULTILINE)
    assert named == SCHEMA.names


def test_data_frame_libraries_take_a_selection_as_it_is(varied: Logs) -> None:
    want = varied.to_arrow().to_pylist()
    columns = ["row", "rank", "level", "seq", "text", "true_bytes"]
    plain = [{name: line[name] for name in columns} for line in want]
    assert pa.table(varied).to_pylist() == want
    assert pl.DataFrame(varied).select(columns).to_dicts() == plain
    assert varied.to_polars().select(columns).to_dicts() == plain
    assert varied.to_polars()["stream"].cast(pl.String).to_list()[1:3] == ["stdout", "stderr"]
    frame = varied.to_pandas()
    assert frame["text"].tolist() == [line["text"] for line in want]
    assert frame["time"].iloc[0] == pd.Timestamp(NOON, unit="s", tz="UTC")
    assert pd.DataFrame.from_arrow(varied)["host"].tolist() == [line["host"] for line in want]


@pytest.mark.usefixtures("small_reads")
def test_a_stream_is_read_as_it_is_consumed(store: LogStore) -> None:
    for number in range(40):
        put(store, b"%d\n" % number)
    reader = all_of(store).to_reader()
    assert reader.read_next_batch().num_rows == 3
    store.close()
    with pytest.raises(MeshStateError, match="closed"):
        reader.read_all()


@pytest.mark.usefixtures("small_reads")
def test_names_that_come_up_late_stand_right_in_a_table_of_many_pieces(store: LogStore) -> None:
    infos = [ProcInfo(proc=n, rank=0, hostname=f"h{n}", pid=1, job=f"j{n}") for n in range(9)]
    for info in infos:
        put(store, b"x\n" * 3, info)
    logs = all_of(store)
    want = [f"h{number}" for number in range(9) for _ in range(3)]
    hosts = logs.to_arrow()["host"]
    assert hosts.to_pylist() == want
    assert hosts.num_chunks > 3
    assert hosts.chunk(0).dictionary == hosts.chunk(hosts.num_chunks - 1).dictionary
    assert pl.DataFrame(logs)["host"].cast(pl.String).to_list() == want
    file = io.BytesIO()
    logs.write(file, "parquet")
    assert pq.read_table(file)["host"].to_pylist() == want


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_a_package_that_is_missing_is_named_with_the_remedy(package: str) -> None:
    call = {"pyarrow": "to_arrow"}.get(package, f"to_{package}")
    code = f"""
import sys
sys.modules[{package!r}] = None
from logmesh_ipy.logs import Logs
from logmesh_ipy.store import LogStore
logs = Logs(LogStore(), lambda: None, 1)
repr(logs), len(logs), logs.where(ranks=0)
try:
    logs.{call}()
except ModuleNotFoundError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"pip install {package}" in ended.stdout


def test_importing_the_mesh_loads_no_data_library() -> None:
    heavy = "pyarrow", "pandas", "polars", "numpy"
    code = f"import sys, logmesh_ipy.mesh; print([n for n in {heavy!r} if n in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


# --- levels -----------------------------------------------------------------------------------


def levels_in_bulk(lines: List[bytes]) -> List[Optional[int]]:
    found: List[Optional[int]] = levels_of(pa.array(lines, pa.large_binary())).to_pylist()
    return found


WORDS = (
    "ERROR error Warning WARN info TRACE Debug FATAL panic crit ERR notice ValueError Exception "
    "KeyboardInterrupt SystemExit Traceback (most recent call last): level= severity= "
    "[ ] < > : - | , . NCCL I0423 W1023 12:00:00 2026-01-01 00:00:00.5: W E x [rank0]: [1] é"
)
words = st.sampled_from(WORDS.split())
glue = st.sampled_from(
    [b"", b" ", b"  ", b": ", b"\x1b[31m", b"\x1b[0m", b"\xff", b"1", b"\t", b'"']
)
line_like_logs = st.lists(
    st.one_of(words.map(str.encode), glue, st.binary(max_size=3)), max_size=12
).map(lambda parts: b"".join(parts).replace(b"\n", b""))


@given(st.lists(line_like_logs, max_size=20))
@settings(max_examples=400, deadline=None)
def test_levels_in_bulk_are_those_of_each_line(lines: List[bytes]) -> None:
    assert levels_in_bulk(lines) == [level_of(line) for line in lines]


def test_levels_in_bulk_are_right_for_every_known_form_of_a_line() -> None:
    [mark] = test_levels.test_the_level_of_a_line.pytestmark
    lines = [line.encode() for line, _ in mark.args[1]]
    lines += [b"x" * length + b" ERROR: x" for length in range(240, 260)]
    lines += [b"[%b] x" % word for word in levels._WORDS]
    lines += [b"SystemExit: 1", b"KeyboardInterrupt", b"x.MyException: y", b"x: MyWarning: y"]
    assert len(lines) > 60
    assert levels_in_bulk(lines) == [level_of(line) for line in lines]


# --- files ------------------------------------------------------------------------------------


def test_json_lines_have_the_fields_that_programs_read(store: LogStore, varied: Logs) -> None:
    put(store, b"j2\n", JOB, ERR)
    file = io.BytesIO()
    varied.write(file, "jsonl")
    found = [json.loads(line) for line in file.getvalue().decode().split("\n")[:-1]]
    assert [line["seq"] for line in found] == [0, 1, 0, 0, 0, 1, 2, 0, 1, 0, 1, 2, 2]
    assert found[8] == {
        "time": "2023-11-14T22:13:24.000000+00:00", "host": "host1", "rank": 1, "job": "job 1",
        "pid": 90, "stream": "stderr", "level": "ERROR", "text": "ERROR: j1", "seq": 1,
    }  # fmt: skip
    assert found[0]["level"] is None


def test_json_and_parquet_keep_what_was_written_and_text_is_inert(
    store: LogStore, tmp_path: Path
) -> None:
    put(store, b"\x1b]0;t\x07<b>\xff \x1b[31mred\x1b[0m\n10%\r20%\n", PROCS[3], ERR)
    put(store, b"j\n", JOB)
    logs = all_of(store)
    raw = ["\x1b]0;t\x07<b>\\xff \x1b[31mred\x1b[0m", "10%\r20%", "j"]
    file = io.BytesIO()
    logs.write(file, "jsonl")
    assert [json.loads(line)["text"] for line in file.getvalue().splitlines()] == raw
    logs.to_parquet(tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["text"].to_pylist() == raw
    text = "[3 err] \u241b]0;t\u2407<b>\\xff red\n[3 err] 20%\n[1 job 1] j\n"
    assert logs.to_text() == text
    plain = io.BytesIO()
    logs.write(plain)
    assert plain.getvalue().decode() == text
    assert not plain.closed


def test_an_unknown_format_is_refused_before_anything_is_written(varied: Logs) -> None:
    file = io.BytesIO()
    with pytest.raises(OptionError, match="format is 'csv'; allowed are 'text'"):
        varied.write(file, "csv")
    assert file.getvalue() == b""


def test_a_host_with_an_absurd_clock_spoils_no_file(store: LogStore) -> None:
    put(store, b"x\n", wall=-2.4e11)
    put(store, b"y\n", wall=2.4e11)
    for form in ("text", "jsonl", "parquet"):
        all_of(store).write(io.BytesIO(), form)
    assert len(all_of(store).to_arrow()) == 2
    assert "text/html" in all_of(store)._repr_mimebundle_()


# --- shown ------------------------------------------------------------------------------------

HOSTILE = (
    b"<script>alert(1)</script><img src=x onerror=alert(1)> \x1b]8;;javascript:alert(1)\x07x"
    b"\x1b]52;c;eA==\x07 \xe2\x80\xae bidi \x1b[31mred\n"
)


def test_a_summary_tells_what_there_is_and_shows_the_last_lines(varied: Logs) -> None:
    shown = varied._repr_mimebundle_()
    head, *lines = shown["text/plain"].split("\n")
    assert head == ("12 lines, ranks 0-3: 2 ERROR, 1 WARNING, 1 DEBUG; shown: last 12 of 12")
    assert [line.partition(" ")[2] for line in lines[7:9]] == [
        "[1 job 1 err] j0", "[1 job 1 err] ERROR: j1",
    ]  # fmt: skip
    assert shown["text/html"].count("<tr>") == 13
    some = varied.where(ranks=1, contains="<j>")._repr_mimebundle_()
    assert some["text/plain"] == "0 lines (asked for: ranks 1; contains '<j>')"
    assert "&lt;j&gt;" in some["text/html"]
    assert repr(varied.where(level=40)) == "<Logs of 4 ranks: level ERROR or more>"


def test_hostile_text_stays_text(store: LogStore) -> None:
    evil = ProcInfo(proc=0, rank=0, hostname="<b>host", pid=1, job="<i>\x1b[2J")
    put(store, HOSTILE, evil)
    logs = all_of(store)
    shown = logs.where(host="<b>host", contains="<script>")._repr_mimebundle_()
    html, text = shown["text/html"], shown["text/plain"]
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z!]+)", html))
    assert tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "span"}
    assert "javascript:" not in re.sub(r">[^<]*<", "><", html)
    for bad in ("\x1b", "\x07", "\u202e"):
        assert bad not in html
        assert bad not in text
        assert bad not in logs.to_text()


def test_a_summary_costs_the_same_however_many_lines_there_are(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_summary, "_ENOUGH_ROWS", 1000)
    for number in range(100):
        put(store, b"%d\n" % number * 100, PROCS[number % 2])
    total = 10_000
    logs = all_of(store)
    read_rows: List[int] = []
    read = store.read_run

    def spy(first_row: int, max_rows: int) -> Any:
        read_rows.append(first_row)
        return read(first_row, max_rows)

    monkeypatch.setattr(store, "read_run", spy)
    head = logs._repr_mimebundle_()["text/plain"].split("\n")[0]
    assert head == "the last 1,792 lines of 10,000, ranks 0-1; shown: last 20 of 10,000"
    assert min(read_rows) >= total - 1792
    some = logs.where(ranks=1)._repr_mimebundle_()["text/plain"].split("\n")[0]
    assert some == (
        "900 lines among the last 1,792 of 10,000 rows, rank 1 (asked for: ranks 1); shown: last 20"
    )


def test_a_summary_shows_the_last_lines_in_order_however_far_apart_they_are(
    store: LogStore,
) -> None:
    for number in range(30):
        put(store, b"meant %d\n" % number)
        put(store, b"x\n" * 100, PROCS[1])
    shown = all_of(store).where(contains="meant")._repr_mimebundle_()["text/plain"]
    assert re.findall(r"meant (\d+)$", shown, re.MULTILINE) == [str(n) for n in range(10, 30)]


def test_a_long_line_is_shown_in_part(store: LogStore) -> None:
    put(store, "ü".encode() * 5000 + b"\n" + b"x" * 3000 + b"\r" + b"last" + b"\n")
    shown = all_of(store)._repr_mimebundle_()
    one, two = shown["text/plain"].split("\n")[1:]
    assert one.endswith("üü  [10,000 bytes]")
    assert two.endswith("] last  [3,005 bytes]")
    assert len(shown["text/html"]) < 5000


# --- ends -------------------------------------------------------------------------------------

READERS: List[Callable[[Logs], object]] = [
    len,
    list,
    bool,
    Logs.to_arrow,
    Logs.to_pandas,
    Logs.to_polars,
    Logs.to_text,
    lambda logs: logs[-1],
    lambda logs: logs[5:],
    lambda logs: logs.write(io.BytesIO(), "parquet"),
]


@pytest.mark.parametrize("reader", READERS)
def test_a_store_that_was_closed_is_told(store: LogStore, reader: Callable[[Logs], object]) -> None:
    put(store, b"x\n")
    logs = all_of(store)
    reader(logs)
    store.close()
    with pytest.raises(MeshStateError, match="store was closed"):
        reader(logs)
    assert "store was closed" in logs._repr_mimebundle_()["text/plain"]
    put(store, b"y\n")
    with pytest.raises(MeshStateError, match="store was closed"):
        reader(logs)


@pytest.mark.usefixtures("small_reads")
def test_readers_in_other_threads_see_whole_tables_while_lines_arrive(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1000, directory=str(tmp_path))
    sources: FrozenSet[int] = frozenset({0, 1})
    failures: List[str] = []
    done = threading.Event()

    def read_all() -> None:
        while not done.is_set():
            found = Logs(store, lambda: sources, 4).where(contains="e").to_arrow()["row"]
            if found.to_pylist() != list(range(len(found))):
                failures.append(str(found))

    readers = [threading.Thread(target=read_all) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(300):
        put(store, b"line %d\n" % number, PROCS[number % 2])
    done.set()
    for reader in readers:
        reader.join(30)
        assert not reader.is_alive()
    assert failures == []
    store.close()


def test_300_000_lines_become_a_table_in_bulk_and_pieces_in_bounded_memory(tmp_path: Path) -> None:
    store = LogStore(memory_bytes=1 << 20, directory=str(tmp_path))
    line = b"step 123: loss 0.4321, lr 3e-05, tokens/s 123456.7, mem 12.3 GiB, grad norm 1.2\n"
    for number in range(300):
        put(store, line * 1000, PROCS[number % 4], wall=NOON + number)
    logs = all_of(store)
    pool = pa.default_memory_pool()
    before, most, lines = pool.bytes_allocated(), 0, 0
    for batch in logs.to_batches():
        lines += batch.num_rows
        most = max(most, pool.bytes_allocated() - before)
    assert lines == 300_000
    assert most < 40 << 20
    started = time.monotonic()
    assert logs.to_arrow().num_rows == 300_000
    assert len(logs.where(matches="loss .*norm 2")) == 0
    assert time.monotonic() - started < 5
    span = timedelta(seconds=299)
    times = logs.to_arrow()["time"]
    assert times[-1].as_py() - times[0].as_py() == span
    store.close()
