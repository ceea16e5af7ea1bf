"""Grouping alone: lines per second of CPU time on one core, for good logs and for bad input."""

from __future__ import annotations

import base64
import random
import string
import time
from pathlib import Path
from typing import Dict, Iterator, List

from logmesh_ipy.grouping import Grouper

from .harness import ROOT, Figure, Settings, benchmark
from .runners import PRINTS

SAMPLES = ROOT.parent / "shared" / "loghub"
CHUNK_BYTES = 1 << 18


def _chunks(lines: List[bytes]) -> List[bytes]:
    """The lines in chunks of about CHUNK_BYTES, as they come from pipes."""
    chunks, chunk, size = [], [], 0
    for line in lines:
        chunk.append(line)
        size += len(line) + 1
        if size >= CHUNK_BYTES:
            chunks.append(b"\n".join(chunk) + b"\n")
            chunk, size = [], 0
    if chunk:
        chunks.append(b"\n".join(chunk) + b"\n")
    return chunks


def _rate(lines: List[bytes]) -> float:
    """Lines per second of CPU time for a Grouper that has seen nothing before."""
    chunks = _chunks(lines)
    grouper = Grouper()
    started = time.process_time()
    for chunk in chunks:
        grouper.ids(chunk)
    return len(lines) / (time.process_time() - started)


def _printed(count: int) -> List[bytes]:
    """What the procs of the throughput's benchmark print: 1,000 messages with varying numbers."""
    work: Dict[str, object] = {}
    exec(PRINTS, work)
    lines: List[str] = work["lines_of"](1000, True, 100)  # type: ignore[operator]
    return [line.encode() for line in lines] * (count // len(lines))


def _of_all_widths(count: int) -> List[bytes]:
    dice = random.Random(1)
    heads = [line[:60] for line in _printed(20_000)[:1000]]
    return [
        b"%b step %d loss %.4f"
        % (
            heads[at % 1000],
            dice.randrange(10 ** dice.randrange(1, 9)),
            dice.random() * 10 ** dice.randrange(6),
        )
        for at in range(count)
    ]


def _floods(count: int) -> Dict[str, List[bytes]]:
    """Lines that never come again."""
    dice = random.Random(2)
    letters = string.ascii_lowercase
    words = ["".join(dice.choices(letters, k=dice.randrange(2, 9))) for _ in range(20_000)]
    return {
        "random hex": [b"%032x" % dice.getrandbits(128) for _ in range(count)],
        "ids in a sentence": [
            b"request %032x done in %d ms" % (dice.getrandbits(128), at) for at in range(count)
        ],
        "base64": [base64.b64encode(dice.randbytes(48)) for _ in range(count)],
        "binary": [dice.randbytes(60).replace(b"\n", b" ") for _ in range(count)],
        "ever new sentences": [" ".join(dice.choices(words, k=8)).encode() for _ in range(count)],
        "empty lines": [b""] * count,
    }


@benchmark
def grouping(settings: Settings) -> Iterator[Figure]:
    """Grouping alone, on one core: repetitive logs, real ones, and lines that never come again."""
    count = settings.pick(1_000_000, 40_000)
    printed = _printed(count)
    for name, lines, bar in (
        ("group 1,000 messages", printed, 1e6),
        ("group 1,000 messages, numbers of all widths", _of_all_widths(count), None),
    ):
        rates = [_rate(lines) for _ in range(settings.repeats)]
        yield Figure(name=name, unit="lines/s", samples=rates, better="higher", bar=bar)
    for column, what in ((1, "contents"), (2, "raw lines")):
        logs = [
            [line.split("\t")[column].encode() for line in text.split("\n") if line]
            for text in (path.read_text(encoding="utf-8") for path in _samples())
        ]
        if logs:
            rates = [
                sum(map(len, logs)) / sum(len(log) / _rate(log) for log in logs)
                for _ in range(settings.repeats)
            ]
            name = f"group labelled samples, cold, {what}"
            yield Figure(name=name, unit="lines/s", samples=rates, better="higher", bar=1e5)
    for what, lines in _floods(settings.pick(200_000, 10_000)).items():
        rates = [_rate(lines) for _ in range(settings.repeats)]
        yield Figure(name=f"group {what}", unit="lines/s", samples=rates, better="higher", bar=1e5)


def _samples() -> List[Path]:
    """Labelled logs beside the checkout, where there are any."""
    return sorted(SAMPLES.glob("*.tsv"))
