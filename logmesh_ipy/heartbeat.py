"""Notices a peer that has gone silent: both ends of a link say something every two seconds.

The system tells of a peer that has ended, but not of one behind a broken network, nor of one that
takes bytes and never answers. Each end beats and listens for itself, so that a slow link, over
which a batch may take a minute, is not taken for a dead one: what counts is bytes, not frames.
Beats are counted, not seconds: a process that was itself stopped for a while accuses nobody.
A peer on this machine that only stands still is not given up: the system tells of its end.
"""

from __future__ import annotations

import asyncio
from typing import Optional

from .channel import Connection
from .errors import TransportError
from .wire import Ping

__all__ = ["ACCEPTED_PATIENCE_SEC", "BEAT_SEC", "DIALLED_PATIENCE_SEC", "Heartbeat"]

BEAT_SEC = 2.0
DIALLED_PATIENCE_SEC = 10.0
"""Of the end that can dial again."""
ACCEPTED_PATIENCE_SEC = 30.0
"""Of the end that can only give up: a peer that computes without its loop may come back."""


class Heartbeat:
    """Beats on a connection until it is closed; aborts it after ``patience_sec`` of silence.

    With None it beats only: the peer may be silent for any time, since its loop is not its own or
    its end would be told by the system.
    """

    def __init__(self, connection: Connection, patience_sec: Optional[float]) -> None:
        self._connection = connection
        self._patience_sec = patience_sec
        self._heard_bytes = connection.received_bytes
        self._silent_sec = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT_SEC, self._beat)

    def stop(self) -> None:
        """Beat no more. Idempotent."""
        self._timer.cancel()

    def _beat(self) -> None:
        connection = self._connection
        if connection.closed:
            return
        if connection.received_bytes != self._heard_bytes:
            self._heard_bytes = connection.received_bytes
            self._silent_sec = 0.0
        else:
            self._silent_sec += BEAT_SEC
        if self._patience_sec is not None and self._silent_sec >= self._patience_sec:
            connection.abort(TransportError(f"the peer was silent for {self._silent_sec:g} s"))
            return
        connection.send(Ping(n=0))
        self._timer = self._loop.call_later(BEAT_SEC, self._beat)
