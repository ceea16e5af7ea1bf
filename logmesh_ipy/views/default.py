"""The view that Python code gets without asking: plain text on the current stdout and stderr.

``LoggingMeshClient.spawn`` puts it up where nothing shows the instance's lines yet; a notebook
session brings its own. ``sys.stdout`` is looked up at each write: shells swap it at the prompt.
"""

from __future__ import annotations

import sys

from ..instance import Instance
from .driver import ViewDriver
from .terminal import TerminalView

__all__ = ["MAX_LINES", "CurrentStream", "show", "terminal_view"]

MAX_LINES = 2000
"""Lines of one round that a person is shown; what is left out is counted, and in the store."""


class CurrentStream:
    """``sys.stdout`` or ``sys.stderr`` as it is at each write."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Write to whatever the stream is now."""
        count: int = getattr(sys, self._name).write(text)
        return count

    def flush(self) -> None:
        """Flush whatever the stream is now."""
        getattr(sys, self._name).flush()

    def isatty(self) -> bool:
        """Whether it is a terminal now."""
        tty: bool = getattr(sys, self._name).isatty()
        return tty

    def fileno(self) -> int:
        """The number of the file that it is now; raises as a file does that has none."""
        number: int = getattr(sys, self._name).fileno()
        return number


def terminal_view() -> TerminalView:
    """Plain text on the current streams."""
    out, err = CurrentStream("stdout"), CurrentStream("stderr")
    # Who sits before a screen cannot read more; a script's output goes somewhere, whole.
    watched = out.isatty() or "IPython" in sys.modules
    return TerminalView(out, err, max_lines_per_render=MAX_LINES if watched else None)


def show(instance: Instance) -> None:
    """Print the instance's lines from now on, unless something shows them already."""
    if instance.view is None:
        instance.view = ViewDriver(
            instance.store, terminal_view(), lambda: instance.actor.aggregate_window_sec
        )
