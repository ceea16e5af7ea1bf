"""Searching the lines of a store that lie in its file, and what that costs the main thread."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from dataclasses import dataclass
from io import FileIO
from typing import Any, Callable, Dict, Iterator, List, Tuple

from logmesh_ipy.logs import Logs
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import LogStore

from .harness import Figure, Settings, benchmark

_LINE_BYTES = 100
_BATCH_BYTES = 128 << 10
_TEMPLATES = 1000
_HELD_MS = 20.0
_ADDED_MB = 64.0
_TICK_SEC = 0.001

CASES: Tuple[Tuple[str, Dict[str, Any], float], ...] = (
    ("a rare regex", {"matches": r"loss (nan|inf)"}, 2e-5),
    ("a rare regex of alternatives", {"matches": r"timed out|refused|loss nan"}, 2e-5),
    ("a regex in 0.1 %", {"matches": r"step \d+7777 "}, 1e-3),
    ("a regex in 10 %", {"matches": r"loss 0\.1\d+"}, 0.1),
    ("a regex in 50 %", {"matches": r"loss 0\.[0-4]\d+"}, 0.5),
    ("an anchored regex in 10 %", {"matches": r"^20\d\d-.* rank 3 .*\.$"}, 0.125),
    ("a rare text", {"contains": "loss nan"}, 2e-5),
    ("a text in 12 %", {"contains": " rank 3 "}, 0.125),
    ("a level", {"level": "ERROR"}, 1e-3),
    ("a regex in 10 % and a level", {"matches": r"loss 0\.1\d+", "level": "WARNING"}, 1e-3),
)
"""(what is searched for, as ``Logs.where`` takes it, in about which part of the lines it is)"""


def _texts(count: int) -> bytes:
    """``count`` lines of 100 bytes: 1,000 templates, some with a level, and numbers."""
    dice = random.Random(4)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=size)) for size in range(3, 10)]
    kinds = [" ".join(dice.choices(words, k=9)) for _ in range(_TEMPLATES)]
    lines: List[str] = []
    for number in range(count):
        level = "ERROR" if dice.random() < 0.001 else "INFO"
        loss = "nan" if dice.random() < 1e-5 or number == 7 else f"{dice.random():.4f}"
        lines.append(
            f"2026-01-01 12:00:00,{number % 1000:03} {level} rank {dice.randrange(8)} "
            f"step {dice.randrange(10**7)} loss {loss} {dice.choice(kinds)}"[: _LINE_BYTES - 2]
        )
    return "".join(f"{line:.<{_LINE_BYTES - 1}}\n" for line in lines).encode()


@contextlib.contextmanager
def filled(count: int) -> Iterator[LogStore]:
    """A store with ``count`` lines of two procs, nearly all of them in its file."""
    store = LogStore()
    try:
        text = memoryview(_texts(min(count // 2, 300_000)))
        infos = [ProcInfo(proc=rank, rank=rank, hostname="host", pid=rank) for rank in (0, 1)]
        left = [count // 2 * _LINE_BYTES] * 2
        while any(left):
            for rank, info in enumerate(infos):
                at = (count // 2 * _LINE_BYTES - left[rank]) % len(text)
                data = bytes(text[at : at + min(_BATCH_BYTES, left[rank])])
                left[rank] -= len(data)
                log = LogMessage.Log(
                    proc=rank, epoch=1, generation=1, output_target=OutputTarget.STDOUT, seq=0,
                    offset=0, size=len(data), lines=data.count(b"\n"), wall=time.time(), mono=1.0,
                    pid=rank, hostname="host", ends_line=data.endswith(b"\n"), payload=data,
                )  # fmt: skip
                store.append(info, log)
        yield store
    finally:
        store.close()


def _rest() -> None:
    time.sleep(_TICK_SEC)


def _compute() -> None:
    sum(range(20_000))


@dataclass
class Watched:
    """What a search cost: ``gap_ms`` is the longest in which the main thread did nothing.

    ``held_ms`` is the same without the time that the main thread waited for a core of the machine.
    """

    found: int
    seconds: float
    gap_ms: float
    held_ms: float
    added_bytes: int


def _watched(search: Callable[[], int], meanwhile: Callable[[], None]) -> Watched:
    """``search`` in a thread, while this one does ``meanwhile`` again and again."""
    results: List[Tuple[int, float]] = []

    def run() -> None:
        began = time.perf_counter()
        results.append((search(), time.perf_counter() - began))

    before = most = _resident_bytes()
    gap = held = 0.0
    thread = threading.Thread(target=run)
    with open("/proc/thread-self/schedstat", "rb", buffering=0) as stats:
        thread.start()
        last, queued = time.perf_counter(), _queued_sec(stats)
        while thread.is_alive():
            meanwhile()
            now, queued_now = time.perf_counter(), _queued_sec(stats)
            gap = max(gap, now - last)
            held = max(held, now - last - (queued_now - queued))
            last, queued = now, queued_now
            most = max(most, _resident_bytes())
    thread.join()
    found, seconds = results[0]
    return Watched(found, seconds, gap * 1000, held * 1000, most - before)


def _queued_sec(stats: FileIO) -> float:
    """How long this thread has waited for a core in all."""
    stats.seek(0)
    return int(stats.read(100).split()[1]) / 1e9


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read(100).split()[1]) * os.sysconf("SC_PAGE_SIZE")


@benchmark
def search(settings: Settings) -> Iterator[Figure]:
    """Lines counted by regex, text and level among 10 M lines of 100 bytes, in a thread."""
    count = settings.pick(10_000_000, 100_000)
    rested: List[Watched] = []
    with filled(count) as store:
        logs = Logs(store, lambda: None, 2)
        assert len(logs[:1].where(matches="rank")) == 1  # loads the libraries
        for what, asked, part in CASES:
            wanted = logs.where(**asked)
            some = [_watched(wanted.__len__, _rest) for _ in range(settings.repeats)]
            assert all(0 < one.found < 1.5 * part * count + 20 for one in some), (what, some)
            times = [one.seconds for one in some]
            yield Figure(name=f"search for {what}", unit="s", samples=times, bar=1.0)
            rested += some
        wanted = logs.where(**CASES[0][1])
        busy = [_watched(wanted.__len__, _compute) for _ in range(settings.repeats)]
    yield Figure(
        name="search for a rare regex while the main thread computes", unit="s",
        samples=[one.seconds for one in busy],
    )  # fmt: skip
    for state, some in (("rests", rested), ("computes", busy)):
        yield Figure(
            name=f"longest hold of a main thread that {state}", unit="ms", bar=_HELD_MS,
            samples=[one.held_ms for one in some],
            note=f"with waiting for a core {max(one.gap_ms for one in some):.0f} at most",
        )  # fmt: skip
    yield Figure(
        name="memory added by a search", unit="MB", bar=_ADDED_MB,
        samples=[one.added_bytes / 1e6 for one in rested],
    )  # fmt: skip
