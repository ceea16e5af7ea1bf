"""The same work through this package and through its peers, in turns, in one run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional

from ..harness import Figure, Settings, benchmark
from ..runners import Arrival, LogMesh, Runner
from .runner import PEERS, SETUP, PeerError, missing

OURS = LogMesh.name
WARM_UP_LINES = 1000
OUR_QUICK_LINES = 10_000
PEER_QUICK_LINES = 500


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is printed, and how many lines each of 2 procs prints in which system.

    The counts are such that a round takes seconds; ``bars``: how many times our rate is to be that
    of a peer. ``flush``: the peers flush as well, and do not just go on until all has come.
    """

    name: str
    counts: Mapping[str, int]
    bars: Mapping[str, float] = field(default_factory=dict)
    window_sec: Optional[float] = None
    kinds: int = 1
    values: bool = False
    size: int = 100
    flush: bool = False


CASES = (
    Case(
        name="plain lines of 100 bytes", bars={"monarch": 5.0, "ipyparallel": 2.0},
        counts={
            OURS: 500_000, "monarch": 200_000, "ipyparallel": 200_000, "ray": 100_000,
            "dask": 50_000,
        },
    ),
    Case(
        name="plain lines of 33 bytes", bars={"ipyparallel": 2.0}, size=33,
        counts={OURS: 500_000, "ipyparallel": 200_000},
    ),
    Case(
        name="3 s window, 1 message", window_sec=3.0, flush=True, values=True,
        counts={OURS: 500_000, "monarch": 50_000, "ray": 100_000},
    ),
    Case(
        name="3 s window, 100 messages", window_sec=3.0, flush=True, values=True, kinds=100,
        bars={"monarch": 1000.0}, counts={OURS: 500_000, "monarch": 2000, "ray": 100_000},
    ),
    Case(
        name="3 s window, 1,000 messages", window_sec=3.0, flush=True, values=True, kinds=1000,
        bars={"monarch": 1000.0}, counts={OURS: 500_000, "monarch": 1000, "ray": 100_000},
    ),
)  # fmt: skip
BURST = Case(name="", flush=True, counts={OURS: 250_000, "monarch": 250_000})
"""A flush behind more lines than Monarch's stands."""


class Rounds:
    """What one system did in the rounds of one case, each with the system started anew."""

    def __init__(self, name: str, case: Case, count: int) -> None:
        self.name = name
        self.rates: List[float] = []
        self._case = case
        self._count = count
        self._version = ""
        self._least: Optional[Arrival] = None
        self._failure = ""

    def again(self) -> None:
        """Run a round. That a peer fails is a result."""
        case = self._case
        runner: Runner = LogMesh() if self.name == OURS else PEERS[self.name](flush=case.flush)
        try:
            runner.start(2, case.window_sec)
        except PeerError as why:
            self._failure = str(why)
            self.rates.append(0.0)
            return
        try:
            warm_up = min(WARM_UP_LINES, self._count)
            runner.print_lines(warm_up, case.kinds, values=case.values, size=case.size)
            arrival = runner.print_lines(
                self._count, case.kinds, values=case.values, size=case.size
            )
        finally:
            runner.stop()
        self._version = getattr(runner, "version", "")
        assert self.name != OURS or arrival.lines == arrival.expected
        self._failure = self._failure or arrival.failure
        self.rates.append(arrival.rate)
        if self._least is None or arrival.lines < self._least.lines:
            self._least = arrival

    @property
    def arrived_percent(self) -> float:
        """How much arrived, in the worst round."""
        return 100 * self._least.lines / self._least.expected if self._least else 0.0

    @property
    def note(self) -> str:
        """What was printed, and what became of it."""
        said = [self._version] if self._version else []
        said.append(f"2 x {self._count:,} lines")
        if self._least is not None and self._least.lines < self._least.expected:
            said.append(f"{self._least.lines:,} of {self._least.expected:,} arrived whole")
        if self._failure:
            said.append(self._failure)
        return ", ".join(said)

    def figure(self) -> Figure:
        """Lines per second; 0 where the system did not start."""
        return Figure(
            name=self._case.name, unit="lines/s", samples=self.rates, better="higher",
            runner=self.name, note=self.note,
        )  # fmt: skip


def _measure(case: Case, settings: Settings) -> Iterator[Figure]:
    """All systems in turns; then the ratios."""
    peers = [name for name in case.counts if name in settings.peers]
    counts = {name: settings.pick(case.counts[name], PEER_QUICK_LINES) for name in peers}
    counts[OURS] = settings.pick(case.counts[OURS], OUR_QUICK_LINES)
    turns = {name: Rounds(name, case, counts[name]) for name in (OURS, *peers)}
    alike: Dict[str, Rounds] = {
        name: Rounds(OURS, case, counts[name])
        for name in peers
        if name in case.bars and counts[name] != counts[OURS]
    }
    for _ in range(settings.repeats):
        for name, turn in turns.items():
            turn.again()
            if name in alike:
                alike[name].again()
    yield from (turn.figure() for turn in turns.values())
    for name in peers:
        bar = None if settings.quick else case.bars.get(name)
        yield from _ratio(f"{case.name}: times {name}", turns[OURS], turns[name], bar)
        if name in alike:
            title = f"{case.name}: times {name}, 2 x {counts[name]:,} lines each"
            yield from _ratio(title, alike[name], turns[name], None)


def _ratio(name: str, ours: Rounds, peer: Rounds, bar: Optional[float]) -> Iterator[Figure]:
    """How many times the peer's rate ours is, round by round. None where the peer never started."""
    samples = [our / other for our, other in zip(ours.rates, peer.rates, strict=True) if other]
    if samples:
        yield Figure(name=name, unit="ratio", samples=samples, better="higher", bar=bar)


@benchmark
def peers(settings: Settings) -> Iterator[Figure]:
    """The same prints through this package and the peers that are installed, in turns."""
    absent = missing()
    if absent:
        sys.stderr.write(f"not installed: {', '.join(absent)}; to compare with them: {SETUP}\n")
    for case in CASES:
        yield from _measure(case, settings)
    if settings.quick:
        return
    for name in BURST.counts:
        if name == OURS or name in settings.peers:
            rounds = Rounds(name, BURST, BURST.counts[name])
            rounds.again()
            yield Figure(
                name="2 x 250,000 lines of 100 bytes, then a flush: arrived", unit="%",
                samples=[rounds.arrived_percent], better="higher", runner=name, note=rounds.note,
            )  # fmt: skip
