"""The barrier's two state machines, judged by an oracle that knows what each proc did."""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from logmesh_ipy.barrier import DrainTracker, FlushLedger, FlushOutcome

PROCS = range(4)
SETTINGS = settings(max_examples=300, stateful_step_count=60)


class Oracle:
    """What should be true of one version."""

    def __init__(
        self, expected: Set[int], late: Set[int], settled: Set[int], deadline: Optional[float]
    ) -> None:
        self.expected = expected
        self.late = set(late)
        self.answered = set(settled)
        self.deadline = deadline

    @property
    def waiting(self) -> Set[int]:
        return self.expected - self.late - self.answered


class Barriers(RuleBasedStateMachine):
    """Asks travel to procs, acks travel back; both can be lost, doubled and late."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = FlushLedger()
        self.now = 100.0
        self.oracles: Dict[int, Oracle] = {}
        self.started: Dict[int, float] = {}
        self.done: Dict[int, FlushOutcome] = {}
        self.late: Set[int] = set()
        self.exited: Set[int] = set()
        self.settled: Set[int] = set()
        self.cancelled: Set[int] = set()
        self.asks: List[Tuple[int, int]] = []
        self.acks: List[Tuple[int, int]] = []

    @rule(expected=st.sets(st.sampled_from(PROCS)), timeout=st.sampled_from([None, 0.0, 1.0, 5.0]))
    def start(self, expected: Set[int], timeout: Optional[float]) -> None:
        version = self.ledger.start([*expected, *expected], self.now, timeout)
        assert version > max([0, *self.started])
        oracle = Oracle(
            expected,
            expected & self.late,
            expected & self.settled,
            None if timeout is None else self.now + timeout,
        )
        self.oracles[version] = oracle
        self.started[version] = self.now
        assert set(self.ledger.to_ask(version)) == oracle.waiting | oracle.late
        self.asks += [(proc, version) for proc in self.ledger.to_ask(version)]
        self.collect()

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), fate=st.sampled_from(["answer", "answer twice", "lose"]))
    def ask_arrives(self, data: st.DataObject, fate: str) -> None:
        ask = self.asks.pop(data.draw(st.integers(0, len(self.asks) - 1)))
        if ask[0] not in self.settled:
            self.acks += {"answer": [ask], "answer twice": [ask, ask], "lose": []}[fate]

    @precondition(lambda self: self.acks)
    @rule(data=st.data(), again=st.booleans())
    def ack_arrives(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.acks) - 1))
        proc, version = self.acks[at] if again else self.acks.pop(at)
        self.ack(proc, version)

    @rule(proc=st.sampled_from([*PROCS, 99]), version=st.integers(0, 30))
    def an_ack_that_nobody_asked_for(self, proc: int, version: int) -> None:
        if (proc, version) not in self.asks + self.acks:
            oracle = self.oracles.get(version)
            if oracle is None or proc not in oracle.waiting:
                self.ack(proc, version)

    def ack(self, proc: int, version: int) -> None:
        oracle = self.oracles.get(version)
        news = oracle is not None and proc in oracle.waiting
        assert self.ledger.ack(proc, version) is news
        self.late.discard(proc)
        if oracle is not None and news:
            oracle.answered.add(proc)
        self.collect()

    @rule(proc=st.sampled_from(PROCS))
    def proc_exits(self, proc: int) -> None:
        self.ledger.exited(proc)
        self.exited.add(proc)
        self.collect()

    @rule(proc=st.sampled_from(PROCS))
    def last_byte_is_stored(self, proc: int) -> None:
        self.ledger.settle(proc)
        self.exited.add(proc)
        self.settled.add(proc)
        self.late.discard(proc)
        for oracle in self.oracles.values():
            if proc in oracle.waiting:
                oracle.answered.add(proc)
        self.collect()

    @rule(proc=st.sampled_from(PROCS))
    def forwarder_attaches_again(self, proc: int) -> None:
        """What it was asked before is lost; whoever waits for it, or calls it late, asks again."""
        self.asks = [ask for ask in self.asks if ask[0] != proc]
        again = self.ledger.to_ask_again(proc)
        waited = {version for version, o in self.oracles.items() if proc in o.waiting}
        assert waited <= set(again)
        assert bool(again) == bool(waited or proc in self.late)
        self.asks += [(proc, version) for version in again]

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.expire(self.now)
        for oracle in self.oracles.values():
            if oracle.deadline is not None and self.now >= oracle.deadline:
                self.late |= oracle.waiting
                oracle.late |= oracle.waiting
        self.collect()

    @precondition(lambda self: self.oracles)
    @rule(data=st.data())
    def caller_is_interrupted(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.oracles)))
        self.ledger.cancel(version)
        self.cancelled.add(version)
        del self.oracles[version]

    def collect(self) -> None:
        outcomes = self.ledger.completed(self.now)
        due = sorted(version for version, o in self.oracles.items() if not o.waiting)
        assert [outcome.version for outcome in outcomes] == due
        for outcome in outcomes:
            oracle = self.oracles.pop(outcome.version)
            counted = [*outcome.acked, *outcome.exited, *outcome.late]
            assert sorted(counted) == sorted(oracle.expected)
            assert set(outcome.late) == oracle.late
            assert set(outcome.exited) == oracle.answered & self.exited
            assert outcome.seconds == self.now - self.started[outcome.version]
            assert outcome.version not in self.done
            self.done[outcome.version] = outcome

    @invariant()
    def lateness_is_known(self) -> None:
        assert self.ledger.late == self.late

    @invariant()
    def the_next_deadline_is_that_of_a_version_that_waits(self) -> None:
        deadlines = [o.deadline for o in self.oracles.values() if o.deadline is not None]
        assert self.ledger.next_deadline() == min(deadlines, default=None)

    def teardown(self) -> None:
        """No version with a deadline outlives it, none at all outlives its procs."""
        self.time_passes(1000.0)
        assert all(oracle.deadline is None for oracle in self.oracles.values())
        for proc in PROCS:
            self.last_byte_is_stored(proc)
        assert not self.oracles
        assert self.ledger.next_deadline() is None
        assert set(self.done) | self.cancelled == set(self.started)
        version = self.ledger.start(PROCS, self.now, None)
        [outcome] = self.ledger.completed(self.now)
        assert (outcome.version, outcome.exited) == (version, tuple(PROCS))


def test_each_barrier_counts_each_proc_once_and_none_hangs() -> None:
    run_state_machine_as_test(Barriers, settings=SETTINGS)


def test_one_hung_proc_costs_one_deadline() -> None:
    ledger = FlushLedger()
    first = ledger.start([0, 1], 0.0, 2.0)
    ledger.ack(0, first)
    assert ledger.completed(1.9) == []
    assert ledger.next_deadline() == 2.0
    ledger.expire(1.9)
    assert ledger.completed(1.9) == []
    ledger.expire(2.0)
    [outcome] = ledger.completed(2.0)
    assert (outcome.acked, outcome.late, outcome.seconds) == ((0,), (1,), 2.0)
    second = ledger.start([0, 1], 3.0, 2.0)
    assert ledger.to_ask(second) == (0, 1), "it is asked, and not waited for"
    ledger.ack(0, second)
    [outcome] = ledger.completed(3.0)
    assert (outcome.acked, outcome.late) == ((0,), (1,))
    ledger.ack(1, first)
    third = ledger.start([0, 1], 4.0, 2.0)
    assert ledger.to_ask(third) == (0, 1)


def test_a_proc_that_exits_is_not_answered_for_until_its_last_byte_is_stored() -> None:
    ledger = FlushLedger()
    version = ledger.start([0], 0.0, None)
    ledger.exited(0)
    assert ledger.completed(0.0) == []
    ledger.settle(0)
    [outcome] = ledger.completed(0.0)
    assert (outcome.version, outcome.exited) == (version, (0,))


def test_overlapping_barriers_are_answered_one_by_one() -> None:
    ledger = FlushLedger()
    first, second = (ledger.start([0, 1], 0.0, None) for _ in range(2))
    ledger.ack(0, second)
    ledger.ack(1, second)
    assert [outcome.version for outcome in ledger.completed(0.0)] == [second]
    ledger.ack(0, first)
    ledger.ack(1, first)
    assert [outcome.version for outcome in ledger.completed(0.0)] == [first]


class Drains(RuleBasedStateMachine):
    """A forwarder with two senders that come and go; the client asks again when it attaches."""

    @initialize(parents=st.sampled_from([(), (1,), (1, 2)]))
    def make(self, parents: Tuple[int, ...]) -> None:
        self.parents = parents
        self.tracker = DrainTracker(parents)
        self.stdio: Set[int] = set()
        self.waiting: Dict[int, Set[int]] = {}
        self.connected: Set[int] = set(parents)
        self.requests: List[Tuple[int, int]] = []
        self.answers: List[Tuple[int, int]] = []
        self.posted: List[int] = []
        self.asked: Set[int] = set()

    @rule(version=st.integers(1, 5))
    def client_asks(self, version: int) -> None:
        under_way = version in self.stdio or version in self.waiting
        assert self.tracker.request(version) is not under_way
        if not under_way:
            self.asked.add(version)
            self.stdio.add(version)

    @rule(version=st.integers(1, 5))
    def stdio_is_flushed(self, version: int) -> None:
        at_once = self.tracker.flushed(version)
        if version in self.stdio:
            self.stdio.discard(version)
            assert at_once is not bool(self.parents)
            if at_once:
                self.post(version)
            else:
                self.waiting[version] = set(self.parents)
                self.requests += [(version, target) for target in self.connected]
        else:
            assert not at_once

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), twice=st.booleans())
    def sender_drains(self, data: st.DataObject, twice: bool) -> None:
        request = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        self.answers += [request] * (2 if twice else 1)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def drained_arrives(self, data: st.DataObject) -> None:
        version, target = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.drained(version, target)

    @rule(version=st.integers(0, 9), stream=st.integers(0, 3))
    def drained_that_nobody_asked_for(self, version: int, stream: int) -> None:
        if stream not in self.waiting.get(version, ()):
            self.drained(version, stream)

    def drained(self, version: int, target: int) -> None:
        before = self.waiting.get(version)
        complete = before is not None and before <= {target}
        assert self.tracker.drained(version, target) is complete
        if before is not None:
            before.discard(target)
            if complete:
                del self.waiting[version]
                self.post(version)

    @precondition(lambda self: hasattr(self, "tracker") and self.parents)
    @rule(data=st.data())
    def sender_is_lost(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(self.parents))
        self.connected.discard(target)
        self.requests = [r for r in self.requests if r[1] != target]
        self.answers = [a for a in self.answers if a[1] != target]

    @precondition(lambda self: hasattr(self, "tracker") and self.parents)
    @rule(data=st.data())
    def sender_comes_back(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(self.parents))
        if target not in self.connected:
            self.connected.add(target)
            versions = self.tracker.open_versions(target)
            assert versions == tuple(sorted(v for v, w in self.waiting.items() if target in w))
            self.requests += [(version, target) for version in versions]

    @precondition(lambda self: hasattr(self, "tracker"))
    @rule()
    def uplink_is_lost(self) -> None:
        """All senders must start over, and what they had drained is drained again."""
        self.connected.clear()
        self.requests.clear()
        self.answers.clear()
        self.tracker.restart()
        for waiting in self.waiting.values():
            waiting.update(self.parents)

    def post(self, version: int) -> None:
        assert version in self.asked
        self.asked.discard(version)
        self.posted.append(version)

    def teardown(self) -> None:
        """With both senders back, every version that was asked for is posted."""
        if not hasattr(self, "tracker"):
            return
        for version in sorted(self.stdio):
            self.stdio_is_flushed(version)
        for target in self.parents:
            if target not in self.connected:
                self.connected.add(target)
                self.requests += [(v, target) for v in self.tracker.open_versions(target)]
        for version, target in [*self.requests, *self.answers]:
            self.drained(version, target)
        assert not self.asked
        assert not self.waiting
        assert all(self.tracker.open_versions(target) == () for target in (1, 2))


def test_each_request_is_posted_once_when_all_senders_have_drained() -> None:
    run_state_machine_as_test(Drains, settings=SETTINGS)
