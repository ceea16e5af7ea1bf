"""Options, checked. Plain dataclasses: arguments override the environment, that overrides files.

The notebook's traitlets (``c.LogMesh.window_sec = 3``) and the command line both end here, so an
option is checked in one place and its error reads the same everywhere.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Dict, Mapping, Optional, Set, Tuple

from .errors import OptionError
from .model import fold_ranks

__all__ = [
    "ENVIRONMENT_PREFIX",
    "HostOptions",
    "MeshOptions",
    "check_count",
    "check_grouping",
    "check_level",
    "check_similarity",
    "check_timeout",
    "check_window",
    "from_environment",
    "parse_ranks",
]

ENVIRONMENT_PREFIX = "LOGMESH_"
MAX_PROCS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What a bootstrap does with its procs' output. Sizes in bytes, times in seconds."""

    files: str = ""
    """Directory on the host for raw log files; empty: none."""
    files_basename: str = "logmesh"
    file_max_bytes: int = 256 << 20
    file_backups: int = 3
    tee: bool = False
    """Write everything to the bootstrap's own stdout and stderr as well."""
    when_full: str = "spill"
    """``spill``, ``block`` or ``drop_oldest``."""
    window_bytes: int = 4 << 20
    spool_max_bytes: int = 1 << 30
    recent_bytes: int = 64 << 10
    """How much of each stream's end ``peek`` can show."""
    fork_procs: bool = True
    """Start procs as forks of one that has all modules loaded, where that is safe."""

    def __post_init__(self) -> None:
        if self.when_full not in ("spill", "block", "drop_oldest"):
            raise OptionError(
                f"when_full is {self.when_full!r}; allowed are 'spill' (default), 'block' and "
                "'drop_oldest'"
            )
        for name in ("file_max_bytes", "window_bytes", "spool_max_bytes", "recent_bytes"):
            _check_whole(name, getattr(self, name), 1, "1 or more bytes")
        _check_whole("file_backups", self.file_backups, 0, "0 or more files")
        if not isinstance(self.fork_procs, bool):
            raise OptionError(f"fork_procs is {self.fork_procs!r}; it must be True or False")
        for name in ("files", "files_basename"):
            value = getattr(self, name)
            if not isinstance(value, str) or "\0" in value:
                raise OptionError(f"{name} is {value!r}; it must be a path")
        if not self.files_basename or "/" in self.files_basename:
            raise OptionError(
                f"files_basename is {self.files_basename!r}; it must be the beginning of a file's "
                "name, such as 'logmesh'"
            )

    def to_map(self) -> Dict[str, Any]:
        """For the wire."""
        return asdict(self)

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> HostOptions:
        """From the wire; unknown names are left out, as a newer client may know more."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """What a mesh is and how it shows its lines."""

    procs: int = 4
    engine: str = "local"
    hosts: Tuple[str, ...] = ()
    window_sec: Optional[float] = None
    level: int = 20
    loop: str = "thread"
    flush_timeout_sec: float = 2.0
    start_timeout_sec: float = 60.0
    autoflush: bool = True
    grouping: str = "similar"
    """``similar``: lines that differ in their variable parts are a group; ``exact``: equal ones."""
    similarity_threshold: Optional[float] = None
    """How much of a line's words may differ within a group, 0 to 1; None: as is proven."""
    max_line_bytes: int = 64 << 10
    store_memory_bytes: int = 64 << 20
    host: HostOptions = field(default_factory=HostOptions)

    def __post_init__(self) -> None:
        for name, checked in (
            ("procs", check_count(self.procs)),
            ("window_sec", check_window(self.window_sec)),
            ("flush_timeout_sec", check_timeout(self.flush_timeout_sec, "flush_timeout_sec")),
            ("start_timeout_sec", check_timeout(self.start_timeout_sec, "start_timeout_sec")),
            ("grouping", check_grouping(self.grouping)),
            ("similarity_threshold", check_similarity(self.similarity_threshold)),
        ):
            object.__setattr__(self, name, checked)
        check_level(self.level)
        if self.loop not in ("thread", "kernel"):
            raise OptionError(f"loop is {self.loop!r}; allowed are 'thread' (default) and 'kernel'")
        _check_whole("max_line_bytes", self.max_line_bytes, 16, "16 or more")
        _check_whole("store_memory_bytes", self.store_memory_bytes, 1, "1 or more bytes")

    def but(self, **changes: Any) -> MeshOptions:
        """A copy with some options changed."""
        return replace(self, **changes)


def _check_whole(name: str, value: object, least: int, allowed: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; it must be a whole number, {allowed}")
    if value < least:
        raise OptionError(f"{name} is {value}; it must be {allowed}")


def check_count(procs: object) -> int:
    """Number of procs, 1 to 4096."""
    try:
        count = int(procs) if isinstance(procs, (int, str)) else None
    except ValueError:
        count = None
    if count is None or isinstance(procs, bool):
        raise OptionError(f"procs is {procs!r}; it must be a whole number from 1 to {MAX_PROCS}")
    if not 1 <= count <= MAX_PROCS:
        raise OptionError(f"procs is {count}; it must be from 1 to {MAX_PROCS}")
    return count


def check_window(window: object) -> Optional[float]:
    """Aggregation window in seconds, at least 1; None or ``none`` switches aggregation off."""
    if window is None or (isinstance(window, str) and window.strip().lower() in ("none", "off")):
        return None
    try:
        seconds = float(window) if isinstance(window, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds) or isinstance(window, bool):
        raise OptionError(f"window is {window!r}; it must be a number of seconds, or none")
    if not 1 <= seconds < math.inf:
        raise OptionError(f"window is {window}; it must be 1 second or more, or none")
    return seconds


def check_grouping(grouping: object) -> str:
    """``similar`` or ``exact``."""
    if grouping not in ("similar", "exact"):
        raise OptionError(f"grouping is {grouping!r}; allowed are 'similar' (default) and 'exact'")
    return str(grouping)


def check_similarity(threshold: object) -> Optional[float]:
    """A share of words from 0 to 1; None or ``none`` is the default."""
    if threshold is None or (isinstance(threshold, str) and threshold.strip().lower() == "none"):
        return None
    try:
        share = float(threshold) if isinstance(threshold, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        share = math.nan
    if isinstance(threshold, bool) or not 0 <= share <= 1:
        raise OptionError(
            f"similarity_threshold is {threshold!r}; it must be a number from 0 (only numbers and "
            "ids may differ) to 1, or none for the default"
        )
    return share


def check_level(level: object) -> int:
    """Python logging level, 0 to 255."""
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 255:
        raise OptionError(
            f"level is {level!r}; it must be a Python logging level from 0 to 255, such as "
            "logging.INFO (20)"
        )
    return level


def check_timeout(timeout: object, name: str = "timeout") -> float:
    """Seconds to wait, more than 0; ``name`` is what the message calls them."""
    try:
        seconds = float(timeout) if isinstance(timeout, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if isinstance(timeout, bool) or not 0 < seconds < math.inf:
        raise OptionError(f"{name} is {timeout!r}; it must be a number of seconds above 0")
    return seconds


_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?\Z")


def parse_ranks(text: Optional[str], size: int) -> Tuple[int, ...]:
    """``0-3,8`` to ranks, each below ``size``; None means all. Raises OptionError."""
    if text is None:
        return tuple(range(size))
    ranks: Set[int] = set()
    for part in text.split(","):
        match = _RANGE.match(part.strip())
        if match is None:
            raise OptionError(
                f"ranks {text!r}: {part.strip()!r} is neither a rank nor a range like 0-3"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise OptionError(f"ranks {text!r}: the range {part.strip()} runs backwards")
        if last >= size:
            bad = last if first < size else first
            raise OptionError(
                f"ranks {text!r}: there is no rank {bad}; this mesh has {fold_ranks(range(size))}"
            )
        ranks.update(range(first, last + 1))
    return tuple(sorted(ranks))


def from_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """``LOGMESH_WINDOW_SEC=3`` as ``{"window_sec": "3"}``: the options named in the environment.

    Only names of options are taken: other variables with the prefix are not ours to judge.
    """
    known = {field.name for field in (*fields(MeshOptions), *fields(HostOptions))} - {"host"}
    found = {}
    for name, value in environ.items():
        option = name[len(ENVIRONMENT_PREFIX) :].lower()
        if name.startswith(ENVIRONMENT_PREFIX) and option in known:
            found[option] = value
    return found
