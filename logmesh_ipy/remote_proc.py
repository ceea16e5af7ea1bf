"""One proc of a mesh as the driver sees it: its run channel, and how its runs end.

Used by the mesh, on the client's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any, Awaitable, Callable, Optional, Tuple, Union

from .channel import Connection
from .errors import LogMeshError, RemoteError, TransportError, indented
from .remote_code import unpack_result
from .rpc import RECONNECT_SEC, Caller
from .sanitize import inert, one_row

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
        self.caller = Caller(on_down=self._disconnected)
        self.exited = asyncio.Event()
        self.attached = asyncio.Event()
        self._said = said
        self._has_connected = False
        self._patience: Optional[asyncio.TimerHandle] = None

    @property
    def ready(self) -> bool:
        """Whether code can be run on it and its lines are relayed."""
        return self._has_connected and self.attached.is_set() and self.exit_code is None

    @property
    def reconnecting(self) -> bool:
        """Whether it lives, and its run channel is broken for the moment."""
        return self.ready and not self.caller.up and not self.caller.lost

    def connected(self, connection: Connection) -> Caller:
        """Its run channel has been made, or made again."""
        self._has_connected = True
        self._stop_waiting()
        return self.caller.connected(connection)

    def note_exit(self, code: int) -> None:
        """The process has ended."""
        if self.exit_code is None:
            self.exit_code = code
            self._stop_waiting()
            self.exited.set()
            if not self.caller.up:
                self.caller.fail("its proc has ended")

    def _disconnected(self, error: Optional[Exception]) -> None:
        """It dials again, and what it was asked goes on; but for ever nobody waits.

        What is asked of it then fails until it has come back.
        """
        if self.exit_code is not None:
            self.caller.fail("its proc has ended")
        elif not self.caller.lost:
            self._patience = asyncio.get_running_loop().call_later(RECONNECT_SEC, self._give_up)

    def _give_up(self) -> None:
        self.caller.fail(f"its run channel broke {RECONNECT_SEC:g} s ago", for_good=False)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def run(
        self, kind: str, blob: bytes, filename: str, want: str
    ) -> Union[RemoteError, Tuple[Any]]:
        """The result of a job in a tuple, or what went wrong. Arguments as CodeRunner's."""
        if not self._has_connected or self.exit_code is not None:
            return await self._exit_error()
        call = self.caller.call("run", kind=kind, blob=blob, filename=filename, want=want)
        try:
            answer = await self._reply(call)
        except (TransportError, asyncio.TimeoutError):
            return await self._exit_error()
        except LogMeshError as error:
            return self._failed("ResultError", f"it cannot be told: {error}", "")
        if not answer["ok"]:
            traceback = answer["blob"].decode(errors="replace")
            return self._failed(answer["kind"], answer["message"], traceback)
        if want == "repr":
            return (inert(answer["blob"].decode(errors="replace")),)
        try:
            return (unpack_result(answer["blob"]),)
        except Exception as error:  # noqa: BLE001 (whatever the result's classes raise)
            words = f"the result cannot be read here: {type(error).__name__}: {error}"
            return self._failed("ResultError", words, "")

    def _failed(self, kind: str, message: str, traceback: str) -> RemoteError:
        """What went wrong, as text that can be shown among ours."""
        return RemoteError(self.rank, one_row(kind), inert(message), inert(traceback))

    async def leave(self) -> None:
        """Have an idle proc end by itself, so that its atexit functions run."""
        if not self.ready:
            return
        with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
            answer = await asyncio.wait_for(self.caller.call("exit"), _EXIT_REPLY_SEC)
            if not answer["busy"]:
                await asyncio.wait_for(self.exited.wait(), _EXIT_SEC)

    async def death(self) -> str:
        """How it ended, and its last words."""
        words = await self._said(self.proc)
        return f"{ended(self.exit_code)}{': ' + indented(inert(words)) if words else ''}"

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
            words = "it is not connected any more, though its process was not seen to end"
            return self._failed("ProcLost", words, "")
        words = await self._said(self.proc)
        return self._failed("ProcExited", f"the proc {ended(self.exit_code)}", words)


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
