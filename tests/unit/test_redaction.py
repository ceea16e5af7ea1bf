"""The redactor: the same for every way to cut a text, and nothing of a secret told too early."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import List, Sequence, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logmesh_ipy import redaction
from logmesh_ipy.redaction import MARK, Redactor, Rules
from logmesh_ipy.redaction_rules import bounded

TEXTS = st.lists(
    st.sampled_from(
        [
            b"a",
            b"b",
            b"ab",
            b"abab",
            b"abba",
            b" ",
            b"x=",
            b"1",
            b"23",
            b"\n",
            b"\r",
            b"\r\n",
            b"pass",
        ]
    ),
    max_size=60,
).map(b"".join)
SECRETS = st.lists(
    st.text("ab", min_size=4, max_size=9).map(str.encode) | st.sampled_from([b"x=1a", b"password"]),
    max_size=4,
)
PATTERNS = st.lists(
    st.sampled_from([r"x=\w+", r"\d{3}", r"(?i)PASS\S*", "^ab.*$", r"b(?=\s*1)", r"\s+1", "a{2,}"]),
    max_size=3,
)


def cut(text: bytes, places: Sequence[int]) -> List[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(edges)]


def reference(text: bytes, patterns: Sequence[str], secrets: Sequence[bytes]) -> bytes:
    """Slow and plain: each byte that a secret or a match covers, line by line."""
    out = []
    for line in text.splitlines(keepends=True):
        body = line.rstrip(b"\r\n")
        spans: List[Tuple[int, int]] = []
        for secret in secrets:
            spans += [
                (at, at + len(secret))
                for at in range(len(body))
                if body[at : at + len(secret)] == secret
            ]
        for pattern in patterns:
            spans += [m.span() for m in re.compile(pattern.encode()).finditer(body)]
        covered = [any(a <= at < b for a, b in spans) for at in range(len(body))]
        # Two finds that only touch are two.
        joined = [any(a < at < b for a, b in spans) for at in range(len(body))]
        for at in range(len(body)):
            if not covered[at]:
                out.append(body[at : at + 1])
            elif not joined[at]:
                out.append(MARK)
        out.append(line[len(body) :])
    return b"".join(out)


@given(TEXTS, PATTERNS, SECRETS, st.lists(st.integers(0, 200), max_size=12))
def test_however_a_text_is_cut_it_is_redacted_as_a_whole(
    text: bytes, patterns: List[str], secrets: List[bytes], places: List[int]
) -> None:
    text += b"\n"
    redactor = Redactor(Rules(patterns, secrets))
    told = b"".join(map(redactor.feed, cut(text, places))) + redactor.flush()
    assert told == reference(text, patterns, secrets)
    assert Rules(patterns, secrets).redact(text) == told
    assert told.count(b"\n") == text.count(b"\n")
    assert redactor.count == told.count(MARK)
    assert not redactor.holds


@given(TEXTS, SECRETS, st.lists(st.integers(0, 200), max_size=12))
def test_no_more_is_held_than_what_may_begin_a_secret(
    text: bytes, secrets: List[bytes], places: List[int]
) -> None:
    redactor = Redactor(Rules((), secrets))
    read = 0
    for part in cut(text, places):
        read += len(part)
        redactor.feed(part)
        beginnings = [
            size
            for secret in secrets
            for size in range(1, len(secret))
            if text[:read].endswith(secret[:size])
        ]
        assert len(redactor._held) <= max(beginnings, default=0)


SECRET_PIECES = st.lists(
    st.sampled_from(["S0", "S1", "S2", "1", "22 ", "\n", "3\r", "\r\n"]), max_size=30
)
STEPS = st.lists(st.tuples(st.integers(1, 7), st.sampled_from(["", "idle", "flush"])), max_size=80)


@given(
    st.lists(st.text("ab", min_size=8, max_size=14), min_size=3, max_size=3),
    SECRET_PIECES,
    STEPS,
    st.sampled_from([(), (r"\d{9}",)]),
)
@example(["abababab"] * 3, ["S0", "S0", "\n"], [(5, "flush"), (5, "idle"), (5, "flush")], ())
def test_never_more_than_three_bytes_of_a_secret_are_told(
    secrets: List[str], pieces: List[str], steps: List[Tuple[int, str]], patterns: Tuple[str, ...]
) -> None:
    text = "".join(secrets[int(p[1])] if p[0] == "S" else p for p in pieces).encode()
    redactor = Redactor(Rules(patterns, map(str.encode, secrets)))
    told, at = b"", 0
    for size, then in steps:
        told += redactor.feed(text[at : at + size])
        at += size
        told += redactor.idle() if then == "idle" else b""
        told += redactor.flush() if then == "flush" else b""
    told += redactor.feed(text[at:]) + redactor.flush()
    for run in re.findall(rb"[ab]+", told.replace(MARK, b"?")):
        assert len(run) <= 3, told
    # All else is there, in its order.
    assert re.sub(rb"[ab?]", b"", told.replace(MARK, b"?")) == re.sub(rb"[ab]", b"", text)


def test_at_a_barrier_the_beginning_of_a_secret_is_replaced_and_its_end_swallowed() -> None:
    redactor = Redactor(Rules((), [b"hunter2secret"]))
    assert redactor.feed(b"key: hunter2") == b"key: "
    assert redactor.idle() == b""
    assert redactor.flush() == MARK
    assert redactor.flush() == b""
    assert redactor.feed(b"sec") == b""
    assert redactor.feed(b"ret!\n") == b"!\n"
    assert redactor.count == 1
    # Where it was none after all, what follows is told.
    assert redactor.feed(b"the hunter") == b"the "
    assert redactor.flush() == MARK
    assert redactor.feed(b"s\n") == b"s\n"


def test_up_to_three_bytes_are_told_at_once_and_the_rest_is_replaced() -> None:
    redactor = Redactor(Rules((), [b"hunter2secret"]))
    assert redactor.feed(b"hun") == b""
    assert redactor.idle() == b"hun"
    assert redactor.feed(b"ter2secret\n") == MARK + b"\n"
    assert redactor.feed(b"hun") == b""
    assert redactor.idle() == b"hun"
    assert redactor.feed(b"dred\n") == b"dred\n"


def test_with_patterns_the_unfinished_line_is_held_until_idle_or_a_barrier() -> None:
    redactor = Redactor(Rules([r"token=\S+"]))
    assert redactor.feed(b"one\ntwo token=ab") == b"one\n"
    assert redactor.holds
    assert redactor.idle() == b"two " + MARK
    assert not redactor.holds
    assert redactor.feed(b"cd and") == b""
    assert redactor.flush() == b" and"
    assert redactor.feed(b" more\n") == b" more\n"
    assert redactor.feed(b"10%\r20%\rtoken=x\r30%") == b"10%\r20%\r" + MARK + b"\r"


def test_a_match_never_goes_over_a_newline_and_lines_stay_lines() -> None:
    rules = Rules([r"(?s)begin.*end", r"\s+x", "[^,]+;"])
    text = b"begin\nend\nbegin end\n\n x\na\nb;\n"
    assert rules.redact(text) == b"begin\nend\n" + MARK + b"\n\n" + MARK + b"\na\n" + MARK + b"\n"


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "WINDOW_BYTES", 16)
    monkeypatch.setattr(redaction, "_STEP", 8)


@pytest.mark.usefixtures("small_windows")
@given(
    st.lists(st.sampled_from([b"a", b"12", b"-", b"x=", b"\n"]), max_size=80).map(b"".join),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_in_a_long_line_matches_of_half_a_window_are_found_everywhere(
    text: bytes, places: List[int]
) -> None:
    # None of these can match more than 8 bytes, and none looks around.
    patterns, secrets = [r"x=\w{1,5}", r"\d{3,7}-"], [b"a12a"]
    text += b"\n"
    redactor = Redactor(Rules(patterns, secrets))
    told = b"".join(map(redactor.feed, cut(text, places)))
    assert told == Rules(patterns, secrets).redact(text)
    for pattern in (rb"x=\w", rb"\d{3,7}-", rb"a12a"):
        for match in re.finditer(pattern, text):
            assert match[0] in text
            assert match[0] not in told.replace(MARK, b"?")
    assert told.count(b"\n") == text.count(b"\n")


def test_of_a_line_without_end_one_window_is_held() -> None:
    redactor = Redactor(Rules(["secret[0-9]+"]))
    told = 0
    for _ in range(100):
        told += len(redactor.feed(b"." * 10_000 + b"secret123"))
        assert len(redactor._held) <= redaction.WINDOW_BYTES
    told += len(redactor.flush())
    assert told == 100 * (10_000 + len(MARK))


def test_a_pattern_that_takes_for_ever_hides_its_line_and_no_other() -> None:
    rules = Rules([r"(\w+\s?)+!", "key=[0-9]+"], bounded=bounded)
    bad = b"a" * 40 + b"\n"
    text = b"before key=1\n" + bad + b"after key=2\n" + bad + b"the end!\n"
    began = time.process_time()
    told = rules.redact(text)
    took = time.process_time() - began
    mark = MARK
    assert told == b"%b %b\n%b\n%b %b\n%b\n%b\n" % (
        b"before",
        mark,
        mark,
        b"after",
        mark,
        mark,
        mark,
    )
    assert rules.hidden_lines == 2
    assert "2 lines are hidden" in rules.warning
    assert took < 2, took
    began = time.process_time()
    assert rules.redact(bad * 1000).count(b"\n") == 1000
    assert time.process_time() - began < 2


@given(TEXTS, TEXTS, PATTERNS, SECRETS)
def test_of_a_text_that_goes_on_only_what_is_certain_is_told(
    text: bytes, rest: bytes, patterns: List[str], secrets: List[bytes]
) -> None:
    rules = Rules(patterns, secrets)
    told = rules.redact(text, goes_on=True)
    assert reference(text + rest + b"\n", patterns, secrets).startswith(told)


@pytest.mark.parametrize("pattern", [(), ("key=[0-9]+",)])
def test_of_a_text_that_goes_on_no_more_than_a_window_is_left_out(pattern: Tuple[str, ...]) -> None:
    text = b"a line\n" * 10_000 + b"." * (100_000 - 16) + b"secret12 secret1"
    told = Rules(pattern, [b"secret12"]).redact(text, goes_on=True)
    assert len(text) - len(told) <= redaction.WINDOW_BYTES
    assert text.startswith(told.removesuffix(b" ").removesuffix(MARK))


def test_text_that_utf8_cannot_carry_is_escaped() -> None:
    assert Rules(["x+"]).redact_text("a\udcffxx\u00e9") == "a\\udcff[redacted]\u00e9"


def test_rules_tell_how_many_not_what() -> None:
    rules = Rules(["ab+"], [b"correct horse"])
    assert repr(rules) == "<Rules: 1 patterns, 1 secrets>"
    assert rules
    assert not Rules()


@pytest.mark.parametrize("secret", [b"", b"abc", b"two\nlines"])
def test_a_secret_is_one_line_of_four_bytes_or_more(secret: bytes) -> None:
    with pytest.raises(ValueError, match="one line of four bytes"):
        Rules((), [secret])
