"""Connections that carry frames: serve, dial, peer check, handshake. asyncio protocols.

A connection hands each frame to its handler in the loop's read callback: no task, queue or
copy stands between the socket and the state machines above. ``send`` writes to the socket at
once where it takes the bytes. Servers listen on Unix sockets inside a directory of mode 0700
and take peers of the same user only; with a token, a peer is heard after the handshake alone,
within ``HANDSHAKE_SEC`` and 4 KiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
import tempfile
from typing import Callable, Optional, Protocol, Set, Tuple

from ._version import __version__
from .errors import AddressInUseError, HandshakeError, ProtocolError, TransportError
from .frames import MAX_FRAME_BYTES, MAX_HELLO_BYTES, FrameDecoder
from .handshake import NONCE_BYTES, ClientHandshake, Role, ServerHandshake
from .wire import (
    Message,
    Refused,
    decode_handshake,
    encode,
)

__all__ = [
    "HANDSHAKE_SEC",
    "Connection",
    "Handler",
    "Server",
    "any_address",
    "dial",
    "is_served",
    "let_go_in_forked_children",
    "parse_address",
    "serve",
]

HANDSHAKE_SEC = 5.0
_SOCKET_BUFFER_BYTES = 1 << 20
_PEERCRED = struct.Struct("3i")
_MAX_PATH_BYTES = 107


class Handler(Protocol):
    """Who takes a connection's frames. Called in the loop; must not block."""

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """One frame. A ProtocolError raised here closes the connection."""

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """The connection is gone; called once, and only after the handshake was done."""


class Connection(asyncio.Protocol):
    """One framed connection. ``peer`` is who calls, once a handshake has told it."""

    def __init__(self, handler: Handler, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.handler = handler
        self.peer: Optional[Tuple[Role, str]] = None
        self.error: Optional[Exception] = None
        self._decoder = FrameDecoder(max_frame_bytes)
        self._transport: Optional[asyncio.Transport] = None
        self.made = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Encode and write; on a closed connection nothing happens."""
        self.send_bytes(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Write whole frames."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was sent has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Optional[Exception] = None) -> None:
        """Close at once; ``error`` says why."""
        self.error = self.error or error
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's hook."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _sockets.add(sock.fileno())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        if not self.made.done():
            self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        """The loop's hook: hand on each frame that is complete."""
        try:
            for kind, body in self._decoder.feed(data):
                self.handler.frame_received(self, kind, body)
                if self.closed:
                    return
        except ProtocolError as error:
            self.abort(error)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """The loop's hook. The socket is shut down, not only closed.

        A process that the user forked holds a copy of it, and the peer would never see its end.
        """
        transport, self._transport = self._transport, None
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is not None:
            _sockets.discard(sock.fileno())
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.error = self.error or exc
        self.handler.connection_lost(self, self.error)

    def trust(self) -> None:
        """The handshake is done: large frames are allowed."""
        self._decoder.max_frame_bytes = MAX_FRAME_BYTES


_sockets: Set[int] = set()
"""File descriptors of this process's connections."""


def let_go_in_forked_children() -> None:
    """Have children that this process forks give up their copies of its connections.

    Else a forked child that lives on would keep the connection of a killed parent open, and the
    peer would not see that it has gone. Called once by the driver and by each proc; not by the
    bootstrap, whose children replace themselves at once.
    """
    os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    """Put /dev/null in each socket's place: the numbers stay taken, so no later file gets one."""
    if not _sockets:
        return
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in _sockets:
        os.dup2(null, fd, inheritable=False)
    os.close(null)
    _sockets.clear()


class _ServerGate:
    """Handler of an accepted connection until its peer has proved itself."""

    def __init__(self, server: Server, token: bytes) -> None:
        self._server = server
        self._handshake = ServerHandshake(token, os.urandom(NONCE_BYTES), __version__)
        self._timer: Optional[asyncio.TimerHandle] = None

    def start(self, connection: Connection) -> None:
        connection.send(self._handshake.start())
        self._timer = asyncio.get_running_loop().call_later(
            HANDSHAKE_SEC, connection.abort, HandshakeError("no Hello in time")
        )

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        answer = self._handshake.receive(decode_handshake(kind, body))
        connection.send(answer)
        if isinstance(answer, Refused):
            connection.close()
            return
        self._stop_timer()
        connection.peer = self._handshake.peer
        connection.trust()
        connection.handler = self._server.accept(connection)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        self._stop_timer()
        self._server.refused += 1

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Accepted(Connection):
    """A server's connection: checks the peer's user, then passes the gate if there is one."""

    def __init__(self, server: Server, token: Optional[bytes]) -> None:
        self._server = server
        self._gate = None if token is None else _ServerGate(server, token)
        super().__init__(self._gate or _NOBODY, MAX_HELLO_BYTES if token else MAX_FRAME_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        uid = _peer_uid(transport)
        if uid not in (None, os.geteuid()):
            self._server.refused += 1
            self.handler = _NOBODY
            self.abort(HandshakeError(f"a peer of user {uid}"))
            return
        if self._server.closed:
            self.handler = _NOBODY
            self.abort()
            return
        self._server.connections.add(self)
        if self._gate is not None:
            self._gate.start(self)
        else:
            self.handler = self._server.accept(self)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._server.connections.discard(self)
        super().connection_lost(exc)


class _Nobody:
    """Handler of connections that are being closed."""

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Drop."""

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Nothing to undo."""


_NOBODY = _Nobody()


class _DialGate:
    """Handler of a dialled connection until the server has proved itself."""

    def __init__(self, handler: Handler, handshake: ClientHandshake) -> None:
        self._handler = handler
        self._handshake = handshake
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        try:
            answer = self._handshake.receive(decode_handshake(kind, body))
        except ProtocolError as error:
            if not self.done.done():
                self.done.set_exception(error)
            connection.abort(error)
            return
        if answer is not None:
            connection.send(answer)
        if self._handshake.done:
            connection.handler = self._handler
            if not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        if not self.done.done():
            # Not a refusal: a client that was too busy to answer in time closes as well.
            self.done.set_exception(error or TransportError("closed during the handshake"))


class Server:
    """A listening address. ``accept`` gives the handler of each proven connection."""

    def __init__(self, address: str, accept: Callable[[Connection], Handler]) -> None:
        self.address = address
        self.accept = accept
        self.connections: Set[Connection] = set()
        self.refused = 0
        self.closed = False
        self._server: Optional[asyncio.AbstractServer] = None

    async def listen(self, token: Optional[bytes]) -> None:
        """Begin to accept. Raises what :func:`serve` does."""
        sock = _bind(parse_address(self.address))
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Accepted(self, token), sock=sock, backlog=4096
        )

    def close(self) -> None:
        """Stop listening, close all connections, remove the socket."""
        self.closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.abort()
        _unlink_socket(parse_address(self.address))


async def serve(
    address: str, accept: Callable[[Connection], Handler], token: Optional[bytes] = None
) -> Server:
    """Listen on ``unix:/path``; a socket that nobody serves any more is taken over.

    Raises AddressInUseError where a living process serves it, TransportError where it cannot be.
    """
    server = Server(address, accept)
    await server.listen(token)
    return server


async def dial(
    address: str,
    handler: Handler,
    token: Optional[bytes] = None,
    role: Role = Role.FORWARDER,
    name: str = "",
) -> Connection:
    """Connect, and prove both ends where there is a token.

    Raises TransportError when nobody answers or not in time, HandshakeError when the wrong one
    does.
    """
    path = parse_address(address)
    loop = asyncio.get_running_loop()
    gate: Optional[_DialGate] = None
    if token is not None:
        nonce = os.urandom(NONCE_BYTES)
        gate = _DialGate(handler, ClientHandshake(token, nonce, __version__, role, name))
    first: Handler = handler if gate is None else gate
    try:
        _, connection = await loop.create_unix_connection(lambda: Connection(first), path)
    except OSError as error:
        reason = f"cannot connect to {address}: {error.strerror}"
        raise TransportError(error.errno, reason) from None
    if gate is not None:
        try:
            await asyncio.wait_for(gate.done, HANDSHAKE_SEC)
        except asyncio.TimeoutError:
            connection.abort()
            raise TransportError(f"{address} did not answer within {HANDSHAKE_SEC:g} s") from None
        except BaseException:
            connection.abort()
            raise
    return connection


def parse_address(address: str) -> str:
    """The path of ``unix:/path``. Raises TransportError for anything else."""
    scheme, _, path = address.partition(":")
    if scheme != "unix" or not path.startswith("/") or "\0" in path:
        raise TransportError(f"the address {address!r} is not of the form unix:/path")
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise TransportError(
            f"the socket path {path!r} is longer than the {_MAX_PATH_BYTES} bytes that the system "
            "allows; set TMPDIR to a shorter directory"
        )
    return path


def is_served(address: str) -> bool:
    """Whether a living process serves the address."""
    return _answers(parse_address(address))


def any_address(name: str = "channel") -> str:
    """A free Unix address in a new directory of mode 0700."""
    return f"unix:{tempfile.mkdtemp(prefix='logmesh-any-')}/{name}.sock"


def _bind(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError:
            if _answers(path):
                words = f"unix:{path} is already served by another process"
                raise AddressInUseError(errno.EADDRINUSE, words) from None
            _unlink_socket(path)
            sock.bind(path)
        os.chmod(path, 0o600)
        sock.setblocking(False)
    except AddressInUseError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise TransportError(error.errno, f"cannot serve unix:{path}: {error.strerror}") from None
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _unlink_socket(path: str) -> None:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def _peer_uid(transport: asyncio.BaseTransport) -> Optional[int]:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    uid: int = _PEERCRED.unpack(raw)[1]
    return uid
