"""Threads that a search runs on, in order and in bounded memory; and a search that can be awaited.

What a thread does here is nearly all outside the interpreter lock, so the thread that waits, and
all others, run on meanwhile. Waiting can be interrupted at any moment. Used by ``logs``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Callable, Deque, Generator, Generic, Iterator, Optional, TypeVar

__all__ = ["LogTask", "in_order"]

_WORKERS = 2  # each holds some ten megabytes at a time
_AHEAD = 3

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


def in_order(work: Callable[[A], B], items: Iterator[A]) -> Generator[B, None, None]:
    """``work(item)`` of each item, in the order of the items.

    Items are taken in the thread that iterates, at most ``_AHEAD`` before their turn, and worked
    on by threads that end with the iteration. A single item is worked on where it is.
    """
    first = list(islice(items, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="logmesh-search")
    try:
        pending: Deque[Future[B]] = deque(pool.submit(work, item) for item in first)
        del first
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class LogTask(Generic[T]):
    """A result under way in a thread: ``await task``, or ``task.get(timeout)``.

    It is made of ``parts``, which ``gather`` puts together. It runs from the moment it is made;
    cancelling it, or interrupting who waits for it, stops it before its next part.
    """

    def __init__(self, parts: Generator[A, None, None], gather: Callable[[Iterator[A]], T]) -> None:
        self._future: Future[T] = Future()
        run = threading.Thread(
            target=self._run, args=(parts, gather), name="logmesh-search", daemon=True
        )
        run.start()

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def get(self, timeout: Optional[float] = None) -> T:
        """Block for the result, at most ``timeout`` seconds (TimeoutError; it runs on then)."""
        try:
            return self._future.result(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise
        except concurrent.futures.TimeoutError:
            if self._future.done():
                raise
            raise TimeoutError(f"no result within {timeout:g} seconds") from None

    def done(self) -> bool:
        """Whether ``get`` would return at once."""
        return self._future.done()

    def cancel(self) -> bool:
        """Stop the work; False when it is done already."""
        return self._future.cancel()

    def __repr__(self) -> str:
        state = "done" if self._future.done() else "running"
        return f"<LogTask {state}; `await` it, or call .get()>"

    def _run(self, parts: Generator[A, None, None], gather: Callable[[Iterator[A]], T]) -> None:
        try:
            with contextlib.closing(parts):
                result = gather(self._until_cancelled(parts))
        except BaseException as error:  # noqa: BLE001 (whatever it is belongs to who waits)
            if self._future.set_running_or_notify_cancel():
                self._future.set_exception(error)
        else:
            if self._future.set_running_or_notify_cancel():
                self._future.set_result(result)

    def _until_cancelled(self, parts: Iterator[A]) -> Iterator[A]:
        for part in parts:
            if self._future.cancelled():
                raise concurrent.futures.CancelledError
            yield part
