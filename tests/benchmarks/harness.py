"""Figures: what was measured, in which unit, how often, on what machine; as a table and as JSON.

A benchmark is a function that takes :class:`Settings` and yields :class:`Figure`. Each figure
keeps all of its samples. Ratios are made of figures taken side by side in the same run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

SCHEMA = 1
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("msgpack", "ipykernel", "ipython", "numpy")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is to be done. ``quick``: enough to see that it works, not to judge the figures.

    ``peers``: the names of those to compare with.
    """

    quick: bool = False
    repeat: int = 5
    memory_lines: int = 2_000_000
    peers: Tuple[str, ...] = ()

    def pick(self, full: int, quick: int) -> int:
        """A size for this run."""
        return quick if self.quick else full

    @property
    def repeats(self) -> int:
        """How often a long measurement is repeated."""
        return 1 if self.quick else self.repeat


@dataclass(kw_only=True)
class Figure:
    """One measured quantity. ``better`` is ``higher`` or ``lower``; ``bar``: what is aimed at.

    ``percentiles``: p50 and p99 say more of this one than the range does.
    """

    name: str
    unit: str
    samples: List[float]
    better: str = "lower"
    bar: Optional[float] = None
    runner: str = "logmesh"
    percentiles: bool = False
    note: str = ""
    benchmark: str = field(default="", init=False)

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def reached(self) -> Optional[bool]:
        """Whether the median is at the bar or beyond it."""
        if self.bar is None:
            return None
        return self.median >= self.bar if self.better == "higher" else self.median <= self.bar

    def percentile(self, percent: float) -> float:
        """The sample that ``percent`` of all are not above (nearest rank)."""
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

    def to_map(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "n": len(self.samples),
            "min": min(self.samples),
            "median": self.median,
            "max": max(self.samples),
            "p99": self.percentile(99),
            "reached": self.reached,
        }


Benchmark = Callable[[Settings], Iterator[Figure]]
BENCHMARKS: Dict[str, Benchmark] = {}


def benchmark(function: Benchmark) -> Benchmark:
    """Register a benchmark under its function's name."""
    BENCHMARKS[function.__name__] = function
    return function


def run(names: Sequence[str], settings: Settings, told: Callable[[str], None]) -> List[Figure]:
    """Run the named benchmarks; ``told`` hears of each figure as it comes."""
    figures: List[Figure] = []
    for name in names:
        began = time.monotonic()
        for figure in BENCHMARKS[name](settings):
            figure.benchmark = name
            figures.append(figure)
            told(row(figure))
        told(f"  ({name}: {time.monotonic() - began:.1f} s)")
    return figures


def document(figures: Sequence[Figure], settings: Settings) -> Dict[str, Any]:
    """Everything, for JSON."""
    return {
        "schema": SCHEMA,
        "taken": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": asdict(settings),
        "figures": [figure.to_map() for figure in figures],
    }


def machine() -> Dict[str, Any]:
    """What the figures depend on."""
    versions: Dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "packages": versions,
        "load": list(os.getloadavg()),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def row(figure: Figure) -> str:
    """A figure in one line."""
    values = f"{number(figure.median):>11} {figure.unit:<8}"
    if figure.percentiles:
        spread = f"p99 {number(figure.percentile(99))}, max {number(max(figure.samples))}"
    else:
        spread = f"{number(min(figure.samples))} .. {number(max(figure.samples))}"
    bar = ""
    if figure.bar is not None:
        sign = (
            "\N{GREATER-THAN OR EQUAL TO}"
            if figure.better == "higher"
            else "\N{LESS-THAN OR EQUAL TO}"
        )
        bar = f"  bar {sign} {number(figure.bar)}: {'reached' if figure.reached else 'MISSED'}"
    note = f"  ({figure.note})" if figure.note else ""
    runner = "" if figure.runner == "logmesh" else f" [{figure.runner}]"
    return f"{figure.name + runner:<58}{values} n={len(figure.samples):<4}{spread}{bar}{note}"


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
