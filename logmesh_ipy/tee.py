"""What a host's procs print, written to the bootstrap's own stdout and stderr as well.

Whoever reads those may be slow, or never read: then bytes are left out here, and counted. The
procs and the client notice nothing of it. Used by the bootstrap where the option ``tee`` is set.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import Optional

__all__ = ["Tee"]

_MAX_BYTES = 4 << 20
_LAST_SEC = 0.5


class Tee:
    """Writes to one of the bootstrap's own fds in a thread, so that a full one blocks nobody."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.dropped_bytes = 0
        self._thread = threading.Thread(target=self._write, name=f"tee-{fd}", daemon=True)
        self._thread.start()

    @property
    def warning(self) -> Optional[str]:
        """How much could not be written, if any."""
        dropped = self.dropped_bytes
        return f"tee to fd {self._fd}: {dropped:,} bytes not written" if dropped else None

    def __call__(self, data: bytes) -> None:
        """Have it written, soon."""
        with self._lock:
            if self._waiting + len(data) > _MAX_BYTES:
                self.dropped_bytes += len(data)
                return
            self._waiting += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Write what waits, for a moment at most."""
        self._queue.put(None)
        self._thread.join(_LAST_SEC)

    def _write(self) -> None:
        while True:
            data = self._queue.get()
            if data is None:
                return
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                pass
            with self._lock:
                self.dropped_bytes += len(view)
                self._waiting -= len(data)
