"""LoggerRuntimeActor: sets the level of Python's root logger inside a proc.

One per proc, beside the LogForwardActor. Python's own rule applies: a logger with a level of
its own keeps it; all others follow the root. The root gets no handler, so that the user's
``logging.basicConfig`` works as ever; until then Python's handler of last resort shows all levels.
"""

from __future__ import annotations

import logging
from typing import Optional

from .actor import Actor
from .model import LoggerRuntimeMessage

__all__ = ["LoggerRuntimeActor"]


class LoggerRuntimeActor(Actor):
    """Handles ``SetLogging``. ``level`` is what was set last, None before that."""

    def __init__(self, logger: Optional[logging.Logger] = None) -> None:
        super().__init__()
        self._logger = logger or logging.getLogger()
        self.level: Optional[int] = None
        self.on(LoggerRuntimeMessage.SetLogging, self._set_logging)

    def _set_logging(self, message: LoggerRuntimeMessage.SetLogging) -> None:
        if message.level == self.level:
            return  # Told again after a new link: what the user's code has set since then stays.
        self.level = message.level
        self._logger.setLevel(message.level)
        if logging.lastResort is not None:
            logging.lastResort.setLevel(logging.NOTSET)
            logging.lastResort.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
