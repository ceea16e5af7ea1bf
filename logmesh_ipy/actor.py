"""A small actor: a mailbox worked off in order on one event loop.

An actor's state is touched by its handlers only, and one handler runs at a time. ``tell`` is
for the loop's own thread and handles the message at once unless a handler is running;
``tell_from_thread`` is for all others. Nothing here waits: what takes time is a callback or a
message of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Callable, Deque, Dict, Type

__all__ = ["Actor"]


class Actor:
    """Base of LogForwardActor, LoggerRuntimeActor and LogClientActor.

    A subclass registers a handler per message class with :meth:`on`; a message of another class
    is a TypeError at ``tell``. What a handler raises goes to the ``tell`` that ran it; the
    messages behind it are worked off on the loop's next turn.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._handlers: Dict[Type[Any], Callable[[Any], None]] = {}
        self._mailbox: Deque[Any] = deque()
        self._working = False

    def on(self, message_class: Type[Any], handler: Callable[[Any], None]) -> None:
        """Handle messages of a class by calling ``handler(message)``."""
        self._handlers[message_class] = handler

    def tell(self, message: object) -> None:
        """Put a message into the mailbox, and work it off unless that is being done."""
        self._check(message)
        self._mailbox.append(message)
        if not self._working:
            self._work()

    def tell_from_thread(self, message: object) -> None:
        """``tell`` from any thread; returns before the message is handled."""
        self._check(message)
        self.loop.call_soon_threadsafe(self.tell, message)

    def _check(self, message: object) -> None:
        if type(message) not in self._handlers:
            raise TypeError(f"{type(self).__name__} does not handle {type(message).__qualname__}")

    def _work(self) -> None:
        if self._working:
            return
        self._working = True
        try:
            while self._mailbox:
                message = self._mailbox.popleft()
                self._handlers[type(message)](message)
        finally:
            self._working = False
            if self._mailbox:
                self.loop.call_soon(self._work)
