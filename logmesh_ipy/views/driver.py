"""The driver: one thread that reads the store and feeds a view, at most ten times a second.

    store --append--> wake > read what is new > aggregate (with a window) > view > render

``sync`` does one round at once, in the caller's thread: after a barrier it brings everything
that the barrier proved to the screen. A view that raises is not called again; the error is kept
and told, and the store goes on.
"""

from __future__ import annotations

import threading
from itertools import groupby
from typing import Callable, Optional

from ..aggregator import Aggregator
from ..clock import SYSTEM_CLOCK, Clock
from ..store import LogStore
from .base import View

__all__ = ["TICK_SEC", "ViewDriver"]

TICK_SEC = 0.1
_ROWS_PER_ROUND = 200_000


class ViewDriver:
    """Feeds ``view`` from ``store``; ``window`` tells the aggregation window now in force."""

    def __init__(
        self,
        store: LogStore,
        view: View,
        window: Callable[[], Optional[float]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.view = view
        self.error: Optional[BaseException] = None
        self.on_error: Callable[[], None] = lambda: None
        self._store = store
        self._window = window
        self._clock = clock
        self._cursor = 0
        self._aggregator: Optional[Aggregator] = None
        self._unrendered = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._unsubscribe = store.subscribe(self._notice)
        self._thread = threading.Thread(target=self._run, name="logmesh-view", daemon=True)
        self._thread.start()

    def sync(self, receipt: Optional[tuple[int, str, bool]] = None) -> None:
        """Show all that is in the store now; ``receipt`` is (cell, text, complete)."""
        with self._lock:
            self._round(barrier=True)
            if receipt is not None:
                self._guard(lambda: self.view.receipt(*receipt))
                self._render(final=True)

    def close(self) -> None:
        """A last round, then no more."""
        if self._stop.is_set():
            return
        self._unsubscribe()
        self._stop.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        with self._lock:
            self._round(barrier=True)
            self._guard(self.view.close)

    def _notice(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            waits = self._unrendered or (
                self._aggregator is not None and bool(self._aggregator.cells())
            )
            self._wake.wait(TICK_SEC if waits else None)
            if self._stop.is_set():
                return
            self._wake.clear()
            with self._lock:
                self._round(barrier=False)
            self._stop.wait(TICK_SEC)

    def _round(self, barrier: bool) -> None:
        window = self._window()
        self._set_window(window)
        while self.error is None:
            chunks = self._store.read(self._cursor, _ROWS_PER_ROUND)
            if not chunks:
                break
            self._cursor = chunks[-1].first_row + chunks[-1].count
            if self._aggregator is not None:
                now = self._clock.monotonic()
                for chunk in chunks:
                    self._aggregator.add(chunk, now)
            else:
                for cell, some in groupby(chunks, key=lambda chunk: chunk.cell):
                    batch = list(some)
                    self._guard(lambda cell=cell, batch=batch: self.view.lines(cell, batch))
        self._report(barrier)
        self._guard(self._show_live)
        self._render(final=barrier)

    def _render(self, final: bool) -> None:
        def render() -> None:
            self._unrendered = not self.view.render(final=final)

        self._unrendered = False
        self._guard(render)

    def _set_window(self, window: Optional[float]) -> None:
        if window is None and self._aggregator is not None:
            for report in self._aggregator.flush():
                self._guard(lambda report=report: self.view.groups(report))
            self._aggregator = None
        elif window is not None and self._aggregator is None:
            self._aggregator = Aggregator(window)
        elif window is not None and self._aggregator is not None:
            self._aggregator.window_sec = window

    def _report(self, barrier: bool) -> None:
        if self._aggregator is None:
            return
        reports = (
            self._aggregator.flush() if barrier else self._aggregator.due(self._clock.monotonic())
        )
        for report in reports:
            self._guard(lambda report=report: self.view.groups(report))

    def _show_live(self) -> None:
        unfinished = self._store.open_lines()
        pending = self._aggregator.cells() if self._aggregator is not None else []
        for cell in {self._store.cell, *pending, *(line.cell for line in unfinished)}:
            report = self._aggregator.pending(cell) if self._aggregator is not None else None
            self.view.live(cell, report, [line for line in unfinished if line.cell == cell])

    def _guard(self, action: Callable[[], None]) -> None:
        if self.error is not None:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 (kept and told: a broken view must not stop us)
            self.error = error
            self.on_error()
