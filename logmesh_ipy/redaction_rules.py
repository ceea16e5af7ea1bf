"""The rules of a process: what the options say, the secrets in its environment, a limit of time.

The patterns of the options travel on standard input and connections of the mesh, as its token
does. The secrets do not travel: each process looks for them in the environments it knows.

Some regular expressions take exponential time on some texts, and nothing but a signal ends such a
search: the interpreter's ``re`` looks for signals while it searches. So where the main thread
redacts, in the bootstrap and in what runs a proc's code, it is interrupted when it has used its
share of the processor; being stopped or waiting for a turn does not count.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Callable, Mapping, Sequence

from .redaction import Rules, TooSlowError
from .secret_names import secrets_in

__all__ = ["SLICE_SEC", "bounded", "rules_for"]

SLICE_SEC = 0.03


class _Timer:
    armed = False


def rules_for(patterns: Sequence[str], *environs: Mapping[str, str]) -> Rules:
    """Rules for these patterns, and for what looks secret in these environments.

    A search is stopped by the processor time that the whole process has used: what other threads
    use meanwhile counts.
    """
    secrets = {secret for environ in environs for secret in secrets_in(environ, os.path.exists)}
    return Rules(patterns, secrets, bounded=bounded)


def bounded(work: Callable[[], None]) -> None:
    """Call ``work``. Raises TooSlowError in it when it has used 30 ms of processor time.

    The time is that of the process: what its other threads use meanwhile counts.

    On another thread than the main one, or where the program uses SIGVTALRM itself, it may take as
    long as it takes.
    """
    if threading.current_thread() is not threading.main_thread() or not _installed():
        work()
        return
    try:
        _Timer.armed = True
        signal.setitimer(signal.ITIMER_VIRTUAL, SLICE_SEC)
        work()
    finally:
        _Timer.armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _installed() -> bool:
    """Whether the signal is ours; once it is, it stays so: a late one must not end the process."""
    if signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL:
        signal.signal(signal.SIGVTALRM, _expired)
    return signal.getsignal(signal.SIGVTALRM) is _expired


def _expired(_number: int, _frame: object) -> None:
    if _Timer.armed:
        _Timer.armed = False
        raise TooSlowError
