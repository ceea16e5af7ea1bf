"""``%logmesh`` and ``%%logmesh``: the sub-commands, their options and their help.

Each sub-command is a function with IPython's ``magic_arguments``, and a method of
:class:`LogMeshMagics` that does it. On the kernel's own loop (``--loop kernel``) a magic cannot
block: it returns an awaitable. The extension registers the magics.

Loading this module loads the words of the commands; what does them is loaded by the first.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, cast

from IPython.core import magic_arguments as ma
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class

from .errors import CommandError, MeshStateError, OptionError, SpawnError, indented

if TYPE_CHECKING:
    from .session import NotebookSession
    from .settings import LogMesh

__all__ = ["COMMANDS", "LogMeshMagics", "parser_of"]

_Command = Callable[[Any], None]
# IPython's decorators have no types of their own.
_magic_arguments: Callable[[str], Callable[[_Command], _Command]] = ma.magic_arguments
_argument: Callable[..., Callable[[_Command], _Command]] = ma.argument
_Magic = Callable[..., Any]
_line_cell_magic = cast(Callable[[str], Callable[[_Magic], _Magic]], line_cell_magic)

_SUMMARY = """\
%logmesh start      start procs; their output shows under the cell that caused it
%%logmesh run       run a cell on the procs
%logmesh exec       run a command once per rank
%logmesh set_mode   streaming, aggregation window, log level, automatic flush
%logmesh flush      the barrier: all that was written before it is here
%logmesh status     procs, streams, and the ledger of all lines
%logmesh doctor     check the installation, and say what to do
%logmesh panel      the whole mesh: the lines of all procs and cells
%logmesh sessions   whose lines a crashed kernel has left
%logmesh reopen     these lines, as data
%logmesh stop       flush, then end the mesh

%logmesh start? (and so on) tells the options of one."""


@_magic_arguments("logmesh start")
@_argument("--procs", "-n", metavar="N", help="how many procs (default 4)")
@_argument("--hosts", metavar="A,B", help="hosts, for engines that reach other machines")
@_argument("--engine", metavar="NAME", help="where the procs run (default local)")
@_argument(
    "--window",
    metavar="S|none",
    help="group lines that are alike, in windows of S seconds (1 or more)",
)
@_argument(
    "--grouping", metavar="similar|exact",
    help="group lines that differ in their variable parts (default), or equal lines only",
)  # fmt: skip
@_argument(
    "--similarity", metavar="X",
    help="how much of a line's words may differ within a group, 0 (numbers and ids only) to 1",
)  # fmt: skip
@_argument("--level", metavar="L", help="level of Python's root logger in the procs (default INFO)")
@_argument("--loop", metavar="thread|kernel", help="where the client runs (default thread)")
@_argument(
    "--listen", metavar="ADDRESS", help="where hosts elsewhere reach the kernel: tls://0.0.0.0:0"
)
@_argument("--view", metavar="panel|plain", help="how cells show the lines (default panel)")
@_argument("--files", metavar="DIR", help="keep raw log files in this directory of the hosts")
@_argument(
    "--redact", metavar="PATTERN", action="append",
    help="replace what this regular expression matches, beside those of c.LogMesh.redact (may be "
    "given again); write {{3}} for {3}, as IPython fills in what stands in braces",
)  # fmt: skip
def _start(args: Any) -> None:
    """Start a mesh: bootstrap, procs, forwarders and the client; output streams from now on."""


@_magic_arguments("%logmesh run")
@_argument("--ranks", metavar="R", help="only these ranks, such as 0-3,8 (default all)")
def _run(args: Any) -> None:
    """Run the cell on the procs, all at once. Each keeps its names for the next cell."""


@_magic_arguments("logmesh exec")
@_argument("--ranks", metavar="R", help="only these ranks, such as 0-3,8 (default all)")
@_argument("--bg", action="store_true", help="do not wait: gives a job with wait, interrupt, stop")
def _exec(args: Any) -> None:
    """Run a command once per rank: %logmesh exec [--ranks R] [--bg] -- CMD ARGS.

    Each process has RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
    As with !, IPython first fills in $name and {expression} where the notebook has them.
    """


@_magic_arguments("logmesh set_mode")
@_argument("--stream", action="store_true", help="stream lines to the notebook")
@_argument("--no-stream", action="store_true", help="keep lines on the hosts, and count them")
@_argument("--window", metavar="S|none", help="group equal lines in windows of S seconds, or not")
@_argument("--level", metavar="L", help="level of Python's root logger in the procs")
@_argument("--autoflush", action="store_true", help="run the barrier after each cell")
@_argument("--no-autoflush", action="store_true", help="do not")
def _set_mode(args: Any) -> None:
    """Change how lines flow; what is not given stays. Without options: show the mode."""


@_magic_arguments("logmesh flush")
@_argument("--timeout", metavar="S", help="name who has not answered after S seconds")
def _flush(args: Any) -> None:
    """Run the barrier now; gives its report."""


@_magic_arguments("logmesh status")
@_argument("--json", action="store_true", help="give it as a dict for programs: x = %%logmesh ...")
def _status(args: Any) -> None:
    """Show procs, streams and the ledger: written = stored + skipped + gap + in flight."""


@_magic_arguments("logmesh doctor")
@_argument("--quick", action="store_true", help="do not start a proc to try it")
def _doctor(args: Any) -> None:
    """Check the installation, and say what to do where something is wrong. Needs no mesh."""


@_magic_arguments("logmesh panel")
@_argument("--lines", metavar="N", help="how many lines as text (default 200)")
def _panel(args: Any) -> None:
    """Show the whole mesh, all cells: as an interactive view, or its last lines as text."""


@_magic_arguments("logmesh sessions")
def _sessions(args: Any) -> None:
    """List the sessions that kernels have left when they crashed, and those that run."""


@_magic_arguments("logmesh reopen")
@_argument("name", nargs="?", metavar="NAME", help="which session (default: the last that crashed)")
@_argument("--lines", metavar="N", help="only the last N lines")
def _reopen(args: Any) -> None:
    """Give the lines of a session as data: logs = %logmesh reopen, then logs.where(...)."""


@_magic_arguments("logmesh stop")
def _stop(args: Any) -> None:
    """Flush, then end the procs and everything that belongs to the mesh."""


COMMANDS: Dict[str, _Command] = {
    "start": _start,
    "run": _run,
    "exec": _exec,
    "set_mode": _set_mode,
    "flush": _flush,
    "status": _status,
    "doctor": _doctor,
    "panel": _panel,
    "sessions": _sessions,
    "reopen": _reopen,
    "stop": _stop,
}


@magics_class
class LogMeshMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.used_session: Optional[NotebookSession] = None
        """The session once a command has needed it."""
        self._shell = shell
        self._settings: Optional[LogMesh] = None
        self._awaited = False
        self._told_of_crashes = False

    @property
    def session(self) -> NotebookSession:
        """What the commands drive."""
        if self.used_session is None:
            from .session import NotebookSession

            self.used_session = NotebookSession(self._shell)
        return self.used_session

    @property
    def settings(self) -> LogMesh:
        """The options of the shell's configuration."""
        if self._settings is None:
            from .settings import LogMesh

            self._settings = LogMesh(parent=self._shell)
        return self._settings

    @property
    def on_kernel_loop(self) -> bool:
        """Whether the magics must be awaited."""
        return self.used_session is not None and self.used_session.on_kernel_loop

    @_line_cell_magic("logmesh")
    def logmesh(self, line: str, cell: Optional[str] = None) -> Any:
        """Remote procs whose output shows under the cell that caused it."""
        if self.on_kernel_loop:
            import asyncio

            return asyncio.ensure_future(self._coroutine(line, cell, awaited=True))
        try:
            self._coroutine(line, cell, awaited=False).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("a magic has waited where nothing awaits it")

    async def _coroutine(self, line: str, cell: Optional[str], *, awaited: bool) -> Any:
        """One call of the magic. It suspends only where the client is on the kernel's loop."""
        self._awaited = awaited
        name, _, rest = line.strip().partition(" ")
        if name in ("", "help"):
            return self._help(rest.strip())
        if name not in COMMANDS:
            raise UsageError(
                f"%logmesh has no sub-command {name!r}; there are: {', '.join(COMMANDS)}"
            )
        if (cell is not None) != (name == "run"):
            raise UsageError(
                "%%logmesh run is a cell magic: write it on a cell's first line, the code below it"
                if name == "run"
                else f"%logmesh {name} is a line magic: write it with one %"
            )
        rest, command = _split_command(rest) if name == "exec" else (rest, [])
        args = _parse(name, rest)
        try:
            return await getattr(self, f"_do_{name}")(args, cell if name == "run" else command)
        except (OptionError, MeshStateError, SpawnError) as error:
            raise UsageError(str(error)) from None
        except RuntimeError as error:
            if type(error) is RuntimeError:
                raise ModeError(str(error)) from None
            raise

    @_line_cell_magic("logmesh_await")
    async def logmesh_await(self, line: str, cell: Optional[str] = None) -> Any:
        """``%logmesh`` for cells that can await; the input transformer writes it."""
        return await self._coroutine(line, cell, awaited=True)

    def _help(self, name: str) -> None:
        command = COMMANDS.get(name)
        text = _SUMMARY if command is None else str(command.__doc__).replace("::", "", 1).strip()
        sys.stdout.write(text + "\n")

    async def _do_start(self, args: Any, _: object) -> None:
        from .cell_flush import is_notebook

        options = self.settings.options(vars(args))
        if options.loop == "kernel" and not self._awaited and is_notebook(self.session.shell):
            raise OptionError(
                "%logmesh start --loop kernel must be awaited by its cell: write it at the top "
                "level of a cell, and %load_ext logmesh_ipy in an earlier one"
            )
        self.tell_of_crashes(options.store_directory)
        began = time.monotonic()
        view = self.settings.view_in_force(args.view)
        mesh = await self.session.start(
            options, self.settings.receipt_policy(), _progress(), view=view
        )
        files = f"; raw files in {options.host.files}" if options.host.files else ""
        redacts = f"; redacts {', '.join(args.redact)}" if args.redact else ""
        sys.stdout.write(
            f"{len(mesh)} proc{'s' * (len(mesh) != 1)} on {mesh.instance.hostname}, ready in "
            f"{time.monotonic() - began:.1f} s{files}{redacts}\n"
        )

    async def _do_run(self, args: Any, cell: str) -> None:
        # Not execution_count: IPython 9 has raised it when the cell runs, IPython 8 has not.
        history = None if self.shell is None else self.shell.history_manager
        count = 0 if history is None else len(history.input_hist_parsed) - 1
        results = await self.session.run(cell, args.ranks, f"<logmesh cell [{count}]>")
        _show_results(results)

    async def _do_exec(self, args: Any, command: List[str]) -> Any:
        job = await self.session.exec(command, args.ranks, args.bg)
        if args.bg:
            return job
        if any(job.codes.values()):
            raise CommandError(job.describe(), job.codes)
        return None

    async def _do_set_mode(self, args: Any, _: object) -> None:
        from .config import check_window
        from .levels import parse_level

        session = self.session
        session.require("set_mode")
        if args.stream and args.no_stream:
            raise OptionError("--stream and --no-stream exclude each other")
        if args.autoflush and args.no_autoflush:
            raise OptionError("--autoflush and --no-autoflush exclude each other")
        stream = True if args.stream else False if args.no_stream else None
        window = check_window(args.window)
        assert session.client is not None
        level = session.client.level if args.level is None else parse_level(args.level)
        session.set_mode(stream, window, args.window is not None, level)
        if args.autoflush or args.no_autoflush:
            session.options = session.options.but(autoflush=bool(args.autoflush))
        sys.stdout.write(session.mode_text() + "\n")

    async def _do_flush(self, args: Any, _: object) -> Any:
        return await self.session.flush(args.timeout)

    async def _do_status(self, args: Any, _: object) -> Any:
        from .status import describe_status, read_status
        from .views.wrap import write_rows

        status = await read_status(self.session)
        if args.json:
            return status
        write_rows(sys.stdout, describe_status(status, self.session.mode_text()) + "\n")
        return None

    async def _do_doctor(self, args: Any, _: object) -> None:
        from .doctor import diagnose, report_text

        sys.stdout.write(report_text(diagnose(quick=args.quick, shell=self._shell)))

    async def _do_panel(self, args: Any, _: object) -> None:
        from .status import recent_lines

        lines = _line_count(args.lines, 200)
        self.session.show_panel(recent_lines(self.session.store, lines))

    async def _do_sessions(self, args: Any, _: object) -> None:
        from .crashed_sessions import saved_sessions

        found = saved_sessions(self.settings.store_directory_in_force())
        sys.stdout.write("".join(f"{session}\n" for session in found) or "no sessions\n")

    async def _do_reopen(self, args: Any, _: object) -> Any:
        from .crashed_sessions import reopen

        lines = _line_count(args.lines, 0)
        logs = reopen(args.name, self.settings.store_directory_in_force())
        return logs[-lines:] if lines else logs

    def tell_of_crashes(self, directory: str = "") -> None:
        """Say in a line, once, that the lines of kernels that have crashed can be reopened."""
        from .store_places import SessionPlace

        if not self._told_of_crashes and os.path.isdir(SessionPlace(directory).path):
            from .crashed_sessions import news_of_crashes

            news = news_of_crashes(directory)
            self._told_of_crashes = bool(news)
            sys.stdout.write(news and f"{news}\n")

    async def _do_stop(self, args: Any, _: object) -> None:
        self.session.require("stop")
        await self.session.stop()
        sys.stdout.write("stopped\n")


class ModeError(UsageError, RuntimeError):
    """A window without streaming: the control surface's RuntimeError, as a usage error."""

    def _render_traceback_(self) -> List[str]:
        return [f"UsageError: {self}"]


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a sub-command's options."""
    parser: argparse.ArgumentParser = COMMANDS[name].parser  # type: ignore[attr-defined]
    return parser


def _parse(name: str, rest: str) -> argparse.Namespace:
    """A sub-command's options, quoted as in a shell. Raises UsageError."""
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise UsageError(f"%logmesh {name}: the options cannot be read: {error}") from None
    # "--procs -3": what looks like an option there is a value that gets its own complaint.
    joined: List[str] = []
    for word in words:
        if joined and re.fullmatch(r"--?[a-z]+", joined[-1]) and re.match(r"-\d", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return parser_of(name).parse_args(joined)


def _line_count(text: Optional[str], default: int) -> int:
    try:
        lines = default if text is None else int(text)
    except ValueError:
        raise OptionError(f"--lines is {text!r:.80}; it must be a whole number") from None
    if text is not None and lines < 1:
        raise OptionError(f"--lines is {lines}; it must be 1 or more")
    return lines


def _split_command(rest: str) -> Tuple[str, List[str]]:
    options, found, command = f" {rest} ".partition(" -- ")
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"%logmesh exec: the command cannot be read: {error}") from None
    if not found or not argv:
        raise UsageError("write the command behind --, as in: %logmesh exec -- python train.py")
    return options, argv


def _show_results(results: Dict[int, str]) -> None:
    """The values of the cell's last expression, equal ones in one line."""
    from .model import fold_ranks

    by_text: Dict[str, List[int]] = {}
    for rank, text in results.items():
        if text:
            by_text.setdefault(text, []).append(rank)
    for text, ranks in by_text.items():
        shown = indented(f"\n{text}") if "\n" in text else f" {text}"
        sys.stdout.write(f"Out[{fold_ranks(ranks)}]:{shown}\n")


def _progress() -> Callable[[int, int], None]:
    """Tells how far the start is, once it takes longer than two seconds."""
    began = time.monotonic()
    told = 0.0

    def tell(ready: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - began > 2.0 and now - told > 1.0 and ready < total:
            told = now
            sys.stdout.write(f"starting: {ready} of {total} procs ready\n")
            sys.stdout.flush()

    return tell
