"""Brings a store's lines into its file: ahead of need where the file has a name.

With a file that outlives a crash, lines are written when a block of them is full, at each barrier
(:meth:`StoreWriter.save`) and else half a second after the first of them, in a thread, so neither
the stream nor a cell waits for the disk. Without one, only what does not fit memory is written,
where it arrives. A disk that refuses costs memory and no line; it is asked again once a second. A
directory that cannot be trusted is not asked again: a file without a name takes its place. Where
that thread writes, a disk that hangs stops it and no stream.

The store gives what is to be written in order, in portions, and hears where they lie.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple

from ._version import __version__
from .chunks import Chunk, ChunkPacker
from .clock import SYSTEM_CLOCK, Clock
from .model import Gap, StreamTotals
from .segments import Notes, OpenText, pack_segment
from .store_file import FileShrunkError, StoreFile
from .store_places import DirectoryRefusedError

__all__ = ["Portion", "PortionSource", "StoreWriter"]

_GATHER_SEC = 0.5
_RETRY_SEC = 1.0
_KEEP_UP_SEC = 0.25


@dataclass(slots=True)
class Portion:
    """Chunks side by side, perhaps none; ``block`` is the store's own word for where they are.

    ``open_texts``: the unfinished lines behind them, where these were asked for and are the end.
    """

    block: Any
    chunks: Sequence[Chunk]
    open_texts: Optional[List[OpenText]] = None


class PortionSource(Protocol):
    """The store. Its methods are called in any thread."""

    def next_portion(self, *, ahead: bool, opened: bool) -> Optional[Portion]:
        """What is to be written next; None: nothing. ``ahead``: all lines are to be written."""

    def portion_written(self, portion: Portion, place: Tuple[int, int]) -> None:
        """It lies there now."""

    def file_shrunk(self, size: int) -> int:
        """The file has only ``size`` bytes; gives how much of it is still of use."""


class StoreWriter:
    """The writing side of one store. ``trouble`` tells why the disk refuses, empty if it does not.

    ``refused``: why the lines are not kept for after a crash, if so.
    """

    def __init__(self, source: PortionSource, file: StoreFile, clock: Clock = SYSTEM_CLOCK) -> None:
        self.file = file
        self.packer = ChunkPacker()
        self.trouble = ""
        self.refused = ""
        self._source = source
        self._clock = clock
        self._retry_at = 0.0
        self._closed = False
        self._ending = False
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._some = threading.Event()
        self._hurry = threading.Event()
        self._progress = threading.Event()
        self._hangs = False
        self._waiting: List[Callable[[], None]] = []
        self._session = _session(clock.wall())
        self._told = Notes()
        self._told_sources = 0
        self._told_gaps = 0
        self._totals: Optional[StreamTotals] = None
        self._gaps: Sequence[Gap] = ()

    @property
    def ahead(self) -> bool:
        """Whether lines are written before memory is short of room."""
        return self.file.named

    # --- when (any thread; none waits for the disk but in keep_up) ----------------------------

    def grown(self, *, hurry: bool = False) -> None:
        """There is something to write ahead; ``hurry``: at once."""
        if not self._some.is_set():
            self._some.set()
            with self._lock:
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(
                        target=self._run, name="logmesh-store", daemon=True
                    )
                    self._thread.start()
        if hurry:
            self._hurry.set()

    def keep_up(self) -> None:
        """More comes than is written: wait for the thread's next segment, as long as some come."""
        if self.trouble or self._hangs:
            return
        self._progress.clear()
        self.grown(hurry=True)
        self._hangs = not self._progress.wait(_KEEP_UP_SEC)

    def suspect(self) -> None:
        """The file could not be read: see what is left of it."""
        if self.ahead:
            self.grown(hurry=True)

    def note(self, totals: StreamTotals, gaps: Sequence[Gap]) -> None:
        """The ledger as of now; it goes with the next lines, gaps not told before go soon.

        ``gaps``: all there are, a list that only grows.
        """
        self._totals, self._gaps = totals, gaps
        if self.ahead and len(gaps) > self._told_gaps:
            self.grown()

    def save(self, then: Callable[[], None]) -> bool:
        """Have ``then()`` called when all that is there now is in the file, or the disk refuses it.

        In the writer's thread; False where nothing is written ahead: then it is not called.
        """
        with self._lock:
            if self._closed or not self.ahead:
                return False
            self._waiting.append(then)
        self.grown(hurry=True)
        return True

    def finish(self) -> None:
        """No more lines are expected: the thread writes what there is, and ends."""
        self._ending = True
        if self._thread is not None:
            self._some.set()
            self._hurry.set()

    def close(self) -> None:
        """Give up the file."""
        with self._lock:
            self._closed = True
        self.finish()
        self.file.close()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._hurry.wait(_GATHER_SEC)
            self._some.clear()
            self._hurry.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
            self.write_all(opened=bool(waiting))
            for then in waiting:
                then()
            with self._lock:
                over = self._ending or not self.ahead
                if self._closed or (over and not self._some.is_set() and not self.trouble):
                    self._thread = None
                    waiting, self._waiting = self._waiting, []
                    break
            if self.trouble:
                self._some.set()
                self._hurry.wait(_RETRY_SEC)
        for then in waiting:
            then()

    # --- what (any thread, one at a time) -----------------------------------------------------

    def write_all(self, *, opened: bool = False) -> None:
        """Write all that is to be written now; ``opened``: and what stands unfinished."""
        if self._clock.monotonic() < self._retry_at:
            return
        with self._writing:
            try:
                while self._write_some(opened=opened):
                    self._progressed("")
                self._progressed("")
            except OSError as error:
                self._progressed(error.strerror or str(error))
            except Exception as error:  # noqa: BLE001 (told; what cannot be written stays in memory)
                self._progressed(f"{type(error).__name__}: {error}")

    def _progressed(self, trouble: str) -> None:
        self.trouble = trouble
        if trouble:
            self._retry_at = self._clock.monotonic() + (_RETRY_SEC if self.ahead else 0.0)
        self._hangs = False
        self._progress.set()

    def _write_some(self, *, opened: bool) -> bool:
        """One segment; False when there is nothing to write. Raises OSError."""
        try:
            self.file.check()
            portion = self._source.next_portion(ahead=self.ahead, opened=opened)
            chunks = () if portion is None else portion.chunks
            packed = self.packer.pack(chunks) if chunks else []
            notes = self._notes(None if portion is None else portion.open_texts)
            if self._closed or not (chunks or notes.gaps or notes.open_lines is not None):
                return False
            first = chunks[0].first_row if chunks else 0
            rows = chunks[-1].first_row + chunks[-1].count - first if chunks else 0
            parts = pack_segment(notes, packed, first, rows, self._clock.wall())
            place = self.file.append(parts)
        except FileShrunkError as error:
            self.file.cut(self._source.file_shrunk(error.size))
            self._told_sources = self._told_gaps = 0
            self._told = Notes()
            return True
        except DirectoryRefusedError as error:
            self.refused = str(error)
            self.file = self.file.without_name()
            return True
        self._told_sources += len(notes.sources)
        self._told_gaps += len(notes.gaps)
        self._told = Notes(
            session=self._session,
            totals=notes.totals or self._told.totals,
            open_lines=self._told.open_lines if notes.open_lines is None else notes.open_lines,
        )
        if portion is not None and chunks:
            self._source.portion_written(portion, place)
        return True

    def _notes(self, open_texts: Optional[List[OpenText]]) -> Notes:
        """What has not been told in the file. One without a name has no need of them."""
        if not self.ahead:
            return Notes()
        told = self._told
        return Notes(
            session={} if told.session else self._session,
            first_source=self._told_sources,
            sources=self.packer.infos[self._told_sources :],
            first_gap=self._told_gaps,
            gaps=list(self._gaps[self._told_gaps :]),
            totals=None if self._totals == told.totals else self._totals,
            open_lines=None if open_texts == (told.open_lines or []) else open_texts,
        )


def _session(started: float) -> Dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": started,
        "package": __version__,
    }
