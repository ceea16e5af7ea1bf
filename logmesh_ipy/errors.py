"""Every error that logmesh_ipy raises on purpose.

Each message says what was wrong, what is allowed and what to do. Input errors are also the
built-in class that callers already catch (``ValueError``, ``RuntimeError``, ``OSError``).
"""

from __future__ import annotations

from typing import Dict, List, Optional

__all__ = [
    "AddressInUseError",
    "CommandError",
    "HandshakeError",
    "LogMeshError",
    "LoopBlockedError",
    "MeshError",
    "MeshStateError",
    "OptionError",
    "ProtocolError",
    "RemoteError",
    "SpawnError",
    "TransportError",
    "indented",
]


def indented(text: str) -> str:
    """Text of several lines to stand within ours: all but the first begin with four spaces.

    So none of them can look like words of ours.
    """
    return text.replace("\n", "\n    ")


class LogMeshError(Exception):
    """Base of all errors of this package. IPython shows them in a line, without local frames."""

    def _render_traceback_(self) -> List[str]:
        return [f"{type(self).__name__}: {self}"]


class OptionError(LogMeshError, ValueError):
    """An option has a value that is not allowed."""


class MeshStateError(LogMeshError, RuntimeError):
    """The call does not fit the state of the mesh (not started, already started, stopped)."""


class LoopBlockedError(LogMeshError, RuntimeError):
    """A blocking wait on the loop that would have to make the result: it would never end."""


class TransportError(LogMeshError, OSError):
    """A connection could not be made, or broke."""


class AddressInUseError(TransportError):
    """The address is already served by a living process."""


class ProtocolError(LogMeshError):
    """The peer sent what the wire format does not allow; the connection is closed at once."""


class HandshakeError(ProtocolError):
    """The peer could not prove that it belongs to this mesh."""


class SpawnError(LogMeshError, RuntimeError):
    """Processes did not start; ``failures`` says why, by rank."""

    def __init__(self, message: str, failures: Optional[Dict[int, str]] = None) -> None:
        super().__init__(message)
        self.failures: Dict[int, str] = dict(failures or {})


class RemoteError:
    """One rank's failure: what was raised there, as inert text.

    ``kind`` is the exception's class name, ``message`` its text, ``traceback`` the lines that
    Python would have printed. An exit without a traceback has ``kind`` ``"ProcExited"``.
    """

    __slots__ = ("kind", "message", "rank", "traceback")

    def __init__(self, rank: int, kind: str, message: str, traceback: str) -> None:
        self.rank = rank
        self.kind = kind
        self.message = message
        self.traceback = traceback

    def block(self) -> List[str]:
        """The lines of the traceback as they are shown below a line of ours: indented."""
        return [f"    {line}".rstrip() for line in self.traceback.rstrip("\n").split("\n")]

    def __repr__(self) -> str:
        return f"RemoteError(rank={self.rank}, {self.kind}: {self.message})"


def _fold(ranks: List[int]) -> str:
    return ", ".join(map(str, ranks[:16])) + (", ..." if len(ranks) > 16 else "")


class MeshError(LogMeshError, RuntimeError):
    """Code failed on one or more ranks.

    ``rank`` is the first failing rank (in time, then by number), ``errors`` maps each failing
    rank to its :class:`RemoteError`, ``results`` holds what the other ranks returned.
    """

    def __init__(
        self, errors: Dict[int, RemoteError], results: Dict[int, object], first: int
    ) -> None:
        self.errors = dict(errors)
        self.results = dict(results)
        self.rank = first
        error = errors[first]
        total = len(errors) + len(results)
        others = sorted(rank for rank in errors if rank != first)
        parts = [f"rank {first} of {total} failed: {error.kind}: {indented(error.message)}"]
        if others:
            parts.append(f"also failed: {_fold(others)}")
        elif total > 1:
            parts.append(f"the other {total - 1} finished")
        super().__init__("; ".join(parts))

    def _render_traceback_(self) -> List[str]:
        """IPython's hook: the remote traceback instead of the local frames of the call."""
        error = self.errors[self.rank]
        lines = [f"MeshError: {self}"]
        if error.traceback:
            said = "last words" if error.kind == "ProcExited" else "traceback on the proc"
            lines += ["", f"[rank {self.rank}] {said}:", *error.block()]
        return lines


class CommandError(LogMeshError, RuntimeError):
    """A command ended with a non-zero code on one or more ranks.

    ``codes`` maps each rank to its exit code (a negative number is minus the signal).
    """

    def __init__(self, message: str, codes: Dict[int, int]) -> None:
        super().__init__(message)
        self.codes = dict(codes)
