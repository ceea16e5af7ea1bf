"""``%logmesh`` as a user meets it: errors, interrupts, bad input, modes, settings, help."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import List

import pytest

from tests.notebook.conftest import Cell, Kernel, KernelMaker
from tests.support import wait_until

pytestmark = pytest.mark.notebook
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def complaint(cell: Cell) -> str:
    """The text of a cell's usage error; it has no traceback and no local frames."""
    text = ANSI.sub("", cell.stderr + cell.error)
    assert cell.reply["status"] == "error" or "UsageError" in text, cell
    assert "Traceback" not in text, text
    assert "File " not in text, text
    assert text.count("UsageError") == 1, text
    return text


# --- failures of the code -------------------------------------------------------------------------


def test_a_failure_on_one_rank_is_one_error_that_names_it(shared: Kernel) -> None:
    cell = shared.run(
        "%%logmesh run\n"
        "import os\n"
        "def inner(rank):\n"
        "    if rank == 2:\n"
        "        raise ValueError('boom on purpose')\n"
        "print('before', flush=True)\n"
        "inner(int(os.environ['RANK']))\n"
        "print('after')"
    )
    assert cell.ename == "MeshError"
    error = ANSI.sub("", cell.error)
    assert error.startswith("MeshError: rank 2 of 4 failed: ValueError: boom on purpose")
    assert "the other 3 finished" in error
    assert error.count("Traceback") == 1
    for part in ("line 6, in <module>", "inner(int(os.environ['RANK']))", "line 4, in inner"):
        assert part in error
    assert error.rstrip().endswith("ValueError: boom on purpose")
    assert "logmesh_ipy" not in error
    assert sorted(cell.lines) == sorted(
        [f"[{rank}] before" for rank in range(4)] + [f"[{rank}] after" for rank in (0, 1, 3)]
    )
    assert cell.receipt == "4/4 procs, 7 lines, 0 lost"
    after = shared.run("%%logmesh run\nprint('next')")
    assert sorted(after.lines) == [f"[{rank}] next" for rank in range(4)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def :", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd()", "Odd"),
        ("def deep(n): return deep(n + 1)\ndeep(0)", "RecursionError"),
    ],
)
def test_errors_of_every_kind_are_told_and_the_next_cell_works(
    shared: Kernel, code: str, kind: str
) -> None:
    cell = shared.run(f"%%logmesh run\n{code}")
    assert cell.ename == "MeshError"
    assert re.match(rf"MeshError: rank \d of 4 failed: {kind}: ", ANSI.sub("", cell.error))
    assert re.search(r"also failed: \d, \d, \d\n", cell.error)
    assert cell.error.count(f"{kind}: ") == 2
    assert "logmesh_ipy" not in cell.error
    assert "ast.py" not in cell.error
    assert len(shared.run("%%logmesh run\nprint('next')").lines) == 4


def test_a_stop_that_failed_is_told_at_the_next_start_and_at_no_other(kernels: KernelMaker) -> None:
    kernel = kernels("")
    kernel.run(
        "from logmesh_ipy.session import NotebookSession\n"
        "def fail(*_): raise OSError('the stop has failed')\n"
        "get_ipython().run_line_magic('logmesh', 'stop')\n"
        "NotebookSession._ending.stop = fail"
    )
    assert "the stop has failed" in str(kernel.run("%logmesh start --procs 1").error)
    assert "1 proc on" in kernel.run("%logmesh start --procs 1").stdout


def test_a_proc_that_dies_is_named_and_its_last_words_are_shown(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=3)
    cell = kernel.run(
        "%%logmesh run\nimport os\nprint('alive')\nos.write(2, b'last words')\n"
        "if os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\nNone"
    )
    assert "rank 1 of 3 failed: ProcExited: the proc was killed by SIGKILL" in cell.error
    assert "[1 err] last words" in cell.lines
    assert "[1] alive" in cell.lines
    assert cell.receipt.startswith("3/3 procs, 6 lines, 0 lost; exited: rank 1")
    after = kernel.run("%%logmesh run --ranks 0,2\nprint('next')")
    assert sorted(after.lines) == ["[0] next", "[2] next"]
    status = kernel.run("%logmesh status").stdout
    assert "2/3 procs alive" in status
    assert re.search(r"rank 1 .*killed by SIGKILL", status)


def test_a_command_that_fails_tells_the_codes_by_rank(shared: Kernel) -> None:
    cell = shared.run("%logmesh exec -- sh -c 'echo I am $RANK of $WORLD_SIZE; exit $((RANK / 2))'")
    assert cell.ename == "CommandError"
    assert "exit code 0: ranks 0-1" in cell.error
    assert "exit code 1: ranks 2-3" in cell.error
    assert "Traceback" not in cell.error
    assert len(cell.lines) == 4
    assert re.fullmatch(r"\[0 job \d+\] I am 0 of 4", min(cell.lines))


# --- interrupts -----------------------------------------------------------------------------------

LOOPS = {
    "sleep": "%%logmesh run\nimport time\nprint('begins', flush=True)\nwhile True: time.sleep(60)",
    "busy": "%%logmesh run\nprint('begins', flush=True)\nwhile True: pass",
    "await": "%%logmesh run\nimport asyncio\nprint('begins')\nawait asyncio.sleep(60)",
    "exec": "%logmesh exec -- sh -c 'echo begins; sleep 60'",
}


@pytest.mark.parametrize("loop", LOOPS)
def test_an_interrupt_ends_what_runs_and_keeps_the_mesh(shared: Kernel, loop: str) -> None:
    shared.run("%%logmesh run\nkept = 7")
    request = shared.send(LOOPS[loop])
    wait_until(lambda: len(shared.shown(request).lines) == 4, what="all ranks have begun")
    began = time.monotonic()
    shared.interrupt()
    cell = shared.finish(request)
    assert time.monotonic() - began < 1.5
    assert "KeyboardInterrupt" in ANSI.sub("", cell.error)
    assert "logmesh_ipy" not in cell.error
    if loop in ("sleep", "busy"):
        assert "was at:" in cell.error
        assert "while True:" in cell.error
    assert len(cell.lines) == 4
    after = shared.run("%%logmesh run\nprint('next', kept)")
    assert sorted(after.lines) == [f"[{rank}] next 7" for rank in range(4)]
    assert after.receipt == "4/4 procs, 4 lines, 0 lost"


def test_an_interrupt_of_another_cell_leaves_the_procs_alone(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1)
    started = kernel.run("job = %logmesh exec --bg -- sh -c 'sleep 0.5; echo survived'")
    request = kernel.send("print('begins', flush=True)\nimport time; time.sleep(60)")
    wait_until(lambda: kernel.shown(request).stdout)
    kernel.interrupt()
    assert kernel.finish(request).ename == "KeyboardInterrupt"
    # Between barriers what a saved notebook keeps is brought up to date every five seconds.
    wait_until(lambda: kernel.shown(started.request).lines == ["[0 job 1] survived"], timeout=20)


# --- bad input ------------------------------------------------------------------------------------

BAD_STARTS = {
    "--procs 0": "procs is 0; it must be from 1 to 4096",
    "--procs -3": "procs is -3; it must be from 1 to 4096",
    "--procs=-3": "procs is -3; it must be from 1 to 4096",
    "--procs x": "procs is 'x'; it must be a whole number from 1 to 4096",
    "--procs 2.5": "procs is '2.5'; it must be a whole number",
    "--procs": "expected one argument",
    "--window 0": "window is 0; it must be 1 second or more, or none",
    "--window -1": "window is -1; it must be 1 second or more, or none",
    "--window abc": "window is 'abc'; it must be a number of seconds, or none",
    "--grouping fuzzy": "grouping is 'fuzzy'; allowed are 'similar' (default) and 'exact'",
    "--similarity 2": "similarity_threshold is '2'; it must be a number from 0",
    "--window nan": "it must be a number of seconds, or none",
    "--level loud": "level must be one of notset, debug",
    "--level 300": "or a number from 0 to 255; not '300'",
    "--loop up": "loop is 'up'; allowed are 'thread' (default) and 'kernel'",
    "--engine warp": "warp",
    "--hosts a,b": "the local engine knows this machine only",
    "--files /proc/nowhere": "cannot write log files to '/proc/nowhere'",
    "--nonsense": "unrecognized arguments: --nonsense",
    "stray": "unrecognized arguments: stray",
}


def test_bad_options_of_start_are_usage_errors_and_start_nothing(kernels: KernelMaker) -> None:
    kernel = kernels()
    kernel.run("%load_ext logmesh_ipy")
    for options, words in BAD_STARTS.items():
        text = complaint(kernel.run(f"%logmesh start {options}"))
        assert words in text, (options, text)
        assert "no mesh runs" in complaint(kernel.run("%logmesh status"))
    for command in ("flush", "set_mode", "status", "panel", "stop", "exec -- true"):
        text = complaint(kernel.run(f"%logmesh {command}"))
        assert re.search(
            "no mesh (runs|has run yet); start one with `%logmesh start --procs 4`", text
        )
    assert "no mesh runs" in complaint(kernel.run("%%logmesh run\nprint(1)"))
    # After all that, a start works.
    assert "2 procs" in kernel.run("%logmesh start --procs 2").stdout


BAD_CALLS = {
    "%logmesh start": "a mesh of 4 procs runs already; `%logmesh stop` ends it",
    "%logmesh start --procs 2": "a mesh of 4 procs runs already",
    "%logmesh set_mode --window 3 --no-stream": "cannot aggregate without streaming",
    "%logmesh set_mode --window 0": "it must be 1 second or more",
    "%logmesh set_mode --window -1": "it must be 1 second or more",
    "%logmesh set_mode --window abc": "it must be a number of seconds, or none",
    "%logmesh set_mode --level loud": "level must be one of notset, debug",
    "%logmesh set_mode --stream --no-stream": "--stream and --no-stream exclude each other",
    "%logmesh set_mode --autoflush --no-autoflush": "exclude each other",
    "%logmesh flush --timeout 0": "timeout is '0'; it must be a number of seconds above 0",
    "%logmesh flush --timeout x": "it must be a number of seconds above 0",
    "%logmesh panel --lines x": "--lines is 'x'; it must be a whole number",
    "%logmesh panel --lines -1": "--lines is -1; it must be 1 or more",
    "%%logmesh run --ranks 9\n1": "there is no rank 9; this mesh has 0-3",
    "%%logmesh run --ranks 3-1\n1": "the range 3-1 runs backwards",
    "%%logmesh run --ranks x\n1": "'x' is neither a rank nor a range like 0-3",
    "%%logmesh run --ranks -1\n1": "'-1' is neither a rank nor a range like 0-3",
    "%logmesh exec --ranks 4 -- true": "there is no rank 4; this mesh has 0-3",
    "%logmesh exec": "write the command behind --",
    "%logmesh exec --": "write the command behind --",
    "%logmesh exec true": "write the command behind --",
    "%logmesh exec -- 'unclosed": "the command cannot be read: No closing quotation",
    "%logmesh exec -- /nonexistent/command": "ranks 0-3: /nonexistent/command: No such file",
    "%logmesh exec -- /etc/passwd": "ranks 0-3: /etc/passwd: Permission denied",
    "%logmesh run": "%%logmesh run is a cell magic",
    "%%logmesh flush\n1": "%logmesh flush is a line magic: write it with one %",
    "%logmesh dance": "no sub-command 'dance'; there are: start, run, exec",
    "%logmesh --procs 4": "no sub-command '--procs'",
}


def test_bad_calls_are_usage_errors_and_change_nothing(shared: Kernel) -> None:
    mode = shared.run("%logmesh set_mode").stdout
    for code, words in BAD_CALLS.items():
        text = complaint(shared.run(code))
        assert words in text, (code, text)
    assert shared.run("%logmesh set_mode").stdout == mode
    assert len(shared.run("%%logmesh run\nprint(1)").lines) == 4


def test_a_proc_that_dies_at_its_start_tells_its_stderr(kernels: KernelMaker) -> None:
    kernel = kernels()
    place = Path(kernel.directory, "broken")
    place.mkdir()
    place.joinpath("sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1':\n"
        "    sys.stderr.write('no driver here\\n'); sys.stderr.flush(); os._exit(7)\n"
    )
    kernel.run(
        "import os\n"
        f"os.environ['PYTHONPATH'] = {str(place)!r} + ':' + os.environ['PYTHONPATH']\n"
        "%load_ext logmesh_ipy"
    )
    text = complaint(kernel.run("%logmesh start --procs 2", timeout=70))
    assert "rank 1" in text
    assert "no driver here" in text
    assert "no mesh runs" in complaint(kernel.run("%logmesh status"))


# --- modes ----------------------------------------------------------------------------------------


def test_set_mode_shows_the_mode_and_changes_only_what_is_given(kernels: KernelMaker) -> None:
    kernel = kernels("--window 3 --level WARNING")
    first = "streaming, grouped in windows of 3 s, level WARNING, flush after each cell"
    assert kernel.run("%logmesh set_mode").stdout.startswith(first)
    assert "level DEBUG" in kernel.run("%logmesh set_mode --level debug").stdout
    assert "windows of 3 s, level DEBUG" in kernel.run("%logmesh set_mode").stdout
    assert "every line" in kernel.run("%logmesh set_mode --window none").stdout
    assert "no automatic flush" in kernel.run("%logmesh set_mode --no-autoflush").stdout
    assert "level DEBUG, no automatic" in kernel.run("%logmesh set_mode").stdout
    assert "flush after each" in kernel.run("%logmesh set_mode --autoflush").stdout


def test_a_level_holds_for_the_procs_loggers(kernels: KernelMaker) -> None:
    kernel = kernels("--level ERROR")
    say = (
        "%%logmesh run\nfor name in ('debug', 'info', 'warning', 'error'): getattr(log, name)(name)"
    )
    kernel.run("%%logmesh run\nimport logging\nlogging.basicConfig()\nlog = logging.getLogger('x')")

    def said() -> List[str]:
        return [line.split(":")[-1] for line in kernel.run(say).lines if line.startswith("[0 err]")]

    assert said() == ["error"]
    kernel.run("%logmesh set_mode --level DEBUG")
    assert said() == ["debug", "info", "warning", "error"]
    kernel.run("%logmesh set_mode --level 30")
    assert said() == ["warning", "error"]


def test_exact_groups_hold_equal_lines_only(kernels: KernelMaker) -> None:
    kernel = kernels("--window 60 --grouping exact")
    cell = kernel.run("%%logmesh run\nfor i in range(2): print('step', i)\nprint('ready')")
    for line in ("[0-1 2×] step 0", "[0-1 2×] step 1", "[0-1 2×] ready"):
        assert line in cell.lines


def test_a_window_groups_what_is_alike(kernels: KernelMaker) -> None:
    kernel = kernels("--window 60")
    cell = kernel.run("%%logmesh run\nfor i in range(100): print('step', i)\nprint('ready')")
    assert ">>> Aggregated Logs (" in cell.text
    group = r"\[0-1 200×\] step <#>\n└ step 0 \[.\] … 49\.5 … 99 \[.\]\n"
    assert re.search(group, cell.text), cell.text
    assert "[0-1 2×] ready" in cell.lines
    assert cell.receipt == "2/2 procs, 202 lines, 0 lost"
    kernel.run("%logmesh set_mode --window none")
    assert len(kernel.run("%%logmesh run\nfor i in range(3): print('step', i)").lines) == 6


def test_without_streaming_lines_stay_away_and_are_counted(kernels: KernelMaker) -> None:
    kernel = kernels()
    kernel.run("%load_ext logmesh_ipy")
    kernel.run("%logmesh start --procs 2 --window 3")
    assert "not streaming" in kernel.run("%logmesh set_mode --no-stream").stdout
    cell = kernel.run("%%logmesh run\nfor i in range(10): print('quiet', i)")
    assert cell.lines == []
    status = kernel.run("%logmesh status").stdout
    assert "lines: 20 written = 0 stored + 20 skipped + 0 gap + 0 in flight" in status
    kernel.run("%logmesh set_mode --stream")
    assert len(kernel.run("%%logmesh run\nprint('loud')").lines) == 2


def test_without_autoflush_a_cell_does_not_wait_and_flush_shows_the_rest(
    kernels: KernelMaker,
) -> None:
    kernel = kernels("")
    kernel.run("%logmesh set_mode --no-autoflush")
    kernel.run(
        "%%logmesh run\nimport threading, time\n"
        "threading.Timer(0.2, print, ['later']).start()\nprint('now')"
    )
    cell = kernel.run("import time; time.sleep(0.5)\nreport = %logmesh flush")
    assert sorted(cell.lines) == ["[0] later", "[1] later"]
    assert cell.receipt == ""
    assert kernel.run("bool(report), report.late").result == "(True, ())"


def test_a_proc_that_cannot_answer_is_named_late_and_waited_for_once(kernels: KernelMaker) -> None:
    kernel = kernels("")
    pids = kernel.run(
        "import os, signal\n"
        "mesh = get_ipython().magics_manager.registry['LogMeshMagics'].session.mesh\n"
        "len(mesh.procs)"
    )
    assert pids.result == "2"
    cell = kernel.run("os.kill(mesh.procs[1].pid, signal.SIGSTOP)")
    assert cell.receipt == "1/2 procs, 0 lines, 0 lost; late: rank 1"
    began = time.monotonic()
    kernel.run("%%logmesh run --ranks 0\nprint('quick')")
    assert time.monotonic() - began < 1.0
    kernel.run("os.kill(mesh.procs[1].pid, signal.SIGCONT)")
    wait_until(lambda: kernel.run("%%logmesh run\n1").receipt == "2/2 procs, 0 lines, 0 lost")


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "used", "unused"),
    [("auto", True, False), ("always", True, True), ("never", False, False)],
)
def test_receipts_follow_the_configuration(
    kernels: KernelMaker, policy: str, used: bool, unused: bool
) -> None:
    kernel = kernels()
    kernel.run(f"c = get_ipython().config\nc.LogMesh.receipt = {policy!r}\nc.LogMesh.procs = 1")
    kernel.run("%load_ext logmesh_ipy")
    assert "1 proc on" in kernel.run("%logmesh start").stdout
    assert bool(kernel.run("%%logmesh run\nprint(1)").receipt) is used
    assert bool(kernel.run("1 + 1").receipt) is unused


def test_a_configuration_file_is_overridden_by_the_environment_and_that_by_arguments(
    kernels: KernelMaker,
) -> None:
    kernel = kernels(LOGMESH_WINDOW_SEC="5", LOGMESH_LEVEL="ERROR")
    kernel.run(
        "c = get_ipython().config\nc.LogMesh.procs = 1\nc.LogMesh.window_sec = 3\n"
        "c.LogMesh.level = 'DEBUG'\n%load_ext logmesh_ipy"
    )
    kernel.run("%logmesh start --level WARNING")
    assert "windows of 5 s, level WARNING" in kernel.run("%logmesh set_mode").stdout


def test_a_bad_variable_of_the_environment_is_named(kernels: KernelMaker) -> None:
    kernel = kernels(LOGMESH_PROCS="many", LOGMESH_UNRELATED="1")
    kernel.run("%load_ext logmesh_ipy")
    text = complaint(kernel.run("%logmesh start"))
    assert "procs is 'many'" in text
    assert "LOGMESH_PROCS" in text
    assert "1 proc on" in kernel.run("%logmesh start --procs 1").stdout


def test_raw_files_hold_what_was_printed(kernels: KernelMaker) -> None:
    kernel = kernels()
    place = Path(kernel.directory, "raw files")
    kernel.run("%load_ext logmesh_ipy")
    assert str(place) in kernel.run(f"%logmesh start --procs 2 --files '{place}'").stdout
    kernel.run("%%logmesh run\nimport sys\nprint('kept'); print('err', file=sys.stderr)")
    names = sorted(path.name for path in place.iterdir() if path.suffix == ".stdout")
    assert len(names) == 2
    assert {path.read_text() for path in place.glob("*.stdout")} == {"kept\n"}
    assert {path.read_text() for path in place.glob("*.stderr")} == {"err\n"}


# --- help and completion --------------------------------------------------------------------------


def test_help_tells_sub_commands_and_options(shared: Kernel) -> None:
    for question in ("%logmesh?", "%logmesh", "%%logmesh?"):
        text = shared.run(question).stdout
        for command in ("start", "run", "exec", "set_mode", "flush", "status", "panel", "stop"):
            assert f"logmesh {command}" in text
    text = shared.run("%logmesh start?").stdout
    for option in ("--procs", "--hosts", "--engine", "--window", "--level", "--loop", "--files"):
        assert option in text
    assert "--ranks" in shared.run("%%logmesh run?").stdout
    assert "RANK, LOCAL_RANK, WORLD_SIZE" in shared.run("%logmesh exec?").stdout


@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("%logmesh st", {"start", "status", "stop"}, {"run", "--procs"}),
        ("%logmesh ", {"start", "exec", "set_mode"}, {"--procs"}),
        ("%%logmesh r", {"run"}, {"start"}),
        ("%logmesh start --lo", {"--loop"}, {"start", "--procs"}),
        ("%logmesh start --", {"--procs", "--window", "--files"}, {"--stream"}),
        ("%logmesh set_mode --level ", {"DEBUG", "INFO", "ERROR"}, {"--level"}),
        ("%logmesh set_mode --level WAR", {"WARNING"}, {"DEBUG"}),
        ("%logmesh start --loop ", {"thread", "kernel"}, {"--procs"}),
        ("%logmesh start --engine ", {"local"}, {"--procs"}),
        ("x = %logmesh fl", {"flush"}, {"start"}),
        ("x = %logmesh exec --b", {"--bg"}, {"start"}),
    ],
)
def test_tab_completes(
    shared: Kernel, typed: str, offered: set[str], not_offered: set[str]
) -> None:
    matches = set(shared.complete(typed))
    assert offered <= matches, matches
    assert not not_offered & matches, matches


def test_status_and_panel_tell_the_whole_mesh(shared: Kernel) -> None:
    shared.run("%%logmesh run --ranks 1\nprint('for the panel')")
    panel = shared.run("%logmesh panel --lines 1").text
    assert re.search(r"\d\d:\d\d:\d\d \[1\] for the panel\n\Z", panel)
    assert "earlier line" in panel
    status = shared.run("%logmesh status").stdout
    assert "4/4 procs alive" in status
    written, stored = re.search(r"lines: ([\d,]+) written = ([\d,]+) stored", status).groups()  # type: ignore[union-attr]
    assert written == stored
    assert len(re.findall(r"^rank \d  +\d+  running", status, re.MULTILINE)) == 4


def test_flush_gives_its_report(shared: Kernel) -> None:
    cell = shared.run("%logmesh flush")
    assert cell.result is not None
    assert re.fullmatch(r"FlushReport \d+: 4/4 procs, 0 lines, 0 lost \([\d.]+ ms\)", cell.result)
    assert shared.run("x = %logmesh flush\nbool(x)").result == "True"
