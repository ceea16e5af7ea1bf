"""The judge itself: it must find what is missing, doubled, made up and changed."""

from __future__ import annotations

import random
from typing import Callable, List, Tuple

import pytest

from logmesh_ipy.lines import LineFlag
from logmesh_ipy.model import OutputTarget, ProcInfo
from logmesh_ipy.store import Row
from tests.faults.conftest import Trial
from tests.faults.oracle import Ledger, judge_stream
from tests.faults.writer import LineSource, Written
from tests.integration.conftest import MeshMaker

INFO = ProcInfo(proc=0, rank=0, hostname="here", pid=1)
LINES = LineSource(7, 3, 1)
COUNT = 50
BYTES = sum(len(LINES.line(number)) for number in range(COUNT))


def rows(texts: List[bytes]) -> List[Row]:
    return [
        Row(i, INFO, OutputTarget.STDOUT, 1, i, 0.0, text, LineFlag(0), len(text))
        for i, text in enumerate(texts)
    ]


def right() -> List[bytes]:
    return [LINES.line(number)[:-1] for number in range(COUNT)]


def judged(texts: List[bytes], gaps: Tuple[int, ...] = (), done: int = BYTES) -> Ledger:
    return judge_stream(LINES, Written(done, done), rows(texts), b"", gaps=list(gaps))


def swap(texts: List[bytes], a: int, b: int) -> None:
    texts[a], texts[b] = texts[b], texts[a]


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda texts: None, Ledger(written=50, stored=50)),
        (lambda texts: texts.pop(10), Ledger(written=50, stored=49, missing=1)),
        (lambda texts: texts.pop(), Ledger(written=50, stored=49, missing=1)),
        (lambda texts: texts.insert(9, texts[4]), Ledger(written=50, stored=50, duplicate=1)),
        (lambda texts: texts.insert(9, b"hello"), Ledger(written=50, stored=50, spurious=1)),
        (lambda texts: texts.append(b""), Ledger(written=50, stored=50, spurious=1)),
        (
            lambda texts: texts.append(LINES.line(COUNT)[:-1]),
            Ledger(written=50, stored=50, spurious=1),
        ),
        (
            lambda texts: texts.__setitem__(7, texts[7][:-1] + b"?"),
            Ledger(written=50, stored=49, missing=1, corrupt=1),
        ),
        (lambda texts: swap(texts, 5, 6), Ledger(written=50, stored=49, missing=1, duplicate=1)),
    ],
)
def test_what_is_wrong_is_found(harm: Callable[[List[bytes]], None], found: Ledger) -> None:
    texts = right()
    harm(texts)
    assert judged(texts) == found


def test_a_gap_covers_as_many_lines_as_it_tells() -> None:
    texts = right()
    del texts[10:14]
    assert judged(texts, gaps=(4,)) == Ledger(written=50, stored=46, gap=4)
    assert judged(texts, gaps=(3,)) == Ledger(written=50, stored=46, gap=3, missing=1)


def test_a_line_that_had_only_begun_may_be_there_in_part_but_not_changed() -> None:
    whole = right()
    last = whole.pop()
    done = BYTES - len(last) - 1
    for text, corrupt in ((last[:9], 0), (b"", 0), (last[:9] + b"?", 1)):
        ledger = judge_stream(LINES, Written(done, BYTES), rows(whole), text, gaps=[])
        assert ledger == Ledger(written=49, stored=49, corrupt=corrupt)


def test_a_mesh_is_judged(start: MeshMaker, trial: Trial) -> None:
    mesh = start(2)
    job = trial.exec(mesh, lines=2000, streams="12")
    sources = trial.write_in_procs(mesh, lines=1000)
    assert not any(job.wait().get(30).values())
    trial.wait_for_lines(sources, 1000)
    assert mesh.flush(30).get(40)
    ledger = trial.judge(mesh)
    assert ledger.written == ledger.stored == 2 * 2 * 2000 + 2 * 1000
    dice = random.Random(trial.number)
    wrong = dice.choice(trial.sources(job))
    trial.oracle.of[wrong], trial.oracle.of[sources[0]] = (
        trial.oracle.of[sources[0]],
        trial.oracle.of[wrong],
    )
    assert not trial.oracle.judge(mesh.instance).clean
