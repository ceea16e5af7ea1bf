"""Mutual proof that both ends know the mesh's token. Sans-IO.

The server sends a ``Challenge``, the client answers with a ``Hello`` that carries its proof and a
challenge of its own, the server answers ``Welcome`` with the proof back, or ``Refused``. A proof
is HMAC-SHA256 over the direction, both nonces and who calls, so it can be neither replayed nor
reflected. Nothing but these four small frames is decoded before the proof holds.
"""

from __future__ import annotations

import enum
import hmac
from typing import Optional, Tuple, Union

from .errors import HandshakeError, ProtocolError
from .wire import WIRE_VERSION, Challenge, Hello, Message, Refused, Welcome

__all__ = ["NONCE_BYTES", "ClientHandshake", "Role", "ServerHandshake"]

NONCE_BYTES = 16
_MAX_NAME = 256


class Role(str, enum.Enum):
    """What the connecting peer is."""

    BOOTSTRAP = "bootstrap"
    FORWARDER = "forwarder"
    RUN = "run"


def _proof(token: bytes, direction: bytes, first: bytes, second: bytes, who: str) -> bytes:
    parts = (direction, first, second, who.encode())
    message = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return hmac.digest(token, message, "sha256")


class ServerHandshake:
    """The accepting side: ``start()`` gives the first frame, ``receive`` the answer.

    After ``receive`` returned a Welcome, ``peer`` is (role, name); after a Refused the
    connection must be closed. One Hello is judged, right or wrong: there is no second try.
    """

    def __init__(self, token: bytes, nonce: bytes, package: str) -> None:
        self._token = token
        self._nonce = nonce
        self._package = package
        self._judged = False
        self.peer: Optional[Tuple[Role, str]] = None

    def start(self) -> Challenge:
        """The first frame of the connection."""
        return Challenge(version=WIRE_VERSION, package=self._package, nonce=self._nonce)

    def receive(self, message: Message) -> Union[Welcome, Refused]:
        """Judge the peer's Hello."""
        if self._judged:
            return Refused(reason="the handshake is over")
        self._judged = True
        if type(message) is not Hello:
            return Refused(reason="the first frame must be a Hello")
        if message.version != WIRE_VERSION:
            return Refused(
                reason=f"wire version {message.version} (logmesh_ipy {message.package}) does not "
                f"fit {WIRE_VERSION} (logmesh_ipy {self._package}): install the same version"
            )
        if len(message.nonce) != NONCE_BYTES or len(message.name) > _MAX_NAME:
            return Refused(reason="malformed Hello")
        who = f"{message.role}:{message.name}"
        expected = _proof(self._token, b"client", self._nonce, message.nonce, who)
        if not hmac.compare_digest(expected, message.proof):
            return Refused(reason="the token does not fit this mesh")
        try:
            role = Role(message.role)
        except ValueError:
            return Refused(reason="unknown role")
        self.peer = (role, message.name)
        return Welcome(proof=_proof(self._token, b"server", message.nonce, self._nonce, who))


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
                    f"{message.package}), this side {WIRE_VERSION} (logmesh_ipy {self._package})"
                )
            if len(message.nonce) != NONCE_BYTES:
                raise HandshakeError("malformed Challenge")
            who = f"{self._role.value}:{self._name}"
            self._expected = _proof(self._token, b"server", self._nonce, message.nonce, who)
            return Hello(
                version=WIRE_VERSION,
                package=self._package,
                role=self._role.value,
                name=self._name,
                nonce=self._nonce,
                proof=_proof(self._token, b"client", message.nonce, self._nonce, who),
            )
        if type(message) is Welcome and self._expected is not None and not self.done:
            if not hmac.compare_digest(self._expected, message.proof):
                raise HandshakeError("the server does not know this mesh's token")
            self.done = True
            return None
        if type(message) is Refused:
            raise HandshakeError(f"refused: {message.reason}")
        raise ProtocolError(f"unexpected {type(message).__name__} in the handshake")
