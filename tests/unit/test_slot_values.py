"""What stands in a group's slots: computed from the store, against statistics of the plain kind."""

from __future__ import annotations

import random
import statistics
import struct
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

from logmesh_ipy.aggregator import Aggregator, Report
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.slot_values import GroupKey, NumberSlot, TextSlot, slot_values
from logmesh_ipy.store import LogStore
from logmesh_ipy.template_table import TemplateTable, settled
from logmesh_ipy.views.group_text import add_values, group_prefix, values_text
from logmesh_ipy.views.told import Telling, ToldTemplates, id_bytes
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
        assert {int(part) for part in folded.replace("-", ",").split(",")} <= ranks[text]


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
    assert values_text(differs) == (
        "epoch 0 [0] … 1.5 … 3 [3]; loss 0.25 [0] … 1.75 … 3.25 [3]; "
        f"from 10.0.0.0 2{TIMES} [0-1], 10.0.0.1 2{TIMES} [2-3]"
    )
    assert values_text(same) == ""
    assert same.shown == b"the same 7"
    assert report.everyone == {0, 1, 2, 3}
    assert group_prefix(differs, report.everyone) == f"[0-3] 4{TIMES}"
    put(store, 0, "opened /tmp/\x1b]0;owned\x07\x1b[2J1", "opened /tmp/\x1b]0;owned\x07\x1b[2J2")
    report = report_of(store)
    add_values(store, report)
    assert all("\x1b" not in values_text(group) for group in report.groups)


def test_browsers_are_told_of_a_template_once_and_again_when_it_is_forgotten() -> None:
    table = TemplateTable()
    told = ToldTemplates(table)
    one, other = table.ids(b"step 1 of 2\nERROR: no disk\n")
    first = told.due({one, other, 0})
    assert {_parts(telling) for telling in first} == {
        (one, one, ("step ", " of ", ""), "##"),
        (other, other, ("ERROR: no disk",), ""),
    }
    assert {telling[0]: telling[4] for telling in first} == {one: 0, other: 40}
    assert told.due({one})  # what was made is not sent yet
    told.note(first)
    assert told.due({one, other}) == []
    assert [telling[0] for telling in told.all_of({one})] == [one]
    told.clear()
    assert [telling[0] for telling in told.due({one})] == [one]


def test_browsers_are_told_when_templates_become_one() -> None:
    table = TemplateTable()
    told = ToldTemplates(table)
    names = ["anna", "bert", "carl", "dora", "emil", "frieda", "gustav", "hanna", "ida", "jakob"]
    seen: Set[int] = set()
    tellings: Dict[int, Telling] = {}
    for turn in range(200):
        name = names[turn % 10] + names[turn // 10 % 10]
        ids = table.ids(f"Failed login for user {name} at the front door\n".encode())
        seen.update(ids)
        some = told.due({table.find(number) for number in ids})
        told.note(some)
        tellings.update((telling[0], telling) for telling in some)
    assert len(seen) > 1, "nothing was learned while it was told"
    roots = {table.find(number) for number in seen}
    assert len(roots) < len(seen)
    for number in seen & tellings.keys():
        at = number
        while tellings[at][1] != at:
            at = tellings[at][1]
        assert at == table.find(number)
        template = table.template(at)
        assert tellings[at][2] == [piece.decode() for piece in template.pieces]


def _parts(telling: Telling) -> Tuple[int, int, Tuple[str, ...], str]:
    return telling[0], telling[1], tuple(telling[2]), telling[3]


def test_ids_travel_as_little_endian_numbers() -> None:
    assert id_bytes([1, 2, 1 << 31]) == struct.pack("<3I", 1, 2, 1 << 31)


def test_a_long_template_is_told_by_its_beginning() -> None:
    table = TemplateTable()
    words = ["".join(chr(97 + (n // 26**k) % 26) for k in range(4)) for n in range(900)]
    wide = " ".join(f"{word} {n}" for n, word in enumerate(words[:300]))
    long = "x" * 3000 + " 1"
    ids = table.ids(f"{wide}\n{long}\nstep 1\n".encode())
    for telling in ToldTemplates(table).all_of(set(ids)):
        number, into, pieces, kinds, _ = telling
        assert number == into
        assert len(pieces) == len(kinds) + 1
        assert sum(map(len, pieces)) <= 2600
        assert all(len(piece) <= 501 for piece in pieces)
    assert ToldTemplates(table).all_of({ids[2]})[0][2:4] == (["step ", ""], "#")


def test_a_worker_does_one_job_after_the_other_and_refuses_too_many() -> None:
    worker, go, done = Worker("test-worker", 3), threading.Event(), []

    def job(number: int) -> None:
        assert go.wait(10)
        done.append((number, threading.get_ident()))

    taken = [worker.submit(partial(job, number)) for number in range(10)]
    assert sum(taken) in {3, 4}  # one may have been begun
    go.set()
    wait_until(lambda: len(done) == sum(taken))
    assert [number for number, _ in done] == list(range(sum(taken)))
    assert len({thread for _, thread in done}) == 1
    wait_until(lambda: all(t.name != "test-worker" for t in threading.enumerate()))
    assert worker.submit(partial(job, 99))
    wait_until(lambda: done[-1][0] == 99)
