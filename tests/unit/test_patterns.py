from __future__ import annotations

import logging
import time
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.errors import OptionError
from logmesh_ipy.patterns import (
    LEVEL_NAMES,
    level_name,
    level_of,
    mask,
    parse_level,
    template,
)


def key(line: str) -> bytes:
    [masked] = mask(line.encode() + b"\n")
    return template(masked)


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))))
def test_mask_gives_one_key_per_line_in_order(lines: list[bytes]) -> None:
    keys = mask(b"".join(line + b"\n" for line in lines))
    assert len(keys) == len(lines)
    for masked, line in zip(keys, lines, strict=True):
        assert len(masked) == len(line)
        assert all(
            new == (ord("0") if chr(old).isascii() and chr(old).isdigit() else old)
            for new, old in zip(masked, line, strict=True)
        )


def test_mask_counts_an_unfinished_last_line() -> None:
    assert mask(b"") == []
    assert mask(b"\n\n") == [b"", b""]
    assert mask(b"a1\nb2") == [b"a0", b"b0"]


def test_mask_works_in_bulk() -> None:
    data = b"[rank 3] step 1234: loss 0.4321, lr 3e-05\n" * 500_000
    started = time.monotonic()
    assert len(mask(data)) == 500_000
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("step 9", "step 10"),
        ("loss 0.5", "loss 12.25"),
        ("loss 3", "loss 3.1"),
        ("[rank 1] connected to 10.0.0.1:8080", "[rank 12] connected to 192.168.10.2:443"),
        ("v1.2.3", "v10.0.12"),
    ],
)
def test_lines_that_differ_in_numbers_are_one_group(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("loss 0.5", "loss nan"),
        ("loss 0.5", "loss inf"),
        ("loss nan", "loss inf"),
        ("rank 1 connected", "rank 1 disconnected"),
        ("3 checks ok", "3 checks bad"),
        ("within 5 ms", "exceeds 5 ms"),
        ("can reach 10.0.0.1", "can not reach 10.0.0.1"),
        ("INFO step 1", "ERROR step 1"),
        ("step 1", "step 1."),
    ],
)
def test_lines_that_differ_in_more_are_not(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_a_template_shows_each_number_as_one_mark() -> None:
    assert key("step 12/300: 0.125 s, v1.2.3, x.5") == b"step #/#: # s, v#, x.#"


@given(st.binary(max_size=60))
def test_a_template_is_its_own_template(line: bytes) -> None:
    once = template(b"".join(mask(line)))
    assert template(once) == once
    assert b"0" not in once


@pytest.mark.parametrize(
    ("line", "level"),
    [
        # Python's logging, in its usual formats
        ("DEBUG:root:x", 10),
        ("INFO:root:x", 20),
        ("WARNING:root:disk is full", 30),
        ("ERROR:train:x", 40),
        ("CRITICAL:root:x", 50),
        ("WARNING: x", 30),
        ("[WARNING] x", 30),
        ("[ERROR   ] x", 40),
        ("2026-01-01 12:00:00,123 - train - ERROR - x", 40),
        ("2026-01-01 12:00:00,123 INFO x", 20),
        ("2026-01-01 12:00:00,123 my.module WARNING x", 30),
        ("[2026-01-01 12:00:00,123] [WARNING] [real_accelerator.py:162:get] x", 30),
        ("[12/31/25 23:59:59] INFO     server started", 20),
        ("2026-01-01 12:00:00.123 | SUCCESS  | x", None),
        ("2026-01-01 12:00:00.123 | WARNING  | __main__:f:3 - x", 30),
        ("(pid=12) ERROR x", 40),
        ("<ERROR> x", 40),
        ("INFO", 20),
        # Python's warnings and errors
        ("/usr/lib/x.py:12: UserWarning: x", 30),
        ("DeprecationWarning: x", 30),
        ("<stdin>:1: torch.jit.TracerWarning: x", 30),
        ("Traceback (most recent call last):", 40),
        ("[rank0]: Traceback (most recent call last):", 40),
        ("ValueError: ERROR in INFO", 40),
        ("[rank3]: RuntimeError: x", 40),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", 40),
        ("subprocess.CalledProcessError: x", 40),
        ("AssertionError", 40),
        ("KeyboardInterrupt", 40),
        ("Fatal Python error: Segmentation fault", 50),
        # glog, absl, TensorFlow, PyTorch
        ("I0423 12:00:00.123456 1 x.cc:1] x", 20),
        ("W0423 12:00:00.123456 1 x.cc:1] x", 30),
        ("E1023 12:00:00.123456 1 x.cc:1] x", 40),
        ("F1023 12:00:00.123456 1 x.cc:1] x", 50),
        ("[rank0]:[W1023 12:00:00.123 ProcessGroupNCCL.cpp:1] Warning: x", 30),
        ("2026-01-01 12:00:00.123456: W tensorflow/x.cc:1] x", 30),
        # NCCL
        ("node1:12:34 [0] NCCL INFO Bootstrap", 20),
        ("node1:12:34 [0] init.cc:1 NCCL WARN Cuda failure", 30),
        # Rust, Go, Java, JSON
        ('time="2026-01-01T00:00:00Z" level=error msg="x"', 40),
        ('ts=1 level="warn" msg=x', 30),
        ('{"level":"error","msg":"x"}', 40),
        ('{"time": 1, "levelname": "INFO", "message": "an ERROR: x"}', 20),
        ("2026-01-01T00:00:00.000Z  WARN crate::module: x", 30),
        ("[2026-01-01T00:00:00Z ERROR crate] x", 40),
        ("12:00:00.123 [main] WARN  c.e.App - x", 30),
        ("\x1b[2m2026-01-01T00:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m: y", 30),
        # compilers and tools
        ("error: x", 40),
        ("error[E0308]: mismatched types", 40),
        ("warning: unused variable", 30),
        ("fatal error: x.h: No such file", 50),
        ("a.c:1:2: fatal error: x.h: No such file", 50),
        ("a.c:1:2: warning: x", 30),
        ("bash: error: x", 40),
        ("fatal: not a git repository", 50),
        # none of them
        ("", None),
        ("hello", None),
        ("step 12 loss 0.5", None),
        ("no error found", None),
        ("the ERROR budget is 5", None),
        ("0 errors, 0 warnings", None),
        ("error rate 0.5", None),
        ("errors: 0", None),
        ("INFORMATION: x", None),
        ("loss_level=3", None),
        ("I0423", None),
        ("W0423 is a name", None),
        ("x" * 300 + " ERROR: too far away", None),
    ],
)
def test_the_level_of_a_line(line: str, level: Optional[int]) -> None:
    assert level_of(line.encode()) == level


@pytest.mark.parametrize("level", [10, 20, 30, 40, 50])
@pytest.mark.parametrize(
    "form",
    [
        logging.BASIC_FORMAT,
        "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
        "%(asctime)s %(levelname)-8s %(message)s",
        "[%(levelname)s] %(message)s",
        "[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
        "%(name)s %(levelname)s: %(message)s",
        "%(filename)s:%(lineno)d %(levelname)s %(message)s",
    ],
)
def test_what_python_logging_writes_has_its_level(form: str, level: int) -> None:
    record = logging.LogRecord("train", level, "/a/train.py", 7, "step %d", (3,), None)
    assert level_of(logging.Formatter(form).format(record).encode()) == level


@pytest.mark.parametrize("unit", [b" ", b"a.", b"A", b"[", b": ", b" 0", b"error", b"W0000 "])
def test_the_look_at_a_line_is_bounded(unit: bytes) -> None:
    line = unit * 1_000_000
    started = time.monotonic()
    for _ in range(100):
        level_of(line)
    assert time.monotonic() - started < 5


@given(st.binary(max_size=300))
def test_any_bytes_have_a_level_or_none(line: bytes) -> None:
    assert level_of(line) in {None, 10, 20, 30, 40, 50}


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("info", 20), ("INFO", 20), (" Warn ", 30), ("warning", 30), ("error", 40), ("debug", 10),
        ("critical", 50), ("fatal", 50), ("notset", 0), ("0", 0), ("15", 15), ("255", 255),
        (0, 0), (255, 255), (logging.INFO, 20),
    ],
)  # fmt: skip
def test_a_level_is_a_name_or_a_number(value: object, level: int) -> None:
    assert parse_level(value) == level


@pytest.mark.parametrize(
    "value",
    ["", "loud", "-1", "256", "1e1", "2.0", "²", "٣", "9" * 5000, "inf o", -1, 256, True, 2.0, None,
     b"info"],
)  # fmt: skip
def test_any_other_level_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(OptionError, match=r"notset, debug, info, warn, .*0 to 255; not") as caught:
        parse_level(value)
    assert len(str(caught.value)) < 250


def test_levels_have_the_names_of_python_logging() -> None:
    assert {number: logging.getLevelName(number) for number in LEVEL_NAMES} == dict(LEVEL_NAMES)
    assert level_name(40) == "ERROR"
    assert level_name(35) == logging.getLevelName(35)
