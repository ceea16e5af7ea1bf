"""The sync-flush barrier's two state machines: the client's and the forwarder's. Sans-IO.

Client (:class:`FlushLedger`). A version opens with the set of procs it waits for. A proc leaves
the set by name: by its ack, by being settled (it has exited and its last byte is stored), or by
the version's deadline, which makes it late. A version is complete when its set is empty. A late
proc is asked by later versions, since what it was asked before may be lost, but not waited for
until it answers anything.

    waiting --ack--> acked        waiting --exited and stored--> exited
    waiting --deadline--> late --any ack--> not late for the versions to come

Forwarder (:class:`DrainTracker`). A version waits for a ``Drained`` of each stream whose parent
connection is (or should be) there, then the marker is posted into the data stream; reading the
marker is what is acked.

Invariants: each expected proc is counted exactly once per version; versions only grow; a
duplicate, stale or unknown ack changes nothing but lateness.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

__all__ = ["DrainTracker", "FlushLedger", "FlushOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushOutcome:
    """A completed version: who answered, who has exited, who is late. Ids, sorted."""

    version: int
    acked: Tuple[int, ...]
    exited: Tuple[int, ...]
    late: Tuple[int, ...]
    seconds: float


@dataclass(slots=True)
class _Version:
    started: float
    deadline: Optional[float]
    waiting: Set[int]
    answered: Set[int] = field(default_factory=set)
    late: Set[int] = field(default_factory=set)


class FlushLedger:
    """All open barriers of one client. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._versions: Dict[int, _Version] = {}
        self._next_version = 1
        self._exited: Set[int] = set()
        self._settled: Set[int] = set()
        self._late: Set[int] = set()
        self._last_asked: Dict[int, int] = {}

    @property
    def late(self) -> FrozenSet[int]:
        """Procs that missed a deadline and have not answered since."""
        return frozenset(self._late)

    def start(self, expected: Iterable[int], now: float, timeout_sec: Optional[float]) -> int:
        """Open a version over the procs ``expected``; gives its number."""
        version = self._next_version
        self._next_version += 1
        procs = set(expected)
        late = procs & self._late
        settled = procs & self._settled
        waiting = procs - late - settled
        self._versions[version] = _Version(
            now, None if timeout_sec is None else now + timeout_sec, waiting, settled, late
        )
        for proc in waiting | late:
            self._last_asked[proc] = version
        return version

    def to_ask(self, version: int) -> Tuple[int, ...]:
        """The procs that must be sent ``ForceSyncFlush(version)``, late ones too."""
        asked = self._versions[version]
        return tuple(sorted(asked.waiting | asked.late))

    def to_ask_again(self, proc: int) -> Tuple[int, ...]:
        """Versions to send to a forwarder that has just attached: its earlier markers are lost."""
        versions = {number for number, v in self._versions.items() if proc in v.waiting}
        if proc in self._late and proc in self._last_asked:
            versions.add(self._last_asked[proc])
        return tuple(sorted(versions))

    def ack(self, proc: int, version: int) -> bool:
        """``client.flush(version)`` of one proc. False for one that changes nothing."""
        self._late.discard(proc)
        open_version = self._versions.get(version)
        if open_version is None or proc not in open_version.waiting:
            return False
        open_version.waiting.discard(proc)
        open_version.answered.add(proc)
        return True

    def exited(self, proc: int) -> None:
        """The proc has ended; its last bytes may still be under way."""
        self._exited.add(proc)

    def settle(self, proc: int) -> None:
        """The proc has ended and nothing more of it can come: no barrier waits for it again."""
        self._exited.add(proc)
        self._settled.add(proc)
        self._late.discard(proc)
        for version in self._versions.values():
            if proc in version.waiting:
                version.waiting.discard(proc)
                version.answered.add(proc)

    def forget(self, proc: int) -> bool:
        """No barrier will be asked about a settled proc again. False: an open one still tells."""
        if any(proc in v.waiting | v.answered | v.late for v in self._versions.values()):
            return False
        self._exited.discard(proc)
        self._settled.discard(proc)
        self._late.discard(proc)
        self._last_asked.pop(proc, None)
        return True

    def expire(self, now: float) -> None:
        """Name as late whoever misses the deadline of an open version."""
        for version in self._versions.values():
            if version.deadline is not None and now >= version.deadline:
                version.late |= version.waiting
                self._late |= version.waiting
                version.waiting.clear()

    def cancel(self, version: int) -> None:
        """Nobody waits for this version any more (its caller was interrupted)."""
        self._versions.pop(version, None)

    def next_deadline(self) -> Optional[float]:
        """When :meth:`expire` has something to do, if ever."""
        deadlines = [
            v.deadline for v in self._versions.values() if v.waiting and v.deadline is not None
        ]
        return min(deadlines, default=None)

    def completed(self, now: float) -> List[FlushOutcome]:
        """The versions that have become complete, in order; each is given once."""
        done = [number for number, version in self._versions.items() if not version.waiting]
        outcomes = []
        for number in sorted(done):
            version = self._versions.pop(number)
            outcomes.append(
                FlushOutcome(
                    version=number,
                    acked=tuple(sorted(version.answered - self._exited)),
                    exited=tuple(sorted(version.answered & self._exited)),
                    late=tuple(sorted(version.late)),
                    seconds=now - version.started,
                )
            )
        return outcomes


class DrainTracker:
    """The forwarder's part: which versions wait for which streams to be drained.

    ``parents`` are the streams whose senders are (or, after a broken link, should again be)
    connected. A forwarder without parents has none, and each version is drained at once.
    """

    def __init__(self, parents: Iterable[int] = ()) -> None:
        self.parents: Set[int] = set(parents)
        self._waiting: Dict[int, Set[int]] = {}
        self._flushing: Set[int] = set()

    def request(self, version: int) -> bool:
        """A barrier has come. False for one that is under way already.

        Until :meth:`flushed` it waits for the proc's own stdio to be flushed.
        """
        if version in self._waiting or version in self._flushing:
            return False
        self._flushing.add(version)
        return True

    def flushed(self, version: int) -> bool:
        """The proc's stdio is flushed: the pipes may be asked.

        True when there is nothing to drain: post the marker.
        """
        if version not in self._flushing:
            return False
        self._flushing.discard(version)
        if not self.parents:
            return True
        self._waiting[version] = set(self.parents)
        return False

    def drained(self, version: int, target: int) -> bool:
        """One stream is drained. True when that was the version's last: post the marker."""
        waiting = self._waiting.get(version)
        if waiting is None:
            return False
        waiting.discard(target)
        if waiting:
            return False
        del self._waiting[version]
        return True

    def restart(self) -> None:
        """All senders connect again: what they had drained may have been lost on the way."""
        for waiting in self._waiting.values():
            waiting.update(self.parents)

    def open_versions(self, target: int) -> Tuple[int, ...]:
        """The versions to ask a sender for that has just connected (again)."""
        return tuple(sorted(v for v, waiting in self._waiting.items() if target in waiting))
