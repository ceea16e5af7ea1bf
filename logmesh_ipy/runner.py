"""The part of a proc that runs code: one namespace, one job at a time, on the main thread.

Source is run like a notebook cell: the value of a last expression is the result, ``await`` is
allowed at top level, tracebacks show the source. Functions arrive and results leave through
cloudpickle, on the run channel only. An interrupt (SIGINT) raises KeyboardInterrupt in the
running job, and is ignored when none runs. Nothing that a job does ends the loop of jobs. What is
shown of a job, the text of its result or of its failure, is redacted like what it prints; a result
that goes to a program as an object is not.
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
from dataclasses import dataclass, field
from os import environ
from typing import Any, Callable, Dict, Optional, Sequence, Union

from .redaction import WINDOW_BYTES
from .redaction_rules import rules_for

__all__ = ["CodeRunner", "StdioFlusher"]

_MAX_REPR = 10_000
_CANCEL_SEC = 2.0
_OWN_FILES = (__file__, ast.__file__, asyncio.base_events.__file__)


@dataclass(slots=True)
class _Job:
    kind: str
    blob: bytes = field(repr=False)
    filename: str
    want: str
    done: Callable[[Dict[str, Any]], None]


def flush_stdio() -> None:
    """Push out what Python's and C's buffers hold."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except Exception:  # noqa: BLE001, S112 (closed or replaced by the user's code: not ours)
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
    """Made on the main thread, like ``run_forever``; ``submit`` from any thread.

    ``redact`` are patterns; ``redact_environment``: the values of secret variables too, of those
    that are set now and of those that are set when something is shown.
    """

    def __init__(
        self, rank: int, *, redact: Sequence[str] = (), redact_environment: bool = True
    ) -> None:
        self.rank = rank
        self._patterns = redact
        self._environ_at_start = _environment() if redact_environment else None
        self._jobs: queue.SimpleQueue[Optional[_Job]] = queue.SimpleQueue()
        self._busy = False
        self._in_users_code = False
        self._interrupted = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        signal.signal(signal.SIGINT, self._interrupt)
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

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._busy or not self._jobs.empty()

    def stop(self) -> None:
        """Have ``run_forever`` return after the current job."""
        self._jobs.put(None)

    def run_forever(self) -> None:
        """Work jobs off until :meth:`stop`."""
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                result = self._run(job)
            except KeyboardInterrupt as error:  # It hit the handling of the one before it.
                self._in_users_code = self._busy = False
                result = self._failure(error)
            job.done(result)

    def _interrupt(self, number: int, frame: object) -> None:
        """SIGINT: raise in the user's code; in ours (the compiler) wait till the user's begins."""
        if self._in_users_code:
            raise KeyboardInterrupt
        self._interrupted = self._busy

    def _run(self, job: _Job) -> Dict[str, Any]:
        try:
            self._interrupted = False
            self._busy = True
            value = self._execute(job)
            if job.want == "repr":
                blob = self._call(self._as_text, value)
            else:
                import cloudpickle

                blob = self._call(cloudpickle.dumps, value)
        except BaseException as error:  # noqa: BLE001 (the job's failure is its result)
            # Again, since the interrupt may have hit the line that did it.
            self._in_users_code = False
            return self._failure(error)
        else:
            return {"ok": True, "blob": blob}
        finally:
            self._busy = False
            flush_stdio()

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what may run the user's code: an interrupt is raised in it."""
        if self._interrupted:
            raise KeyboardInterrupt
        try:
            self._in_users_code = True
            return function(*args, **kwargs)
        finally:
            self._in_users_code = False

    def _execute(self, job: _Job) -> Any:
        if job.kind == "call":
            import cloudpickle

            function, args, kwargs, sources = self._call(cloudpickle.loads, job.blob)
            for name, source in sources.items():
                _remember_source(name, source)
            value = self._call(function, *args, **kwargs)
            return self._call(self._await, value) if inspect.iscoroutine(value) else value
        source = job.blob.decode()
        _remember_source(job.filename, source)
        tree = ast.parse(source, job.filename)
        last: Optional[ast.Expression] = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not _silenced(source):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        self._evaluate(tree, job.filename, "exec")
        return None if last is None else self._evaluate(last, job.filename, "eval")

    def _evaluate(self, tree: Union[ast.Module, ast.Expression], filename: str, mode: str) -> Any:
        # Not inherited: the __future__ imports of this module are none of the user's.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(tree, filename, mode, flags, dont_inherit=True)
        value = self._call(eval, code, self.namespace)
        return self._call(self._await, value) if code.co_flags & inspect.CO_COROUTINE else value

    def _await(self, coroutine: Any) -> Any:
        """Run to the end. What an interrupt leaves of it is cancelled, not left for later."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(coroutine)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.wait([task], timeout=_CANCEL_SEC))
            raise

    def _failure(self, error: BaseException) -> Dict[str, Any]:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename in _OWN_FILES:
            frames = frames.tb_next
        kind = type(error).__name__
        try:
            told = traceback.TracebackException(type(error), error, frames)
            while told.stack and told.stack[-1].filename == __file__:
                told.stack.pop()  # the handler that raised the interrupt
            text = self._redacted("".join(told.format()))
            message = self._beginning(str(error))
        except Exception as second:  # noqa: BLE001 (the user's __str__ raised)
            message = f"its text cannot be made: {type(second).__name__}"
            text = f"{kind}: {message}\n"
        return {
            "ok": False,
            "kind": _plain(kind),
            "message": _plain(message),
            "blob": text.encode(errors="backslashreplace"),
        }

    def _as_text(self, value: Any) -> bytes:
        """What a cell shows of its value: nothing for None, and not too much."""
        whole = "" if value is None else repr(value)
        text = self._beginning(whole)
        if len(whole) > _MAX_REPR:
            text += f"... ({len(whole):,} characters)"
        return text.encode(errors="backslashreplace")

    def _beginning(self, text: str) -> str:
        """The first characters, redacted: of a long text no more is searched than they need."""
        looked_at = text[: _MAX_REPR + WINDOW_BYTES]
        return self._redacted(looked_at, goes_on=len(looked_at) < len(text))[:_MAX_REPR]

    def _redacted(self, text: str, *, goes_on: bool = False) -> str:
        start = self._environ_at_start
        rules = rules_for(self._patterns, *([] if start is None else [start, _environment()]))
        return rules.redact_text(text, goes_on=goes_on) if rules else text


def _environment() -> Dict[str, str]:
    """A copy; threads of the user's may change it meanwhile."""
    return {name: environ.get(name, "") for name in environ}


def _plain(text: str) -> str:
    """Text that UTF-8 can carry: what it cannot (names of files that are not) is escaped."""
    return text.encode(errors="backslashreplace").decode()


def _remember_source(filename: str, source: str) -> None:
    """For the tracebacks."""
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)


def _silenced(source: str) -> bool:
    """A cell that ends with ``;`` shows no value, as in IPython."""
    return source.rstrip().endswith(";")


def hide_environment() -> None:
    """The log channel is this proc's own: its children must not find it."""
    os.environ.pop("BOOTSTRAP_LOG_CHANNEL", None)
