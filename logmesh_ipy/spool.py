"""Where batches wait on the host while the client is slow: a bounded set of unlinked files.

A :class:`FileSpool` is a sequence of segments of 16 MiB, each a temporary file without a name:
nothing is left behind however the process ends. A segment is dropped when all of its batches
are released, so the disk holds what waits and little more. Used by the LocalLogSender through
the ``Spool`` protocol of ``sequence``.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from typing import Dict, List, Optional, Tuple

__all__ = ["SEGMENT_BYTES", "FileSpool"]

SEGMENT_BYTES = 16 << 20


class _Segment:
    __slots__ = ("fd", "live", "size")

    def __init__(self, directory: str) -> None:
        fd, path = tempfile.mkstemp(prefix="spool-", dir=directory)
        os.unlink(path)
        self.fd = fd
        self.size = 0
        self.live = 0


class FileSpool:
    """At most ``max_bytes`` of batches on disk, in ``directory``.

    ``trouble`` says in words why the last write failed (a full disk) and is empty when it did
    not; the spool tries again with the next batch. ``troubles`` counts how often writing began to
    fail, ``lost_bytes`` what was written and could not be read again.
    """

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.bytes = 0
        self.trouble = ""
        self.troubles = 0
        self.lost_bytes = 0
        self._last_trouble = ""
        self._segments: List[_Segment] = []
        self._places: Dict[int, Tuple[_Segment, int, int, int]] = {}
        self._next_place = 0

    @property
    def warning(self) -> Optional[str]:
        """What is, or last was, wrong with the spool; None if nothing."""
        found = []
        if self.troubles:
            found.append(self._last_trouble + ("" if self.trouble else ", writing again"))
        if self.lost_bytes:
            found.append(f"the spool in {self.directory} lost {self.lost_bytes:,} bytes")
        return "; ".join(found) or None

    def write(self, data: bytes) -> Optional[int]:
        """Keep ``data``; its place, or None when the bound is reached or the disk refuses."""
        if self.bytes + len(data) > self.max_bytes:
            self._refuse(f"the spool is full ({self.max_bytes:,} bytes)")
            return None
        try:
            segment = self._segment()
            if os.pwrite(segment.fd, data, segment.size) != len(data):
                self._refuse(f"the disk of {self.directory} took a part of a batch only")
                return None
        except OSError as error:
            self._refuse(f"the spool in {self.directory} cannot be written: {error.strerror}")
            return None
        place = self._next_place
        self._next_place += 1
        self._places[place] = (segment, segment.size, len(data), zlib.crc32(data))
        segment.size += len(data)
        segment.live += 1
        self.bytes += len(data)
        self.trouble = ""
        return place

    def read(self, place: int) -> bytes:
        """The bytes at ``place``. Raises OSError when they are not those that were written."""
        segment, offset, size, checksum = self._places[place]
        try:
            data = os.pread(segment.fd, size, offset)
        except OSError:
            self.lost_bytes += size
            raise
        if zlib.crc32(data) != checksum:
            self.lost_bytes += size
            raise OSError(errno.EIO, f"the spool in {self.directory} lost a batch of {size} bytes")
        return data

    def release(self, place: int) -> None:
        """Forget a place; the last one of a segment frees its disk space."""
        segment, _, size, _ = self._places.pop(place)
        self.bytes -= size
        segment.live -= 1
        if not segment.live:
            os.close(segment.fd)
            self._segments.remove(segment)

    def close(self) -> None:
        """Give everything up."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        self._places.clear()
        self.bytes = 0

    def _refuse(self, trouble: str) -> None:
        self.troubles += not self.trouble
        self.trouble = self._last_trouble = trouble

    def _segment(self) -> _Segment:
        if not self._segments or self._segments[-1].size >= SEGMENT_BYTES:
            self._segments.append(_Segment(self.directory))
        return self._segments[-1]
