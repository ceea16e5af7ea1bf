"""How soon to try again: at once after a single fault, once a second where faults go on. Sans-IO.

Tries are spaced from begin to begin, so a link that breaks after a while is made again at once,
and one that breaks as it is made is not dialled in a loop. The space is doubled with each try and
drawn at random between one and one and a half times its length, so that many who lost the same
peer do not come back together. At most ten tries begin in the first second, then one a second at
most, whatever the peer does. Used by uplinks and by a managed proc.
"""

from __future__ import annotations

import random

__all__ = ["Backoff"]

_FIRST_SEC = 0.02
_MOST_SEC = 1.0
_FORGET_SEC = 2.0


class Backoff:
    """The tries of one dialler. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._space_sec = _FIRST_SEC
        self._began: float = float("-inf")

    def pause(self, now: float) -> float:
        """Seconds to wait before the next try, which is taken to begin then.

        Never 0: who lost a peer together comes back in a random order. Where the try before began
        two seconds ago or earlier, the space begins anew.
        """
        since = now - self._began
        if since >= _FORGET_SEC:
            self._space_sec = _FIRST_SEC
        space = self._space_sec * random.uniform(1.0, 1.5)  # noqa: S311 (jitter)
        pause = max(space - since, _FIRST_SEC * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
        self._space_sec = min(self._space_sec * 2, _MOST_SEC)
        self._began = now + pause
        return pause
