"""TLS between bytes and bytes, for connections that count what they read from strangers.

The kernel has one certificate per session, signed by itself. It travels to the hosts with the
token, and they take that very certificate and no other: no authority, no host name and no date
has a say. TLS 1.3 only, since both ends are of this package. Who calls is proved by the token's
handshake, inside.

asyncio's own TLS reads up to 256 KiB at once from anybody; here the connection feeds what it has
chosen to read.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import List

from .errors import HandshakeError, ProtocolError

__all__ = ["Certificate", "TlsStream", "client_context", "server_context"]

_RECORD_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Certificate:
    """A session's certificate (PEM) and its private key (PEM)."""

    public: str
    private: bytes = field(repr=False)


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Of the serving side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # no session is taken up again
    # The standard library loads from files only; this one is in memory, and nobody else's.
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, certificate.public.encode() + certificate.private)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def client_context(certificate: str) -> ssl.SSLContext:
    """Of the dialling side: takes the owner of this certificate (PEM). Raises HandshakeError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise HandshakeError(f"the mesh's certificate cannot be read: {error}") from None
    return context


class TlsStream:
    """One side of one connection. What must go out is in ``output`` after each call."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self.ready = False
        """Whether the handshake is done: only then may be encrypted."""
        self.ended = False
        """Whether the peer has said that nothing follows."""

    def output(self) -> bytes:
        """Bytes for the peer."""
        return self._outgoing.read()

    def start(self) -> None:
        """Begin: the client speaks first."""
        self.receive(b"")

    def receive(self, data: bytes) -> bytes:
        """The plain bytes in what the peer has sent.

        Raises HandshakeError for a server with another certificate, ProtocolError for what is
        not TLS, or not of this version.
        """
        if data:
            self._incoming.write(data)
        pieces: List[bytes] = []
        try:
            if not self.ready:
                self._session.do_handshake()
                self.ready = True
            while piece := self._session.read(_RECORD_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLCertVerificationError:
            raise HandshakeError("the server has another certificate than this mesh's") from None
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS: {error.reason or 'failed'}") from None
        return b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        """The records to send for these plain bytes."""
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self.output()
