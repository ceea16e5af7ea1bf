from __future__ import annotations

import json
import logging
import time
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.errors import OptionError
from logmesh_ipy.levels import LEVEL_NAMES, level_keys, level_name, level_of, parse_level


@pytest.mark.parametrize(
    ("line", "level"),
    [
        # Python's logging, in its usual formats
        ("DEBUG:root:x", 10),
        ("WARNING:root:disk is full", 30),
        ("CRITICAL:root:x", 50),
        ("[ERROR   ] x", 40),
        ("2026-01-01 12:00:00,123 - train - ERROR - x", 40),
        ("2026-01-01 12:00:00,123 my.module WARNING x", 30),
        ("[2026-01-01 12:00:00,123] [WARNING] [real_accelerator.py:162:get] x", 30),
        ("[12/31/25 23:59:59] INFO     server started", 20),
        ("2026-01-01 12:00:00.123 | SUCCESS  | x", None),
        ("2026-01-01 12:00:00.123 | WARNING  | __main__:f:3 - x", 30),
        ("[2026-01-01 12:00:00,123: WARNING/MainProcess] x", 30),
        ("[2026-01-01 12:00:00 +0000] [12] [INFO] x", 20),
        ("INFO:     127.0.0.1:5000 - GET / 200 OK", 20),
        ("(EngineCore pid=12) WARNING 01-01 12:00:00 x.py:12] y", 30),
        # Python's warnings, errors and crashes
        ("/usr/lib/x.py:12: UserWarning: x", 30),
        ("Traceback (most recent call last):", 40),
        ("[rank3]: RuntimeError: x", 40),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", 40),
        ("Fatal Python error: Segmentation fault", 50),
        ("Segmentation fault (core dumped)", 50),
        ("Aborted", 50),
        ("terminate called after throwing an instance of 'c10::Error'", 50),
        # glog, absl, TensorFlow, PyTorch, NCCL
        ("I0423 12:00:00.123456 1 x.cc:1] x", 20),
        ("F1023 12:00:00.123456 1 x.cc:1] x", 50),
        ("[rank0]:[W1023 12:00:00.123 ProcessGroupNCCL.cpp:1] Warning: x", 30),
        ("[W ProcessGroupNCCL.cpp:1] Warning: x", 30),
        ("[E socket.cpp:860] [c10d] x", 40),
        ("2026-01-01 12:00:00.123456: W tensorflow/x.cc:1] x", 30),
        ("node1:12:34 [0] NCCL INFO Bootstrap", 20),
        ("node1:12:34 [0] init.cc:1 NCCL WARN Cuda failure", 30),
        # Rust
        ("2026-01-01T00:00:00.000Z  WARN crate::module: x", 30),
        ("[2026-01-01T00:00:00Z ERROR crate] x", 40),
        ("\x1b[2m2026-01-01T00:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m: y", 30),
        ("thread 'main' panicked at src/main.rs:4:5:", 40),
        # Go
        ('time="2026-01-01T00:00:00Z" level=error msg="x"', 40),
        ("2026-01-01T00:00:00.000Z\tERROR\tmain.go:12\tx", 40),
        ("2026/01/01 00:00:00 WARN x key=1", 30),
        ("ERRO[0012] x", 40),
        ("\x1b[31mFATA\x1b[0m[0012] x", 50),
        ("t=2026-01-01T00:00:00+0000 lvl=eror msg=x", 40),
        ("panic: runtime error: index out of range", 50),
        ("fatal error: all goroutines are asleep - deadlock!", 50),
        # Java, .NET
        ("12:00:00.123 [main] WARN  c.e.App - x", 30),
        ("2026-01-01 12:00:00,123 FATAL [main] org.x.Y: z", 50),
        ("SEVERE: x", 40),
        ("WARNING: x", 30),
        ('Exception in thread "main" java.lang.IllegalStateException: x', 40),
        ("Caused by: java.io.IOException: x", 40),
        ("fail: Microsoft.Hosting[0]", 40),
        ("dbug: Microsoft.Hosting[0]", 10),
        # syslog, journald
        ("<11>Jan 1 12:00:00 host app[12]: x", 40),
        ("<14>Jan 1 12:00:00 host app[12]: x", 20),
        ("<0>x", 50),
        ("<191>x", 10),
        ("<192>x", None),
        ("Jan 1 12:00:00 host daemon.err app[12]: x", 40),
        ("Jan 1 12:00:00 host kern.crit kernel: x", 50),
        ("local0.notice: x", 20),
        ('{"PRIORITY":"3","MESSAGE":"x"}', 40),
        ("PRIORITY=4", 30),
        # web servers, databases, daemons
        ("[Sun Jan 01 12:00:00 2026] [notice] x", 20),
        ("[Sun Jan 01 12:00:00 2026] [core:error] [pid 12] x", 40),
        ("2026/01/01 12:00:00 [error] 12#12: *1 x", 40),
        ("2026-01-01T12:00:00.123456Z 0 [Warning] [MY-010] x", 30),
        ("2026-01-01 12:00:00 UTC [12] FATAL:  x", 50),
        ("2026-01-01 12:00:00, Info                  CBS    x", 20),
        ('{"t":{"$date":"2026-01-01T00:00:00.000Z"},"s":"W","c":"NETWORK","msg":"x"}', 30),
        ("=ERROR REPORT==== 1-Jan-2026::12:00:00 ===", 40),
        ("01-01 12:00:00.123  1234  5678 E Tag: x", 40),
        ("W/Tag( 1234): x", 30),
        ("npm ERR! code 1", 40),
        ("W: Some index files failed to download", 30),
        # JSON
        ('{"level":"error","msg":"x"}', 40),
        ('{"time": 1, "levelname": "INFO", "message": "an ERROR: x"}', 20),
        ('{"severity": "WARNING", "message": "x"}', 30),
        ('{"@timestamp":"2026-01-01","log.level":"error","message":"x"}', 40),
        ('{"level":30,"time":1700000000,"msg":"x"}', 20),
        ('{"level":60,"msg":"x"}', 50),
        ('{"level":10,"msg":"x"}', 10),
        ('{"levelno": 30, "msg": "x"}', 30),
        ('{"severityNumber":17,"body":"x"}', 40),
        ('{"version":"1.1","level":3,"short_message":"x"}', 40),
        ('{"level":12,"hp":3}', None),
        # compilers and tools
        ("error: x", 40),
        ("error[E0308]: mismatched types", 40),
        ("a.c:1:2: fatal error: x.h: No such file", 50),
        ("bash: error: x", 40),
        ("slurmstepd: error: *** x", 40),
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
        ("E is a letter", None),
        ("see [error] in the list", None),
        ("Caused a stir", None),
        ("Aborted by the user", None),
        ("x" * 300 + " ERROR: too far away", None),
        # and more
        ("INFO:root:x", 20),
        ("ERROR:train:x", 40),
        ("[WARNING] x", 30),
        ("2026-01-01 12:00:00,123 INFO x", 20),
        ("(pid=12) ERROR x", 40),
        ("<ERROR> x", 40),
        ("INFO", 20),
        ("DeprecationWarning: x", 30),
        ("<stdin>:1: torch.jit.TracerWarning: x", 30),
        ("[rank0]: Traceback (most recent call last):", 40),
        ("ValueError: ERROR in INFO", 40),
        ("subprocess.CalledProcessError: x", 40),
        ("AssertionError", 40),
        ("KeyboardInterrupt", 40),
        ("W0423 12:00:00.123456 1 x.cc:1] x", 30),
        ("E1023 12:00:00.123456 1 x.cc:1] x", 40),
        ('ts=1 level="warn" msg=x', 30),
        ("warning: unused variable", 30),
        ("fatal error: x.h: No such file", 50),
        ("a.c:1:2: warning: x", 30),
        ("fatal: not a git repository", 50),
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
        '{"levelno": %(levelno)d, "message": "%(message)s"}',
    ],
)
def test_what_python_logging_writes_has_its_level(form: str, level: int) -> None:
    record = logging.LogRecord("train", level, "/a/train.py", 7, "step %d", (3,), None)
    assert level_of(logging.Formatter(form).format(record).encode()) == level


@given(st.sampled_from(["debug", "info", "warning", "error", "critical"]), st.text(max_size=40))
def test_json_states_its_level_whatever_else_it_says(name: str, message: str) -> None:
    line = json.dumps({"level": name, "msg": message})
    assert level_of(line.encode()) == getattr(logging, name.upper())


@pytest.mark.parametrize(
    "unit",
    [b" ", b"a.", b"A", b"[", b": ", b" 0", b"error", b"W0000 ", b'"level"', b"<1", b"\x1b["],
)
def test_the_look_at_a_line_is_bounded(unit: bytes) -> None:
    line = unit * 1_000_000
    started = time.process_time()
    for _ in range(100):
        level_of(line)
    assert time.process_time() - started < 2


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


def test_lines_with_equal_keys_have_the_same_level() -> None:
    [mark] = test_the_level_of_a_line.pytestmark
    for line, level in mark.args[1]:
        (key,) = level_keys(line.encode() + b"\n")
        assert level_of(key) == level, line
    lines = [b"step 12", b"", b'{"level":30}', b"<11>x 12", b"x"]
    keys = [b"step 00", b"", b'{"level":30}', b"<11>x 12", b"x"]
    assert level_keys(b"\n".join(lines) + b"\n") == keys
    assert level_keys(b"at 1\nat 2") == [b"at 0", b"at 0"]
