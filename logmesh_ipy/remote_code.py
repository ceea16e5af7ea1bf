"""Functions and results on the run channel: cloudpickle, the driver's end. Never a log path."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

__all__ = ["pack_call", "unpack_result"]


def pack_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """What the proc's CodeRunner takes for a job of kind ``call``."""
    import cloudpickle

    blob: bytes = cloudpickle.dumps((function, tuple(args), dict(kwargs)))
    return blob


def unpack_result(blob: bytes) -> Any:
    """What the function returned. Raises whatever unpickling raises."""
    import cloudpickle

    return cloudpickle.loads(blob)
