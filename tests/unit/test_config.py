from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.config import (
    HostOptions,
    MeshOptions,
    check_count,
    check_level,
    check_timeout,
    check_window,
    from_environment,
    parse_ranks,
)
from logmesh_ipy.errors import OptionError
from logmesh_ipy.model import FlushReport, Gap, OutputTarget, fold_ranks


def test_a_relative_directory_means_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    options = MeshOptions(store_directory="stores")
    monkeypatch.chdir(tmp_path)
    assert options.but(procs=2).store_directory == str(gone / "stores")
    assert MeshOptions().store_directory == ""
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OptionError, match=r"store_directory .* must be an absolute path"):
        MeshOptions(store_directory="stores")


@pytest.mark.parametrize(("value", "count"), [(1, 1), ("4", 4), (" 4 ", 4), (4096, 4096)])
def test_a_count_of_procs(value: object, count: int) -> None:
    assert check_count(value) == count


@pytest.mark.parametrize("value", [0, -3, "0", "-3", 4097, 10**30, "x", "", "4.0", 4.0, None, True])
def test_a_count_that_makes_no_mesh_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(OptionError, match=r"procs is .*1 to 4096"):
        check_count(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1, 1.0),
        ("3", 3.0),
        ("2.5", 2.5),
        (None, None),
        ("none", None),
        (" None ", None),
        ("off", None),
    ],
)
def test_a_window(value: object, seconds: object) -> None:
    assert check_window(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "0",
        "-1",
        0.5,
        "abc",
        "",
        "nan",
        "inf",
        math.nan,
        math.inf,
        -math.inf,
        True,
        [],
        10**400,
    ],
)
def test_a_window_that_cannot_be_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(OptionError, match=r"window is .*none"):
        check_window(value)


@pytest.mark.parametrize("value", [0, 10, 20, 255])
def test_a_level(value: int) -> None:
    assert check_level(value) == value


@pytest.mark.parametrize("value", [-1, 256, 1000, "LOUD", "20", None, 20.0, True])
def test_a_level_out_of_range_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(OptionError, match=r"level is .*0 to 255"):
        check_level(value)


@pytest.mark.parametrize("value", [0, -1, "0", "x", "", None, math.nan, math.inf, True, 10**400])
def test_a_timeout_that_waits_for_nothing_or_for_ever_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match=r"timeout is .*above 0"):
        check_timeout(value)


def test_input_errors_are_value_errors() -> None:
    assert issubclass(OptionError, ValueError)


# --- ranks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        (None, (0, 1, 2, 3)),
        ("2", (2,)),
        ("0-3", (0, 1, 2, 3)),
        ("3,0-1", (0, 1, 3)),
        (" 1 , 2-2 ", (1, 2)),
        ("1,1,0-2", (0, 1, 2)),
    ],
)
def test_ranks_as_people_write_them(text: str | None, ranks: tuple[int, ...]) -> None:
    assert parse_ranks(text, 4) == ranks


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9", r"no rank 9; this mesh has 0-3"),
        ("0-9", r"no rank 9"),
        ("4", r"no rank 4"),
        ("0-4", r"no rank 4"),
        ("4-5", r"no rank 4"),
        ("0-999999999", r"no rank 999999999"),
        ("3-1", r"3-1 runs backwards"),
        ("", r"neither"),
        ("1,", r"neither"),
        ("-1", r"'-1' is neither a rank nor a range like 0-3"),
        ("a", r"'a' is neither"),
        ("1-", r"neither"),
        ("1--2", r"neither"),
        ("1.5", r"neither"),
        ("0x1", r"neither"),
        ("٣", r"neither"),
        ("1\n", None),
        ("9" * 5000, r"neither"),
    ],
)
def test_ranks_that_are_not_there_are_refused_by_name(text: str, says: str | None) -> None:
    if says is None:
        assert parse_ranks(text, 4) == (1,)
        return
    with pytest.raises(OptionError, match=says):
        parse_ranks(text, 4)


@given(st.sets(st.integers(0, 30), min_size=1))
def test_folded_ranks_are_read_back(ranks: set[int]) -> None:
    assert parse_ranks(fold_ranks(ranks), 31) == tuple(sorted(ranks))


@given(st.text(max_size=12), st.integers(0, 8))
def test_any_text_gives_ranks_of_the_mesh_or_an_option_error(text: str, size: int) -> None:
    try:
        ranks = parse_ranks(text, size)
    except OptionError:
        return
    assert ranks
    assert all(0 <= rank < size for rank in ranks)


# --- options --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"procs": 0}, "procs is 0"),
        ({"window_sec": 0.5}, r"window is 0\.5"),
        (
            {"grouping": "fuzzy"},
            "grouping is 'fuzzy'; allowed are 'similar'",
        ),
        ({"grouping": None}, "grouping is None"),
        (
            {"similarity_threshold": 1.5},
            "similarity_threshold is 1.5; it must be a number",
        ),
        ({"similarity_threshold": -0.1}, "none for the default"),
        ({"similarity_threshold": "nan"}, "similarity_threshold is 'nan'"),
        ({"similarity_threshold": "much"}, "similarity_threshold is 'much'"),
        ({"similarity_threshold": True}, "similarity_threshold is True"),
        ({"level": 300}, "level is 300"),
        ({"flush_timeout_sec": 0}, "flush_timeout_sec is 0"),
        ({"start_timeout_sec": -1}, "start_timeout_sec is -1"),
        ({"loop": "main"}, "'thread' .* 'kernel'"),
        ({"max_line_bytes": 15}, "max_line_bytes is 15; it must be 16"),
        ({"max_line_bytes": "64"}, "max_line_bytes is '64'; it must be a whole number"),
        ({"store_memory_bytes": 0}, "store_memory_bytes is 0"),
    ],
)
def test_a_bad_option_of_a_mesh_is_refused_by_name(changes: Dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        MeshOptions(**changes)
    with pytest.raises(OptionError, match=says):
        MeshOptions().but(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when_full": "explode"}, "'spill' .* 'block' .* 'drop_oldest'"),
        ({"file_max_bytes": 0}, "file_max_bytes is 0"),
        ({"window_bytes": -1}, "window_bytes is -1"),
        ({"fork_procs": 1}, "fork_procs is 1; it must be True or False"),
        ({"spool_max_bytes": "1"}, "spool_max_bytes is '1'"),
        ({"recent_bytes": 1.5}, "recent_bytes is 1.5"),
        ({"file_backups": -1}, "file_backups is -1; it must be 0"),
        ({"files": 5}, "files is 5"),
        ({"files": "a\0b"}, "files is"),
        ({"files_basename": ""}, "files_basename is ''"),
        ({"files_basename": "../x"}, "files_basename is '../x'"),
    ],
)
def test_a_bad_option_of_a_host_is_refused_by_name(changes: Dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        HostOptions(**changes)
    with pytest.raises(OptionError, match=says):
        HostOptions.from_map(changes)


def test_numbers_given_as_text_become_numbers() -> None:
    options = MeshOptions(procs="2", window_sec="3", flush_timeout_sec="1.5")  # type: ignore[arg-type]
    assert (options.procs, options.window_sec, options.flush_timeout_sec) == (2, 3.0, 1.5)
    assert MeshOptions(window_sec="none").window_sec is None  # type: ignore[arg-type]
    shares = [MeshOptions(similarity_threshold=value) for value in (0, "0.25", 1, "none", None)]  # type: ignore[arg-type]
    assert [options.similarity_threshold for options in shares] == [0.0, 0.25, 1.0, None, None]


def test_host_options_travel_as_a_map_and_unknown_names_are_left_out() -> None:
    options = HostOptions(files="/logs", tee=True, when_full="block")
    assert HostOptions.from_map({**options.to_map(), "of a newer version": 1}) == options


def test_the_environment_names_options_and_nothing_else_is_taken() -> None:
    environ = {
        "LOGMESH_WINDOW_SEC": "3",
        "LOGMESH_PROCS": "x",
        "LOGMESH_WHEN_FULL": "block",
        "LOGMESH_HOST": "h",
        "LOGMESH_COLOUR": "red",
        "LOGMESH_": "",
        "logmesh_level": "10",
        "PROCS": "3",
    }
    assert from_environment(environ) == {"window_sec": "3", "procs": "x", "when_full": "block"}


# --- reports --------------------------------------------------------------------------------


def report(**changes: Any) -> FlushReport:
    values: Dict[str, Any] = {
        "version": 1, "acked": ("rank 0", "rank 1"), "exited": (), "late": (), "lines": 1204,
        "gaps": (), "seconds": 0.1,
    }  # fmt: skip
    return FlushReport(**{**values, **changes})


def gap(lines: int | None) -> Gap:
    return Gap(proc=0, output_target=OutputTarget.STDOUT, lines=lines, bytes=None, reason="full")


def test_a_report_is_true_only_if_everything_arrived() -> None:
    assert report()
    assert report(exited=("rank 2",))
    assert not report(late=("rank 2",))
    assert not report(gaps=(gap(3),))


def test_a_report_reads_as_a_receipt() -> None:
    assert str(report()) == "2/2 procs, 1,204 lines, 0 lost"
    assert str(report(lines=1)) == "2/2 procs, 1 line, 0 lost"
    assert str(report(late=("rank 7",))) == "2/3 procs, 1,204 lines, 0 lost; late: rank 7"
    assert str(report(exited=("rank 3",))) == "3/3 procs, 1,204 lines, 0 lost; exited: rank 3"
    assert "1,234 lost" in str(report(gaps=(gap(1000), gap(234))))
    assert "unknown lost" in str(report(gaps=(gap(1), gap(None))))
    many = tuple(f"rank {rank}" for rank in range(20))
    assert str(report(late=many)).endswith("rank 7 and 12 more")


def test_an_option_is_checked_before_a_window_of_zero_divides() -> None:
    for text in ("1e-9", "0.999"):
        with pytest.raises(OptionError):
            check_window(text)
