"""The client's event loop, and results that sync and async callers can both wait for.

By default the loop runs in a thread of its own, so that a cell which blocks the main thread
does not stop the stream. It can instead be a loop that already runs (the kernel's): then
nothing may block on it, and :meth:`PythonTask.get` on its own thread says so at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import socket
import threading
from typing import Any, Callable, Coroutine, Generator, Generic, Optional, TypeVar

from .errors import LoopBlockedError, MeshStateError

__all__ = ["MeshLoop", "PythonTask"]

T = TypeVar("T")


class PythonTask(Generic[T]):
    """A result under way: ``await task``, or ``task.get(timeout)`` where nothing can be awaited.

    It runs from the moment it is made. ``cancel()`` stops it.
    """

    def __init__(
        self, future: concurrent.futures.Future[T], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._future = future
        self._loop = loop

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def get(self, timeout: Optional[float] = None) -> T:
        """Block for the result, at most ``timeout`` seconds (TimeoutError).

        An exception of the task is raised here; KeyboardInterrupt leaves the task running.
        """
        if not self._future.done() and _running_loop() is self._loop:
            raise LoopBlockedError(
                "this would block the loop that makes the result: use `await` here "
                "(the mesh runs on the kernel's own loop)"
            )
        try:
            return self._future.result(timeout)
        except concurrent.futures.TimeoutError:
            if self._future.done():
                raise
            raise TimeoutError(f"no result within {timeout:g} seconds") from None

    def done(self) -> bool:
        """Whether ``get`` would return at once."""
        return self._future.done()

    def on_done(self, call: Callable[[], None]) -> None:
        """Have ``call()`` called once the result is there, on any thread."""
        self._future.add_done_callback(lambda _: call())

    def cancel(self) -> bool:
        """Stop the work; False when it is done already."""
        return self._future.cancel()

    def __repr__(self) -> str:
        state = "done" if self._future.done() else "running"
        return f"<PythonTask {state}; `await` it, or call .get()>"


def _running_loop() -> Optional[asyncio.AbstractEventLoop]:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _SignalWaker:
    """Wakes a loop of the main thread when a signal comes; elsewhere it does nothing.

    Python's handlers run while the loop waits, and then it waits on. IPython's interrupt of a cell
    that awaits is a handler which leaves work for the loop: on a quiet one nothing would do it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._hears, self._tells = socket.socketpair()
        for end in (self._hears, self._tells):
            end.setblocking(False)
        self._installed = False
        try:
            before = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        except ValueError:  # not the main thread
            return
        if before != -1:  # somebody else's wakes a loop, and this one's as a rule
            signal.set_wakeup_fd(before)
            return
        self._installed = True
        loop.add_reader(self._hears, self._heard)

    def close(self) -> None:
        """Idempotent; on the thread of the loop."""
        try:
            if self._installed:
                self._installed = False
                self._loop.remove_reader(self._hears)
                current = signal.set_wakeup_fd(-1)
                if current != self._tells.fileno():
                    signal.set_wakeup_fd(current)
        finally:
            self._hears.close()
            self._tells.close()

    def _heard(self) -> None:
        self._hears.recv(4096)


class MeshLoop:
    """An event loop in a thread of its own, or one that runs already."""

    def __init__(self, loop: Optional[asyncio.AbstractEventLoop] = None) -> None:
        self.own_thread = loop is None
        self._thread: Optional[threading.Thread] = None
        self._lock = threading.Lock()
        self._closing = False
        self._waker: Optional[_SignalWaker] = None
        if loop is not None:
            self.loop = loop
            self._waker = _SignalWaker(loop)
            return
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="logmesh-client", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> PythonTask[T]:
        """Run a coroutine on the loop, from any thread. Raises MeshStateError after ``close``."""
        with self._lock:  # what is submitted before the stop is cancelled by it, never forgotten
            if not self._closing and not self.loop.is_closed():
                future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
                return PythonTask(future, self.loop)
        coroutine.close()
        raise MeshStateError("the mesh's loop is closed; start a mesh again")

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop, soon; from any thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """Stop the loop's own thread, and wait for its end; a borrowed loop is left alone.

        What still runs on the own loop is cancelled.
        """
        if self._waker is not None:
            self._waker.close()
        if self._thread is None:
            return
        with self._lock:
            first, self._closing = not self._closing, True
            if first:
                self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            try:
                tasks = asyncio.all_tasks(self.loop)
                for task in tasks:
                    task.cancel()
                if tasks:
                    self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            finally:
                self.loop.close()
