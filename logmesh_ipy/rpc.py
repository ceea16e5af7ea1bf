"""Calls over a connection: a request with a number, a reply with the same number, events.

Serves the bootstrap's control connection and the run channel; log data never comes this way.
Both outlive the connections that carry them: a call is run once and its reply given once, however
often the link breaks (see ``resumable``). A value under the key ``blob`` (bytes) may be of any
size: it travels in parts before its call or reply, each below the frame's bound.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any, Awaitable, Callable, Dict, Optional

from .channel import Connection
from .errors import LogMeshError, ProtocolError, TransportError
from .frames import FrameDecoder
from .resumable import ResumableLink
from .sanitize import inert
from .wire import Call, Event, Message, Reply, decode

__all__ = [
    "PART_BYTES",
    "RECONNECT_SEC",
    "Caller",
    "RemoteCallError",
    "Responder",
    "read_call",
    "read_config",
]

PART_BYTES = 512 << 10
RECONNECT_SEC = 90.0
"""How long both ends wait for a broken link: over a partition of a minute."""
_PART = "part"


class RemoteCallError(LogMeshError, RuntimeError):
    """The other side could not do what it was asked; the text is its own."""


def _send_parts(link: ResumableLink, n: int, values: Dict[str, Any]) -> Dict[str, Any]:
    """Send all of ``blob`` but its last part; gives the values with the rest."""
    blob = values.get("blob")
    if not isinstance(blob, bytes) or len(blob) <= PART_BYTES:
        return values
    last = (len(blob) - 1) // PART_BYTES * PART_BYTES
    for start in range(0, last, PART_BYTES):
        part = blob[start : start + PART_BYTES]
        link.send(Event(name=_PART, args={"n": n, "data": part}))
    return {**values, "blob": blob[last:]}


class _Parts:
    """Collects the parts of blobs by number."""

    def __init__(self) -> None:
        self._parts: Dict[int, bytearray] = {}

    def add(self, args: Dict[str, Any]) -> None:
        n, data = args.get("n"), args.get("data")
        if type(n) is not int or type(data) is not bytes:
            raise ProtocolError("a part without number or data")
        self._parts.setdefault(n, bytearray()).extend(data)

    def join(self, n: int, values: Any) -> Any:
        head = self._parts.pop(n, None)
        if head is None:
            return values
        if type(values) is not dict or type(values.get("blob")) is not bytes:
            raise ProtocolError("parts of a blob that does not come")
        return {**values, "blob": bytes(head) + values["blob"]}

    def discard(self, n: int) -> None:
        self._parts.pop(n, None)


class Caller:
    """The asking side, over all connections of one peer: handler of each that it makes.

    ``on_event(name, args)`` takes what the peer tells, ``on_down(error)`` is told of each
    connection that broke. Calls under way are answered over the next one, until :meth:`fail`.
    """

    def __init__(
        self,
        on_event: Callable[[str, Dict[str, Any]], None] = lambda name, args: None,
        on_down: Callable[[Optional[Exception]], None] = lambda error: None,
    ) -> None:
        self._link = ResumableLink(self._received)
        self._on_event = on_event
        self._on_down = on_down
        self._connection: Optional[Connection] = None
        self._calls: Dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._parts = _Parts()
        self._failure: Optional[str] = None
        self._over = False

    @property
    def up(self) -> bool:
        """Whether the peer is connected now."""
        return self._connection is not None

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked: any more, or until the peer connects again."""
        return self._failure is not None

    def connected(self, connection: Connection) -> Caller:
        """The peer has connected, or connected again; gives the connection's handler."""
        if self._over:
            connection.abort()
            return self
        before, self._connection = self._connection, connection
        if before is not None:
            before.abort()
        self._failure = None
        self._link.connected(connection)
        return self

    def call(self, method: str, **args: Any) -> asyncio.Future[Any]:
        """Ask; the future is the reply's value, a RemoteCallError, or a TransportError.

        The peer runs each call once, whatever connections break. Raises ProtocolError for
        arguments that do not fit a frame.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._failure is not None:
            future.set_exception(TransportError(self._failure))
            return future
        n = next(self._numbers)
        self._link.send(Call(n=n, method=method, args=_send_parts(self._link, n, args)))
        self._calls[n] = future
        return future

    def fail(self, reason: str, *, for_good: bool = True) -> None:
        """Every open call fails with this reason, and so does each new one.

        Not ``for_good``: until the peer connects again.
        """
        if not self._over:
            self._failure = self._failure or reason
            self._over = for_good
        if self._connection is not None:
            self._connection.abort()
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(TransportError(reason))

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol."""
        if connection is self._connection:
            self._link.receive(kind, body)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        if connection is self._connection:
            self._connection = None
            self._link.disconnected()
            self._on_down(error)

    def _received(self, message: Message) -> None:
        if type(message) is Reply:
            if message.ok:
                value = self._parts.join(message.n, message.value)
            else:
                value = message.value
                self._parts.discard(message.n)
            future = self._calls.pop(message.n, None)
            if future is None or future.done():
                return
            if message.ok:
                future.set_result(value)
            else:
                future.set_exception(RemoteCallError(inert(str(value))))
        elif type(message) is Event and message.name == _PART:
            self._parts.add(message.args)
        elif type(message) is Event:
            self._on_event(message.name, message.args)
        else:
            raise ProtocolError(f"the answering side sent {type(message).__name__}")


class Responder:
    """The answering side, over all connections of one uplink.

    ``methods`` maps names to functions or coroutine functions. The uplink's ``on_frame`` is
    :meth:`receive`; :meth:`connected` and :meth:`disconnected` follow from the others.
    """

    def __init__(self, methods: Dict[str, Callable[..., Any]]) -> None:
        self._link = ResumableLink(self._received)
        self._methods = methods
        self._parts = _Parts()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = self._link.connected
        self.disconnected = self._link.disconnected
        self.receive = self._link.receive

    def event(self, name: str, **args: Any) -> None:
        """Tell the asking side something."""
        self._link.send(Event(name=name, args=args))

    def _received(self, message: Message) -> None:
        if type(message) is Event and message.name == _PART:
            self._parts.add(message.args)
        elif type(message) is Call:
            self._start(message)
        else:
            raise ProtocolError(f"the asking side sent {type(message).__name__}")

    def _start(self, call: Call) -> None:
        method = self._methods.get(call.method)
        if method is None:
            self._parts.discard(call.n)
            self._answer(call.n, False, f"there is no method {call.method!r}")
            return
        args = self._parts.join(call.n, call.args)
        task = asyncio.get_running_loop().create_task(self._run(call.n, method, args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, n: int, method: Callable[..., Any], args: Dict[str, Any]) -> None:
        try:
            value = method(**args)
            if isinstance(value, Awaitable):
                value = await value
        except Exception as error:  # noqa: BLE001 (told to the caller, whatever it is)
            self._answer(n, False, f"{type(error).__name__}: {error}")
        else:
            self._answer(n, True, value)

    def _answer(self, n: int, ok: bool, value: Any) -> None:
        if isinstance(value, dict):
            value = _send_parts(self._link, n, value)
        try:
            self._link.send(Reply(n=n, ok=ok, value=value))
        except ProtocolError as error:
            self._link.send(Reply(n=n, ok=False, value=f"the answer cannot be sent: {error}"))


def read_call(fd: int) -> Call:
    """The call that the parent wrote to ``fd``, saying what this program is to do."""
    decoder = FrameDecoder()
    while True:
        data = os.read(fd, 1 << 16)
        if not data:
            raise SystemExit("logmesh_ipy: no configuration on standard input")
        for kind, body in decoder.feed(data):
            message = decode(kind, body)
            if type(message) is Call:
                return message
            raise SystemExit("logmesh_ipy: the configuration is not a call")


def read_config(fd: int) -> Dict[str, Any]:
    """The arguments of the ``configure`` call that the parent wrote to ``fd``."""
    call = read_call(fd)
    if call.method != "configure":
        raise SystemExit(f"logmesh_ipy: cannot {call.method!r}, only configure")
    return call.args
