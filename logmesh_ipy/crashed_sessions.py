"""The sessions whose kernels have crashed, and those that run: found, swept, opened again.

A session is its store's file (``store_file``). It crashed if nobody holds the file's lock: whoever
ends orderly removes it. A session that runs can be looked at, beside its kernel: its lines as they
are in the file at that moment, a prefix of what it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Iterator, List, Optional, Set, Tuple

from .config import from_environment
from .errors import OptionError
from .logs import Logs
from .saved_store import SavedStore, summary_of
from .store_places import SUFFIX, DirectoryRefusedError, SessionPlace, open_directory, remove

__all__ = ["SavedSession", "news_of_crashes", "reopen", "saved_sessions", "sweep"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DAY_SEC = 86_400.0
_YOUNG_SEC = 60.0


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session that can be opened again with ``reopen(session.name)``.

    ``procs``: ranks that have said something. ``lines`` and ``bytes``: as the heads of the file's
    segments tell; ``cut_bytes`` come behind the last of them and cannot be read. Damage between is
    seen by ``reopen`` only, which checks all it reads. ``running``: its kernel lives.
    """

    name: str
    start: datetime
    end: datetime
    host: str
    pid: int
    procs: int
    lines: int
    bytes: int
    cut_bytes: int
    running: bool

    @property
    def complete(self) -> bool:
        """Whether nothing is cut off."""
        return not self.cut_bytes

    def __str__(self) -> str:
        state = "running" if self.running else "crashed"
        whole = "" if self.complete else f", cut: {self.cut_bytes:,} bytes cannot be read"
        return (
            f"{self.name}: {state}, {self.start:%Y-%m-%d %H:%M:%S} to {self.end:%H:%M:%S} on "
            f"{self.host}, {self.procs} proc{'s' * (self.procs != 1)}, {self.lines:,} lines, "
            f"{self.bytes:,} bytes{whole}"
        )


def saved_sessions(directory: Optional[str] = None) -> List[SavedSession]:
    """All there are, the newest first. ``directory``: where, if not where options say.

    Raises OptionError for a directory that cannot be trusted.
    """
    found: List[SavedSession] = []
    for name, fd in _files(directory):
        with contextlib.suppress(OSError):
            running = not _lock(fd, fcntl.LOCK_SH)
            summary = summary_of(fd)
            if summary is not None:
                session = SavedSession(
                    name=name[: -len(SUFFIX)],
                    start=_moment(summary.begin),
                    end=_moment(summary.end),
                    host=summary.host,
                    pid=summary.pid,
                    procs=summary.ranks,
                    lines=summary.lines,
                    bytes=summary.bytes,
                    cut_bytes=0 if running else summary.cut_bytes,
                    running=running,
                )
                found.append(session)
    return sorted(found, key=lambda session: (session.start, session.name), reverse=True)


def reopen(name: Optional[str] = None, directory: Optional[str] = None) -> Logs:
    """The lines of a session, as ``mesh.logs`` gives them; by default of the crash last seen.

    All that is read is checked; a file that was cut or damaged gives what stands before that.
    Raises OptionError where there is no such session.
    """
    sessions = saved_sessions(directory)
    crashed = [session for session in sessions if not session.running]
    if name is None and not crashed:
        raise OptionError("no session of a crashed kernel was found: there is nothing to reopen")
    wanted = crashed[0].name if name is None else name.removesuffix(SUFFIX)
    for found, fd in _files(directory):
        if found == wanted + SUFFIX:
            kept = os.dup(fd)
            _lock(kept, fcntl.LOCK_SH)  # whoever sweeps leaves it
            store = SavedStore(kept)
            return Logs(store, lambda: None, store.ranks)
    there = ", ".join(session.name for session in sessions) or "none"
    raise OptionError(f"there is no session {name!r:.120}; there are: {there}")


def sweep(
    directory: Optional[str] = None,
    *,
    most: int = 10,
    most_bytes: int = 10 << 30,
    most_days: float = 7.0,
) -> int:
    """Remove sessions of crashed kernels that are too old or too many; how many it were.

    What cannot be removed stays. Raises OptionError for a directory that cannot be trusted.
    """
    now = time.time()
    crashed = [
        (found.st_mtime, found.st_size, name)
        for name, fd in _files(directory)
        if _lock(fd, fcntl.LOCK_EX) and (found := os.fstat(fd))
    ]
    kept = kept_bytes = 0
    doomed: Set[str] = set()
    for changed, size, name in sorted(crashed, reverse=True):
        kept, kept_bytes = kept + 1, kept_bytes + size
        nothing = not size and now - changed > _YOUNG_SEC  # else it may just be begun
        too_old = now - changed > most_days * _DAY_SEC
        if nothing or too_old or kept > most or kept_bytes > most_bytes:
            doomed.add(name)
    removed = 0
    for name, fd in _files(directory) if doomed else ():
        if name in doomed and _lock(fd, fcntl.LOCK_EX):
            with contextlib.suppress(OSError, DirectoryRefusedError):  # another has, perhaps
                remove(_path(directory), name, fd)
                removed += 1
    return removed


def news_of_crashes(directory: Optional[str] = None) -> str:
    """One line on what can be reopened; empty if nothing."""
    try:
        crashed = [session for session in saved_sessions(directory) if not session.running]
    except OptionError:
        return ""
    if not crashed:
        return ""
    last = crashed[0]
    more = f" (and {len(crashed) - 1} more)" if len(crashed) > 1 else ""
    return (
        f"logmesh: a kernel that crashed at {last.end:%Y-%m-%d %H:%M:%S} has left {last.lines:,} "
        f"lines{more}: `%logmesh reopen` shows them, `%logmesh sessions` lists all"
    )


def _moment(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, tz=timezone.utc).astimezone()


def _path(directory: Optional[str]) -> str:
    chosen = directory or from_environment(os.environ).get("store_directory", "")
    return SessionPlace(chosen).path


def _files(directory: Optional[str]) -> Iterator[Tuple[str, int]]:
    """(name, descriptor) of the sessions' files; each is closed when the next is asked for."""
    try:
        directory_fd = open_directory(_path(directory))
    except DirectoryRefusedError as error:
        raise OptionError(f"sessions cannot be read: {error}") from None
    except OSError:
        return
    try:
        for name in sorted(os.listdir(directory_fd)):
            if not name.endswith(SUFFIX):
                continue
            fd = -1
            with contextlib.suppress(OSError):  # a link, or gone meanwhile
                fd = os.open(name, _FLAGS, dir_fd=directory_fd)
            if fd < 0:
                continue
            try:
                found = os.fstat(fd)
                if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
                    yield name, fd
            finally:
                os.close(fd)
    finally:
        os.close(directory_fd)


def _lock(fd: int, how: int) -> bool:
    """Whether nobody holds it in a way that forbids that; it is held until the file is closed."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
