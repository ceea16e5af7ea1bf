"""Log files on the host: every byte of one proc's stream, whatever happens behind it.

A StreamFwder appends what it read to ``{basename}_{host}_{shortuuid}.{stdout|stderr}``.

Invariants. What is written is written exactly, in order; a full file becomes ``.1``, ``.1``
becomes ``.2`` and so on, and the oldest is removed: no file is ever larger than ``max_bytes``.
A disk in trouble never stops the stream: what could not be written is counted in
``failed_bytes``, ``warning`` says why, and writing goes on when the disk does. At all times
``appended_bytes == written_bytes + failed_bytes``. A file that somebody removes is made anew, one
that is cut is written on at its end; how much went with that is told in ``gone_bytes``.

Files are 0600 and never opened through a link or onto an existing file. Blocking calls only; one
caller at a time: the StreamFwder of the stream. ``check_directory`` is for whoever takes the
directory from a user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import uuid as uuid_module
from typing import List, Optional

from .clock import SYSTEM_CLOCK, Clock
from .errors import OptionError
from .model import OutputTarget

__all__ = ["FileAppender", "check_directory"]

_MAX_NAME_PART = 100
_RETRY_SEC = 1.0
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def check_directory(path: str) -> None:
    """Make the directory if it is missing and prove that a file can be written there.

    Raises OptionError with the system's reason if not.
    """
    if not path or "\0" in path:
        raise OptionError(f"the directory for log files must be a path, not {path!r}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix=".logmesh-", buffering=0) as probe:
            probe.write(b"\n")
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError):
            reason = "it is not a directory"
        raise OptionError(
            f"cannot write log files to {path!r}: {reason}; choose a directory that can be written"
        ) from None


class FileAppender:
    """One stream's file on the host.

    ``appended_bytes``: all that was given; ``written_bytes``: what reached a file;
    ``failed_bytes``: what did not; ``rotated_away_bytes``: written, and removed since with the
    oldest backup; ``gone_bytes``: written, and removed since by somebody else; ``troubles``: how
    often writing began to fail.
    """

    def __init__(
        self,
        directory: str,
        basename: str,
        hostname: str,
        target: OutputTarget,
        *,
        max_bytes: int = 256 << 20,
        backups: int = 3,
        uuid: Optional[str] = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Open the file, or note why that failed. Raises OptionError for impossible limits only.

        ``uuid`` is the short id in the file's name. None makes a new one, and so does a file of
        that name which already exists.
        """
        if max_bytes < 1 or backups < 0:
            raise OptionError("a log file needs max_bytes >= 1 and backups >= 0")
        short = _clean(uuid, "0", 32) if uuid else uuid_module.uuid4().hex[:8]
        who = f"{_clean(basename, 'log')}_{_clean(hostname, 'host')}"
        self.directory = directory
        self.max_bytes = max_bytes
        self.backups = backups
        self.appended_bytes = 0
        self.written_bytes = 0
        self.failed_bytes = 0
        self.rotated_away_bytes = 0
        self.gone_bytes = 0
        self.troubles = 0
        self._pattern = f"{who}_{{}}.{target.label}"
        self._slots: List[Optional[int]]
        self._name(short)
        self._clock = clock
        self._fd = -1
        self._size = 0
        self._closed = False
        self._reason = ""
        self._failing = False
        self._trouble_bytes = 0
        self._retry_at = 0.0
        try:
            self._open()
        except OSError as error:
            self._fail(error, 0)

    @property
    def warning(self) -> Optional[str]:
        """What is, or last was, wrong with the file, and how much it cost; None if nothing."""
        found = []
        if self.troubles:
            text = f"{self._reason}; {self._trouble_bytes:,} bytes not written"
            found.append(text if self._failing else text + ", writing again")
        if self.gone_bytes:
            found.append(f"removed or cut by somebody, {self.gone_bytes:,} bytes with it")
        return f"{self.path}: {'; '.join(found)}" if found else None

    def append(self, data: bytes) -> None:
        """Write all of ``data``, or count what could not be written. Raises no OSError."""
        self.appended_bytes += len(data)
        if self._closed:
            self._lose("the file is closed", len(data))
            return
        if self._failing and self._clock.monotonic() < self._retry_at:
            self._lose(self._reason, len(data))
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write(rest) :]
        except OSError as error:
            self._fail(error, len(rest))
        else:
            self._failing = False

    def close(self) -> None:
        """Close the file; what is appended later counts as failed. May be called again."""
        if self._closed:
            return
        self._closed = True
        try:
            self._close_file()
        except OSError as error:
            self._fail(error, 0)

    def _write(self, data: memoryview) -> int:
        """Write as much of ``data`` as fits the file; the number of bytes written."""
        if self._fd >= 0:
            self._see_what_is_left()
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(data) > self.max_bytes:
            self._rotate()
        written = os.write(self._fd, data[: self.max_bytes - self._size])
        self._size += written
        self.written_bytes += written
        return written

    def _see_what_is_left(self) -> None:
        found = os.fstat(self._fd)
        left = found.st_size if found.st_nlink else 0
        if left < self._size:
            self.gone_bytes += self._size - left
            self._size = left
        if not found.st_nlink:
            self._close_file()

    def _open(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        try:
            self._fd = os.open(self.path, _FLAGS, 0o600)
        except FileExistsError:
            # Not ours: someone made it, or it is a link. Another name keeps both.
            self._name(uuid_module.uuid4().hex[:8])
            self._fd = os.open(self.path, _FLAGS, 0o600)
        os.fchmod(self._fd, 0o600)  # whatever the umask is
        self._size = 0

    def _name(self, short: str) -> None:
        self.path = os.path.join(self.directory, self._pattern.format(short))
        self._slots = [None] * self.backups

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _rotate(self) -> None:
        """Make room under the file's name.

        ``_slots[i]`` is the size of backup ``.{i + 1}``, None where there is none. Each step
        leaves files and slots in agreement, so a rotation that failed anywhere can be repeated.
        """
        slots = self._slots
        if None not in slots:
            oldest = slots[-1] if slots else self._size
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}.{self.backups}" if slots else self.path)
            self.rotated_away_bytes += oldest or 0
            slots[-1:] = [None] * len(slots[-1:])
        if slots:
            for index in range(slots.index(None), 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.path}.{index}", f"{self.path}.{index + 1}")
                slots[index], slots[index - 1] = slots[index - 1], None
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path, f"{self.path}.1")
            slots[0] = self._size
        self._close_file()
        self._open()

    def _fail(self, error: OSError, lost: int) -> None:
        if error.errno in {errno.EBADF, errno.ESTALE}:
            self._fd = -1
        self._lose(error.strerror or str(error), lost)
        self._retry_at = self._clock.monotonic() + _RETRY_SEC

    def _lose(self, reason: str, lost: int) -> None:
        if not self._failing or reason != self._reason:
            self.troubles += 1
            self._trouble_bytes = 0
        self._failing = True
        self._reason = reason
        self._trouble_bytes += lost
        self.failed_bytes += lost


def _clean(text: str, default: str, most: int = _MAX_NAME_PART) -> str:
    """``text`` as a part of a file name: only ``[A-Za-z0-9._-]``, no leading dot, no ``..``."""
    kept = re.sub(r"\.{2,}", "_", re.sub(r"[^A-Za-z0-9._-]", "_", text[:most]))
    return kept.lstrip(".") or default
