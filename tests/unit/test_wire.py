from __future__ import annotations

import dataclasses
import math
import random
import struct
from typing import Any, List, get_args

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logmesh_ipy import wire
from logmesh_ipy.errors import ProtocolError
from logmesh_ipy.frames import MAX_FRAME_BYTES, MAX_HELLO_BYTES, FrameDecoder, frame
from logmesh_ipy.model import LogForwardMessage, LogMessage, OutputTarget
from logmesh_ipy.wire import (
    Attach,
    Call,
    Challenge,
    GapFrame,
    Hello,
    Message,
    Ping,
    Reply,
    Resume,
    decode,
    decode_handshake,
    encode,
    encode_log,
    strip_payload,
)

KINDS = sorted(wire._KINDS)
unsigned = st.integers(0, 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=20)
)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
FIELD_VALUES = {
    "int": unsigned,
    "Optional[int]": st.none() | unsigned,
    "bool": st.booleans(),
    "str": text,
    "bytes": st.binary(max_size=40),
    "Dict[str, Any]": st.dictionaries(text, plain, max_size=3),
    "Any": plain,
}
WRONG_VALUES = {
    "int": [-1, True, None, "1", 1.0, [1], b"1"],
    "Optional[int]": [-1, False, "1", 1.5, []],
    "bool": [0, 1, None, "true"],
    "str": [None, b"x", 1, ["x"]],
    "bytes": [None, "x", 1, [1]],
    "Dict[str, Any]": [None, [], {1: 2}, {b"x": 1}, "x"],
    "Any": [],
}
EXTENSIONS = [
    msgpack.ExtType(5, b"x"),
    [msgpack.Timestamp(1)],
    {"a": {"b": msgpack.ExtType(1, b"")}},
]


def of_kind(kind: int) -> st.SearchStrategy[Message]:
    values = {name: FIELD_VALUES[type_name] for name, type_name, _ in wire._FIELDS[kind]}
    if "pid" in values:
        values["pid"] = st.integers(0, 2**32 - 1)
    return st.builds(wire._KINDS[kind], **values)


@st.composite
def logs(draw: st.DrawFn) -> LogMessage.Log:
    payload = draw(st.binary(min_size=1, max_size=300) | st.just(b"a\nb\n"))
    log = LogMessage.Log(
        proc=draw(st.integers(0, 2**32 - 1)),
        epoch=draw(st.integers(0, 2**32 - 1)),
        generation=draw(st.integers(0, 2**32 - 1)),
        output_target=draw(st.sampled_from(OutputTarget)),
        seq=draw(unsigned),
        offset=draw(unsigned),
        size=len(payload),
        lines=payload.count(b"\n"),
        wall=draw(st.floats(0, 1e11)),
        mono=draw(st.floats(allow_nan=False, allow_infinity=False)),
        pid=draw(st.integers(0, 2**32 - 1)),
        hostname=draw(text),
        ends_line=payload.endswith(b"\n"),
        payload=payload,
    )
    return dataclasses.replace(log, payload=b"") if draw(st.booleans()) else log


messages = st.one_of(logs(), *map(of_kind, KINDS))

LOG = LogMessage.Log(
    proc=7, epoch=1, generation=2, output_target=OutputTarget.STDERR, seq=3, offset=40, size=6,
    lines=2, wall=1.7e9, mono=12.5, pid=99, hostname="node-1", ends_line=False, payload=b"a\nb\ncd",
)  # fmt: skip

GAP = GapFrame(
    proc=7, epoch=1, generation=2, target=1, seq=3, last_seq=4, offset=40, size=6, lines=2,
    ends_line=True, reason="",
)  # fmt: skip


def body_of(data: bytes) -> bytes:
    return data[5:]


def decode_stream(pieces: List[bytes]) -> List[Message]:
    decoder = FrameDecoder()
    return [decode(kind, body) for piece in pieces for kind, body in decoder.feed(piece)]


@given(messages)
def test_a_message_comes_back_equal_from_its_frame(message: Message) -> None:
    assert decode_stream([encode(message)]) == [message]


def test_every_kind_of_message_is_on_the_wire_under_its_own_number() -> None:
    classes = [LogMessage.Log, *wire._KINDS.values()]
    assert len(set(classes)) == len(classes)
    assert set(classes) == set(get_args(Message))
    assert wire.LOG_KIND not in wire._KINDS


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_frames_come_out_whole_wherever_the_stream_is_cut(
    sent: List[Message], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode_stream(pieces) == sent


def test_frames_come_out_whole_byte_by_byte_and_for_each_single_cut() -> None:
    sent: List[Message] = [Ping(n=1), LOG, Reply(n=2, ok=True, value={"a": [1, None]})]
    stream = b"".join(map(encode, sent))
    assert decode_stream([stream[i : i + 1] for i in range(len(stream))]) == sent
    for cut in range(len(stream) + 1):
        assert decode_stream([stream[:cut], stream[cut:]]) == sent


def test_the_decoder_holds_one_incomplete_frame_and_nothing_more() -> None:
    data = encode(LOG)
    decoder = FrameDecoder()
    decoder.feed(data * 3 + data[:-1])
    assert decoder.pending_bytes == len(data) - 1
    assert len(decoder.feed(data[-1:])) == 1
    assert decoder.pending_bytes == 0


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**31, 2**32 - 1])
def test_a_length_that_is_not_allowed_is_refused_with_its_fourth_byte(length: int) -> None:
    header = length.to_bytes(4, "big")
    decoder = FrameDecoder()
    assert decoder.feed(header[:3]) == []
    with pytest.raises(ProtocolError, match=f"{length:,}"):
        decoder.feed(header[3:])
    with pytest.raises(ProtocolError):
        FrameDecoder().feed(encode(Ping(n=1)) + header)


def test_the_longest_frame_is_allowed_and_one_byte_more_is_not() -> None:
    most = MAX_FRAME_BYTES - 1
    [(kind, body)] = FrameDecoder().feed(frame(200, bytes(most)))
    assert (kind, len(body)) == (200, most)
    with pytest.raises(ProtocolError):
        FrameDecoder().feed(frame(200, bytes(most + 1)))


def test_before_the_handshake_a_frame_is_at_most_4_kib() -> None:
    decoder = FrameDecoder(MAX_HELLO_BYTES)
    assert len(decoder.feed(frame(33, bytes(MAX_HELLO_BYTES - 1)))) == 1
    with pytest.raises(ProtocolError, match="4,097"):
        decoder.feed((MAX_HELLO_BYTES + 1).to_bytes(4, "big"))


def test_the_limit_may_be_raised_between_two_frames() -> None:
    decoder = FrameDecoder(MAX_HELLO_BYTES)
    decoder.feed(encode(Ping(n=1)) + b"\x00")
    decoder.max_frame_bytes = MAX_FRAME_BYTES
    assert len(decoder.feed(frame(200, bytes(5000))[1:])) == 1


def test_before_the_handshake_only_its_four_frames_are_decoded() -> None:
    hello = Hello(version=1, package="1", role="run", name="", nonce=b"", proof=b"")
    data = encode(hello)
    assert decode_handshake(data[4], body_of(data)) == hello
    for kind in (wire.LOG_KIND, 9, 48, 49, 50, 200):
        with pytest.raises(ProtocolError, match="before the handshake"):
            decode_handshake(kind, body_of(data))


@pytest.mark.parametrize("kind", [0, 36, 47, 52, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=str(kind)):
        decode(kind, msgpack.packb([]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_number_of_fields_is_refused(kind: int) -> None:
    good = [good_value(type_name) for _, type_name, _ in wire._FIELDS[kind]]
    decode(kind, msgpack.packb(good))
    wrong: List[Any] = [
        [*good, 1],
        good[:-1],
        [],
        {},
        None,
        5,
        "x",
        dict.fromkeys(range(len(good)), 0),
    ]
    for bad in wrong:
        with pytest.raises(ProtocolError):
            decode(kind, msgpack.packb(bad))
    for tail in (b"\x00", b"\xc1"):
        with pytest.raises(ProtocolError):
            decode(kind, msgpack.packb(good) + tail)


def good_value(type_name: str) -> Any:
    return {"bool": True, "str": "x", "bytes": b"x", "Dict[str, Any]": {"k": 1}}.get(type_name, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_the_wrong_type_is_refused_by_name(kind: int) -> None:
    fields = wire._FIELDS[kind]
    good = [good_value(type_name) for _, type_name, _ in fields]
    for number, (name, type_name, _) in enumerate(fields):
        for wrong in WRONG_VALUES[type_name]:
            values = [*good[:number], wrong, *good[number + 1 :]]
            with pytest.raises(ProtocolError, match=name):
                decode(kind, msgpack.packb(values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_extension_type_is_refused_wherever_it_stands(kind: int, extension: Any) -> None:
    fields = wire._FIELDS[kind]
    good = [good_value(type_name) for _, type_name, _ in fields]
    for number in range(len(fields)):
        for wrong in (extension, {"x": extension}):
            with pytest.raises(ProtocolError, match=wire._KINDS[kind].__name__):
                decode(kind, msgpack.packb([*good[:number], wrong, *good[number + 1 :]]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 5000,
        b"\xdd\x00\x0f\xff\xff" * 2000,
        b"\xdf\x00\x0f\xff\xff" * 2000,
        b"\x93\x01\xc3" + b"\x91" * 1000 + b"\xc0",
        b"\x92\x01" + b"\x81\xa1k" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91\x81\x90\xc0",
        b"\x91\xa2\xff\xfe",
        b"\x91\xc1",
        b"",
    ],
    ids=lambda body: body[:6].hex() or "empty",
)
def test_bombs_and_broken_msgpack_are_refused(kind: int, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(kind, body)


def test_a_value_may_be_63_levels_deep_and_no_more() -> None:
    deepest = decode(49, b"\x93\x01\xc3" + b"\x91" * 63 + b"\xc0")
    assert decode_stream([encode(deepest)]) == [deepest]
    for depth in (64, 400, 600, 900, 1020, 1024, 2000):
        with pytest.raises(ProtocolError):
            decode(49, b"\x93\x01\xc3" + b"\x91" * depth + b"\xc0")


def test_a_value_that_the_format_does_not_know_is_refused_by_the_encoder() -> None:
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    for value in (object(), {1, 2}, 2**64, -(2**63) - 1, "\udc80", deep):
        with pytest.raises(ProtocolError, match="Reply"):
            encode(Reply(n=1, ok=True, value=value))


def test_a_message_that_does_not_fit_a_frame_is_refused_by_the_encoder() -> None:
    for size in (MAX_FRAME_BYTES - 40, MAX_FRAME_BYTES - 100):
        assert len(encode(Call(n=1, method="m", args={"x": bytes(size)}))) <= MAX_FRAME_BYTES + 4
    with pytest.raises(ProtocolError, match="in parts"):
        encode(Call(n=1, method="m", args={"x": bytes(MAX_FRAME_BYTES)}))
    big = dataclasses.replace(LOG, payload=bytes(MAX_FRAME_BYTES), size=MAX_FRAME_BYTES, lines=0)
    with pytest.raises(ProtocolError, match="does not fit"):
        encode_log(big)


# --- Log ------------------------------------------------------------------------------------


def patched(offset: int, value: bytes) -> bytes:
    body = bytearray(body_of(encode_log(LOG)))
    body[offset : offset + len(value)] = value
    return bytes(body)


HEADER_BYTES = struct.calcsize("!IIIBBQQIIddIB")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(patched(12, b"\x00"), id="target 0"),
        pytest.param(patched(12, b"\x03"), id="target 3"),
        pytest.param(patched(13, b"\x04"), id="unknown flag"),
        pytest.param(patched(13, b"\x01"), id="skipped, with payload"),
        pytest.param(patched(13, b"\x02"), id="ends a line that goes on"),
        pytest.param(patched(30, struct.pack("!I", 5)), id="size too small"),
        pytest.param(patched(30, struct.pack("!I", 7)), id="size too large"),
        pytest.param(patched(30, struct.pack("!I", 2**32 - 1)), id="size 4 GiB"),
        pytest.param(patched(34, struct.pack("!I", 1)), id="too few lines"),
        pytest.param(patched(34, struct.pack("!I", 3)), id="too many lines"),
        pytest.param(patched(34, struct.pack("!I", 7)), id="more lines than bytes"),
        pytest.param(patched(38, struct.pack("!d", math.nan)), id="wall nan"),
        pytest.param(patched(38, struct.pack("!d", 1e300)), id="wall beyond calendars"),
        pytest.param(patched(46, struct.pack("!d", math.inf)), id="mono inf"),
        pytest.param(patched(58, b"\xff"), id="host longer than the body"),
        pytest.param(patched(58, b"\x05"), id="host too short"),
        pytest.param(patched(HEADER_BYTES, b"\xff"), id="host not UTF-8"),
        pytest.param(b"", id="empty"),
        pytest.param(body_of(encode_log(LOG))[: HEADER_BYTES - 1], id="cut header"),
        pytest.param(body_of(encode_log(LOG))[:-1], id="cut payload"),
        pytest.param(body_of(encode_log(LOG)) + b"x", id="too much payload"),
        pytest.param(patched(30, bytes(8))[:-6], id="no bytes at all"),
    ],
)
def test_a_log_whose_header_lies_is_refused(body: bytes) -> None:
    assert decode(wire.LOG_KIND, body_of(encode_log(LOG))) == LOG
    with pytest.raises(ProtocolError):
        decode(wire.LOG_KIND, body)


def test_a_skipped_log_that_ends_a_line_of_none_is_refused() -> None:
    body = body_of(strip_payload(patched(34, bytes(4))))
    assert decode(wire.LOG_KIND, body) == dataclasses.replace(LOG, lines=0, payload=b"")
    with pytest.raises(ProtocolError):
        decode(wire.LOG_KIND, body[:13] + b"\x03" + body[14:])


@given(logs())
def test_stripping_the_payload_keeps_all_numbers(log: LogMessage.Log) -> None:
    [(kind, body)] = FrameDecoder().feed(strip_payload(body_of(encode_log(log))))
    stripped = decode(kind, body)
    assert stripped == dataclasses.replace(log, payload=b"")
    assert isinstance(stripped, LogMessage.Log)
    assert stripped.skipped


def test_stripping_a_log_shorter_than_its_header_is_refused() -> None:
    body = body_of(encode_log(LOG))
    for cut in range(HEADER_BYTES + len(LOG.hostname)):
        with pytest.raises(ProtocolError):
            strip_payload(body[:cut])


@pytest.mark.parametrize("hostname", ["é" * 200, "x" + "é" * 200, "日" * 100, "h\udcff"])
def test_a_long_or_odd_host_name_is_cut_between_characters(hostname: str) -> None:
    log = dataclasses.replace(LOG, hostname=hostname)
    decoded = decode(wire.LOG_KIND, body_of(encode_log(log)))
    assert isinstance(decoded, LogMessage.Log)
    assert 252 < len(decoded.hostname.encode()) <= 255 or decoded.hostname == "h?"
    assert decoded.payload == LOG.payload


# --- anything -------------------------------------------------------------------------------


@given(st.integers(0, 255), st.binary(max_size=200))
@example(49, b"\x93\x01\xc3\xd7\xff" + b"\xff" * 8)
@example(49, b"\x93\x01\xc3\xc7\x0c\xff" + b"\xff" * 12)
def test_random_bodies_raise_nothing_but_protocol_errors(kind: int, body: bytes) -> None:
    try:
        decode(kind, body)
    except ProtocolError:
        return


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_random_streams_raise_nothing_but_protocol_errors(pieces: List[bytes]) -> None:
    decoder = FrameDecoder(MAX_HELLO_BYTES)
    try:
        for piece in pieces:
            for kind, body in decoder.feed(piece):
                decode(kind, body)
    except ProtocolError:
        return


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_mutated_frames_raise_nothing_but_protocol_errors(seed: int) -> None:
    rng = random.Random(seed)
    sent: List[Message] = [
        LOG,
        Call(n=1, method="run", args={"ranks": [1, 2], "deep": {"a": [{}]}}),
        Resume(proc=1, epoch=1, generation=1, next_stdout=5, next_stderr=6),
        Challenge(version=1, package="0.1", nonce=bytes(16)),
        LogForwardMessage.ForceSyncFlush(version=3),
    ]
    samples = [(data[4], data[5:]) for data in map(encode, sent)]
    for _ in range(500):
        kind, body = rng.choice(samples)
        broken = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        if rng.random() < 0.3:
            del broken[rng.randrange(len(broken)) :]
        try:
            decode(kind, bytes(broken))
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "message",
    [
        dataclasses.replace(GAP, last_seq=2**63),
        dataclasses.replace(GAP, size=2**64 - 1),
        dataclasses.replace(LOG, seq=2**63),
        dataclasses.replace(LOG, offset=2**63),
        Attach(proc=0, epoch=0, generation=0, pid=2**32, hostname="h"),
    ],
)
def test_a_number_with_which_nobody_could_count_on_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        decode_stream([encode(message)])
