"""Options, checked. Plain dataclasses: arguments override the environment, that overrides files.

The notebook's traitlets (``c.LogMesh.window_sec = 3``) and the command line both end here, so an
option is checked in one place and its error reads the same everywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from .addresses import check_listen
from .errors import OptionError
from .model import fold_ranks
from .names import check_file_name, check_hosts, check_path, quoted

__all__ = [
    "ENVIRONMENT_PREFIX",
    "HostOptions",
    "MeshOptions",
    "check_count",
    "check_grouping",
    "check_level",
    "check_patterns",
    "check_similarity",
    "check_timeout",
    "check_window",
    "from_environment",
    "parse_ranks",
]

ENVIRONMENT_PREFIX = "LOGMESH_"
MAX_PROCS = 4096
_MAX_PATTERN_CHARS = 8 << 10
_SAMPLE = b"a, 0\n"
"""In it an expression that can match an empty text does."""


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
    redact: Tuple[str, ...] = field(default=(), repr=False)
    """Regular expressions: what matches them is told as ``[redacted]``."""
    redact_environment: bool = True
    """So are the values of environment variables whose names look secret."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "redact", check_patterns(self.redact))
        if self.when_full not in ("spill", "block", "drop_oldest"):
            raise OptionError(
                f"when_full is {quoted(self.when_full)}; allowed are 'spill' (default), 'block' "
                "and 'drop_oldest'"
            )
        for name in ("file_max_bytes", "window_bytes", "spool_max_bytes", "recent_bytes"):
            _check_whole(name, getattr(self, name), 1, "1 or more bytes")
        _check_whole("file_backups", self.file_backups, 0, "0 or more files")
        for name in ("fork_procs", "redact_environment"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise OptionError(f"{name} is {quoted(value)}; it must be True or False")
        check_path("files", self.files)
        check_file_name("files_basename", self.files_basename)

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
    store_directory: str = ""
    """Where the lines of this session are kept for after a crash; empty: in the temporary one.

    A relative one is meant from where the options are made.
    """
    keep_sessions: int = 10
    """How many sessions of crashed kernels are kept; 0: no lines are kept for after a crash.

    Then those that are kept already are left alone.
    """
    keep_sessions_bytes: int = 10 << 30
    keep_sessions_days: int = 7
    listen: str = ""
    """Where hosts elsewhere reach the client, ``tls://host:port``; empty: no port is open."""
    host: HostOptions = field(default_factory=HostOptions)

    def __post_init__(self) -> None:
        for name, checked in (
            ("procs", check_count(self.procs)),
            ("window_sec", check_window(self.window_sec)),
            ("flush_timeout_sec", check_timeout(self.flush_timeout_sec, "flush_timeout_sec")),
            ("start_timeout_sec", check_timeout(self.start_timeout_sec, "start_timeout_sec")),
            ("grouping", check_grouping(self.grouping)),
            ("similarity_threshold", check_similarity(self.similarity_threshold)),
            ("listen", check_listen(self.listen)),
            ("store_directory", _check_directory("store_directory", self.store_directory)),
        ):
            object.__setattr__(self, name, checked)
        check_level(self.level)
        check_hosts(self.hosts)
        if self.loop not in ("thread", "kernel"):
            raise OptionError(
                f"loop is {quoted(self.loop)}; allowed are 'thread' (default) and 'kernel'"
            )
        _check_whole("max_line_bytes", self.max_line_bytes, 16, "16 or more")
        _check_whole("store_memory_bytes", self.store_memory_bytes, 1, "1 or more bytes")
        _check_whole("keep_sessions", self.keep_sessions, 0, "0 or more sessions")
        _check_whole("keep_sessions_bytes", self.keep_sessions_bytes, 0, "0 or more bytes")
        _check_whole("keep_sessions_days", self.keep_sessions_days, 0, "0 or more days")

    def but(self, **changes: Any) -> MeshOptions:
        """A copy with some options changed."""
        return replace(self, **changes)


def _check_directory(name: str, path: str) -> str:
    """Absolute, or empty."""
    try:
        return check_path(name, path) and os.path.abspath(path)
    except OSError:  # the working directory has been removed
        raise OptionError(f"{name} is {quoted(path)}; it must be an absolute path here") from None


def _check_whole(name: str, value: object, least: int, allowed: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionError(f"{name} is {quoted(value)}; it must be a whole number, {allowed}")
    if value < least:
        raise OptionError(f"{name} is {value}; it must be {allowed}")


def check_count(procs: object) -> int:
    """Number of procs, 1 to 4096."""
    try:
        count = int(procs) if isinstance(procs, (int, str)) else None
    except ValueError:
        count = None
    if count is None or isinstance(procs, bool):
        raise OptionError(
            f"procs is {quoted(procs)}; it must be a whole number from 1 to {MAX_PROCS}"
        )
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
        raise OptionError(f"window is {quoted(window)}; it must be a number of seconds, or none")
    if not 1 <= seconds < math.inf:
        raise OptionError(f"window is {window}; it must be 1 second or more, or none")
    return seconds


def check_grouping(grouping: object) -> str:
    """``similar`` or ``exact``."""
    if grouping not in ("similar", "exact"):
        raise OptionError(
            f"grouping is {quoted(grouping)}; allowed are 'similar' (default) and 'exact'"
        )
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
            f"similarity_threshold is {quoted(threshold)}; it must be a number from 0 (only "
            "numbers and ids may differ) to 1, or none for the default"
        )
    return share


def check_patterns(patterns: object) -> Tuple[str, ...]:
    """Regular expressions for :class:`~logmesh_ipy.redaction.Rules`.

    At most 8,192 characters in all. One is a text; several are a list of texts, or a text that is
    a JSON list of texts.
    """
    found = _as_list(patterns)
    for number, pattern in enumerate(found, 1):
        name, several = quoted(pattern), len(found) > 1
        which = f"redact: pattern {number}, {name}," if several else f"redact: {name}"
        data = pattern.encode(errors="backslashreplace")
        try:
            compiled = re.compile(data)
        except re.error as error:
            where = "" if error.pos is None else f" at character {_characters(data, error.pos) + 1}"
            raise OptionError(f"{which} is not a regular expression: {error.msg}{where}") from None
        except (OverflowError, RecursionError) as error:
            raise OptionError(f"{which} is not a regular expression: {error}") from None
        if any(match.end() == match.start() for match in compiled.finditer(_SAMPLE)):
            raise OptionError(
                f"{which} matches an empty text, so it would match everywhere; write what must be "
                "there, such as x+ for x*"
            )
    if sum(map(len, found)) > _MAX_PATTERN_CHARS:
        raise OptionError(
            f"redact: the patterns are longer than {_MAX_PATTERN_CHARS:,} characters in all"
        )
    return tuple(found)


def _as_list(patterns: object) -> List[str]:
    if isinstance(patterns, str):
        try:
            listed = json.loads(patterns) if patterns.startswith("[") else None
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(pattern, str) for pattern in listed):
            return listed
        return [patterns] if patterns else []
    if isinstance(patterns, (list, tuple)) and all(isinstance(p, str) for p in patterns):
        return list(patterns)
    raise OptionError(
        f"redact is {quoted(patterns)}; it must be a list of regular expressions, such as "
        "['sk-[a-z0-9]+']"
    )


def _characters(data: bytes, count: int) -> int:
    return len(data[:count].decode(errors="ignore"))


def check_level(level: object) -> int:
    """Python logging level, 0 to 255."""
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 255:
        raise OptionError(
            f"level is {quoted(level)}; it must be a Python logging level from 0 to 255, such as "
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
        raise OptionError(f"{name} is {quoted(timeout)}; it must be a number of seconds above 0")
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
                f"ranks {quoted(text)}: {quoted(part.strip())} is neither a rank nor a range "
                "like 0-3"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise OptionError(f"ranks {quoted(text)}: the range {part.strip()} runs backwards")
        if last >= size:
            bad = last if first < size else first
            raise OptionError(
                f"ranks {quoted(text)}: there is no rank {bad}; this mesh has "
                f"{fold_ranks(range(size))}"
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
