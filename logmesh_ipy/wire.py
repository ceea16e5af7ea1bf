"""What is in a frame: bytes to messages and back. Sans-IO; the only module that imports msgpack.

The body of a ``Log`` is a fixed header, the host's name and the raw payload; every other body is
one msgpack array of the message's fields in order, each checked for its type. No body is a
pickle, and none is decoded before its length (see ``frames``) and kind are known to be allowed.

Body of ``Log`` (big-endian): proc u32, epoch u32, generation u32, target u8, flags u8,
seq u64, offset u64, size u32, lines u32, wall f64, mono f64, pid u32, host length u8, host
(UTF-8), payload. Flag 1: skipped, the payload stayed on the host. Flag 2: the batch ends with a
newline. ``decode`` believes none of it: a header that does not fit its payload is refused.

Who speaks what: a LocalLogSender opens a log channel with ``Open`` and sends ``Log``, ``Gap``,
``End``, ``Ping`` and ``Drained``; the forwarder answers with ``Resume``, ``Ack``, ``Pong`` and
``FlushRequest``. The forwarder's own connection to its channel carries ``LogMessage.Flush``. On
the uplink the forwarder sends ``Attach``, ``Log``, ``Gap``, ``End``, ``Written`` and ``Flushed``;
the client answers with ``Resume``, ``Ack``, ``Fenced`` and the control messages. ``Call``,
``Reply`` and ``Event`` serve the bootstrap's control connection and the run channel; they carry
plain values only: no msgpack extension, no timestamp. There each side tells with ``Received``
where the other is to go on. On both, either side says ``Ping`` so that it is known to be alive.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, List, Tuple, Type, Union

import msgpack

from .bounds import MAX_VALUES, check_plain
from .errors import ProtocolError
from .frames import HEADER, MAX_FRAME_BYTES
from .model import LogForwardMessage, LoggerRuntimeMessage, LogMessage, OutputTarget

__all__ = [
    "LOG_KIND", "PING_KIND", "WIRE_VERSION", "Ack", "Attach", "Call",
    "Challenge", "Drained", "End", "Event", "Fenced", "FlushRequest", "Flushed",
    "GapFrame", "Hello", "Message", "Open", "Ping", "Pong", "Received", "Refused", "Reply",
    "Resume", "Welcome", "Written", "decode", "decode_handshake", "encode", "encode_log",
    "strip_payload",
]  # fmt: skip

WIRE_VERSION = 1

_LOG = struct.Struct("!IIIBBQQIIddIB")
_SKIPPED = 1
_ENDS_LINE = 2
LOG_KIND = 1  # of ``Log`` frames: what relays pass on unread
PING_KIND = 9  # of ``Ping`` frames, which links take out of what they carry
_MAX_WALL_SEC = 2.5e11  # the last wall time that a calendar can show: year 9892


# --- handshake ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """Server to client, first frame: prove that you know the token."""

    version: int
    package: str
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Client to server: the proof, who calls, and a challenge back."""

    version: int
    package: str
    role: str
    name: str
    nonce: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """Server to client: the proof back; from here on frames may be large."""

    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Server to client: no, and why."""

    reason: str


# --- log channel and uplink -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Sender to forwarder, first frame: which stream, and under which generation it is relayed."""

    proc: int
    epoch: int
    generation: int
    target: int
    pid: int
    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Forwarder to client: from now on I relay this proc; older generations are fenced."""

    proc: int
    epoch: int
    generation: int
    pid: int
    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """To the sender: go on with these sequence numbers (stdout, stderr)."""

    proc: int
    epoch: int
    generation: int
    next_stdout: int
    next_stderr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """Client to forwarder: a newer generation relays this proc; stop."""

    proc: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Cumulative: everything below ``next_seq`` is accounted for and may be forgotten."""

    proc: int
    epoch: int
    target: int
    next_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFrame:
    """Takes the place of batches ``seq`` to ``last_seq`` that the host had to drop."""

    proc: int
    epoch: int
    generation: int
    target: int
    seq: int
    last_seq: int
    offset: int
    size: int
    lines: int
    ends_line: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The stream's pipe is closed by all writers; ``seq`` follows the last batch."""

    proc: int
    epoch: int
    generation: int
    target: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Heartbeat of a stream: how much the host has read from the pipe so far."""

    proc: int
    epoch: int
    target: int
    next_seq: int
    lines: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Sender to forwarder: say whether you are alive."""

    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Forwarder to sender: yes, and I have read all you sent before."""

    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRequest:
    """Forwarder to sender: send what the pipe holds now, then ``Drained``."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Sender to forwarder, in order with the data: the pipe's bytes are all below ``next_seq``."""

    version: int
    target: int
    next_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """Forwarder to client, in order with the data: barrier ``version`` has passed here.

    It covers what lies below the two numbers, which the client must have by now.
    """

    proc: int
    version: int
    next_stdout: int
    next_stderr: int


# --- control and run connections ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request; ``n`` is given back by its :class:`Reply`. Its arguments may be secret."""

    n: int
    method: str
    args: Dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to call ``n``."""

    n: int
    ok: bool
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened that nobody asked for."""

    name: str
    args: Dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Either way: ``count`` calls, replies and events of yours were taken, over all connections.

    ``sent`` of mine went before this.
    """

    count: int
    sent: int


Message = Union[
    LogMessage.Log, LogMessage.Flush, LogForwardMessage.SetMode,
    LogForwardMessage.ForceSyncFlush, LoggerRuntimeMessage.SetLogging, Challenge, Hello,
    Welcome, Refused, Open, Attach, Resume, Fenced, Ack, GapFrame, End, Written, Ping, Pong,
    FlushRequest, Drained, Flushed, Call, Reply, Event, Received,
]  # fmt: skip

_KINDS: Dict[int, Type[Any]] = {
    2: LogMessage.Flush,
    3: GapFrame,
    4: End,
    5: Written,
    6: Ack,
    7: Open,
    8: Resume,
    PING_KIND: Ping,
    10: Pong,
    11: FlushRequest,
    12: Drained,
    13: Attach,
    14: Fenced,
    15: Flushed,
    16: LogForwardMessage.SetMode,
    17: LogForwardMessage.ForceSyncFlush,
    18: LoggerRuntimeMessage.SetLogging,
    32: Challenge,
    33: Hello,
    34: Welcome,
    35: Refused,
    48: Call,
    49: Reply,
    50: Event,
    51: Received,
}
_KIND_OF = {cls: kind for kind, cls in _KINDS.items()}

_HANDSHAKE_KINDS = range(32, 36)
_INTEGERS = range(1 << 63)  # so that what counts them on has room, and tables of i64 take them
_PIDS = range(1 << 32)


_CHECKS: Dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int and value in _INTEGERS,
    "Optional[int]": lambda value: value is None or (type(value) is int and value in _INTEGERS),
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    "bytes": lambda value: type(value) is bytes,
    "Dict[str, Any]": lambda value: type(value) is dict and all(type(k) is str for k in value),
    "Any": lambda value: True,
}
_NESTED = {"Dict[str, Any]", "Any"}
_FIELDS: Dict[int, List[Tuple[str, str, Callable[[Any], bool]]]] = {
    kind: [(f.name, str(f.type), _CHECKS[str(f.type)]) for f in fields(cls)]
    for kind, cls in _KINDS.items()
}
_NESTED_KINDS = {
    kind
    for kind, known in _FIELDS.items()
    if any(type_name in _NESTED for _, type_name, _ in known)
}


def encode(message: Message) -> bytes:
    """One frame.

    Raises ProtocolError if it would be longer than ``MAX_FRAME_BYTES`` or holds a value that the
    format does not know.
    """
    if type(message) is LogMessage.Log:
        return encode_log(message)
    kind = _KIND_OF[type(message)]
    values = [getattr(message, name) for name, _, _ in _FIELDS[kind]]
    try:
        body: bytes = msgpack.packb(values)
        if kind in _NESTED_KINDS and len(body) < MAX_FRAME_BYTES:
            check_plain(body)
    except (TypeError, ValueError, OverflowError, ProtocolError) as error:
        raise ProtocolError(f"a {type(message).__name__} cannot be encoded: {error}") from None
    if len(body) >= MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a {type(message).__name__} of {len(body):,} bytes does not fit a frame of "
            f"{MAX_FRAME_BYTES:,}: send it in parts"
        )
    return HEADER.pack(len(body) + 1, kind) + body


def encode_log(log: LogMessage.Log) -> bytes:
    """One ``Log`` frame; a batch marked skipped is sent without payload."""
    host = _host_bytes(log.hostname)
    payload = b"" if log.skipped else log.payload
    flags = (_SKIPPED if log.skipped else 0) | (_ENDS_LINE if log.ends_line else 0)
    length = 1 + _LOG.size + len(host) + len(payload)
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a batch of {len(payload):,} bytes does not fit a frame")
    header = _LOG.pack(
        log.proc, log.epoch, log.generation, log.output_target, flags, log.seq, log.offset,
        log.size, log.lines, log.wall, log.mono, log.pid, len(host),
    )  # fmt: skip
    return b"".join((HEADER.pack(length, LOG_KIND), header, host, payload))


def _host_bytes(hostname: str) -> bytes:
    """At most 255 bytes of UTF-8, cut between characters."""
    return hostname.encode(errors="replace")[:255].decode(errors="ignore").encode()


def strip_payload(body: bytes) -> bytes:
    """The frame of a ``Log`` body without its payload: the batch is skipped, its numbers travel.

    The silent forwarder uses it, so that skipping costs the same however long the batch is.
    Raises ProtocolError for a body shorter than its header.
    """
    end = _LOG.size + (body[_LOG.size - 1] if len(body) >= _LOG.size else 0)
    if len(body) < end:
        raise ProtocolError("a Log shorter than its header")
    header = bytearray(body[:end])
    header[13] |= _SKIPPED
    return HEADER.pack(len(header) + 1, LOG_KIND) + header


def decode(kind: int, body: bytes) -> Message:
    """The message of one frame. Raises ProtocolError for anything the format does not allow."""
    if kind == LOG_KIND:
        return _decode_log(body)
    cls = _KINDS.get(kind)
    if cls is None:
        raise ProtocolError(f"unknown frame kind {kind}")
    expected = _FIELDS[kind]
    nested = kind in _NESTED_KINDS
    try:
        if nested:
            check_plain(body)
        values = msgpack.unpackb(
            body, raw=False, strict_map_key=False, max_ext_len=0,
            max_str_len=len(body), max_bin_len=len(body),
            max_array_len=MAX_VALUES if nested else len(expected),
            max_map_len=MAX_VALUES if nested else 0,
        )  # fmt: skip
    except (
        ProtocolError, ValueError, TypeError, RecursionError, msgpack.UnpackException
    ) as error:  # fmt: skip
        raise ProtocolError(f"a malformed {cls.__name__}: {error}") from None
    if type(values) is not list or len(values) != len(expected):
        raise ProtocolError(f"a {cls.__name__} has {len(expected)} fields")
    for value, (name, type_name, check) in zip(values, expected, strict=True):
        if not check(value) or (name == "pid" and value not in _PIDS):
            raise ProtocolError(f"{cls.__name__}.{name} must be {type_name}")
    names = (name for name, _, _ in expected)
    message: Message = cls(**dict(zip(names, values, strict=True)))
    return message


def decode_handshake(kind: int, body: bytes) -> Message:
    """``decode`` for a peer that has not proved itself: the four frames of the handshake only."""
    if kind not in _HANDSHAKE_KINDS:
        raise ProtocolError(f"a frame of kind {kind} before the handshake")
    return decode(kind, body)


def _decode_log(body: bytes) -> LogMessage.Log:
    if len(body) < _LOG.size:
        raise ProtocolError("a Log shorter than its header")
    (proc, epoch, generation, target, flags, seq, offset, size, lines, wall, mono, pid, host) = (
        _LOG.unpack_from(body)
    )
    if seq not in _INTEGERS or offset not in _INTEGERS:
        raise ProtocolError("a Log whose numbers are impossible")
    start = _LOG.size + host
    if len(body) < start or target not in (1, 2) or flags > 3:
        raise ProtocolError("a Log with a malformed header")
    payload = body[start:]
    skipped = flags & _SKIPPED
    if len(payload) != (0 if skipped else size) or lines > size or not size:
        raise ProtocolError("a Log whose payload is not of the size it states")
    ends_line = bool(flags & _ENDS_LINE)
    if ends_line and not lines:
        raise ProtocolError("a Log that ends a line and holds none")
    if not skipped and (lines != payload.count(b"\n") or ends_line != payload.endswith(b"\n")):
        raise ProtocolError("a Log whose payload does not hold the lines it states")
    if not (abs(wall) <= _MAX_WALL_SEC and math.isfinite(mono)):
        raise ProtocolError("a Log at an impossible time")
    try:
        hostname = body[_LOG.size : start].decode()
    except UnicodeDecodeError:
        raise ProtocolError("a Log whose host name is not UTF-8") from None
    return LogMessage.Log(
        proc=proc, epoch=epoch, generation=generation, output_target=OutputTarget(target),
        seq=seq, offset=offset, size=size, lines=lines, wall=wall, mono=mono, pid=pid,
        hostname=hostname, payload=payload, ends_line=ends_line,
    )  # fmt: skip
