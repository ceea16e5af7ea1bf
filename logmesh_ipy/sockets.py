"""Sockets that are this user's alone: directories, binding, and who is at the other end.

A Unix socket is served in a directory of the user's own with mode 0700 and has mode 0600,
whatever the umask; what somebody else has planted in its place is refused, never used, never
removed. Only the socket of a server that is gone is taken over.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
import tempfile
from typing import Optional, Tuple

from .addresses import Address, NetAddress, UnixAddress, parse_address
from .errors import AddressInUseError, TransportError

__all__ = [
    "any_address",
    "bind_net",
    "bind_unix",
    "is_served",
    "peer_name",
    "peer_user",
    "private_directory",
    "private_temporary_directory",
    "unlink_socket",
]

_PRIVATE_DIRECTORY = 0o700
_PRIVATE_SOCKET = 0o600
_PROBE_SEC = 1.0
_PEERCRED = struct.Struct("3i")  # pid, uid, gid
_NOBODY = -1


def private_directory(path: str) -> None:
    """Make a directory of mode 0700. Raises OSError; FileExistsError whatever is there."""
    os.mkdir(path, _PRIVATE_DIRECTORY)
    os.chmod(path, _PRIVATE_DIRECTORY)  # the umask may have taken from it


def private_temporary_directory(prefix: str) -> str:
    """A new directory of mode 0700 below ``TMPDIR``."""
    path = tempfile.mkdtemp(prefix=prefix)
    os.chmod(path, _PRIVATE_DIRECTORY)
    return path


def any_address(name: str = "channel") -> str:
    """A free Unix address in a new directory of mode 0700."""
    return str(UnixAddress(f"{private_temporary_directory('logmesh-any-')}/{name}.sock"))


def is_served(address: str) -> bool:
    """Whether a living process serves the address."""
    return _answers(parse_address(address))


def bind_unix(path: str) -> socket.socket:
    """A socket to listen on. Raises AddressInUseError, or TransportError that says why.

    A socket of this user that nobody serves any more is taken over.
    """
    try:
        _check_private(os.path.dirname(path))
        sock = _bound(path)
    except AddressInUseError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise TransportError(error.errno, f"cannot serve unix:{path}: {why}") from None
    return sock


async def bind_net(address: NetAddress) -> socket.socket:
    """A socket to listen on. Raises AddressInUseError, or TransportError that says why."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        kind_of_error = AddressInUseError if error.errno == errno.EADDRINUSE else TransportError
        words = f"cannot serve {address}: {error.strerror or error}"
        raise kind_of_error(error.errno, words) from None
    return sock


def unlink_socket(path: str) -> None:
    """Remove a socket's file; what is none stays."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def peer_user(sock: socket.socket) -> Optional[int]:
    """The user id at the other end of a Unix socket; None for any other socket.

    Raises TransportError where there is no other end: the server's backlog was full.
    """
    credentials = _credentials(sock)
    if credentials is None:
        return None
    if credentials[1] == _NOBODY:
        raise TransportError(errno.EAGAIN, "the server takes no more connections for now")
    return credentials[1]


def peer_name(sock: socket.socket) -> str:
    """Who is at the other end, for people."""
    credentials = _credentials(sock)
    if credentials is not None:
        return f"process {credentials[0]} of user {credentials[1]}"
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return "somebody who has gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credentials(sock: socket.socket) -> Optional[Tuple[int, int, int]]:
    if sock.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _PEERCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    )
    return pid, uid, gid


def _check_private(directory: str) -> None:
    """Raises OSError unless nobody else can put anything into the directory, or reach into it."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        problem = "is no directory but a link" if stat.S_ISLNK(found.st_mode) else "is no directory"
    elif found.st_uid != os.geteuid():
        problem = f"belongs to user {found.st_uid}, not to {os.geteuid()}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        problem = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise OSError(
        errno.EACCES,
        f"{directory} {problem}; a directory of your own with mode 0700 is needed: remove this "
        "one, or set TMPDIR to another place",
    )


def _check_stale(path: str) -> None:
    """Raises OSError unless what is there is a socket of this user."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is something that is no socket; remove it")
    if found.st_uid != os.geteuid():
        raise OSError(errno.EACCES, f"there is a socket of user {found.st_uid}; remove it")


def _bound(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), _PRIVATE_SOCKET)  # the file begins with this mode ...
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _check_stale(path)
            if _answers(UnixAddress(path)):
                words = f"unix:{path} is already served by another process"
                raise AddressInUseError(errno.EADDRINUSE, words) from None
            unlink_socket(path)
            sock.bind(path)
        os.chmod(path, _PRIVATE_SOCKET)  # ... less the umask
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _answers(address: Address) -> bool:
    try:
        if isinstance(address, NetAddress):
            socket.create_connection((address.host, address.port), _PROBE_SEC).close()
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SEC)
            probe.connect(address.path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        # Unix: the backlog is full. TCP: the host itself has gone, or the way to it.
        return isinstance(address, UnixAddress)
    return True
