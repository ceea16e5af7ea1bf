"""Functions and results on the run channel: cloudpickle, the driver's end. Never a log path."""

from __future__ import annotations

import linecache
import os
from typing import Any, Callable, Dict, Mapping, Sequence

__all__ = ["pack_call", "unpack_result"]

_MAX_SOURCE = 1 << 20


def pack_call(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bytes:
    """What the proc's CodeRunner takes for a job of kind ``call``.

    The source of a function that was typed in, not imported, goes along for tracebacks.
    """
    import cloudpickle

    sources: Dict[str, str] = {}
    name = getattr(getattr(function, "__code__", None), "co_filename", "")
    if name and not os.path.exists(name):
        sources[name] = "".join(linecache.getlines(name))[:_MAX_SOURCE]
    blob: bytes = cloudpickle.dumps((function, tuple(args), dict(kwargs), sources))
    return blob


def unpack_result(blob: bytes) -> Any:
    """What the function returned. Raises whatever unpickling raises."""
    import cloudpickle

    return cloudpickle.loads(blob)
