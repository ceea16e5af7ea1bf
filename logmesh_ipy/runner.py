"""The part of a proc that runs code: one namespace, one job at a time, on the main thread.

Source is run like a notebook cell: the value of a last expression is the result, ``await`` is
allowed at top level, tracebacks show the source. Functions arrive and results leave through
cloudpickle, on the run channel only. An interrupt (SIGINT) raises KeyboardInterrupt in the
running job, and is ignored when none runs.
"""

from __future__ import annotations

import ast
import asyncio
import ctypes
import inspect
import linecache
import os
import queue
import signal
import sys
import threading
import traceback
import types
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

__all__ = ["CodeRunner", "StdioFlusher"]

_MAX_REPR = 10_000


@dataclass(slots=True)
class _Job:
    kind: str
    blob: bytes
    filename: str
    want: str
    done: Callable[[Dict[str, Any]], None]


def flush_stdio() -> None:
    """Push out what Python's and C's buffers hold."""
    for stream in {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}:
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            # Closed or replaced by the user's code: nothing of ours is in it.
            continue
    _libc.fflush(None)


_libc = ctypes.CDLL(None)


class StdioFlusher:
    """Flushes stdio in a thread of its own: a full pipe then blocks neither loop nor barrier.

    ``request(done)`` has ``done`` called on ``loop`` after a flush that began after the request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._requests: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="logmesh-flush", daemon=True).start()

    def request(self, done: Callable[[], None]) -> None:
        """Flush, then call ``done`` on the loop."""
        self._requests.put(done)

    def _work(self) -> None:
        while True:
            requests = [self._requests.get()]
            while not self._requests.empty():
                requests.append(self._requests.get())
            flush_stdio()
            for done in requests:
                if done is None:
                    return
                try:
                    self._loop.call_soon_threadsafe(done)
                except RuntimeError:
                    return


class CodeRunner:
    """``submit`` from any thread; ``run_forever`` on the main thread."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._jobs: queue.SimpleQueue[Optional[_Job]] = queue.SimpleQueue()
        self._busy = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = __builtins__
        self.namespace = module.__dict__
        sys.modules["__main__"] = module

    def submit(
        self,
        kind: str,
        blob: bytes,
        filename: str,
        want: str,
        done: Callable[[Dict[str, Any]], None],
    ) -> None:
        """Queue a job. ``kind``: ``source`` or ``call`` (cloudpickle of function and arguments).

        ``want``: ``value`` (cloudpickle) or ``repr``. ``done`` is called on the main thread.
        """
        self._jobs.put(_Job(kind, blob, filename, want, done))

    def stop(self) -> None:
        """Have ``run_forever`` return after the current job."""
        self._jobs.put(None)

    def run_forever(self) -> None:
        """Work jobs off until :meth:`stop`."""
        signal.signal(signal.SIGINT, self._interrupt)
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job.done(self._run(job))

    def _interrupt(self, number: int, frame: object) -> None:
        if self._busy:
            raise KeyboardInterrupt

    def _run(self, job: _Job) -> Dict[str, Any]:
        try:
            self._busy = True
            try:
                value = self._execute(job)
            finally:
                self._busy = False
            return self._result(job, value)
        except BaseException as error:  # noqa: BLE001 (the job's failure is its result)
            return self._failure(error)
        finally:
            flush_stdio()

    def _execute(self, job: _Job) -> Any:
        if job.kind == "call":
            import cloudpickle

            function, args, kwargs = cloudpickle.loads(job.blob)
            value = function(*args, **kwargs)
            return self._await(value) if inspect.iscoroutine(value) else value
        source = job.blob.decode()
        lines = source.splitlines(keepends=True)
        linecache.cache[job.filename] = (len(source), None, lines, job.filename)
        tree = ast.parse(source, job.filename)
        last: Optional[ast.Expression] = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not _silenced(source):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        self._evaluate(compile(tree, job.filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if last is None:
            return None
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return self._evaluate(compile(last, job.filename, "eval", flags))

    def _evaluate(self, code: types.CodeType) -> Any:
        if code.co_flags & inspect.CO_COROUTINE:
            function = types.FunctionType(code, self.namespace)
            return self._await(function())
        return eval(code, self.namespace)  # noqa: S307 (running code is this module's job)

    def _await(self, coroutine: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(coroutine)

    def _result(self, job: _Job, value: Any) -> Dict[str, Any]:
        if job.want == "repr":
            text = "" if value is None else repr(value)
            if len(text) > _MAX_REPR:
                text = text[:_MAX_REPR] + f"... ({len(text):,} characters)"
            return {"ok": True, "blob": text.encode(errors="backslashreplace")}
        import cloudpickle

        return {"ok": True, "blob": cloudpickle.dumps(value)}

    def _failure(self, error: BaseException) -> Dict[str, Any]:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        try:
            text = "".join(traceback.format_exception(type(error), error, frames))
        except Exception as second:  # noqa: BLE001 (the user's __str__ raised)
            text = f"{type(error).__name__} (its text cannot be made: {type(second).__name__})\n"
        message = text.rstrip("\n").rsplit("\n", 1)[-1].partition(": ")[2]
        return {
            "ok": False,
            "kind": type(error).__name__,
            "message": message[:_MAX_REPR],
            "blob": text.encode(errors="backslashreplace"),
        }


def _silenced(source: str) -> bool:
    """A cell that ends with ``;`` shows no value, as in IPython."""
    return source.rstrip().endswith(";")


def hide_environment() -> None:
    """The log channel is this proc's own: its children must not find it."""
    os.environ.pop("BOOTSTRAP_LOG_CHANNEL", None)
