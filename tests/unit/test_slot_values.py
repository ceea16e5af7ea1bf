"""What stands in a group's slots: computed from the store, against statistics of the plain kind."""

from __future__ import annotations

import random
import statistics
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

from logmesh_ipy.aggregator import Aggregator, Report
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo, fold_ranks
from logmesh_ipy.slot_values import GroupKey, NumberSlot, TextSlot, slot_values
from logmesh_ipy.store import Chunk, LogStore
from logmesh_ipy.template_table import settled
from logmesh_ipy.views.group_text import add_values, group_prefix, values_row
from logmesh_ipy.views.worker import Worker
from tests.support import wait_until

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    made = LogStore(directory=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    return random.Random(seed)


def put(store: LogStore, rank: int, *lines: str, target: OutputTarget = OUT, job: str = "") -> None:
    info = ProcInfo(proc=rank + 100 * bool(job), rank=rank, hostname="h", pid=1, job=job)
    data = "".join(line + "\n" for line in lines).encode()
    log = LogMessage.Log(
        proc=info.proc, epoch=1, generation=1, output_target=target, seq=0, offset=0,
        size=len(data), lines=len(lines), wall=1.0, mono=1.0, pid=1, hostname="h",
        ends_line=True, payload=data,
    )  # fmt: skip
    store.append(info, log)


def report_of(store: LogStore) -> Report:
    aggregator = Aggregator(3, store.templates, store.ranks)
    aggregator.add(store.read(), 0.0)
    (report,) = aggregator.flush()
    return report


def test_numbers_have_their_extremes_with_ranks_and_the_median(
    store: LogStore, dice: random.Random
) -> None:
    wanted: List[Tuple[float, int]] = []
    for step in range(500):
        rank = dice.randrange(8)
        loss = round(dice.uniform(-3, 12), 4)
        wanted.append((loss, rank))
        put(store, rank, f"step {step} loss {loss} lr 1e-4", "between")
    number = store.templates.ids(b"step 1 loss 0.5 lr 1e-4\n")[0]
    (found,) = slot_values(store, [GroupKey(number, OUT, "", 0)], 0, store.rows, 60.0)
    assert (found.lines, found.whole) == (500, True)
    step_slot, loss_slot, *_ = found.slots
    assert isinstance(step_slot, NumberSlot)
    assert isinstance(loss_slot, NumberSlot)
    assert (step_slot.name, step_slot.least, step_slot.most) == ("step", 0, 499)
    assert loss_slot.name == "loss"
    assert loss_slot.least == min(wanted)[0]
    assert loss_slot.most == max(wanted)[0]
    assert (loss_slot.least, loss_slot.least_rank) in wanted
    assert (loss_slot.most, loss_slot.most_rank) in wanted
    assert loss_slot.median == statistics.median(loss for loss, _ in wanted)


def test_texts_have_their_values_with_counts_and_ranks(
    store: LogStore, dice: random.Random
) -> None:
    counts: Counter[str] = Counter()
    ranks: Dict[str, Set[int]] = {}
    hosts = [f"10.0.0.{n}" for n in range(9)]
    for turn in range(300):
        rank, host = (
            dice.randrange(4),
            hosts[turn if turn < 9 else min(8, int(dice.expovariate(0.5)))],
        )
        counts[host] += 1
        ranks.setdefault(host, set()).add(rank)
        put(store, rank, f"lost the link to {host}")
    (group,) = report_of(store).groups
    (found,) = slot_values(store, [GroupKey(group.template_id, OUT, "", 0)], 0, store.rows, 60.0)
    (slot,) = found.slots
    assert isinstance(slot, TextSlot)
    assert slot.distinct == 9
    assert [count for _, count, _ in slot.top] == sorted(counts.values(), reverse=True)[:5]
    for text, count, folded in slot.top:
        assert counts[text] == count
        assert folded == fold_ranks(ranks[text])


def test_a_value_that_is_cut_ends_with_a_whole_character(store: LogStore) -> None:
    euros = "\u20ac" * 400
    put(store, 0, *(f"lost /{begin}{euros}/7 again" for begin in ("", "a", "bb")))
    (group,) = report_of(store).groups
    (found,) = slot_values(store, [GroupKey(group.template_id, OUT, "", 0)], 0, 3, 60.0)
    (slot,) = found.slots
    assert isinstance(slot, TextSlot)
    assert {text for text, _, _ in slot.top} == {
        "/" + euros[:333], "/a" + euros[:332], "/bb" + euros[:332],
    }  # fmt: skip


def test_only_the_lines_asked_for_count(store: LogStore) -> None:
    put(store, 0, "at 1", "at 2")
    put(store, 1, "at 300", target=ERR)
    put(store, 2, "at 400", job="job 1")
    store.begin_cell(2)
    put(store, 3, "at 500")
    put(store, 4, "at 600")
    number = store.templates.ids(b"at 1\n")[0]

    def most(key: GroupKey, first: int = 0, end: int = 99) -> Tuple[int, float]:
        (found,) = slot_values(store, [key], first, min(end, store.rows), 60.0)
        (slot,) = found.slots
        assert isinstance(slot, NumberSlot)
        return found.lines, slot.most

    assert most(GroupKey(number, OUT, "", None)) == (4, 600)
    assert most(GroupKey(number, OUT, "", 0)) == (2, 2)
    assert most(GroupKey(number, OUT, "", 0), 0, 1) == (1, 1)
    assert most(GroupKey(number, OUT, "", 2), 0, 5) == (1, 500)
    assert most(GroupKey(number, ERR, "", None)) == (1, 300)
    assert most(GroupKey(number, OUT, "job 1", 0)) == (1, 400)
    for nobody in (GroupKey(number, ERR, "job 1", None), GroupKey(0, OUT, "", None)):
        (found,) = slot_values(store, [nobody], 0, store.rows, 60.0)
        assert (found.lines, found.slots) == (0, ())


def test_without_time_it_says_that_it_has_not_seen_all(store: LogStore) -> None:
    put(store, 0, "at 1")
    key = GroupKey(store.templates.ids(b"at 1\n")[0], OUT, "", None)
    (found,) = slot_values(store, [key], 0, store.rows, 0.0)
    assert (found.lines, found.whole) == (1, True)  # so few are always looked at
    for step in range(30):
        put(store, 0, *(f"at {step * 100 + number}" for number in range(100)))
    (found,) = slot_values(store, [key], 0, store.rows, 0.0)
    assert (found.lines, found.whole) == (2001, False)


def test_one_long_chunk_does_not_take_longer_than_allowed(store: LogStore) -> None:
    put(store, 0, *(f"at {number}" for number in range(60_000)))
    key = GroupKey(store.templates.ids(b"at 1\n")[0], OUT, "", None)
    (found,) = slot_values(store, [key], 0, store.rows, 0.0)
    assert (found.lines, found.whole) == (2000, False)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("\x1b[32mloss\x1b[0m {}", "loss"), ("größe={}", "größe"), ("loss is {}", "loss"),
        ("of {}", "of"), ("{}", "#1"), ("took \udcff {}", "xff"),
    ],
)  # fmt: skip
def test_a_slot_has_the_name_of_the_word_before_it(store: LogStore, line: str, name: str) -> None:
    for value in range(3):
        info = ProcInfo(proc=0, rank=0, hostname="h", pid=1, job="")
        data = (line.format(value) + "\n").encode("utf-8", "surrogateescape")
        log = LogMessage.Log(
            proc=0, epoch=1, generation=1, output_target=OUT, seq=0, offset=0, size=len(data),
            lines=1, wall=1.0, mono=1.0, pid=1, hostname="h", ends_line=True, payload=data,
        )  # fmt: skip
        store.append(info, log)
    (group,) = report_of(store).groups
    (found,) = slot_values(store, [GroupKey(group.template_id, OUT, "", 0)], 0, 3, 60.0)
    (slot,) = found.slots
    assert slot.name == name


def test_a_number_too_large_to_be_compared_is_left_out(store: LogStore) -> None:
    put(store, 0, "at 1e999", "at 7", "at 8")
    key = GroupKey(store.templates.ids(b"at 7\n")[0], OUT, "", None)
    (found,) = slot_values(store, [key], 0, 3, 60.0)
    assert found.slots == (NumberSlot("at", 2, 7, 0, 7.5, 8, 0),)
    (found,) = slot_values(store, [key], 0, 1, 60.0)
    assert (found.lines, found.slots) == (1, (TextSlot("at", 0, ()),))


def test_one_template_may_be_asked_for_in_several_scopes(store: LogStore) -> None:
    put(store, 0, "at 1", "at 2")
    store.begin_cell(2)
    put(store, 0, "at 3")
    number = store.templates.ids(b"at 1\n")[0]
    keys = [GroupKey(number, OUT, "", cell) for cell in (None, 0, 2)]
    assert [found.lines for found in slot_values(store, keys, 0, 3, 60.0)] == [3, 2, 1]


class _LearnsMeanwhile(LogStore):
    """A store that others read too: with each read they learn from some lines."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory=directory)
        self.learned: Iterator[bytes] = iter(())

    def read(self, *place: int) -> List[Chunk]:
        self.templates.ids(next(self.learned, b""))
        return super().read(*place)


def test_what_becomes_part_of_a_group_while_it_is_read_counts(tmp_path: Path) -> None:
    store = _LearnsMeanwhile(str(tmp_path))
    lines = [
        f"Failed login for user {one}{two} at the front door"
        for one in ("anna", "bert", "carl", "dora", "emil", "frieda", "gustav", "hanna")
        for two in ("mop", "lit", "gar", "sen", "dul", "fip", "ras", "tun", "wek", "zoy")
    ]
    one, other = store.templates.ids(f"{lines[0]}\n{lines[1]}\n".encode())
    for _ in range(10):
        put(store, 0, *[lines[0]] * 2000)
        put(store, 1, *[lines[1]] * 2000)
    assert store.templates.find(one) != store.templates.find(other)
    store.learned = iter([b"", b"", "".join(line + "\n" for line in lines).encode()])
    (found,) = slot_values(store, [GroupKey(one, OUT, "", None)], 0, store.rows, 60.0)
    assert store.templates.find(one) == store.templates.find(other)
    assert (found.lines, found.whole) == (40_000, True)
    (slot,) = found.slots
    assert isinstance(slot, TextSlot)
    assert slot.top == (("annamop", 20_000, "0"), ("annalit", 20_000, "1"))
    store.close()


def test_lines_that_rewrite_themselves_count_as_they_stand_at_last(store: LogStore) -> None:
    put(store, 0, "10%\r55%\r99%", "98%")
    assert settled(b"1\r2\n3\n") == b"2\n3\n"
    (group,) = report_of(store).groups
    (found,) = slot_values(store, [GroupKey(group.template_id, OUT, "", 0)], 0, 2, 60.0)
    (slot,) = found.slots
    assert isinstance(slot, NumberSlot)
    assert (slot.least, slot.most) == (98, 99)


def test_a_group_tells_its_values_in_a_line_that_nothing_can_act_on(store: LogStore) -> None:
    for rank in range(4):
        put(store, rank, f"epoch {rank} loss {rank + 0.25} from 10.0.0.{rank // 2}", "the same 7")
    report = report_of(store)
    add_values(store, report)
    differs, same = report.groups
    assert values_row(differs) == (
        "└ epoch 0 [0] … 1.5 … 3 [3]; loss 0.25 [0] … 1.75 … 3.25 [3]; "
        f"from 10.0.0.0 2{TIMES} [0-1], 10.0.0.1 2{TIMES} [2-3]"
    )
    assert values_row(same) == ""
    assert same.shown == b"the same 7"
    assert report.everyone == {0, 1, 2, 3}
    assert group_prefix(differs, report.everyone) == f"[0-3 4{TIMES}]"
    put(store, 0, "opened /tmp/\x1b]0;owned\x07\x1b[2J1", "opened /tmp/\x1b]0;owned\x07\x1b[2J2")
    report = report_of(store)
    add_values(store, report)
    assert all("\x1b" not in values_row(group) for group in report.groups)


def test_a_worker_does_one_job_after_the_other_and_refuses_too_many() -> None:
    worker, done = Worker("test-worker", 3), []
    begun, go = threading.Event(), threading.Event()

    def job(number: int) -> None:
        begun.set()
        assert go.wait(20)
        done.append((number, threading.get_ident()))

    assert worker.submit(partial(job, 0))
    assert begun.wait(20)
    taken = [worker.submit(partial(job, number)) for number in range(1, 6)]
    assert taken == [True, True, True, False, False]
    go.set()
    wait_until(lambda: len(done) == 4)
    assert [number for number, _ in done] == [0, 1, 2, 3]
    assert len({thread for _, thread in done}) == 1
    wait_until(lambda: all(t.name != "test-worker" for t in threading.enumerate()))
    assert worker.submit(partial(job, 99))
    wait_until(lambda: done[-1][0] == 99)
