"""The file of a store: segments one behind the other, under a name that outlives a crash or none.

    none yet --append--> open --append--> open ... --close--> gone

:class:`StoreFile` has no name: it takes what does not fit memory. :class:`SessionFile` has one, in
a directory of the user's own, and is locked (``flock``) as long as its process lives: a file there
that nobody holds is what a crash has left. It is removed when it is closed, when its owner is
forgotten, and when the process ends orderly.

Files are 0600 and made anew, no link is followed. A forked child reads on, and neither writes nor
removes. Appending is for one thread at a time; reading is for any.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import tempfile
import threading
import time
import weakref
from typing import List, Optional, Sequence, Tuple

from .store_places import SUFFIX, DirectoryRefusedError, SessionPlace, open_directory, remove

__all__ = ["FileShrunkError", "SessionFile", "StoreFile"]

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_VECTORS = 1024  # IOV_MAX of Linux
_COPY_BYTES = 8 << 20
_MAX_NAMES = 100
_CLOSE_SEC = 1.0


class FileShrunkError(OSError):
    """Somebody has cut the file: ``size`` bytes are left."""

    def __init__(self, size: int) -> None:
        super().__init__(errno.EIO, f"its file was cut to {size:,} bytes")
        self.size = size


class _Opened:
    """An open file, its name if it has one, and whose it is."""

    def __init__(self, fd: int, directory: str = "", name: str = "") -> None:
        self.fd = fd
        self.directory = directory
        self.name = name
        self.pid = os.getpid()
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def write(self, parts: Sequence[bytes], place: int) -> None:
        """All parts, one behind the other, from a place on. Raises OSError."""
        with self._writing:
            _write(self._open_fd, parts, place)

    def read(self, size: int, place: int) -> bytes:
        """As much as there is. Raises OSError."""
        with self._reading:
            return os.pread(self._open_fd, size, place)

    def stat(self) -> os.stat_result:
        """Of the file. Raises OSError."""
        with self._reading:
            return os.fstat(self._open_fd)

    def close(self) -> None:
        """Remove the file if it is this process's, and close it. Idempotent.

        A disk that hangs keeps its descriptor: nobody waits for it.
        """
        if self.name and self.fd >= 0 and self.pid == os.getpid():
            with contextlib.suppress(OSError, DirectoryRefusedError):
                remove(self.directory, self.name, self.fd)
        if self._writing.acquire(timeout=_CLOSE_SEC):
            try:
                with self._reading:
                    fd, self.fd = self.fd, -1
                    if fd >= 0:
                        os.close(fd)
            finally:
                self._writing.release()

    def become_readers(self) -> None:
        """In a forked child: let go of the lock that is the parent's, and read on."""
        self._writing, self._reading = threading.Lock(), threading.Lock()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                self.fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            os.close(fd)

    @property
    def _open_fd(self) -> int:
        if self.fd < 0:
            raise OSError(errno.EBADF, "the store's file is closed")
        return self.fd


_all_opened: weakref.WeakSet[_Opened] = weakref.WeakSet()


def _in_forked_child() -> None:
    for opened in list(_all_opened):
        opened.become_readers()


os.register_at_fork(after_in_child=_in_forked_child)


class StoreFile:
    """Without a name, in ``directory``; made with the first segment.

    ``size``: of whole segments.
    """

    named = False
    name = ""
    renewals = 0

    def __init__(self, directory: Optional[str] = None) -> None:
        self.directory = directory
        self.size = 0
        self._opened: Optional[_Opened] = None
        self._pid = os.getpid()
        self._closed = False

    def append(self, parts: Sequence[bytes]) -> Tuple[int, int]:
        """Write a segment's parts behind the others; (offset, size) of the segment.

        Raises OSError where the disk refuses: then nothing has changed that counts.
        """
        if self._pid != os.getpid():
            raise OSError(errno.EPERM, "the store's file is the parent process's")
        opened = self._opened
        if opened is None:
            opened = self._make()
            self._use(opened)
        size = sum(map(len, parts))
        opened.write(parts, self.size)
        place = (self.size, size)
        self.size += size
        return place

    def check(self) -> None:
        """To be called before ``append``. Raises FileShrunkError where something was cut off."""
        if self._opened is not None:
            size = self._opened.stat().st_size
            if size < self.size:
                raise FileShrunkError(size)

    def read(self, offset: int, size: int) -> bytes:
        """What was written. Raises OSError where the file has it no more."""
        if self._opened is None:
            raise OSError(errno.EBADF, "the store's file is closed")
        data = self._opened.read(size, offset)
        if len(data) != size:
            raise FileShrunkError(self._opened.stat().st_size)
        return data

    def cut(self, size: int) -> None:
        """Forget what was behind ``size``: it will be written again."""
        self.size = size

    def close(self) -> None:
        """Give it up for good. Idempotent."""
        self._closed = True
        if self._opened is not None:
            self._opened.close()

    def without_name(self) -> StoreFile:
        """Another that has all that is here, takes what comes, and is in its place from now on."""
        file = StoreFile()
        file.size, file._closed = self.size, self._closed
        if self._opened is not None:
            self._opened.name = ""
            self._forgotten.detach()
            file._use(self._opened)
        return file

    def _make(self) -> _Opened:
        fd, path = tempfile.mkstemp(prefix="store-", dir=self.directory)
        os.unlink(path)
        return _Opened(fd)

    def _use(self, opened: _Opened) -> None:
        """From here on this is the file; the one before is closed."""
        before, self._opened = self._opened, opened
        self.name = opened.name
        _all_opened.add(opened)
        # Whoever forgets the store has its file removed, as has the end of the process.
        self._forgotten = weakref.finalize(self, opened.close)
        if before is not None:
            before.close()
        if self._closed:
            opened.close()  # meanwhile: perhaps it was that which took the name of one away


class SessionFile(StoreFile):
    """With a name that says when and by whom it was begun.

    ``name`` is empty before the first segment. ``renewals`` counts how often it was taken away.
    """

    named = True

    def __init__(self, place: SessionPlace) -> None:
        super().__init__(place.path)
        self.started = time.time()

    def check(self) -> None:
        """A file whose name was taken away is written anew, under another one."""
        super().check()
        old = self._opened
        if old is None or self._closed or old.stat().st_nlink:
            return
        made = self._make()
        try:
            at = 0
            while at < self.size:
                data = self.read(at, min(_COPY_BYTES, self.size - at))
                made.write([data], at)
                at += len(data)
        except BaseException:
            made.close()
            raise
        self._use(made)
        self.renewals += 1

    def _make(self) -> _Opened:
        """Raises DirectoryRefusedError, or OSError."""
        assert self.directory is not None
        began = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.started))
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname()[:60]).lstrip(".")
        name = ""
        directory_fd = open_directory(self.directory, make=True)
        try:
            for number in range(_MAX_NAMES):
                name = f"{began}-{os.getpid()}-{host}{f'-{number}' if number else ''}{SUFFIX}"
                try:
                    fd = os.open(name, _FLAGS, 0o600, dir_fd=directory_fd)
                except FileExistsError:
                    continue
                try:
                    os.fchmod(fd, 0o600)  # whatever the umask is
                    fcntl.flock(fd, fcntl.LOCK_EX)  # who looks whether it is held is soon done
                except BaseException:
                    os.close(fd)
                    os.unlink(name, dir_fd=directory_fd)
                    raise
                return _Opened(fd, self.directory, name)
        finally:
            os.close(directory_fd)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _write(fd: int, parts: Sequence[bytes], place: int) -> None:
    """All parts, one behind the other, from a place in the file on. Raises OSError."""
    for first in range(0, len(parts), _MAX_VECTORS):
        some: List[bytes] = list(parts[first : first + _MAX_VECTORS])
        size = sum(map(len, some))
        written = os.pwritev(fd, some, place)
        if written < size:  # the disk is full, as a rule: it says so when it is asked again
            rest = memoryview(b"".join(some))
            while written < size:
                written += os.pwrite(fd, rest[written:], place + written)
        place += size
