"""What ``%load_ext logmesh_ipy`` adds to a shell, and ``%unload_ext`` takes away again.

Magics, help for ``%logmesh start?``, completion, and an input transformer: on the kernel's own
loop it puts ``await`` before the magics, so cells read the same with both loops.
"""

from __future__ import annotations

import ast
import os
import re
from typing import Any, Callable, Dict, Iterator, List, Tuple

from IPython.core.interactiveshell import InteractiveShell

from .magics import COMMANDS, LogMeshMagics, parser_of

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_HELP = re.compile(r"^\s*%{1,2}logmesh(?:[ \t]+(\w+))?[ \t]*\?{1,2}\s*$")
_CALL = re.compile(r"get_ipython\(\)\.run_(line|cell)_magic\('logmesh', ")
_COMPLETED = r"\s*(?:[\w.,\s]+=\s*)?%{1,2}logmesh\b"


class _Extension:
    """What ``%load_ext`` adds to a shell, and how it is taken away."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.magics = LogMeshMagics(shell)
        self._names: Tuple[str, ...] = tuple(COMMANDS)

    def install(self) -> None:
        """Register magics, input transformers and completion."""
        self.shell.register_magics(self.magics)
        self.shell.input_transformers_cleanup.append(self.transform_help)
        self.shell.input_transformers_post.append(self.transform_await)
        set_hook: Callable[..., None] = self.shell.set_hook
        set_hook("complete_command", self.complete, re_key=_COMPLETED)
        self.magics.tell_of_crashes(os.environ.get("LOGMESH_STORE_DIRECTORY", ""))

    def remove(self) -> None:
        """Stop the mesh, and undo ``install``."""
        session = self.magics.used_session
        try:
            if session is not None:
                session.stop_now()
        finally:
            if session is not None:
                session.forget_past()
            self._unregister()

    def _unregister(self) -> None:
        self.shell.input_transformers_cleanup.remove(self.transform_help)
        self.shell.input_transformers_post.remove(self.transform_await)
        hook = self.shell.strdispatchers.get("complete_command")
        if hook is not None:
            hook.regexs.pop(re.compile(_COMPLETED), None)
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
        if not (self.magics.on_kernel_loop or self._starts_on_kernel_loop(lines)):
            return lines
        lines = list(lines)
        for line, column in _awaitable_calls(lines):
            text = lines[line].encode()
            call = text[column:].decode()
            awaited = _CALL.sub(
                r"await get_ipython().run_\1_magic('logmesh_await', ", call, count=1
            )
            lines[line] = text[:column].decode() + awaited
        return lines

    def _starts_on_kernel_loop(self, lines: List[str]) -> bool:
        starts = [line for line in lines if _CALL.search(line) and "start" in line]
        session = self.magics.used_session
        if not starts or (session is not None and session.is_on):
            return False
        named = re.search(r"--loop[ =]+(\w+)", starts[0])
        if named is not None:
            return named[1] == "kernel"
        return self.magics.settings.loop_in_force() == "kernel"

    def complete(self, shell: Any, event: Any) -> List[str]:
        """Sub-commands, then their options, then the values of those that have a known set."""
        typed = re.sub(_COMPLETED, "", event.text_until_cursor, count=1)
        words = typed.split()
        if words and not typed[-1].isspace():
            words.pop()
        if not words:
            return list(self._names)
        values = _VALUES.get(words[-1])
        if values is not None:
            return values()
        if words[0] not in COMMANDS:
            return []
        options = parser_of(words[0]).format_usage()
        return re.findall(r"--[a-z][a-z_-]*", options)


def _engines() -> List[str]:
    from .engines.base import engine_names

    return engine_names()


def _levels() -> List[str]:
    from .levels import LEVEL_NAMES

    return [name for level, name in LEVEL_NAMES.items() if level]


_VALUES: Dict[str, Callable[[], List[str]]] = {
    "--engine": _engines,
    "--level": _levels,
    "--loop": lambda: ["thread", "kernel"],
    "--view": lambda: ["panel", "plain"],
    "--grouping": lambda: ["similar", "exact"],
    "--window": lambda: ["none"],
}
"""Options whose values are a known set."""


def _awaitable_calls(lines: List[str]) -> Iterator[Tuple[int, int]]:
    """Where a cell calls the magic and may await it, so not in functions: line, byte column."""
    try:
        tree = compile(
            "".join(lines), "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
    except SyntaxError:
        return
    nodes: List[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            line = node.lineno - 1
            if _CALL.match(lines[line].encode()[node.col_offset :].decode()):
                yield line, node.col_offset
        nodes += ast.iter_child_nodes(node)


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
