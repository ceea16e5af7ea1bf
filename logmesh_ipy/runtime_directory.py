"""The directory of a session: its sockets and spools, in the temporary directory, for its life.

It holds the file ``session.lock``, which the kernel and each of its bootstraps hold locked
(``flock``, shared) as long as they live: the system lets go of it however they end. Where nobody
holds it, all of them have ended, and :func:`sweep_stale` removes what they left. Names:

    logmesh-XXXXXXXX        a session; it gets this name when its lock is held already
    logmesh-part-XXXXXXXX   one that is being made or removed; stale after a minute
    logmesh-any-XXXXXXXX    a forwarder's own (``sockets.any_address``); in use while it is served

Touched is only what this user alone may use: its own directories of mode 0700, never a link.
Used by the instance, and by the bootstrap whose kernel has gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
import weakref
from typing import List, Optional

from .procs import sweep
from .sockets import is_served, private_temporary_directory

__all__ = ["RuntimeDirectory", "discard", "ended_sessions", "hold", "sweep_stale"]

_LOCK = "session.lock"
_PART = "logmesh-part-"
_NAME = re.compile(r"logmesh-(?:(part|any)-)?[a-z0-9_]{8}")
_HOST = re.compile(r"h[0-9]+")
_GRACE_SEC = 60.0
_TRIES = 10
_LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RuntimeDirectory:
    """Makes one; this process holds it until ``remove()`` or its end. Raises OSError.

    Its forked children hold it not: a parent that was killed would seem to live on.
    """

    def __init__(self) -> None:
        self._lock: Optional[int] = None
        for tries_left in reversed(range(_TRIES)):
            part = private_temporary_directory(_PART)
            self.path = os.path.join(
                os.path.dirname(part), f"logmesh-{os.path.basename(part)[len(_PART) :]}"
            )
            try:
                self._lock = _make_lock(part)
                os.rename(part, self.path)
            except OSError as error:
                self.let_go()
                shutil.rmtree(part, ignore_errors=True)
                # Taken for a stale one after all, or the name is taken.
                if not tries_left or error.errno not in (
                    errno.ENOENT,
                    errno.ENOTEMPTY,
                    errno.EEXIST,
                ):
                    raise
            else:
                _held.add(self)
                return

    def remove(self) -> None:
        """Remove it with all that it holds. Idempotent."""
        discard(self.path)
        self.let_go()

    def let_go(self) -> None:
        """Hold it no more. Idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


_held: weakref.WeakSet[RuntimeDirectory] = weakref.WeakSet()


def _let_go_in_forked_child() -> None:
    for directory in tuple(_held):
        directory.let_go()


os.register_at_fork(after_in_child=_let_go_in_forked_child)


def hold(path: str) -> Optional[int]:
    """Hold a session's directory as the kernel does, until the fd is closed or the process ends.

    None where that cannot be: then it is not kept from being swept, or never swept.
    """
    lock: Optional[int] = None
    with contextlib.suppress(OSError):
        lock = os.open(os.path.join(path, _LOCK), _LOCK_FLAGS)
        if not _flock(lock, fcntl.LOCK_SH):
            os.close(lock)
            lock = None
    return lock


def discard(path: str) -> None:
    """Remove a session's directory, under another name: what is left of it half-way is stale."""
    head, name = os.path.split(path)
    part = os.path.join(head, _PART + name[-8:])
    with contextlib.suppress(OSError):
        os.rename(path, part)
        path = part
    shutil.rmtree(path, ignore_errors=True)


def sweep_stale() -> List[str]:
    """Remove what sessions of this user left behind that ended without a chance to do so.

    Processes of such a session that have outlived it are killed. Gives the names of what was
    removed; what another process is removing at the same time, or cannot be removed, is left out.
    """
    directory = tempfile.gettempdir()
    try:
        names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    except OSError:
        return []
    return [name for name in names if _sweep_one(directory, name)]


def ended_sessions() -> List[str]:
    """The names of what :func:`sweep_stale` would remove of whole sessions; nothing is changed."""
    directory = tempfile.gettempdir()
    found = []
    for name in sorted(os.listdir(directory)):
        match = _NAME.fullmatch(name)
        if match is None or match[1] is not None:
            continue
        with contextlib.suppress(OSError):
            state = os.lstat(os.path.join(directory, name))
            if state.st_uid != os.geteuid() or not stat.S_ISDIR(state.st_mode):
                continue
            lock = os.open(os.path.join(directory, name, _LOCK), _LOCK_FLAGS)
            try:
                if _flock(lock, fcntl.LOCK_EX):
                    found.append(name)
            finally:
                os.close(lock)
    return found


def _sweep_one(directory: str, name: str) -> bool:
    path = os.path.join(directory, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    lock: Optional[int] = None
    try:
        state = os.fstat(fd)
        if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) != stat.S_IRWXU:
            return False
        found = _NAME.fullmatch(name)
        kind = found[1] if found else None
        if kind is None:
            lock = os.open(_LOCK, _LOCK_FLAGS, dir_fd=fd)
            if not _flock(lock, fcntl.LOCK_EX):
                return False
            for host in filter(_HOST.fullmatch, os.listdir(fd)):
                sweep(f"{name}-{host}")
        elif time.time() - state.st_mtime < _GRACE_SEC or (kind == "any" and _is_used(path)):
            return False
        discard(path)
        return not os.path.lexists(path)
    except OSError:
        return False  # Not one of ours, or it is gone meanwhile.
    finally:
        os.close(fd)
        if lock is not None:
            os.close(lock)


def _is_used(path: str) -> bool:
    """Whether anybody serves one of its sockets."""
    sockets = [entry for entry in os.listdir(path) if entry.endswith(".sock")]
    return any(is_served(f"unix:{path}/{entry}") for entry in sockets)


def _make_lock(path: str) -> Optional[int]:
    """The lock of a new directory, held; None where the file system knows no locks."""
    place = os.path.join(path, _LOCK)
    made = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(made, 0o600)  # whatever the umask is
    os.close(made)
    lock = hold(path)
    if lock is None:
        os.unlink(place)  # A directory without one is never swept.
    return lock


def _flock(fd: int, kind: int) -> bool:
    """Lock at once, or not at all."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
