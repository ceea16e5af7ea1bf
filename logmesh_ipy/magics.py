"""``%logmesh`` and ``%%logmesh``: sub-commands, their help, completion, and the extension itself.

Each sub-command is a function with IPython's ``magic_arguments``. On the kernel's own loop
(``--loop kernel``) a magic cannot block: it returns an awaitable, and an input transformer puts
``await`` before it, so cells read the same in both modes.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from .config import check_window
from .engines.base import engine_names
from .errors import CommandError, MeshStateError, OptionError, SpawnError
from .patterns import LEVEL_NAMES, parse_level
from .session import NotebookSession
from .settings import LogMesh
from .status import describe_status, recent_lines

__all__ = ["LogMeshMagics", "load_ipython_extension", "unload_ipython_extension"]

_SUMMARY = """\
%logmesh start      start procs; their output shows under the cell that caused it
%%logmesh run       run a cell on the procs
%logmesh exec       run a command once per rank
%logmesh set_mode   streaming, aggregation window, log level, automatic flush
%logmesh flush      the barrier: all that was written before it is here
%logmesh status     procs, streams, and the ledger of all lines
%logmesh panel      the last lines of all procs and cells
%logmesh stop       flush, then end the mesh

%logmesh start? (and so on) tells the options of one."""


@magic_arguments("logmesh start")
@argument("--procs", "-n", metavar="N", help="how many procs (default 4)")
@argument("--hosts", metavar="A,B", help="hosts, for engines that reach other machines")
@argument("--engine", metavar="NAME", help="where the procs run (default local)")
@argument("--window", metavar="S|none", help="group equal lines in windows of S seconds, 1 or more")
@argument("--level", metavar="L", help="level of Python's root logger in the procs (default INFO)")
@argument("--loop", metavar="thread|kernel", help="where the client runs (default thread)")
@argument("--files", metavar="DIR", help="keep raw log files in this directory of the hosts")
def _start(args: Any) -> None:
    """Start a mesh: bootstrap, procs, forwarders and the client; output streams from now on."""


@magic_arguments("%logmesh run")
@argument("--ranks", metavar="R", help="only these ranks, such as 0-3,8 (default all)")
def _run(args: Any) -> None:
    """Run the cell on the procs, all at once. Each keeps its names for the next cell."""


@magic_arguments("logmesh exec")
@argument("--ranks", metavar="R", help="only these ranks, such as 0-3,8 (default all)")
@argument("--bg", action="store_true", help="do not wait: gives a job with wait, interrupt, stop")
def _exec(args: Any) -> None:
    """Run a command once per rank: %logmesh exec [--ranks R] [--bg] -- CMD ARGS.

    Each process has RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
    """


@magic_arguments("logmesh set_mode")
@argument("--stream", action="store_true", help="stream lines to the notebook")
@argument("--no-stream", action="store_true", help="keep lines on the hosts, and count them")
@argument("--window", metavar="S|none", help="group equal lines in windows of S seconds, or not")
@argument("--level", metavar="L", help="level of Python's root logger in the procs")
@argument("--autoflush", action="store_true", help="run the barrier after each cell")
@argument("--no-autoflush", action="store_true", help="do not")
def _set_mode(args: Any) -> None:
    """Change how lines flow; what is not given stays. Without options: show the mode."""


@magic_arguments("logmesh flush")
@argument("--timeout", metavar="S", help="name who has not answered after S seconds")
def _flush(args: Any) -> None:
    """Run the barrier now; gives its report."""


@magic_arguments("logmesh status")
def _status(args: Any) -> None:
    """Show procs, streams and the ledger: written = stored + skipped + gap + in flight."""


@magic_arguments("logmesh panel")
@argument("--lines", metavar="N", help="how many lines (default 200)")
def _panel(args: Any) -> None:
    """Show the last lines of the whole mesh, of all cells."""


@magic_arguments("logmesh stop")
def _stop(args: Any) -> None:
    """Flush, then end the procs and everything that belongs to the mesh."""


_COMMANDS: Dict[str, Callable[[Any], None]] = {
    "start": _start,
    "run": _run,
    "exec": _exec,
    "set_mode": _set_mode,
    "flush": _flush,
    "status": _status,
    "panel": _panel,
    "stop": _stop,
}


@magics_class
class LogMeshMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.session = NotebookSession(shell)
        self.settings = LogMesh(parent=shell)

    @line_cell_magic("logmesh")
    def logmesh(self, line: str, cell: Optional[str] = None) -> Any:
        """Remote procs whose output shows under the cell that caused it."""
        coroutine = self._coroutine(line, cell)
        if self.session.on_kernel_loop:
            return asyncio.ensure_future(coroutine)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        coroutine.close()
        raise UsageError("%logmesh start --loop kernel must stand in a cell of its own")

    async def _coroutine(self, line: str, cell: Optional[str]) -> Any:
        """One call of the magic. It suspends only where the client is on the kernel's loop."""
        name, _, rest = line.strip().partition(" ")
        if name in ("", "help"):
            return self._help(rest.strip())
        if name not in _COMMANDS:
            raise UsageError(
                f"%logmesh has no sub-command {name!r}; there are: {', '.join(_COMMANDS)}"
            )
        if (cell is not None) != (name == "run"):
            raise UsageError(
                "%%logmesh run is a cell magic: write it on a cell's first line, the code below it"
                if name == "run"
                else f"%logmesh {name} is a line magic: write it with one %"
            )
        rest, command = _split_command(rest) if name == "exec" else (rest, [])
        args = parse_argstring(_COMMANDS[name], rest)
        try:
            return await getattr(self, f"_do_{name}")(args, cell if name == "run" else command)
        except (OptionError, MeshStateError, SpawnError) as error:
            raise UsageError(str(error)) from None
        except RuntimeError as error:
            if type(error) is RuntimeError:
                raise ModeError(str(error)) from None
            raise

    @line_cell_magic("logmesh_await")
    async def logmesh_await(self, line: str, cell: Optional[str] = None) -> Any:
        """``%logmesh`` for cells that can await; the input transformer writes it."""
        return await self._coroutine(line, cell)

    def _help(self, name: str) -> None:
        command = _COMMANDS.get(name)
        text = _SUMMARY if command is None else str(command.__doc__).replace("::", "", 1).strip()
        sys.stdout.write(text + "\n")

    async def _do_start(self, args: Any, _: object) -> None:
        options = self.settings.options(vars(args))
        began = time.monotonic()
        mesh = await self.session.start(options, self.settings.receipt_policy(), _progress())
        files = f"; raw files in {options.host.files}" if options.host.files else ""
        sys.stdout.write(
            f"{len(mesh)} proc{'s' * (len(mesh) != 1)} on {mesh.instance.hostname}, ready in "
            f"{time.monotonic() - began:.1f} s{files}\n"
        )

    async def _do_run(self, args: Any, cell: str) -> None:
        # Not execution_count: IPython 9 has raised it when the cell runs, IPython 8 has not.
        count = len(self.shell.history_manager.input_hist_parsed) - 1
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

    async def _do_status(self, args: Any, _: object) -> None:
        mesh = self.session.require("status")
        host = await self.session.wait(mesh.host_status()) if not mesh.lost else {}
        sys.stdout.write(describe_status(self.session, host) + "\n")

    async def _do_panel(self, args: Any, _: object) -> None:
        mesh = self.session.require("panel")
        try:
            lines = int(args.lines or 200)
        except ValueError:
            raise OptionError(f"--lines is {args.lines!r}; it must be a whole number") from None
        sys.stdout.write(recent_lines(mesh.instance.store, lines))

    async def _do_stop(self, args: Any, _: object) -> None:
        self.session.require("stop")
        await self.session.stop()
        sys.stdout.write("stopped\n")


class ModeError(UsageError, RuntimeError):
    """A window without streaming: the control surface's RuntimeError, as a usage error."""

    def _render_traceback_(self) -> List[str]:
        return [f"UsageError: {self}"]


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
        gap = "\n" if "\n" in text else " "
        sys.stdout.write(f"Out[{fold_ranks(ranks)}]:{gap}{text}\n")


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


# --- the extension --------------------------------------------------------------------------------

_HELP = re.compile(r"^\s*%{1,2}logmesh(?:[ \t]+(\w+))?[ \t]*\?{1,2}\s*$")
_CALL = re.compile(r"^(\w+\s*=\s*)?get_ipython\(\)\.run_(line|cell)_magic\('logmesh', ")


class _Extension:
    """What ``%load_ext`` adds to a shell, and how it is taken away."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.magics = LogMeshMagics(shell)
        self._names: Tuple[str, ...] = tuple(_COMMANDS)

    def install(self) -> None:
        """Register magics, input transformers and completion."""
        self.shell.register_magics(self.magics)
        self.shell.input_transformers_cleanup.append(self.transform_help)
        self.shell.input_transformers_post.append(self.transform_await)
        self.shell.set_hook("complete_command", self.complete, re_key=r"%{1,2}logmesh\b.*")

    def remove(self) -> None:
        """Stop the mesh, and undo ``install``."""
        self.magics.session.stop_now()
        self.shell.input_transformers_cleanup.remove(self.transform_help)
        self.shell.input_transformers_post.remove(self.transform_await)
        hook = self.shell.strdispatchers.get("complete_command")
        if hook is not None:
            hook.regexs = {
                key: chain
                for key, chain in hook.regexs.items()
                if key.pattern != r"%{1,2}logmesh\b.*"
            }
        for kind in ("line", "cell"):
            for name in ("logmesh", "logmesh_await"):
                self.shell.magics_manager.magics[kind].pop(name, None)

    def transform_help(self, lines: List[str]) -> List[str]:
        """``%logmesh start?`` shows the sub-command's help."""
        if len(lines) != 1:
            return lines
        match = _HELP.match(lines[0])
        return lines if match is None else [f"%logmesh help {match[1] or ''}\n"]

    def transform_await(self, lines: List[str]) -> List[str]:
        """On the kernel's own loop, calls of the magic are awaited by the cell."""
        if not (self.magics.session.on_kernel_loop or self._starts_on_kernel_loop(lines)):
            return lines
        call = r"\1await get_ipython().run_\2_magic('logmesh_await', "
        return [_CALL.sub(call, line) for line in lines]

    def _starts_on_kernel_loop(self, lines: List[str]) -> bool:
        starts = [line for line in lines if _CALL.match(line) and "start" in line]
        if not starts or self.magics.session.is_on:
            return False
        named = re.search(r"--loop[ =]+(\w+)", starts[0])
        if named is not None:
            return named[1] == "kernel"
        return self.magics.settings.loop_in_force() == "kernel"

    def complete(self, shell: Any, event: Any) -> List[str]:
        """Sub-commands, then their options, then the values of those that have a known set."""
        words = event.line[: len(event.line)].lstrip("%").split()
        if event.symbol and words and words[-1] == event.symbol:
            words.pop()
        if len(words) <= 1:
            return list(self._names)
        known = {
            "--engine": engine_names(),
            "--level": [name for level, name in LEVEL_NAMES.items() if level],
            "--loop": ["thread", "kernel"],
            "--window": ["none"],
        }
        if words[-1] in known:
            return known[words[-1]]
        command = _COMMANDS.get(words[1])
        if command is None:
            return []
        parser = command.parser  # type: ignore[attr-defined]
        return [o for action in parser._actions for o in action.option_strings if o[:2] == "--"]


_extensions: Dict[int, _Extension] = {}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext logmesh_ipy``."""
    if id(shell) in _extensions:
        return
    extension = _extensions[id(shell)] = _Extension(shell)
    extension.install()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext logmesh_ipy``: stops the mesh, and undoes everything."""
    extension = _extensions.pop(id(shell), None)
    if extension is not None:
        extension.remove()
