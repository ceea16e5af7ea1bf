"""``c.LogMesh``: the options as traitlets, for ``ipython_config.py`` and friends.

An option's value comes from, in rising order: its default, the configuration file, the
environment (``LOGMESH_WINDOW_SEC=3``), the argument of the magic; patterns to redact are those of
all these together. All end as a :class:`~logmesh_ipy.config.MeshOptions`, which checks them.
"""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Optional, Sequence

from traitlets import Bool, Enum, Float, Int, Unicode
from traitlets import List as ListTrait
from traitlets import Union as UnionTrait
from traitlets.config import Configurable

from .config import (
    HostOptions,
    MeshOptions,
    check_count,
    check_patterns,
    check_similarity,
    check_timeout,
    check_window,
)
from .config import from_environment as options_in_environment
from .errors import OptionError
from .levels import parse_level
from .names import quoted

__all__ = ["LogMesh"]

_OPTION_OF = {
    "similarity": "similarity_threshold",
    "window": "window_sec",
}  # arguments whose names are shorter than their options'


_RECEIPTS = ("auto", "always", "never")
_VIEWS = ("panel", "plain")


class LogMesh(Configurable):
    """Options of logmesh_ipy."""

    procs = Int(4, help="Number of procs that %logmesh start makes.").tag(config=True)
    engine = Unicode("local", help="Where bootstraps run.").tag(config=True)
    window_sec = UnionTrait(
        [Float(), Unicode()], default_value=None, allow_none=True,
        help="Aggregation window in seconds (1 or more); None shows every line.",
    ).tag(config=True)  # fmt: skip
    level = UnionTrait(
        [Int(), Unicode()], default_value="INFO", help="Level of Python's root logger in the procs."
    ).tag(config=True)
    loop = Enum(
        ["thread", "kernel"], "thread",
        help="Where the client runs: a thread of its own, or the kernel's main loop.",
    ).tag(config=True)  # fmt: skip
    autoflush = Bool(True, help="Run the barrier after each cell.").tag(config=True)
    flush_timeout_sec = Float(2.0, help="How long the barrier after a cell may take.").tag(
        config=True
    )
    start_timeout_sec = Float(60.0, help="How long the procs may take to start.").tag(config=True)
    grouping = Enum(
        ["similar", "exact"], "similar",
        help="What a group is: lines that differ in their variable parts, or equal lines only.",
    ).tag(config=True)  # fmt: skip
    similarity_threshold = UnionTrait(
        [Float(), Unicode()], default_value=None, allow_none=True,
        help="How much of a line's words may differ within a group, 0 to 1; 0: numbers and ids.",
    ).tag(config=True)  # fmt: skip
    receipt = Enum(
        _RECEIPTS, "auto",
        help="When a cell gets its receipt line; auto: where it used the mesh, or all is not well.",
    ).tag(config=True)  # fmt: skip
    view = Enum(
        _VIEWS, "panel",
        help="What shows the lines in a notebook: an interactive view, or plain text and HTML.",
    ).tag(config=True)  # fmt: skip
    files = Unicode("", help="Directory on the hosts for raw log files.").tag(config=True)
    file_max_bytes = Int(256 << 20, help="Size at which a log file is rotated.").tag(config=True)
    file_backups = Int(3, help="How many rotated files are kept.").tag(config=True)
    listen = Unicode(
        "", help="Where hosts elsewhere reach the kernel, like tls://0.0.0.0:0; empty: nowhere."
    ).tag(config=True)
    when_full = Enum(
        ["spill", "block", "drop_oldest"], "spill",
        help="What a host does when the client is slow and 4 MiB of a stream wait.",
    ).tag(config=True)  # fmt: skip
    window_bytes = Int(4 << 20, help="How much of a stream may wait in a host's memory.").tag(
        config=True
    )
    spool_max_bytes = Int(1 << 30, help="How much of a stream may wait on a host's disk.").tag(
        config=True
    )
    fork_procs = Bool(
        True, help="Start procs as forks of one that has all modules loaded, where that is safe."
    ).tag(config=True)
    redact = UnionTrait(
        [ListTrait(Unicode()), Unicode()], default_value=[],
        help="Regular expressions: what matches is shown and stored as [redacted].",
    ).tag(config=True)  # fmt: skip
    redact_environment = Bool(
        True, help="Redact the values of environment variables whose names look secret."
    ).tag(config=True)
    max_line_bytes = Int(64 << 10, help="Longer lines are truncated in the store.").tag(config=True)
    store_memory_bytes = Int(64 << 20, help="Lines in memory; older ones are in a file.").tag(
        config=True
    )
    store_directory = Unicode(
        "", help="Where lines are kept for after a crash of the kernel; empty: a temporary one."
    ).tag(config=True)
    keep_sessions = Int(
        10, help="How many sessions of crashed kernels are kept; 0: no lines are kept for that."
    ).tag(config=True)
    keep_sessions_bytes = Int(10 << 30, help="How large they may be, all together.").tag(
        config=True
    )
    keep_sessions_days = Int(7, help="After how many days they are removed.").tag(config=True)

    def options(self, arguments: Mapping[str, Any]) -> MeshOptions:
        """The options in force; ``arguments`` are those given to the magic (None: not given).

        Raises OptionError, and says which variable was wrong where one was.
        """
        values = {name: getattr(self, name) for name in self.trait_names(config=True)}
        configured = dict(values)
        from_environment = options_in_environment(os.environ)
        values.update(from_environment)
        given = {_OPTION_OF.get(k, k): v for k, v in arguments.items() if v is not None}
        values.update(given)
        try:
            values["redact"] = _joined(configured, from_environment, given)
            return _options(values)
        except OptionError as error:
            named = [name for name in from_environment if name not in given]
            if named and _is_right({**values, **{name: configured.get(name) for name in named}}):
                variables = ", ".join(f"LOGMESH_{name.upper()}" for name in named)
                raise OptionError(f"{error} (set in the environment: {variables})") from None
            raise

    def loop_in_force(self) -> str:
        """Where the client would run if the magic did not say."""
        return options_in_environment(os.environ).get("loop", str(self.loop))

    def store_directory_in_force(self) -> str:
        """Where lines are kept for after a crash; empty is the usual place."""
        return options_in_environment(os.environ).get("store_directory", str(self.store_directory))

    def receipt_policy(self) -> str:
        """``auto``, ``always`` or ``never``."""
        return self._one_of("receipt", _RECEIPTS, None)

    def view_in_force(self, argument: Optional[str]) -> str:
        """``panel`` or ``plain``; ``argument`` is that given to the magic, if any."""
        return self._one_of("view", _VIEWS, argument)

    def _one_of(self, name: str, allowed: Sequence[str], argument: Optional[str]) -> str:
        variable = f"LOGMESH_{name.upper()}"
        value: str = argument or os.environ.get(variable, getattr(self, name))
        if value not in allowed:
            where = f" (set in the environment: {variable})" if argument is None else ""
            raise OptionError(f"{name} is {quoted(value)}; allowed are {', '.join(allowed)}{where}")
        return value


def _joined(*places: Mapping[str, Any]) -> List[str]:
    """The patterns of all places, each once: none can be taken away by another place."""
    return list(
        dict.fromkeys(p for place in places for p in check_patterns(place.get("redact", ())))
    )


def _is_right(values: Mapping[str, Any]) -> bool:
    try:
        _options(values)
    except OptionError:
        return False
    return True


def _options(values: Mapping[str, Any]) -> MeshOptions:
    host = HostOptions(
        files=str(values["files"]),
        file_max_bytes=_whole(values, "file_max_bytes"),
        file_backups=_whole(values, "file_backups"),
        when_full=str(values["when_full"]),
        window_bytes=_whole(values, "window_bytes"),
        spool_max_bytes=_whole(values, "spool_max_bytes"),
        fork_procs=_truth(values, "fork_procs"),
        redact=check_patterns(values["redact"]),
        redact_environment=_truth(values, "redact_environment"),
    )
    hosts: Optional[str] = values.get("hosts")
    return MeshOptions(
        procs=check_count(values["procs"]),
        engine=str(values["engine"]),
        hosts=tuple(part.strip() for part in hosts.split(",") if part.strip()) if hosts else (),
        window_sec=check_window(values["window_sec"]),
        level=parse_level(values["level"]),
        loop=str(values["loop"]),
        flush_timeout_sec=check_timeout(values["flush_timeout_sec"]),
        start_timeout_sec=check_timeout(values["start_timeout_sec"]),
        autoflush=_truth(values, "autoflush"),
        grouping=str(values["grouping"]),
        similarity_threshold=check_similarity(values["similarity_threshold"]),
        listen=str(values["listen"]),
        max_line_bytes=_whole(values, "max_line_bytes"),
        store_memory_bytes=_whole(values, "store_memory_bytes"),
        store_directory=str(values["store_directory"]),
        keep_sessions=_whole(values, "keep_sessions"),
        keep_sessions_bytes=_whole(values, "keep_sessions_bytes"),
        keep_sessions_days=_whole(values, "keep_sessions_days"),
        host=host,
    )


def _whole(values: Mapping[str, Any], name: str) -> int:
    try:
        return int(values[name])
    except ValueError:
        raise OptionError(f"{name} is {quoted(values[name])}; it must be a whole number") from None


def _truth(values: Mapping[str, Any], name: str) -> bool:
    value = values[name]
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise OptionError(f"{name} is {quoted(value)}; it must be true or false")
