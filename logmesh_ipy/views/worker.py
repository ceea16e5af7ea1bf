"""One thread for what takes a while and must not pile up: one by one, refused when many wait."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Deque, Optional

__all__ = ["Worker"]


class Worker:
    """Runs jobs in order in a daemon thread, which ends when there is none. Jobs do not raise."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lock = threading.Lock()
        self._jobs: Deque[Callable[[], None]] = deque()
        self._thread: Optional[threading.Thread] = None

    def submit(self, job: Callable[[], None]) -> bool:
        """Take a job; False where too many wait already. Any thread."""
        with self._lock:
            if len(self._jobs) >= self._most:
                return False
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            return True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            job()
