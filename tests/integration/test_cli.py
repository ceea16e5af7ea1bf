"""``logmesh run`` as a shell sees it: output, exit codes, signals, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from logmesh_ipy._version import __version__
from tests.support import session_processes, wait_until

LOGMESH = [sys.executable, "-m", "logmesh_ipy"]


def logmesh(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*LOGMESH, *words],
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 40),
        check=False,
        **options,
    )


def run(procs: int, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``logmesh run`` of a shell script."""
    return logmesh("run", "--procs", str(procs), *options, "--", "sh", "-c", script)


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, not waited for."""
    process = subprocess.Popen(
        [*LOGMESH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_each_rank_prints_on_the_stream_it_chose_with_its_environment() -> None:
    done = run(
        2,
        "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR; "
        'echo "problem on $RANK, port $MASTER_PORT" >&2; printf "open end"',
    )
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [
        "[0] 0 0 2 2 127.0.0.1",
        "[0] open end",
        "[1] 1 1 2 2 127.0.0.1",
        "[1] open end",
    ]
    errors = sorted(done.stderr.splitlines())
    assert [re.sub(r"port \d+$", "port", line) for line in errors] == [
        "[0 err] problem on 0, port",
        "[1 err] problem on 1, port",
    ]
    assert len({line.split()[-1] for line in errors}) == 1


def test_python_prints_are_not_held_back() -> None:
    """What a rank prints is shown while it runs, although it does not flush."""
    code = "import time; print('now'); time.sleep(60)"
    with running("run", "--", sys.executable, "-c", code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0] now\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.mark.parametrize("code", [1, 3, 127, 255])
def test_the_exit_code_is_that_of_the_rank_that_failed_first(code: int, tmp_path: Path) -> None:
    """The others are ended at once."""
    began = time.monotonic()
    others_ready = f"[ -e {tmp_path}/0 ] && [ -e {tmp_path}/2 ]"
    fails = f"until {others_ready}; do sleep 0.01; done; exit {code}"
    lives = f'trap "echo ended; exit 9" TERM; : > {tmp_path}/$RANK; sleep 60 & wait'
    done = run(3, f"if [ $RANK = 1 ]; then {fails}; fi; {lives}")
    assert done.returncode == code
    assert time.monotonic() - began < 15
    assert sorted(done.stdout.splitlines()) == ["[0] ended", "[2] ended"]
    assert done.stderr.startswith("logmesh: rank 1 failed first; ")
    assert f"exit code {code}: ranks 1" in done.stderr
    assert "exit code 9: ranks 0,2" in done.stderr


def test_a_rank_that_fails_at_once_ends_the_others() -> None:
    """Also where it has ended before the command watches it."""
    for _ in range(5):
        assert run(2, "[ $RANK = 0 ] && exit 5; exec sleep 60").returncode == 5


def test_with_keep_going_the_others_run_to_their_end() -> None:
    done = run(3, "[ $RANK = 1 ] && exit 4; sleep 0.5; echo finished", "--keep-going")
    assert done.returncode == 4
    assert sorted(done.stdout.splitlines()) == ["[0] finished", "[2] finished"]


def test_a_signal_gives_128_and_its_number() -> None:
    done = run(2, "[ $RANK = 0 ] && kill -SEGV $$; sleep 60")
    assert done.returncode == 128 + signal.SIGSEGV
    assert "rank 0 failed first" in done.stderr
    assert "SIGSEGV" in done.stderr


def test_a_command_that_is_not_there_or_cannot_run_says_so_in_the_words_of_errno() -> None:
    done = logmesh("run", "--procs", "2", "--", "/nonexistent/train")
    assert done.returncode == 127
    assert "ranks 0-1: /nonexistent/train: No such file or directory" in done.stderr
    done = logmesh("run", "--", "/etc/passwd")
    assert done.returncode == 126
    assert "/etc/passwd: Permission denied" in done.stderr
    for stream in (done.stdout, done.stderr):
        assert "Traceback" not in stream


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run"], "write the command behind --"),
        (["run", "--"], "write the command behind --"),
        (["run", "python", "train.py"], "write the command behind --"),
        (["run", "--procs", "0", "--", "true"], "procs is 0; it must be from 1 to 4096"),
        (["run", "--procs=-3", "--", "true"], "procs is -3; it must be from 1 to 4096"),
        (["run", "--procs", "x", "--", "true"], "procs is 'x'; it must be a whole number"),
        (["run", "--window", "0", "--", "true"], "it must be 1 second or more"),
        (["run", "--window", "abc", "--", "true"], "it must be a number of seconds"),
        (["run", "--level", "loud", "--", "true"], "level must be one of"),
        (["run", "--json", "--window", "3", "--", "true"], "choose one"),
        (["run", "--files", "/proc/none", "--", "true"], "cannot write log files to '/proc/none'"),
        (["run", "--nonsense", "--", "true"], "unknown before --: --nonsense"),
        (["dance"], "invalid choice"),
    ],
)
def test_bad_options_end_with_2_and_say_what_is_allowed(words: List[str], complaint: str) -> None:
    done = logmesh(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_and_version_are_told() -> None:
    assert logmesh("--version").stdout == f"logmesh_ipy {__version__}\n"
    text = logmesh("run", "--help").stdout
    for option in ("--procs", "--window", "--level", "--files", "--json", "--keep-going"):
        assert option in text
    assert "logmesh run [options] -- COMMAND [ARGS ...]" in text


def test_a_window_groups_what_the_ranks_say_alike() -> None:
    done = run(4, "for i in 1 2 3; do echo step $i of 3; done; echo ready", "--window", "60")
    assert done.returncode == 0
    header, *groups = done.stdout.splitlines()
    assert header.startswith(">>> Aggregated Logs (")
    assert "16 lines" in header
    assert groups[0] == "[0-3 12×] step <#> of <#>"
    assert groups[1].startswith("└ step 1 [")
    assert groups[2] == "[0-3 4×] ready"


def test_a_level_hides_the_lines_that_state_a_lower_one() -> None:
    script = "echo INFO: small talk; echo WARNING: hot; echo ERROR: broken; echo no level"
    done = run(1, script, "--level", "warning")
    assert done.stdout.splitlines() == ["[0] WARNING: hot", "[0] ERROR: broken", "[0] no level"]


def test_files_keep_the_raw_output_of_each_rank(tmp_path: Path) -> None:
    place = tmp_path / "new" / "logs"
    done = run(2, "printf 'raw %s' $RANK; echo err >&2", "--files", str(place))
    assert done.returncode == 0
    assert sorted(path.read_text() for path in place.glob("*.stdout")) == ["raw 0", "raw 1"]
    assert [path.read_text() for path in place.glob("*.stderr")] == ["err\n", "err\n"]


def test_json_has_every_key_and_is_valid_whatever_is_printed() -> None:
    said = b'WARNING: plain\n\xff\xfe not UTF-8\nquote " and \x1b[31m\x00\xe2\x80\xa8|\n'
    last = "\U0001f600 é".encode()
    code = f"import os; os.write(1, {said!r}); os.write(1, {last!r}); os.write(2, b'err')"
    done = subprocess.run(
        [*LOGMESH, "run", "--procs", "2", "--json", "--", sys.executable, "-c", code],
        capture_output=True,
        timeout=40,
        check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
    )
    rows: List[Dict[str, Any]] = [json.loads(line) for line in done.stdout.split(b"\n")[:-1]]
    assert len(rows) == 10
    for row in rows:
        assert list(row) == ["time", "host", "rank", "pid", "stream", "level", "text", "seq"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", row["time"])
        assert row["host"] == os.uname().nodename
        assert row["pid"] > 1
    for rank in (0, 1):
        out = [row for row in rows if row["rank"] == rank and row["stream"] == "stdout"]
        assert [row["seq"] for row in out] == [0, 1, 2, 3]
        assert [row["text"] for row in out] == [
            "WARNING: plain",
            "\\xff\\xfe not UTF-8",
            'quote " and \x1b[31m\x00\u2028|',
            "\U0001f600 é",
        ]
        assert [row["level"] for row in out] == ["WARNING", None, None, None]
        (err,) = [row for row in rows if row["rank"] == rank and row["stream"] == "stderr"]
        assert (err["text"], err["seq"]) == ("err", 0)
        assert len({row["pid"] for row in [*out, err]}) == 1


def test_many_lines_are_complete_and_in_order() -> None:
    done = run(2, "seq -f 'line number %.0f' 100000")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for rank in (0, 1):
        mine = [line for line in lines if line.startswith(f"[{rank}] ")]
        assert mine == [f"[{rank}] line number {number}" for number in range(1, 100_001)]
    assert len(lines) == 200_000


def test_many_lines_are_complete_and_in_order_as_json() -> None:
    done = run(2, "seq 20000", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for rank in (0, 1):
        mine = [row for row in rows if row["rank"] == rank]
        assert [row["text"] for row in mine] == [str(number) for number in range(1, 20_001)]
        assert [row["seq"] for row in mine] == list(range(20_000))


@pytest.mark.parametrize(
    ("number", "script"),
    [
        (signal.SIGINT, "echo begins; sleep 60"),
        (signal.SIGTERM, "echo begins; sleep 60"),
        (signal.SIGTERM, 'trap "" TERM INT; echo begins; while :; do sleep 0.1; done'),
    ],
)
def test_a_signal_to_the_command_ends_the_ranks_and_itself(
    number: int, script: str, nothing_is_left: str
) -> None:
    with running("run", "--procs", "2", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"[0] begins\n", "[1] begins\n"}
        process.send_signal(number)
        assert process.wait(8) == 128 + number
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        wait_until(lambda: not session_processes(nothing_is_left), 2.0)


def test_an_interrupt_lets_the_ranks_say_their_last_words() -> None:
    code = (
        "import time\n"
        "try:\n    print('begins'); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('saved the checkpoint')"
    )
    with running("run", "--procs", "2", "--", sys.executable, "-c", code) as process:
        assert process.stdout is not None
        assert [process.stdout.readline()[4:] for _ in range(2)] == ["begins\n"] * 2
        process.send_signal(signal.SIGINT)
        words = process.stdout.read().splitlines()
        assert sorted(words) == ["[0] saved the checkpoint", "[1] saved the checkpoint"]
        assert process.wait(8) == 130


def test_a_second_interrupt_ends_ranks_that_ignore_the_first(nothing_is_left: str) -> None:
    script = 'trap "echo no" INT; echo begins; while :; do sleep 0.1; done'
    with running("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0] begins\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "[0] no\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 130
        wait_until(lambda: not session_processes(nothing_is_left), 2.0)


def test_kill_9_of_the_command_leaves_nothing(nothing_is_left: str) -> None:
    with running("run", "--procs", "2", "--", "sh", "-c", "echo begins; sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
        wait_until(lambda: not session_processes(nothing_is_left), 2.0)
        wait_until(lambda: not list(Path(nothing_is_left).glob("logmesh-*")), 2.0)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_goes_away_ends_the_run(options: List[str]) -> None:
    words = [*LOGMESH, "run", "--procs", "2", *options, "--", "sh", "-c", "yes"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(15) == 128 + signal.SIGPIPE
    with process.stderr as errors:
        said = errors.read().decode()
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_the_installed_command_is_the_same() -> None:
    command = Path(sys.executable).with_name("logmesh")
    if not command.exists():
        pytest.skip("logmesh is not installed beside this interpreter")
    done = subprocess.run([str(command), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("logmesh_ipy ")
