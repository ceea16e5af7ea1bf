"""The command ``logmesh``: ``logmesh run --procs 4 -- python train.py``, without a notebook.

``run`` runs the command once per rank, streams (or groups) what they print, ends with the code of
the rank that failed first. Ctrl-C interrupts the ranks; a second one ends them, as SIGTERM does.
``doctor`` checks the installation, and ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import threading
from datetime import datetime, timezone
from typing import Any, Iterator, List, Optional, Sequence, TextIO

from ._version import __version__
from .config import MeshOptions
from .crashed_sessions import saved_sessions
from .errors import LogMeshError, OptionError, SpawnError
from .file_appender import check_directory
from .instance import Instance
from .job import Job
from .levels import LEVEL_NAMES, level_name, parse_level
from .mesh import HostMesh, ProcMesh
from .sanitize import inert, one_row, to_json
from .settings import LogMesh
from .store import Chunk, LogStore
from .views.driver import ViewDriver
from .views.terminal import LevelFilter, TerminalView

__all__ = ["main"]

_USAGE_EXIT = 2
_CANNOT_RUN_EXIT = 126
_NOT_FOUND_EXIT = 127
_STOP_SEC = 2.0
_POLL_SEC = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point; gives the exit code."""
    parser, run = _parsers()
    words = list(sys.argv[1:] if argv is None else argv)
    words, command = _split(words)
    args, unknown = parser.parse_known_args(words)
    if args.command in ("sessions", "doctor"):
        if unknown or command:
            parser.error(f"unknown behind {args.command}: {' '.join([*unknown, *command])}")
        return _list_sessions() if args.command == "sessions" else _doctor(quick=args.quick)
    if args.command != "run":
        parser.print_help()
        return _USAGE_EXIT
    if not command:
        run.error("write the command behind --, as in: logmesh run --procs 4 -- python train.py")
    if unknown:
        run.error(f"unknown before --: {one_row(' '.join(unknown))}")
    try:
        options = _options(args)
        least = parse_level(args.level) if args.level is not None else 0
        if args.files:
            check_directory(args.files)
    except OptionError as error:
        run.error(str(error))
    _set_encoding(as_json=args.json)
    try:
        return _Run(options, command, least, as_json=args.json, keep_going=args.keep_going).main()
    except SpawnError as error:
        sys.stderr.write(f"logmesh: {inert(str(error))}\n")
        return _CANNOT_RUN_EXIT if "Permission denied" in str(error) else _NOT_FOUND_EXIT
    except LogMeshError as error:
        sys.stderr.write(f"logmesh: {inert(str(error))}\n")
        return 1


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of the whole command, and that of ``run``."""
    parser = argparse.ArgumentParser(
        prog="logmesh", description="Run a command on many ranks; see all that they print."
    )
    parser.add_argument("--version", action="version", version=f"logmesh_ipy {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="run|sessions|doctor")
    commands.add_parser("sessions", help="list the sessions that crashes have left")
    doctor = commands.add_parser(
        "doctor",
        help="check the installation, and say what to do",
        description="Check versions, front end, directories, limits and settings; start a proc and "
        "see that a line of it comes through. Ends with 1 where something is wrong.",
    )
    doctor.add_argument("--quick", action="store_true", help="do not start a proc")
    run = commands.add_parser(
        "run",
        help="run a command once per rank",
        usage="logmesh run [options] -- COMMAND [ARGS ...]",
        description="Run a command once per rank, with RANK, LOCAL_RANK, WORLD_SIZE, "
        "LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT set. Ends with the code of the rank that "
        "failed first (128 + number for a signal).",
    )
    run.add_argument("--procs", "-n", metavar="N", default="1", help="how many ranks (default 1)")
    run.add_argument(
        "--window", metavar="S", help="group lines that are alike, in windows of S seconds"
    )
    run.add_argument(
        "--grouping", metavar="similar|exact", help="what is alike: see c.LogMesh.grouping"
    )
    levels = ", ".join(name for level, name in LEVEL_NAMES.items() if level)
    run.add_argument("--level", metavar="L", help=f"hide lines that state a lower level ({levels})")
    run.add_argument("--files", metavar="DIR", help="keep each rank's raw output in this directory")
    run.add_argument(
        "--redact", metavar="PATTERN", action="append",
        help="replace what this regular expression matches (may be given again)",
    )  # fmt: skip
    run.add_argument("--json", action="store_true", help="one JSON object per line, on stdout")
    run.add_argument(
        "--keep-going", action="store_true", help="let the others run on when a rank has failed"
    )
    return parser, run


def _list_sessions() -> int:
    try:
        for session in saved_sessions(LogMesh().store_directory_in_force()):
            sys.stdout.write(f"{session}\n")
    except OptionError as error:
        sys.stderr.write(f"logmesh: {inert(str(error))}\n")
        return 1
    return 0


def _doctor(*, quick: bool) -> int:
    from .doctor import diagnose, report_text  # what running a command does not need

    findings = diagnose(quick=quick)
    _set_encoding(as_json=False)
    sys.stdout.write(report_text(findings))
    return int(any(finding.state == "fail" for finding in findings))


def _split(words: List[str]) -> tuple[List[str], List[str]]:
    """The words before ``--`` and the command behind it."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _options(args: argparse.Namespace) -> MeshOptions:
    if args.json and args.window is not None:
        raise OptionError("--json gives every line; --window groups lines: choose one")
    arguments = {
        "procs": args.procs,
        "window": "none" if args.json else args.window,
        "grouping": args.grouping,
        "files": os.path.abspath(args.files) if args.files else None,
        "redact": args.redact,
    }
    return LogMesh().options(arguments)


class _Run:
    """One ``logmesh run``."""

    def __init__(
        self,
        options: MeshOptions,
        command: List[str],
        least: int,
        *,
        as_json: bool,
        keep_going: bool,
    ) -> None:
        self._options = options
        self._command = command
        self._least = least
        self._as_json = as_json
        self._keep_going = keep_going
        self._interrupts = 0
        self._signal = 0
        self._wake = threading.Event()

    def main(self) -> int:
        instance = Instance(self._options)
        instance.store.begin_cell(1)
        previous = {number: signal.signal(number, self._signalled) for number in _SIGNALS}
        mesh: Optional[ProcMesh] = None
        try:
            mesh = (
                HostMesh(self._options)
                .spawn_procs(self._options.procs, instance=instance, commands_only=True)
                .get()
            )
            driver = self._driver(instance.store)
            try:
                job = mesh.exec(self._command).get()
                self._watch(job, driver)
                job.wait().get()
                report = mesh.flush(_STOP_SEC).get()
            finally:
                driver.close()
            if isinstance(driver.error, BrokenPipeError):
                _silence_stdout()
                return 128 + signal.SIGPIPE
            if driver.error is not None:
                raise LogMeshError(f"the output cannot be written: {driver.error}")
            if not report:
                sys.stderr.write(f"logmesh: not everything arrived: {report}\n")
            return self._exit_code(job)
        finally:
            if mesh is not None:
                mesh.stop(_STOP_SEC).get()
            instance.close_loop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _driver(self, store: LogStore) -> ViewDriver:
        view: Any = (
            JsonView(sys.stdout, self._least)
            if self._as_json
            else TerminalView(sys.stdout, sys.stderr, least_level=self._least, receipts=False)
        )
        window = self._options.window_sec
        driver = ViewDriver(store, view, lambda: window)
        driver.on_error = self._wake.set
        return driver

    def _watch(self, job: Job, driver: ViewDriver) -> None:
        """Until the job is over: pass interrupts on, end it where a rank or our reader failed."""
        handled = 0
        stopping = False
        waiting = job.wait()
        waiting.on_done(self._wake.set)
        job.on_change(self._wake.set)
        self._wake.set()  # for what happened before the two lines above
        while not waiting.done():
            self._wake.wait(_POLL_SEC)
            self._wake.clear()
            failed = job.first_failure is not None and not self._keep_going
            failed = failed or driver.error is not None
            if self._interrupts > handled:
                handled = self._interrupts
                only_once = handled == 1 and self._signal == signal.SIGINT
                (job.interrupt() if only_once else job.stop())
            elif failed and not stopping and job.running and not self._interrupts:
                stopping = True
                job.stop()

    def _signalled(self, number: int, frame: object) -> None:
        # No event is set here: the main thread may hold its lock. The watch looks by itself.
        self._interrupts += 1
        self._signal = number

    def _exit_code(self, job: Job) -> int:
        if self._interrupts:
            return 128 + self._signal
        rank = job.first_failure
        if rank is None:
            return 0
        if len(job.codes) > 1 or self._as_json:
            sys.stderr.write(f"logmesh: rank {rank} failed first; {job.describe()}\n")
        code = job.codes[rank]
        return code if code > 0 else 128 - code


class JsonView:
    """A view that writes one JSON object per line."""

    def __init__(self, out: TextIO, least_level: int) -> None:
        self._out = out
        self._filter = LevelFilter(least_level)

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        """View: write them, chunk by chunk: what is slow to write must not gather in memory."""
        for chunk in chunks:
            self._out.write("".join(self._objects(chunk)))

    def _objects(self, chunk: Chunk) -> Iterator[str]:
        moment = datetime.fromtimestamp(chunk.wall, tz=timezone.utc)
        common = {
            "time": moment.isoformat(timespec="microseconds"),
            "host": chunk.info.hostname,
            "rank": chunk.info.rank,
            "pid": chunk.info.pid,
            "stream": chunk.target.label,
        }
        beginning = to_json(common)[:-1]
        for seq, text in enumerate(chunk.lines(), chunk.first_line):
            level = self._filter.level(text)
            if level is None or level >= self._filter.least:
                name = "null" if level is None else json.dumps(level_name(level))
                shown = to_json(text.decode(errors="backslashreplace"))
                yield f'{beginning}, "level": {name}, "text": {shown}, "seq": {seq}}}\n'

    def groups(self, report: Any) -> None:
        """View: nothing is grouped."""

    def live(self, cell: int, pending: Any, unfinished: Any) -> None:
        """View: a line is written when it is whole."""

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """View: no receipts between objects."""

    def render(self, *, final: bool) -> bool:
        """View: push it out."""
        self._out.flush()
        return True

    def close(self) -> None:
        """View: push it out."""
        self._out.flush()


def _set_encoding(*, as_json: bool) -> None:
    """JSON is UTF-8; on a terminal, what its encoding has not is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8" if as_json else None, errors="backslashreplace")


def _silence_stdout() -> None:
    """The reader of our output is gone (``| head``): have the interpreter's exit not mind."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
