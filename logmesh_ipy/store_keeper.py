"""StoreKeeper: what ties a store's file to the client's loop, so that a crash costs little.

The store writes by itself, but it does not know the ledger, nor what a barrier has promised. Here
the ledger is told to it, each second in which something has come and at each barrier; and a barrier
waits until what it has proved is in the file. A disk that hangs is waited for no longer than
``_SAVE_SEC``: lines are in memory all the same.

Made and called by the instance, on its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Optional, Tuple

from .log_client_actor import LogClientActor
from .store import LogStore

__all__ = ["StoreKeeper"]

_NOTE_SEC = 1.0
_SAVE_SEC = 1.0


class StoreKeeper:
    """From now to ``end()``."""

    def __init__(self, store: LogStore, actor: LogClientActor) -> None:
        self._store = store
        self._actor = actor
        self._loop = asyncio.get_running_loop()
        self._told: Tuple[int, int] = (0, 0)
        self._timer: Optional[asyncio.TimerHandle] = None
        self._tick()

    async def saved(self) -> None:
        """Wait until all lines there are now, and the ledger, are in the file.

        Or the disk has refused them, or ``_SAVE_SEC`` have passed; at once where no lines are kept.
        """
        self._note()
        done = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(done.set)

        if self._store.save(tell):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(done.wait(), _SAVE_SEC)

    def end(self) -> None:
        """No more lines will come."""
        if self._timer is not None:
            self._timer.cancel()
        self._note()
        self._store.finish()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_NOTE_SEC, self._tick)
        self._note()

    def _note(self) -> None:
        news = (self._store.rows, len(self._actor.gaps))
        if news != self._told:
            self._told = news
            self._store.note(self._actor.totals(), self._actor.gaps)
