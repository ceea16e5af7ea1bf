from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Callable, List, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logmesh_ipy.sanitize import to_html, to_text

SGR = re.compile(r"\x1b\[[0-9;:]*m")
FORBIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e007f]"
)

hostile_lines = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([
            b"\x1b[31m", b"\x1b[0m", b"\x1b[38;5;300m", b"\x1b[38;2;1;2;3m", b"\x1b[K", b"\x1b[2J",
            b"\x1b]0;t\x07", b"\x1b", b"[", b"m", b"\r", b"\n", b"\t", b"\x9b31m", b"\xc2\x9b1m",
            b"<script>", b"</span>", b"&", b'"', b"'", b"x", "\u202e".encode(), "é".encode(),
            "\u200d".encode(), b"\x00", b"\x7f", b"\xff", b"\x1b[7;1;4;3;2;95;105m", b"\x1b[38m",
            b"\x1b[48;2m", b"\x1b[;;m", b"\x1b[" + b"9" * 40 + b"m",
        ]),
        max_size=30,
    ).map(b"".join),
)  # fmt: skip


class _Markup(HTMLParser):
    """What a browser would make of a fragment."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: List[Tuple[str, List[Tuple[str, str | None]]]] = []
        self.depth = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))
        self.depth += 1
        assert self.depth == 1

    def handle_endtag(self, tag: str) -> None:
        assert tag == "span"
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")


def parsed(fragment: str) -> _Markup:
    markup = _Markup()
    markup.feed(fragment)
    markup.close()
    assert markup.depth == 0
    return markup


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", ""),
        (b"plain text, 100%", "plain text, 100%"),
        (b"a\tb", "a\tb"),
        ("Überprüfung 数据 ✓".encode(), "Überprüfung 数据 ✓"),
        (b"bad \xff\xc3 bytes", "bad \\xff\\xc3 bytes"),
        (b"line\n", "line"),
        (b"line\r\n", "line"),
        (b"line\r", "line"),
        (b"\x00\x01\x1f\x7f", "␀␁␟␡"),
        (b"a\nb\x0b\x0c", "a␊b␋␌"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[38:2::1:2:3mx\x1b[m", "x"),
        (b"\x1b]0;owned\x07", "␛]0;owned␇"),
        (b"\x1b[2J\x1b[H", "␛[2J␛[H"),
        (b"\x1b[?25l", "␛[?25l"),
        (b"\x1b[31", "␛[31"),
        (b"\x1b[" + b"1;" * 100 + b"m", "␛[" + "1;" * 100 + "m"),
        ("\x9b31m".encode(), "\\x9b31m"),
        ("a\u202eb\u2066c\u2069\u200f".encode(), "a\\u202eb\\u2066c\\u2069\\u200f"),
        ("a\u2028b\u2029".encode(), "a\\u2028b\\u2029"),
        ("\ufeffa\u200bb\u2060".encode(), "\\ufeffa\\u200bb\\u2060"),
        ("x\U000e0041y\u00ad".encode(), "x\\U000e0041y\\u00ad"),
        ("a\u200db".encode(), "a\\u200db"),
        ("\u200d\u200dé".encode(), "\\u200d\\u200dé"),
        ("می\u200cخواهم".encode(), "می\u200cخواهم"),
        ("👩\u200d🚀 ❤\ufe0f\u200d🔥".encode(), "👩\u200d🚀 ❤\ufe0f\u200d🔥"),
        ("a\u3164b\u034fc\u115f".encode(), "a\\u3164b\\u034fc\\u115f"),
        ("a\ufe0f 1\ufe0f\u20e3 ❤\ufe0f\ufe0f".encode(), "a\\ufe0f 1\ufe0f\u20e3 ❤\ufe0f\\ufe0f"),
        ("x\U000e0100 漢\U000e0100\U000e0101".encode(), "x\\U000e0100 漢\U000e0100\\U000e0101"),
    ],
)  # fmt: skip
def test_a_line_comes_out_as_inert_text(line: bytes, text: str) -> None:
    assert to_text(line) == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"10%\r20%\r30%", "30%"),
        (b"10%\r20%\r", "20%"),
        (b"10%\r20%\r\n", "20%"),
        (b"10%\r\r\r", "10%"),
        (b"\r 5%|#    |", " 5%|#    |"),
        (b"\r\x1b[K 5%", " 5%"),
        (b"10%\r20%\x1b[K\r\x1b[2K", "20%"),
        (b"10%\r\x1b[0m\r\x1b[32m", "10%"),
        (b"\r", ""),
        (b"\r\n", ""),
    ],
)
def test_carriage_returns_leave_what_is_seen_at_last(line: bytes, text: str) -> None:
    assert to_text(line) == text
    assert parsed(to_html(line)).text == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b[31mred", "\x1b[31mred\x1b[0m"),
        (b"\x1b[31m10%\r20%", "\x1b[31m20%\x1b[0m"),
        (b"\x1b[31m10%\x1b[0m\r20%", "20%"),
        (b"\x1b[1mb\x1b]0;t\x07", "\x1b[1mb␛]0;t␇\x1b[0m"),
    ],
)
def test_kept_colours_are_closed_and_nothing_else_is_live(line: bytes, text: str) -> None:
    assert to_text(line, keep_sgr=True) == text


@given(hostile_lines, st.booleans())
@example(b"\x1b\x1b[K[2J", True)
def test_no_effect_but_colour_survives(line: bytes, keep_sgr: bool) -> None:
    text = to_text(line, keep_sgr=keep_sgr)
    bare = SGR.sub("", text) if keep_sgr else text
    assert not FORBIDDEN.search(bare)
    if keep_sgr and bare != text:
        assert text.endswith("\x1b[0m")


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"])))
def test_printable_text_is_unchanged(text: str) -> None:
    assert to_text(text.encode()) == text
    assert parsed(to_html(text.encode())).text == text


@given(hostile_lines)
@example(b"<!-- x --><![CDATA[x]]><?php ?><img src=x onerror=alert(1)>")
def test_html_holds_the_text_and_no_markup_but_styled_spans(line: bytes) -> None:
    markup = parsed(to_html(line))
    assert markup.text == to_text(line)
    for tag, attributes in markup.tags:
        assert tag == "span"
        [(name, value)] = attributes
        assert name == "style"
        assert re.fullmatch(r"[a-z0-9:;,.()# -]+", value or "")


RED, BLUE = "var(--logmesh-ansi-red,#e75c58)", "var(--logmesh-ansi-blue,#208ffb)"
PAPER, INK = "var(--jp-layout-color0,#fff)", "var(--jp-content-font-color1,#000)"


@pytest.mark.parametrize(
    ("codes", "style"),
    [
        ("1", "font-weight:bold"),
        ("2", "opacity:0.6"),
        ("3", "font-style:italic"),
        ("4", "text-decoration:underline"),
        ("4:3", "text-decoration:underline"),
        ("31", f"color:{RED}"),
        ("44", f"background-color:{BLUE}"),
        ("91", "color:var(--logmesh-ansi-bright-red,#b22b31)"),
        ("104", "background-color:var(--logmesh-ansi-bright-blue,#0065ca)"),
        ("31;44;7", f"color:{BLUE};background-color:{RED}"),
        ("7", f"color:{PAPER};background-color:{INK}"),
        ("31;7", f"color:{PAPER};background-color:{RED}"),
        ("38;5;1", f"color:{RED}"),
        ("38;5;16", "color:#000000"),
        ("38;5;208", "color:#ff8700"),
        ("48;5;255", "background-color:#eeeeee"),
        ("38;2;1;20;255", "color:#0114ff"),
        ("38:2:1:20:255", "color:#0114ff"),
        ("38:2::1:20:255", "color:#0114ff"),
        ("38:5:208", "color:#ff8700"),
        ("38;5;208;1", "color:#ff8700;font-weight:bold"),
        ("38;2;1;2;3;4", "color:#010203;text-decoration:underline"),
    ],
)  # fmt: skip
def test_html_shows_the_style(codes: str, style: str) -> None:
    line = f"a\x1b[{codes}mb\x1b[0mc".encode()
    assert to_html(line) == f'a<span style="{style}">b</span>c'


@pytest.mark.parametrize(
    "codes",
    ["", "0", "1;22", "2;22", "3;23", "4;24", "4;4:0", "7;27", "31;39", "41;49", "1;31;44;0", "8",
     "5", "38;5;256", "38;2;0;0;256", "38", "38;5", "48;2;1;2", "9999999999"],
)  # fmt: skip
def test_html_shows_no_style_where_none_is_left(codes: str) -> None:
    assert to_html(f"a\x1b[{codes}mb".encode()) == "ab"


def test_html_of_a_line_that_changes_its_style_for_ever_is_bounded() -> None:
    line = b"".join(b"\x1b[%dmx" % (31 + i % 6) for i in range(20_000))
    fragment = to_html(line)
    assert parsed(fragment).text == "x" * 20_000
    assert len(fragment) < len(line) * 2


@pytest.mark.parametrize(
    "unit",
    [b"\x1b[", b"\x1b[1", b"\x1b[1;", b"\r", b"\r\x1b[0m", b"\x1b[31mx", b"\xff", b"\x1b",
     b"\x1b[K\r", "\u200d".encode(), "é\u200d".encode(), b"<", b"1;"],
)  # fmt: skip
@pytest.mark.parametrize("show", [to_text, to_html, lambda line: to_text(line, keep_sgr=True)])
def test_time_grows_with_the_length_only(unit: bytes, show: Callable[[bytes], str]) -> None:
    """Quadratic work on 1 MiB would take minutes."""
    line = b"\x1b[" + unit * ((1 << 20) // len(unit))
    started = time.monotonic()
    show(line)
    assert time.monotonic() - started < 10
