"""Where the files of sessions lie: a directory of the user's own, which is trusted only as such.

It is ``logmesh-stores-UID`` in the temporary directory, or what the option ``store_directory``
names. Whoever could put a link or a directory of theirs there would be given all lines; so it has
to be this user's, of mode 0700 and no link, and is held by its descriptor while it is used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from typing import NamedTuple

from .errors import LogMeshError

__all__ = [
    "SUFFIX", "DirectoryRefusedError", "SessionPlace", "open_directory", "remove",
    "store_directory",
]  # fmt: skip

SUFFIX = ".logmesh"


class DirectoryRefusedError(LogMeshError):
    """The directory is not one in which lines may be kept."""


class SessionPlace(NamedTuple):
    """Where a session's file is made; an empty ``directory`` is the usual one."""

    directory: str = ""

    @property
    def path(self) -> str:
        """The directory."""
        return self.directory or store_directory()


def store_directory() -> str:
    """Where the files of this user's sessions lie unless an option says otherwise."""
    return os.path.join(tempfile.gettempdir(), f"logmesh-stores-{os.getuid()}")


def open_directory(path: str, *, make: bool = False) -> int:
    """A descriptor of the directory, whose name may mean another one a moment later.

    Raises DirectoryRefusedError where it is a link or no directory, another user's, or open to
    others; OSError where it is not there and cannot be made.
    """
    if make:
        # Not before it is needed: it would make %load_ext slower.
        from .sockets import private_directory

        with contextlib.suppress(FileExistsError):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            private_directory(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise DirectoryRefusedError(f"{path} is a link or no directory") from None
        raise
    try:
        found = os.fstat(fd)
        if found.st_uid != os.getuid():
            raise DirectoryRefusedError(f"{path} belongs to user {found.st_uid}")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise DirectoryRefusedError(f"{path} is open to others (chmod 700 closes it)")
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove(directory: str, name: str, fd: int) -> None:
    """Unlink the name if it still means the open file; the usual directory goes when it is empty.

    Raises OSError, DirectoryRefusedError.
    """
    directory_fd = open_directory(directory)
    try:
        named = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if os.path.samestat(named, os.fstat(fd)):
            os.unlink(name, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)
        if directory == store_directory():  # another one is the user's
            with contextlib.suppress(OSError):
                os.rmdir(directory)
