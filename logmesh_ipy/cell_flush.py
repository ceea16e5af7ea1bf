"""Cells: which one runs, where its output is pinned, and the barrier that ends it.

IPython fires ``pre_run_cell`` and ``post_run_cell`` in the thread that runs the cell: the main
one, or a subshell's beside it. Nested ``run_cell`` calls fire both again and belong to the outer
cell; an empty cell fires ``post`` alone and is no cell; a cell whose ``post`` never came (a hook
has raised SystemExit) ends when the next one of its thread begins.
"""

from __future__ import annotations

import contextvars
import secrets
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Protocol

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

__all__ = ["CellFlush", "CellPublisher", "LiveDisplay", "is_notebook"]

_KEPT_CONTEXTS = 64
_display: Callable[..., Any] = display


def is_notebook(shell: InteractiveShell) -> bool:
    """Whether the shell has a Jupyter kernel (and so cells with displays)."""
    return getattr(shell, "kernel", None) is not None


@dataclass(slots=True)
class _Running:
    """A cell that runs; ``depth`` counts its nested runs."""

    cell: int
    message: str
    depth: int = 1


class CellFlush:
    """The hooks, called for top-level cells only: ``on_begin(cell)``, ``on_end(cell)``.

    ``on_resume(cell)``: the newest cell has ended, and an older one of another thread runs still.
    ``cell`` is the number of the cell that began last; 0 before the first.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        on_begin: Callable[[int], None],
        on_end: Callable[[int], None],
        on_resume: Callable[[int], None],
    ) -> None:
        self.cell = 0
        self._shell = shell
        self._on_begin = on_begin
        self._on_end = on_end
        self._on_resume = on_resume
        self._running: Dict[int, _Running] = {}

    def install(self, *, running: bool) -> None:
        """Register the hooks; ``running``: a cell runs now (the one that starts the mesh)."""
        self._shell.events.register("pre_run_cell", self._pre)
        self._shell.events.register("post_run_cell", self._post)
        if running:
            self._begin()

    def remove(self) -> None:
        """Unregister the hooks."""
        for event, hook in (("pre_run_cell", self._pre), ("post_run_cell", self._post)):
            if hook in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, hook)

    @property
    def running(self) -> bool:
        """Whether a cell runs now."""
        return bool(self._running)

    def _pre(self, info: Any) -> None:
        running = self._running.get(threading.get_ident())
        if running is not None and running.message == self._message_id():
            running.depth += 1
            return
        self._begin()

    def _begin(self) -> None:
        self.cell += 1
        self._running[threading.get_ident()] = _Running(self.cell, self._message_id())
        self._on_begin(self.cell)

    def _post(self, result: Any) -> None:
        running = self._running.get(threading.get_ident())
        if running is None:
            return
        running.depth -= 1
        if running.depth:
            return
        del self._running[threading.get_ident()]
        self._on_end(running.cell)
        others = [other.cell for other in list(self._running.values())]
        if others and running.cell > max(others):
            self._on_resume(max(others))

    def _message_id(self) -> str:
        """The request that runs the cell; the same for nested runs. Empty in a terminal."""
        get_parent = getattr(self._shell, "get_parent", None)
        if get_parent is None:
            return ""
        header = (get_parent() or {}).get("header") or {}
        return str(header.get("msg_id", ""))


class LiveDisplay(Protocol):
    """An interactive view that stands before the static display, and hides it while it shows."""

    def bundle(self, cell: Optional[int]) -> Dict[str, Any]:
        """What to display for a cell, called in its context."""

    def snapshot_class(self, cell: Optional[int]) -> str:
        """The classes of the static display, by which the view finds it."""


class CellPublisher:
    """One display per cell, pinned to it although another thread fills it.

    The display is made in a copy of the context that the cell ran in, so it lands there whatever
    runs by then. Updates go out in the newest cell's context: front ends find a display by its
    id, and some of them listen only to what the running cell sends. With a ``live`` view that
    stands first, and what is published is the snapshot that a saved notebook shows.
    """

    def __init__(self, shell: InteractiveShell, live: Optional[LiveDisplay] = None) -> None:
        self._shell = shell
        self._live = live
        self._contexts: Dict[int, contextvars.Context] = {}
        self._parents: Dict[int, Any] = {}
        self._shown: Dict[int, str] = {}
        self._newest = 0
        # The view's thread publishes, the main thread reserves: a context runs one at a time.
        self._lock = threading.Lock()

    def begin(self, cell: int) -> None:
        """A cell begins, in the calling thread's context."""
        with self._lock:
            self._contexts[cell] = contextvars.copy_context()
            self._parents[cell] = getattr(self._shell.display_pub, "parent_header", None)
            self._newest = cell
            # What is late may still make the display of a cell before this one.
            self._contexts.pop(cell - _KEPT_CONTEXTS, None)
            self._parents.pop(cell - _KEPT_CONTEXTS, None)

    def reserve(self, cell: int) -> None:
        """Make the cell's display now, still empty: its output may come long after its end."""
        with self._lock:
            if cell not in self._shown:
                self._publish(cell, {"text/plain": "", "text/html": ""})

    def publish(self, cell: int, bundle: Dict[str, str]) -> None:
        """Publisher: show, or update what is shown."""
        with self._lock:
            self._publish(cell, bundle)

    def _publish(self, cell: int, bundle: Dict[str, str]) -> None:
        if self._live is not None:
            markup = bundle["text/html"]
            classes = self._live.snapshot_class(cell)
            bundle = {**bundle, "text/html": f'<div class="{classes}">{markup}</div>'}
        display_id = self._shown.get(cell)
        if display_id is not None:
            self._run(self._newest, update_display, bundle, raw=True, display_id=display_id)
            return
        display_id = secrets.token_hex(16)
        if self._live is not None:
            self._show_live(cell, self._live)
        if cell == self._newest or not self._publish_to(cell, bundle, display_id):
            self._run(cell, _display, bundle, raw=True, display_id=display_id)
        self._shown[cell] = display_id

    def _show_live(self, cell: int, live: LiveDisplay) -> None:
        def show() -> None:
            bundle = live.bundle(cell)
            if cell == self._newest or not self._publish_to(cell, bundle, None):
                _display(bundle, raw=True)

        self._run(cell, show)

    def _run(self, cell: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        context = self._contexts.get(cell)
        if context is None:
            function(*args, **kwargs)
        else:
            context.run(function, *args, **kwargs)

    def _publish_to(self, cell: int, bundle: Dict[str, Any], display_id: Optional[str]) -> bool:
        """With ipykernel 6 all threads have the newest cell for a parent: name the right one."""
        publisher: Any = self._shell.display_pub
        parent = self._parents.get(cell)
        if parent is None or hasattr(publisher, "_parent_header") or not _sends(publisher):
            return False
        transient = {} if display_id is None else {"display_id": display_id}
        content = {"data": bundle, "metadata": {}, "transient": transient}
        message = publisher.session.msg("display_data", content, parent=parent)
        publisher.session.send(publisher.pub_socket, message, ident=publisher.topic)
        return True


def _sends(publisher: Any) -> bool:
    """Whether it is a kernel's own publisher, not one that captures a cell's output."""
    return all(hasattr(publisher, name) for name in ("session", "pub_socket", "topic"))
