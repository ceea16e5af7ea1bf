from __future__ import annotations

import os
from pathlib import Path
from typing import Dict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from logmesh_ipy import spool as spool_module
from logmesh_ipy.spool import FileSpool


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def placed(spool: FileSpool, data: bytes) -> int:
    place = spool.write(data)
    assert place is not None
    return place


def test_what_was_written_is_read_back_until_it_is_released(tmp_path: Path) -> None:
    spool = FileSpool(str(tmp_path), 100)
    first, second = placed(spool, b"one"), placed(spool, b"second")
    assert spool.read(second) == b"second"
    assert spool.read(first) == b"one"
    spool.release(first)
    assert spool.read(second) == b"second"
    with pytest.raises(KeyError):
        spool.read(first)
    spool.close()


def test_beyond_its_bound_the_spool_refuses_and_says_why(tmp_path: Path) -> None:
    spool = FileSpool(str(tmp_path), 10)
    first = placed(spool, b"12345")
    placed(spool, b"12345")
    assert spool.write(b"1") is None
    assert "full" in spool.trouble
    assert spool.bytes == 10
    spool.release(first)
    assert spool.write(b"1") is not None
    assert spool.trouble == ""
    spool.close()


def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    before = open_files()
    spool = FileSpool(str(tmp_path), 100)
    placed(spool, b"data")
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before + 1
    spool.close()
    spool.close()
    assert open_files() == before
    assert spool.bytes == 0


def test_a_segment_is_dropped_with_its_last_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 8)
    before = open_files()
    spool = FileSpool(str(tmp_path), 1000)
    places = [placed(spool, b"1234") for _ in range(6)]
    assert open_files() == before + 3
    spool.release(places[0])
    assert open_files() == before + 3
    spool.release(places[1])
    assert open_files() == before + 2
    assert spool.read(places[2]) == b"1234"
    for place in places[2:]:
        spool.release(place)
    assert open_files() == before
    assert spool.read(placed(spool, b"again")) == b"again"
    spool.close()


@pytest.mark.parametrize("fault", ["refused", "cut short"])
def test_a_full_disk_is_told_and_tried_again(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = FileSpool(str(tmp_path), 100)
    first = placed(spool, b"before")
    pwrite = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if fault == "refused":
            raise OSError(28, os.strerror(28))
        return pwrite(fd, data[:1], offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert spool.write(b"lost") is None
    assert spool.trouble
    assert spool.bytes == 6
    monkeypatch.setattr(os, "pwrite", pwrite)
    second = placed(spool, b"after")
    assert spool.trouble == ""
    assert (spool.read(first), spool.read(second)) == (b"before", b"after")
    spool.close()


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    spool = FileSpool(str(tmp_path / "gone"), 100)
    assert spool.write(b"x") is None
    assert "gone" in spool.trouble
    spool.close()


def test_a_file_that_lost_bytes_is_an_error_not_a_short_batch(tmp_path: Path) -> None:
    spool = FileSpool(str(tmp_path), 100)
    place = placed(spool, b"123456")
    os.ftruncate(spool._segments[0].fd, 3)
    with pytest.raises(OSError, match="lost a batch of 6 bytes"):
        spool.read(place)
    spool.close()


class Spooling(RuleBasedStateMachine):
    """A dictionary is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.before = open_files()
        self.spool = FileSpool("/tmp", 200)
        self.held: Dict[int, bytes] = {}

    @rule(data=st.binary(min_size=1, max_size=60))
    def write(self, data: bytes) -> None:
        place = self.spool.write(data)
        fits = sum(map(len, self.held.values())) + len(data) <= 200
        assert (place is not None) is fits
        if place is not None:
            assert place not in self.held
            self.held[place] = data

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.held)))
        self.spool.release(place)
        del self.held[place]

    @invariant()
    def all_is_there(self) -> None:
        for place, data in self.held.items():
            assert self.spool.read(place) == data
        assert self.spool.bytes == sum(map(len, self.held.values()))

    @invariant()
    def no_empty_segment_stays_open(self) -> None:
        assert open_files() - self.before == len(self.spool._segments)
        assert all(segment.live for segment in self.spool._segments)

    def teardown(self) -> None:
        self.spool.close()
        assert open_files() == self.before


def test_the_spool_keeps_what_is_written_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 64)
    run_state_machine_as_test(Spooling, settings=settings(max_examples=60))
