"""Time for all logic: a :class:`Clock` is passed in, so tests can move it.

Deadlines and windows use ``monotonic`` only; ``wall`` is for display. Jumps of the wall clock
therefore move no window and no deadline.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Where times come from. Both are seconds."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; the zero means nothing."""

    def wall(self) -> float:
        """Seconds since the Unix epoch, for display only."""


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()
