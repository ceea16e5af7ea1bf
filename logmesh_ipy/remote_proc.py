"""One proc of a mesh as the driver sees it: its run channel, and how its runs end.

Used by the mesh, on the client's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any, Awaitable, Callable, Optional, Tuple, Union

from .errors import LogMeshError, RemoteError, TransportError
from .remote_code import unpack_result
from .rpc import Caller

__all__ = ["Proc", "ended"]

_EXIT_REPLY_SEC = 0.2
_EXIT_SEC = 1.0
_LAST_REPLY_SEC = 0.5
_REAP_SEC = 2.0


class Proc:
    """``said(source)`` gives the end of the proc's stderr, when it has died."""

    def __init__(self, proc: int, rank: int, said: Callable[[int], Awaitable[str]]) -> None:
        self.proc = proc
        self.rank = rank
        self.pid = 0
        self.exit_code: Optional[int] = None
        self.caller: Optional[Caller] = None
        self.exited = asyncio.Event()
        self.attached = asyncio.Event()
        self._said = said

    @property
    def ready(self) -> bool:
        """Whether code can be run on it and its lines are relayed."""
        return self.caller is not None and self.attached.is_set() and self.exit_code is None

    def connected(self, connection: Any) -> Caller:
        """Its run channel has been made, or made again."""
        self.caller = Caller(connection, lambda name, args: None, lambda error: None)
        return self.caller

    def note_exit(self, code: int) -> None:
        """The process has ended."""
        if self.exit_code is None:
            self.exit_code = code
            self.exited.set()

    async def run(
        self, kind: str, blob: bytes, filename: str, want: str
    ) -> Union[RemoteError, Tuple[Any]]:
        """The result of a job in a tuple, or what went wrong. Arguments as CodeRunner's."""
        if self.caller is None or self.exit_code is not None:
            return await self._exit_error()
        call = self.caller.call("run", kind=kind, blob=blob, filename=filename, want=want)
        try:
            answer = await self._reply(call)
        except (TransportError, asyncio.TimeoutError):
            return await self._exit_error()
        except LogMeshError as error:
            return RemoteError(self.rank, "ResultError", f"it cannot be told: {error}", "")
        if not answer["ok"]:
            traceback = answer["blob"].decode(errors="replace")
            return RemoteError(self.rank, answer["kind"], answer["message"], traceback)
        if want == "repr":
            return (answer["blob"].decode(errors="replace"),)
        try:
            return (unpack_result(answer["blob"]),)
        except Exception as error:  # noqa: BLE001 (whatever the result's classes raise)
            words = f"the result cannot be read here: {type(error).__name__}: {error}"
            return RemoteError(self.rank, "ResultError", words, "")

    async def leave(self) -> None:
        """Have an idle proc end by itself, so that its atexit functions run."""
        if self.caller is None or not self.ready:
            return
        with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
            answer = await asyncio.wait_for(self.caller.call("exit"), _EXIT_REPLY_SEC)
            if not answer["busy"]:
                await asyncio.wait_for(self.exited.wait(), _EXIT_SEC)

    async def death(self) -> str:
        """How it ended, and its last words."""
        words = await self._said(self.proc)
        return f"{ended(self.exit_code)}{': ' + words if words else ''}"

    async def _reply(self, call: asyncio.Future[Any]) -> Any:
        """What the call brings. Raises TransportError or TimeoutError when the proc has ended.

        Its connection may outlive it: a process that it forked holds it open.
        """
        exited = asyncio.ensure_future(self.exited.wait())
        try:
            await asyncio.wait([call, exited], return_when=asyncio.FIRST_COMPLETED)
            return await asyncio.wait_for(call, _LAST_REPLY_SEC if exited.done() else None)
        finally:
            exited.cancel()

    async def _exit_error(self) -> RemoteError:
        try:
            await asyncio.wait_for(self.exited.wait(), _REAP_SEC)
        except asyncio.TimeoutError:
            return RemoteError(self.rank, "ProcLost", "its run channel is gone", "")
        words = await self._said(self.proc)
        return RemoteError(self.rank, "ProcExited", f"the proc {ended(self.exit_code)}", words)


def ended(code: Optional[int]) -> str:
    """An exit code (minus the signal) in words."""
    if code is None:
        return "is gone"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
