"""Who calls at a mesh's door from outside: plain sockets that say whatever they like.

None of it uses the product's channel: what a stranger sees is what is there. How much of its bytes
the server has read is asked of the system, at the server's end of the connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import ssl
import stat
import struct
import termios
import threading
import time
from typing import Iterator, List, Optional, Self, Tuple

from logmesh_ipy._version import __version__
from logmesh_ipy.addresses import NetAddress, parse_address
from logmesh_ipy.frames import FrameDecoder
from logmesh_ipy.handshake import NONCE_BYTES, ClientHandshake, Role
from logmesh_ipy.wire import Message, decode, encode
from tests.support import wait_until

__all__ = [
    "Member",
    "Stranger",
    "far_end",
    "mutated",
    "open_quietly",
    "received_bytes",
    "unread_bytes",
]


def open_quietly(address: str, timeout: float = 10.0) -> socket.socket:
    """A connection to a server, nothing said."""
    where = parse_address(address)
    if isinstance(where, NetAddress):
        return socket.create_connection((where.host, where.port), timeout)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(where.path)
    return sock


class _Caller:
    """One end of a connection."""

    sock: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def say(self, data: bytes) -> bool:
        """Send; False when the server has hung up."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def is_closed_within(self, timeout: float) -> bool:
        """Whether the server hangs up in time; what it says until then is dropped."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                if not self.sock.recv(65536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False


class Stranger(_Caller):
    """One connection; ``tls``: speaks TLS as anybody can, without knowing the certificate."""

    def __init__(self, address: str, *, tls: bool = False) -> None:
        self.began = time.monotonic()
        self.sock = open_quietly(address)
        self.name = self.sock.getsockname()
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)

    def drip(self, data: bytes, pause_sec: float) -> None:
        """Send these bytes and then zeros, one at a time, until the end or an hour."""

        def send() -> None:
            with contextlib.suppress(OSError):
                for at in range(int(3600 / pause_sec)):
                    self.sock.send(data[at : at + 1] or b"\0")
                    time.sleep(pause_sec)

        threading.Thread(target=send, daemon=True).start()

    def closed_after(self, within: float) -> float:
        """Seconds from the connection to its end; fails when there is none within so many."""
        deadline = self.began + within
        heard = b""
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                break
            except OSError:
                data = b""
            if not data:
                return time.monotonic() - self.began
            heard += data
        raise AssertionError(f"still open after {within} s; it said {heard[:200]!r}")


class Member(_Caller):
    """A peer that has proved itself, and from then on says what it likes."""

    def __init__(
        self, address: str, token: bytes, role: Role, name: str, certificate: Optional[str] = None
    ) -> None:
        self.sock = open_quietly(address)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=certificate)
            self.sock = context.wrap_socket(self.sock)
        self._decoder = FrameDecoder()
        self._heard: List[Tuple[int, bytes]] = []
        nonce = os.urandom(NONCE_BYTES)
        handshake = ClientHandshake(token, nonce, __version__, role, name)
        while not handshake.done:
            answer = handshake.receive(self.hear())
            if answer is not None:
                self.sock.sendall(encode(answer))

    def hear(self) -> Message:
        """The next message of the server. Raises ConnectionError at the end."""
        while not self._heard:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionResetError("closed")
            self._heard += self._decoder.feed(data)
        return decode(*self._heard.pop(0))


def _copy_of(peer: object) -> Optional[socket.socket]:
    """A copy of this process's TCP socket whose other end has that name."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
            try:
                if copy.family != socket.AF_UNIX and copy.getpeername() == peer:
                    return socket.socket(fileno=copy.detach())
            finally:
                copy.close()
    return None


@contextlib.contextmanager
def far_end(stranger: Stranger) -> Iterator[socket.socket]:
    """A copy of the server's end of a TCP connection, which stays when the server closes its own.

    The server must be in this process.
    """
    end = wait_until(lambda: _copy_of(stranger.name), 5, "the server has accepted")
    assert end is not None
    with end:
        yield end


def unread_bytes(end: socket.socket) -> int:
    """What has arrived at a socket and nobody has read (FIONREAD)."""
    count: int = struct.unpack("i", fcntl.ioctl(end.fileno(), termios.FIONREAD, bytes(4)))[0]
    return count


def received_bytes(end: socket.socket) -> int:
    """What has arrived at a TCP socket in all (tcpi_bytes_received)."""
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    count: int = struct.unpack_from("Q", info, 128)[0]
    return count


def mutated(rng: random.Random, frame: bytes) -> bytes:
    """A frame with something wrong: bits, bytes, its length, its kind, its end, or all of it."""
    broken = bytearray(frame)
    how = rng.randrange(8)
    if how == 0:
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    elif how == 1:
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
    elif how == 2:
        broken[:4] = rng.choice([0, 1, 2**20 + 1, 2**31, 2**32 - 1]).to_bytes(4, "big")
    elif how == 3:
        broken[4] = rng.randrange(256)
    elif how == 4:
        del broken[rng.randrange(5, len(broken) + 1) :]
        broken[:4] = (len(broken) - 4).to_bytes(4, "big")
    elif how == 5:
        at = rng.randrange(5, len(broken) + 1)
        broken[at:at] = rng.randbytes(rng.randint(1, 8))
        broken[:4] = (len(broken) - 4).to_bytes(4, "big")
    elif how == 6:
        body = rng.randbytes(rng.randint(0, 60))
        broken = bytearray((len(body) + 1).to_bytes(4, "big") + bytes([rng.randrange(256)]) + body)
    else:
        at, size = rng.randrange(5, len(broken) + 1), rng.randint(1, 6)
        broken[at : at + size] = (
            rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"]) + b"\xff" * 4
        )
        broken[:4] = (len(broken) - 4).to_bytes(4, "big")
    return bytes(broken)
