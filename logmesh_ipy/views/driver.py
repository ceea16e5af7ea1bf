"""The driver: one thread that reads the store and feeds a view, at most ten times a second.

    store --append--> wake > read what is new > aggregate (with a window) > view > render

``sync`` asks for a round at once and waits for it: after a barrier it brings everything that the
barrier proved to the screen. The round runs in the driver's thread, so an interrupt of the caller
loses no line. A view that raises is not called again; the error is kept and told, and the store
goes on.
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import groupby
from typing import Callable, Dict, List, Optional, Tuple

from ..aggregator import Aggregator, Report
from ..clock import SYSTEM_CLOCK, Clock
from ..store import LogStore, OpenLine
from .base import View
from .group_text import add_values

__all__ = ["TICK_SEC", "ViewDriver"]

TICK_SEC = 0.1
_ROWS_PER_READ = 200_000
_BYTES_PER_READ = 8 << 20
_ALIVE_CHECK_SEC = 0.5
_CLOSE_SEC = 5.0

Receipt = Tuple[int, str, bool]
"""(cell, text, complete)."""


_Live = Tuple[int, Tuple[Tuple[int, int, bytes], ...]]
"""What a cell's live part shows: lines in its open window, and its unfinished lines."""
_NOTHING_LIVE: _Live = (0, ())


class _Request:
    """One ``sync`` that somebody waits for."""

    def __init__(self, receipt: Optional[Receipt], then: Callable[[], object]) -> None:
        self.receipt = receipt
        self.then = then


class ViewDriver:
    """Feeds ``view`` from ``store``; ``window`` tells the aggregation window now in force.

    Rows of the store before ``first_row`` are not shown.
    """

    def __init__(
        self,
        store: LogStore,
        view: View,
        window: Callable[[], Optional[float]],
        clock: Clock = SYSTEM_CLOCK,
        first_row: int = 0,
    ) -> None:
        self.view = view
        self.error: Optional[BaseException] = None
        self.on_error: Callable[[], None] = lambda: None
        self._store = store
        self._window = window
        self._clock = clock
        self._cursor = first_row
        self._aggregator: Optional[Aggregator] = None
        self._live: Dict[int, _Live] = {}
        self._unrendered = False
        self._condition = threading.Condition()
        self._fresh = False
        self._requests: List[_Request] = []
        self._stopping = False
        self._unsubscribe = store.subscribe(self._notice)
        self._thread = threading.Thread(target=self._run, name="logmesh-view", daemon=True)
        self._thread.start()

    def sync(self, receipt: Optional[Receipt] = None) -> None:
        """Show all that is in the store now; ``receipt`` is (cell, text, complete).

        Does nothing after ``close``, and in a forked child, which has no such thread.
        """
        done = threading.Event()
        self.sync_then(done.set, receipt)
        while not done.wait(_ALIVE_CHECK_SEC):
            if not self._thread.is_alive():
                return

    def sync_then(self, then: Callable[[], object], receipt: Optional[Receipt] = None) -> None:
        """Like ``sync`` without waiting: ``then()`` is called when all is shown, in any thread."""
        with self._condition:
            stopping = self._stopping
            if not stopping:
                self._requests.append(_Request(receipt, then))
                self._condition.notify()
        if stopping:
            then()

    def close(self) -> None:
        """A last round, then no more. Idempotent; waits for it, but not from the view itself."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._unsubscribe()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=_CLOSE_SEC)

    # --- the thread ---------------------------------------------------------------------------

    def _notice(self) -> None:
        """The store has grown. On the client's loop, for each batch: mostly one comparison."""
        if not self._fresh:
            with self._condition:
                self._fresh = True
                self._condition.notify()

    def _run(self) -> None:
        requests: List[_Request] = []
        stopping = False
        while not stopping:
            with self._condition:
                self._wait()
                # Before the store is read: what is appended from here on sets it again.
                self._fresh = False
                requests, self._requests = self._requests, []
                stopping = self._stopping
            self._round(requests, barrier=stopping or bool(requests))
            for request in requests:
                request.then()
        self._guard(self.view.close)

    def _wait(self) -> None:
        """Until a round is wanted: by a barrier at once, by new lines at most each tick."""
        if self._urgent():
            return
        self._condition.wait_for(self._urgent, TICK_SEC)
        waits = self._unrendered or (self._aggregator is not None and self._aggregator.cells())
        if not waits:
            self._condition.wait_for(lambda: self._fresh or self._urgent())

    def _urgent(self) -> bool:
        return self._stopping or bool(self._requests)

    def _round(self, requests: List[_Request], *, barrier: bool) -> None:
        self._guard(partial(self._advance, barrier=barrier))
        self._guard(self._show_live)
        for request in requests:
            if request.receipt is not None:
                self._guard(partial(self.view.receipt, *request.receipt))
        self._render(final=barrier)

    def _advance(self, *, barrier: bool) -> None:
        """Read what is new; report the windows that have ended, at a barrier all."""
        self._set_window(self._window())
        self._read()
        if self._aggregator is not None:
            now = self._clock.monotonic()
            self._show_groups(self._aggregator.flush() if barrier else self._aggregator.due(now))

    def _read(self) -> None:
        """Give the view what there is now; not what arrives meanwhile, which may never end."""
        end = self._store.rows
        while self._cursor < end and self.error is None:
            rows = min(_ROWS_PER_READ, end - self._cursor)
            chunks = self._store.read(self._cursor, rows, _BYTES_PER_READ)
            if not chunks:
                return  # closed meanwhile
            self._cursor = chunks[-1].first_row + chunks[-1].count
            if self._aggregator is not None:
                self._aggregator.add(chunks, self._clock.monotonic())
            else:
                for cell, some in groupby(chunks, key=lambda chunk: chunk.cell):
                    self._guard(partial(self.view.lines, cell, list(some)))

    def _render(self, *, final: bool) -> None:
        def render() -> None:
            self._unrendered = not self.view.render(final=final)

        self._unrendered = False
        self._guard(render)

    def _set_window(self, window: Optional[float]) -> None:
        if window is None:
            if self._aggregator is not None:
                self._show_groups(self._aggregator.flush())
                self._aggregator = None
        elif self._aggregator is None:
            self._aggregator = Aggregator(window, self._store.templates, self._store.ranks)
        else:
            self._aggregator.window_sec = window

    def _show_groups(self, reports: List[Report]) -> None:
        for report in reports:
            self._guard(partial(add_values, self._store, report))
            self._guard(partial(self.view.groups, report))

    def _show_live(self) -> None:
        """Tell the view of each cell whose live part has changed, also when it is gone."""
        lines: Dict[int, List[OpenLine]] = {}
        for line in self._store.open_lines():
            lines.setdefault(line.cell, []).append(line)
        pending = self._aggregator.cells() if self._aggregator is not None else []
        for cell in sorted({*self._live, *lines, *pending}):
            unfinished = lines.get(cell, [])
            count = self._aggregator.pending_lines(cell) if self._aggregator is not None else 0
            now = (
                count,
                tuple((line.info.proc, int(line.target), line.text) for line in unfinished),
            )
            if self._live.get(cell) == now:
                continue
            report = self._aggregator.pending(cell) if self._aggregator is not None else None
            self.view.live(cell, report, unfinished)
            if now == _NOTHING_LIVE:
                self._live.pop(cell, None)
            else:
                self._live[cell] = now

    def _guard(self, action: Callable[[], None]) -> None:
        if self.error is not None:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 (kept and told: a broken view must not stop us)
            self.error = error
            self.on_error()
