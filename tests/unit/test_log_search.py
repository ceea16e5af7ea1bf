"""Searching gives what looking at each line gives; most chunks are passed over as a whole."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logmesh_ipy import blocks as blocks_module
from logmesh_ipy import log_columns, log_search
from logmesh_ipy import logs as logs_module
from logmesh_ipy.levels import level_of
from logmesh_ipy.log_columns import literal_regex, pa, pc
from logmesh_ipy.log_filter import LogFilter, TextPattern
from logmesh_ipy.log_search import LogSearch
from logmesh_ipy.logs import Logs
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import ChunkHead, ChunkRun, LogStore, Row
from tests.unit import test_levels

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
PROCS = [ProcInfo(proc=p, rank=p, hostname=f"host{p % 2}", pid=100 + p) for p in range(4)]
JOB = ProcInfo(proc=9, rank=1, hostname="host1", pid=90, job="job 1", cell=7)
NOON = 1_700_000_000.0


def put(
    store: LogStore, data: bytes, info: ProcInfo = PROCS[0], target: OutputTarget = OUT
) -> None:
    log = LogMessage.Log(
        proc=0, epoch=1, generation=1, output_target=target, seq=0, offset=0, size=len(data),
        lines=data.count(b"\n"), wall=NOON, mono=1.0, pid=1, hostname="h",
        ends_line=data.endswith(b"\n"), payload=data,
    )  # fmt: skip
    store.append(info, log)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that happens to megabytes happens to a few lines."""
    monkeypatch.setattr(blocks_module, "_BLOCK_CHUNKS", 5)
    monkeypatch.setattr(logs_module, "_READ_ROWS", 9)
    monkeypatch.setattr(log_search, "_NARROW_BYTES", 8)
    monkeypatch.setattr(log_search, "_TRIAL", 2)
    monkeypatch.setattr(log_columns, "_HEADS", 3)
    monkeypatch.setattr(log_columns, "_DECODE_BYTES", 5)
    monkeypatch.setattr(log_columns, "_MAX_LITERAL_CHARS", 4)


# --- regular expressions that Python's re and RE2 read alike ----------------------------------

atoms = st.sampled_from(
    ["E", "R", "a", "b", "1", " ", "é", "ab", "ERR", "x1", ".", r"\d", r"\D", r"\s", r"\S", r"\w",
     r"\W", r"\b", r"\B", "^", "$", r"\A", r"\Z", "[^E]", "[^a ]", "[]a|]", "[^]1]", r"[\]b|]",
     r"\|", r"\(", r"\\", r"\n", r"[\s\S]", "(?-s:.)", "(?s:.)", "(?i:e)", "(?-m:^)"]
)  # fmt: skip


def _wider(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(part, min_size=1, max_size=4).map("".join),
        st.lists(part, min_size=2, max_size=4).map("|".join),
        part.map(lambda inner: f"({inner})"),
        st.tuples(part, st.sampled_from(["*", "+", "?", "{2}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    )


regexes = st.tuples(
    st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)", "(?is)"]),
    st.one_of(
        st.recursive(atoms, _wider, max_leaves=8),
        st.lists(st.sampled_from(["ab", "ERR", "a E", "1R", r"b1\s"]), min_size=2, max_size=4).map(
            lambda branches: f"({'|'.join(branches)})"
        ),
    ),
).map("".join)


def of_re2(pattern: str) -> str:
    return pattern.replace(r"\Z", r"\z")


def of_python(pattern: str) -> re.Pattern[str]:
    # Before 3.14 Python finds no \B in an empty text.
    return re.compile(pattern.replace(r"\B", r"(?:\B|\A\Z)"), re.ASCII)


PIECES = [
    b"\n", b"\n", b"\n\n", b"E", b"R", b"a", b"b1", b"1", b" ", b"ERR", b"ab", "é".encode(),
    b"ERROR: x1\n", b"INFO a 12\n", b"DEBUG b\n", b"\xff", b"\xc3", b"\x80\n", b"\r", b"|", b"(",
    b"\\", b"\0\n", b"W0423 12:00:00.1 x\n", b"\x1b[1mERROR\x1b[0m b\n", b"long a" * 9,
]  # fmt: skip
step = st.tuples(
    st.sampled_from(["append"] * 6 + ["cell", "out", "end"]),
    st.sampled_from([*PROCS, JOB]),
    st.sampled_from([OUT, ERR]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(b"".join),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "ranks": st.sampled_from(["0", "0-1", "1-3"]),
        "level": st.sampled_from([5, 10, 11, 20, 21, 30, 35, 40, 41, 50, 51]),
        "stream": st.sampled_from(["stdout", "stderr"]),
        "cell": st.sampled_from([[0, 7], [1, 2, 3, 4, 5, 6]]),
        "contains": st.sampled_from(["", "E", "ERR", "ab", "\\xff", "é", "|(", "\0", "long x"]),
    },
)


def looked_at(rows: Iterator[Row], asked: Dict[str, Any], pattern: str) -> List[Row]:
    """The lines wanted, one by one."""
    ranks = {"0": {0}, "0-1": {0, 1}, "1-3": {1, 2, 3}}.get(asked.get("ranks", ""))
    regex = of_python(pattern)
    found = []
    for row in rows:
        text = row.text.decode("utf-8", "backslashreplace")
        level = level_of(row.text)
        if (
            (ranks is None or row.info.rank in ranks)
            and (20 if level is None else level) >= asked.get("level", 0)
            and row.target.label == asked.get("stream", row.target.label)
            and row.cell in asked.get("cell", [row.cell])
            and asked.get("contains", "") in text
            and regex.search(text)
        ):
            found.append(row)
    return found


@pytest.mark.usefixtures("small_steps")
@given(
    steps=st.lists(step, max_size=25),
    asked=filters,
    pattern=regexes,
    start=st.none() | st.integers(-30, 30),
    stop=st.none() | st.integers(-30, 30),
)
@settings(max_examples=400, deadline=None)
@example([("append", PROCS[0], OUT, b"E\n1\n")] * 3, {}, r"E\s1|^1", None, None)
@example([("append", PROCS[0], OUT, b"a\n1 b\n")] * 3, {"level": 21}, r"\A1", 1, -1)
def test_a_search_gives_what_looking_at_each_line_gives(
    steps: List[Tuple[str, ProcInfo, OutputTarget, bytes]],
    asked: Dict[str, Any],
    pattern: str,
    start: int,
    stop: int,
) -> None:
    store = LogStore(memory_bytes=1, max_line_bytes=40)
    try:
        for number, (what, info, target, data) in enumerate(steps):
            if what == "append":
                put(store, data, info, target)
            elif what == "cell":
                store.begin_cell(number)
            elif what == "out":
                store.leave_out(info, target, data.endswith(b"\n"))
            else:
                store.end(info, target)
        logs = Logs(store, lambda: None, 4).where(matches=of_re2(pattern), **asked)
        want = looked_at(store.lines(), asked, pattern)
        assert list(logs) == want
        assert len(logs) == len(want)
        assert bool(logs) == bool(want)
        table = logs.to_arrow()
        assert table["row"].to_pylist() == [row.row for row in want]
        assert table["level"].to_pylist() == [level_of(row.text) for row in want]
        assert list(logs[start:stop]) == want[start:stop]
        everything = Logs(store, lambda: None, 4)[start:stop]
        chosen = looked_at(iter(list(store.lines())[start:stop]), asked, pattern)
        assert list(everything.where(matches=of_re2(pattern), **asked)) == chosen
    finally:
        store.close()


def _found_in(patterns: Tuple[str, ...], text: bytes) -> bool:
    whole = pa.array([text.decode()], pa.large_string())
    return any(pc.match_substring_regex(whole, pattern=pattern)[0].as_py() for pattern in patterns)


@given(
    lines=st.lists(
        st.lists(st.sampled_from(["E", "R", "a", "b", "1", " ", "é", "|", "(", "\\", "\r"]),
                 max_size=6).map("".join),
        min_size=1, max_size=6,
    ),
    pattern=regexes,
)  # fmt: skip
@settings(max_examples=600, deadline=None)
def test_a_text_with_a_line_that_matches_passes_the_sieve(lines: List[str], pattern: str) -> None:
    sieve = log_search._sieve(TextPattern(of_re2(pattern), regex=True))
    if sieve is not None and any(map(of_python(pattern).search, lines)):
        assert _found_in(sieve, "".join(f"{line}\n" for line in lines).encode())


@given(st.text(max_size=20))
def test_a_text_as_a_regular_expression_means_itself(text: str) -> None:
    assert _found_in((literal_regex(text),), text.encode())
    assert not _found_in((literal_regex(text + "x"),), text.encode())


def test_a_long_text_counts_to_its_end() -> None:
    store = LogStore()
    text = "x" * 2 * log_columns._MAX_LITERAL_CHARS
    put(store, f"{text}a\n".encode())
    logs = Logs(store, lambda: None, 4)
    assert [len(logs.where(contains=text + end)) for end in "ab"] == [1, 0]
    store.close()


@pytest.mark.parametrize("least", [1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51])
def test_lines_of_a_level_are_found_in_every_known_form(least: int) -> None:
    [mark] = test_levels.test_the_level_of_a_line.pytestmark
    lines = [line.encode() for line, _ in mark.args[1]]
    store = LogStore()
    for line in lines:
        put(store, line + b"\n")
    found = [row.text for row in Logs(store, lambda: None, 4).where(level=least)]
    levels = [level_of(line) for line in lines]
    assert found == [
        line
        for line, level in zip(lines, levels, strict=True)
        if (20 if level is None else level) >= least
    ]
    store.close()


# --- what is passed over ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "sieve"),
    [
        ("loss nan", ["loss nan"]),
        ("loss (nan|inf)", ["loss (nan|inf)"]),
        ("nan|inf", ["nan", "inf"]),
        ("(nan|inf)", ["nan", "inf"]),
        ("(?:nan|in[f|]|x{2}a\\|b)", ["nan", "in[f|]", "x{2}a\\|b"]),
        ("(?:nan|in[f|]|xa\\|b)", ["nan", "in[f|]", "xa\\|b"]),
        ("(?i)timeout|(refused|denied) by", ["(?i)timeout|(refused|denied) by"]),
        ("(?i)timeout|refused", ["(?i)timeout", "(?i)refused"]),
        ("(?i)aa|bb|cc|dd", ["(?i)aa|bb|cc|dd"]),
        ("(nan)|(inf)", ["(nan)|(inf)"]),
        ("(nan|inf)+", ["(nan|inf)+"]),
        ("nan|.inf", ["nan|.inf"]),
        ("nan|", ["nan|"]),
        ("nan|in(?i)f", ["nan|in(?i)f"]),
        (r"nan|\Qin|f", [r"nan|\Qin|f"]),
        ("nan|in[[:alpha:]|]f", ["nan", "in[[:alpha:]|]f"]),
        (r"\Anan", None),
        (r"nan\z", None),
        ("(?-s)nan", None),
        ("(?i-m:^nan)", None),
    ],
)
def test_what_is_looked_for_in_whole_chunks(pattern: str, sieve: List[str] | None) -> None:
    found = log_search._sieve(TextPattern(pattern, regex=True))
    if sieve is None:
        assert found is None
    elif pattern.startswith("(?:nan|in[f|]|x{"):  # `x{` is no text of two characters
        assert found == (f"(?m){pattern}",)
    else:
        assert found == tuple(f"(?m){branch}" for branch in sieve)


def run_of(*texts: Tuple[int, bytes]) -> ChunkRun:
    """A chunk per text, which begins with a row."""
    heads = [
        ChunkHead(PROCS[0], OUT, 1, row, row, text.count(b"\n"), NOON, 1.0, len(text), ())
        for row, text in texts
    ]
    return ChunkRun(heads, b"".join(text for _, text in texts))


def test_chunks_without_a_line_wanted_are_never_cut_into_lines() -> None:
    wanted = LogFilter(patterns=(TextPattern("nan", regex=True),), level=40)
    texts = [(0, b"a\nb\n"), (2, b"ERROR: nan\nnan\n"), (4, b"ERROR: x\nc\n")]
    run = run_of(*texts)
    (block,) = LogSearch(wanted).blocks(run, 0, 6)
    assert block.chunks == (run.heads[1],)
    assert block.row.to_pylist() == [2]
    assert LogSearch(wanted).blocks(run_of(*texts[::2]), 0, 6) == []


def test_bytes_that_are_not_utf8_are_escaped_next_to_them_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    escaped: List[int] = []
    escape = log_columns._escaped

    def spy(whole: pa.Array) -> pa.Array:
        escaped.append(pc.binary_length(whole)[0].as_py())
        return escape(whole)

    monkeypatch.setattr(log_columns, "_escaped", spy)
    texts = [(number, b"x" * 100_000 + b"\n") for number in range(32)]
    texts[13] = (13, b"\xffx\n")
    run = run_of(*texts)
    found = LogSearch(LogFilter()).blocks(run, 0, 32)
    rows = [row for block in found for row in block.row.to_pylist()]
    assert rows == list(range(32))
    assert sum(escaped) < 2 * 100_000
    found = LogSearch(LogFilter(patterns=(TextPattern(r"\xff", regex=False),))).blocks(run, 0, 32)
    assert [block.row.to_pylist() for block in found] == [[13]]


def test_where_most_chunks_pass_they_are_sieved_now_and_then_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sifted: List[str] = []
    sift = LogSearch._sift

    def spy(search: LogSearch, chunks: List[ChunkHead], texts: pa.Array) -> Any:
        sifted.append(texts[0].as_py())
        return sift(search, chunks, texts)

    monkeypatch.setattr(LogSearch, "_sift", spy)
    search = LogSearch(LogFilter(patterns=(TextPattern("a", regex=True),)))
    for line, least, most in (b"a\n", 5, 10), (b"b\n", 90, 100), (b"a\n", 5, 10):
        sifted.clear()
        found = [search.blocks(run_of((0, line)), 0, 1) for _ in range(100)]
        assert all(bool(blocks) == (line == b"a\n") for blocks in found)
        assert least <= len(sifted) <= most


def test_no_chunks_have_no_lines() -> None:
    assert LogSearch(LogFilter()).blocks(run_of(), 0, 9) == []
    (block,) = LogSearch(LogFilter()).blocks(run_of((0, b"\n")), 0, 9)
    assert block.text.to_pylist() == [""]
