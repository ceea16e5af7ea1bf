"""How well lines are grouped, on labelled samples of logs that are not part of the project."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import List, Tuple

import pytest

from logmesh_ipy.grouping import Grouper, SlotKind

SHARED = Path(__file__).resolve().parents[3] / "shared"
SCORER = SHARED / "tools" / "grouping_accuracy.py"
NAMES = sorted(path.stem for path in (SHARED / "loghub").glob("*.tsv"))

pytestmark = pytest.mark.skipif(
    not (NAMES and SCORER.exists()), reason="the labelled samples are not beside the checkout"
)

CONTENTS, RAW = 1, 2


@pytest.fixture(scope="module")
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grouping_accuracy", SCORER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_of(scorer: ModuleType, name: str, column: int) -> List[bytes]:
    return [line.encode() for line in scorer.load(name, SHARED / "loghub")[column]]


def groups_of(lines: List[bytes]) -> List[int]:
    """The group of each line when the stream has ended."""
    grouper = Grouper()
    ids: List[int] = []
    for start in range(0, len(lines), 300):
        ids += grouper.ids(b"".join(line + b"\n" for line in lines[start : start + 300]))
    return [grouper.find(group) for group in ids]


@pytest.mark.parametrize(("column", "ga", "fga"), [(CONTENTS, 0.98, 0.95), (RAW, 0.97, 0.91)])
def test_the_mean_accuracy(scorer: ModuleType, column: int, ga: float, fga: float) -> None:
    scores: List[Tuple[float, float]] = []
    for name in NAMES:
        labels = scorer.load(name, SHARED / "loghub")[0]
        groups = groups_of(lines_of(scorer, name, column))
        scores.append(
            (
                scorer.grouping_accuracy(labels, groups),
                scorer.f1_grouping_accuracy(labels, groups),
            )
        )
    assert sum(score[0] for score in scores) / len(scores) >= ga, scores
    assert sum(score[1] for score in scores) / len(scores) >= fga, scores


@pytest.mark.parametrize("column", [CONTENTS, RAW])
@pytest.mark.parametrize("name", NAMES)
def test_the_pieces_and_the_values_make_up_each_line(
    scorer: ModuleType, name: str, column: int
) -> None:
    lines = lines_of(scorer, name, column)
    grouper = Grouper()
    for line, group in zip(lines, grouper.ids(b"\n".join(lines) + b"\n"), strict=True):
        template = grouper.template(group)
        values = template.values(line)
        assert values is not None, (line, template.text)
        parts = [*sum(zip(template.pieces, values, strict=False), ()), template.pieces[-1]]
        assert b"".join(parts) == line
        for kind, value in zip(template.kinds, values, strict=True):
            if kind is SlotKind.NUMBER:
                float(value)


def test_how_the_stream_is_cut_matters_little(scorer: ModuleType) -> None:
    """Lines are learned in the order of their first appearance, whatever chunks they come in."""
    for name in NAMES:
        lines = lines_of(scorer, name, CONTENTS)
        cut, whole = Grouper(), Grouper()
        at_once = [whole.find(g) for g in whole.ids(b"\n".join(lines) + b"\n")]
        one_by_one = [cut.ids(line + b"\n")[0] for line in lines]
        same = scorer.grouping_accuracy([cut.find(group) for group in one_by_one], at_once)
        assert same > 0.98, name
