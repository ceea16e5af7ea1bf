"""Mutual proof that both ends know the mesh's token. Sans-IO.

The server sends a ``Challenge``, the client answers with a ``Hello`` that carries its proof and a
challenge of its own, the server answers ``Welcome`` with the proof back, or ``Refused``. A proof
is HMAC-SHA256 over the direction and all else that both have said, nonces, versions and who calls,
so it can be neither replayed nor reflected, and not one bit of it can be changed on the way.
Nothing but these four small frames is decoded before the proof holds, and of the other's text
nothing is told on but what can be printed.
"""

from __future__ import annotations

import enum
import hmac
from dataclasses import replace
from typing import Optional, Tuple, Union

from .errors import HandshakeError, ProtocolError
from .wire import WIRE_VERSION, Challenge, Hello, Message, Refused, Welcome

__all__ = ["NONCE_BYTES", "ClientHandshake", "Role", "ServerHandshake", "Token"]

NONCE_BYTES = 16
_MAX_NAME = 256
_MAX_SHOWN = 300


class Token(bytes):
    """A mesh's secret. No text is made of it: what tells of an object tells not its token."""

    def __repr__(self) -> str:
        return "<token>"

    __str__ = __repr__


class Role(str, enum.Enum):
    """What the connecting peer is."""

    BOOTSTRAP = "bootstrap"
    FORWARDER = "forwarder"
    RUN = "run"


def _proof(token: bytes, direction: bytes, challenge: Challenge, hello: Hello) -> bytes:
    """Over all fields of both but the proof itself."""
    said = (
        *(str(challenge.version), challenge.package, challenge.nonce),
        *(str(hello.version), hello.package, hello.role, hello.name, hello.nonce),
    )
    parts = [direction, *(part.encode() if isinstance(part, str) else part for part in said)]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(token, message, "sha256")


def _printable(text: str) -> str:
    """A stranger's text, short and without anything that a terminal would obey."""
    return ascii(text[:_MAX_SHOWN])[1:-1] + ("..." if len(text) > _MAX_SHOWN else "")


class ServerHandshake:
    """The accepting side: ``start()`` gives the first frame, ``receive`` the answer.

    After ``receive`` returned a Welcome, ``peer`` is (role, name); after a Refused the
    connection must be closed. One Hello is judged, right or wrong: there is no second try.
    """

    def __init__(self, token: bytes, nonce: bytes, package: str) -> None:
        self._token = token
        self._challenge = Challenge(version=WIRE_VERSION, package=package, nonce=nonce)
        self._judged = False
        self.peer: Optional[Tuple[Role, str]] = None

    def start(self) -> Challenge:
        """The first frame of the connection."""
        return self._challenge

    def receive(self, message: Message) -> Union[Welcome, Refused]:
        """Judge the peer's Hello."""
        if self._judged:
            return Refused(reason="the handshake is over")
        self._judged = True
        if type(message) is not Hello:
            return Refused(reason="the first frame must be a Hello")
        if message.version != WIRE_VERSION:
            return Refused(
                reason=f"wire version {message.version} (logmesh_ipy "
                f"{_printable(message.package)}) does not fit {WIRE_VERSION} (logmesh_ipy "
                f"{self._challenge.package}): install the same version"
            )
        if len(message.nonce) != NONCE_BYTES or len(message.name) > _MAX_NAME:
            return Refused(reason="malformed Hello")
        expected = _proof(self._token, b"client", self._challenge, message)
        if not hmac.compare_digest(expected, message.proof):
            return Refused(reason="the token does not fit this mesh")
        try:
            role = Role(message.role)
        except ValueError:
            return Refused(reason="unknown role")
        self.peer = (role, message.name)
        return Welcome(proof=_proof(self._token, b"server", self._challenge, message))


class ClientHandshake:
    """The connecting side: feed it frames until ``done``."""

    def __init__(self, token: bytes, nonce: bytes, package: str, role: Role, name: str) -> None:
        self._token = token
        self._nonce = nonce
        self._package = package
        self._role = role
        self._name = name
        self._expected: Optional[bytes] = None
        self.done = False

    def receive(self, message: Message) -> Optional[Hello]:
        """The frame to answer with, if any. Raises HandshakeError where the server is not ours."""
        if type(message) is Challenge and self._expected is None:
            if message.version != WIRE_VERSION:
                raise HandshakeError(
                    f"the client speaks wire version {message.version} (logmesh_ipy "
                    f"{_printable(message.package)}), this side {WIRE_VERSION} (logmesh_ipy "
                    f"{self._package})"
                )
            if len(message.nonce) != NONCE_BYTES:
                raise HandshakeError("malformed Challenge")
            hello = Hello(
                version=WIRE_VERSION,
                package=self._package,
                role=self._role.value,
                name=self._name,
                nonce=self._nonce,
                proof=b"",
            )
            self._expected = _proof(self._token, b"server", message, hello)
            return replace(hello, proof=_proof(self._token, b"client", message, hello))
        if type(message) is Welcome and self._expected is not None and not self.done:
            if not hmac.compare_digest(self._expected, message.proof):
                raise HandshakeError("the server does not know this mesh's token")
            self.done = True
            return None
        if type(message) is Refused:
            raise HandshakeError(f"refused: {_printable(message.reason)}")
        raise ProtocolError(f"unexpected {type(message).__name__} in the handshake")
