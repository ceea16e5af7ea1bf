"""Connections that carry frames: serve and dial, over Unix sockets and TCP. asyncio protocols.

A connection hands each frame to its handler in the loop's read callback: no task, queue or
copy stands between the socket and the state machines above. ``send`` writes to the socket at
once where it takes the bytes. Unix sockets take peers of the same user only. With a token a peer
is heard after the handshake alone (see ``gate``); over TCP there is no other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import replace
from typing import Callable, Optional, Protocol, Set, Tuple, Union

from ._version import __version__
from .addresses import Address, NetAddress, UnixAddress, parse_address
from .errors import HandshakeError, OptionError, ProtocolError, TransportError
from .frames import MAX_FRAME_BYTES, MAX_HELLO_BYTES, FrameDecoder
from .gate import DialGate, Door, Entry, Reason, Refusals, ServerGate, refusal
from .handshake import NONCE_BYTES, ClientHandshake, Role
from .sockets import bind_net, bind_unix, peer_name, peer_user, unlink_socket
from .tls import Certificate, TlsStream, client_context, server_context
from .wire import Message, encode

__all__ = [
    "HANDSHAKE_SEC",
    "Connection",
    "Handler",
    "Server",
    "dial",
    "let_go_in_forked_children",
    "serve",
]

HANDSHAKE_SEC = 5.0
"""How long the dialling side waits for the other's proof."""
_SOCKET_BUFFER_BYTES = 1 << 20
_BACKLOG = 4096


class Handler(Protocol):
    """Who takes a connection's frames. Called in the loop; must not block."""

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """One frame. A ProtocolError raised here closes the connection."""

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """The connection is gone; called once, and only after the handshake was done."""


class Connection(asyncio.Protocol):
    """One framed connection. ``peer`` is who calls, once a handshake has told it.

    ``is_local``: over a Unix socket, so that the system tells when the peer has ended.

    One that must not be ``trusted`` from the start takes small frames only, until ``trust()``.
    """

    def __init__(
        self, handler: Handler, *, trusted: bool = True, tls: Optional[TlsStream] = None
    ) -> None:
        self.handler = handler
        self.trusted = trusted
        self.is_local = False
        self.peer: Optional[Tuple[Role, str]] = None
        self.peer_name = ""
        self.error: Optional[Exception] = None
        self.received_bytes = 0
        self._decoder = FrameDecoder(MAX_FRAME_BYTES if trusted else MAX_HELLO_BYTES)
        self.tls_begun = False
        self._tls = tls
        self._transport: Optional[asyncio.Transport] = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def wanted_bytes(self) -> int:
        """How much must be read before anything can be done; more than is allowed under TLS."""
        return self._decoder.missing_bytes if self._tls is None else MAX_HELLO_BYTES

    def send(self, message: Message) -> None:
        """Encode and write; on a closed connection nothing happens."""
        self.send_bytes(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Write whole frames."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data if self._tls is None else self._tls.encrypt(data))

    def close(self) -> None:
        """Close after what was sent has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Optional[Exception] = None) -> None:
        """Close at once; ``error`` says why."""
        self.error = self.error or error
        if self._transport is not None:
            self._transport.abort()

    def trust(self) -> None:
        """The handshake is done: frames may be large, and are read in large pieces."""
        self.trusted = True
        self._decoder.max_frame_bytes = MAX_FRAME_BYTES
        if self._transport is not None:
            self._transport.set_protocol(self)

    def ready(self) -> None:
        """Bytes pass both ways now. A hook for the side that speaks first."""

    def turned_away(self, error: HandshakeError) -> None:
        """The peer is another user's process: close at once."""
        self.abort(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's hook."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        _sockets.add(sock.fileno())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        self.peer_name = peer_name(sock)
        try:
            user = peer_user(sock)
        except TransportError as error:  # the loop takes a socket that is writable for connected
            self.abort(error)
            return
        self.is_local = user is not None
        if user not in (None, os.geteuid()):
            self.turned_away(HandshakeError(f"at the other end is a process of user {user}"))
        elif self._tls is None:
            self.ready()
        else:
            self._tls.start()
            self._transport.write(self._tls.output())

    def data_received(self, data: bytes) -> None:
        """The loop's hook: hand on each frame that is complete.

        What is not allowed closes the connection, and so does what a handler cannot cope with.
        """
        self.received_bytes += len(data)
        try:
            if self._tls is not None:
                data = self._decrypt(self._tls, data)
            feed = self._decoder.feed if self.trusted else self._decoder.feed_slowly
            for kind, body in feed(data):
                self.handler.frame_received(self, kind, body)
                if self.closed:
                    return
        except ProtocolError as error:
            self.abort(error)
        except Exception as error:  # noqa: BLE001 (told to the loop's owner, whatever it is)
            self.abort(error)
            words = f"logmesh_ipy: a frame from {self.peer_name} could not be handled"
            context = {"message": words, "exception": error, "protocol": self}
            asyncio.get_running_loop().call_exception_handler(context)

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

    def _decrypt(self, tls: TlsStream, data: bytes) -> bytes:
        was_ready = tls.ready
        try:
            plain = tls.receive(data)
        finally:
            if self._transport is not None:
                output = tls.output()  # an alert, where it has failed
                self.tls_begun = self.tls_begun or bool(output)
                self._transport.write(output)
        if tls.ready and not was_ready:
            self.ready()
        if tls.ended:
            self.close()
        return plain


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


class _Accepted(Connection):
    """A server's connection; passes its gate if there is a token."""

    def __init__(
        self, server: Server, gate: Optional[ServerGate], tls: Optional[TlsStream]
    ) -> None:
        self._server = server
        self._gate = gate
        super().__init__(gate or _NOBODY, trusted=gate is None, tls=tls)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.closed:
            self.handler = _NOBODY
            transport.close()
            return
        self._server.connections.add(self)
        if self._gate is not None:
            self._gate.met(self)
        super().connection_made(transport)

    def turned_away(self, error: HandshakeError) -> None:
        if self._gate is not None:
            self._gate.refuse(self, Reason.ANOTHER_USER)
        else:
            self._server.refused.note(refusal(self, Reason.ANOTHER_USER))
            super().turned_away(error)

    def ready(self) -> None:
        if self._gate is not None:
            self._gate.challenge(self)
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


class Server:
    """A listening address. ``accept`` gives the handler of each proven connection.

    ``address`` has the true port; ``refused`` tells who did not get in, and why.
    """

    def __init__(
        self, address: str, accept: Callable[[Connection], Handler], refused: Refusals
    ) -> None:
        self.address = address
        self.accept = accept
        self.refused = refused
        self.connections: Set[Connection] = set()
        self.closed = False
        self._listener: Optional[socket.socket] = None
        self._server: Optional[asyncio.AbstractServer] = None
        self._door: Optional[asyncio.Task[None]] = None

    async def listen(self, token: Optional[bytes], certificate: Optional[Certificate]) -> None:
        """Begin to accept. Raises what :func:`serve` does."""
        where = parse_address(self.address)
        if isinstance(where, UnixAddress):
            self._listener = bind_unix(where.path)
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: self._unix_protocol(token), sock=self._listener, backlog=_BACKLOG
            )
        else:
            self._listener = await self._open_port(where, token, certificate)
        _sockets.add(self._listener.fileno())

    async def _open_port(
        self, where: NetAddress, token: Optional[bytes], certificate: Optional[Certificate]
    ) -> socket.socket:
        if token is None or (where.tls and certificate is None):
            lacking = "token" if token is None else "certificate"
            raise OptionError(f"{where} cannot be served without a {lacking}")
        context = server_context(certificate) if where.tls and certificate is not None else None
        listener = await bind_net(where)
        listener.listen(_BACKLOG)
        self.address = str(replace(where, port=listener.getsockname()[1]))
        door = Door(lambda: self._entry(token, context))
        self._door = asyncio.get_running_loop().create_task(door.run(listener))
        self._door.add_done_callback(lambda _: listener.close())
        return listener

    def close(self) -> None:
        """Stop listening, close all connections, remove the socket."""
        self.closed = True
        if self._listener is not None:
            _sockets.discard(self._listener.fileno())
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._door is not None:
            self._door.cancel()
        for connection in tuple(self.connections):
            connection.abort()
        where = parse_address(self.address)
        if isinstance(where, UnixAddress):
            unlink_socket(where.path)

    def _unix_protocol(self, token: Optional[bytes]) -> Union[Connection, Entry]:
        return _Accepted(self, None, None) if token is None else self._entry(token, None)

    def _entry(self, token: bytes, context: Optional[ssl.SSLContext]) -> Entry:
        gate = ServerGate(token, self.accept, self.refused)
        tls = None if context is None else TlsStream(context, server_side=True)
        return Entry(_Accepted(self, gate, tls))


async def serve(
    address: str,
    accept: Callable[[Connection], Handler],
    token: Optional[bytes] = None,
    *,
    certificate: Optional[Certificate] = None,
    refused: Optional[Refusals] = None,
) -> Server:
    """Listen; a Unix socket that nobody serves any more is taken over.

    A network address needs the token, and under TLS the session's certificate. ``refused``: where
    to count who did not get in. Raises AddressInUseError where a living process serves the
    address, TransportError where it cannot be.
    """
    server = Server(address, accept, refused or Refusals())
    await server.listen(token, certificate)
    return server


async def dial(
    address: str,
    handler: Handler,
    token: Optional[bytes] = None,
    role: Role = Role.FORWARDER,
    name: str = "",
    *,
    certificate: Optional[str] = None,
) -> Connection:
    """Connect, and prove both ends where there is a token.

    ``certificate`` (PEM) is the one that a ``tls://`` server must have. Raises TransportError when
    nobody answers or not in time, HandshakeError when the wrong one does.
    """
    where = parse_address(address)
    if token is None:
        connection = Connection(handler)
        await _connect(where, connection)
        if connection.error is not None:
            raise connection.error
        return connection
    nonce = os.urandom(NONCE_BYTES)
    gate = DialGate(handler, ClientHandshake(token, nonce, __version__, role, name))
    connection = Connection(gate, trusted=False, tls=_client_tls(where, certificate))
    try:
        await asyncio.wait_for(_prove(where, connection, gate), HANDSHAKE_SEC)
    except asyncio.TimeoutError:
        raise TransportError(f"{address} did not answer within {HANDSHAKE_SEC:g} s") from None
    return connection


async def _prove(where: Address, connection: Connection, gate: DialGate) -> None:
    try:
        await _connect(where, Entry(connection))
        await gate.done
    except BaseException:
        connection.abort()
        raise


async def _connect(where: Address, protocol: asyncio.BaseProtocol) -> None:
    loop = asyncio.get_running_loop()
    try:
        if isinstance(where, UnixAddress):
            await loop.create_unix_connection(lambda: protocol, where.path)
        else:
            await loop.create_connection(lambda: protocol, where.host, where.port)
    except OSError as error:
        reason = f"cannot connect to {where}: {error.strerror or error}"
        raise TransportError(error.errno, reason) from None


def _client_tls(where: Address, certificate: Optional[str]) -> Optional[TlsStream]:
    if isinstance(where, UnixAddress) or not where.tls:
        return None
    if certificate is None:
        raise HandshakeError(f"{where} cannot be dialled without the mesh's certificate")
    return TlsStream(client_context(certificate), server_side=False)
