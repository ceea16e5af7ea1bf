"""The spacing of tries: what a dialler may do whatever its peer does."""

from __future__ import annotations

import itertools
import random
from typing import List

import pytest

from logmesh_ipy.backoff import Backoff


def tries(lived: List[float], seconds: float) -> List[float]:
    """When tries begin, if the links that they make live so long, in turns."""
    backoff, now, found = Backoff(), 0.0, []
    while now < seconds:
        now += backoff.pause(now)
        found.append(now)
        now += lived[len(found) % len(lived)]
    return found


@pytest.mark.parametrize("lived", [0.0, 0.001, 0.01, 0.05, 0.3, 0.9, 1.1, 1.9])
def test_at_most_ten_tries_in_the_first_second_and_then_one_a_second(lived: float) -> None:
    for number in range(50):
        random.seed(number)
        found = tries([lived], 60)
        assert sum(at < 1 for at in found) <= 10
        assert len([at for at in found if at >= 2]) <= 60
        assert all(b - a >= 1.0 for a, b in itertools.pairwise(found[8:]))


def test_no_mixture_of_lives_makes_a_storm() -> None:
    for number in range(50):
        random.seed(number)
        lived = [random.choice([0, 0.01, 0.5, 1.0, 2.0, 2.5]) for _ in range(50)]
        found = tries(lived, 120)
        for at in found:
            assert sum(at <= other < at + 1 for other in found) <= 10


def test_a_link_that_lived_is_made_again_at_once_and_not_by_all_in_step() -> None:
    pauses = []
    for _ in range(100):
        backoff = Backoff()
        now = backoff.pause(0.0)
        pauses.append(backoff.pause(now + 2.0))
    assert all(0.01 <= pause <= 0.03 for pause in pauses)
    assert len(set(pauses)) > 90


def test_a_peer_that_never_answers_is_tried_at_least_every_two_seconds() -> None:
    found = tries([0.0], 60)
    assert all(b - a <= 1.5 for a, b in itertools.pairwise(found))
