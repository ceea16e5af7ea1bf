"""Log text made safe to show: a line is text, never markup and never a command to a terminal.

What a line may do is colour itself (SGR sequences). Every other control character, and every
character that hides or reorders its neighbours, comes out as a visible, inert picture of itself.
Pure functions, linear in the length of the line. Called by the views for the lines they show.

A line with carriage returns (a progress bar) comes out as the text behind the last of them: what
its writer wanted to be seen at last. Erase-in-line sequences, which such writers add, are dropped.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

__all__ = ["inert", "one_row", "settle", "to_html", "to_json", "to_text"]

_PLAIN_BYTES = bytes(range(0x20, 0x7F)) + b"\t"


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Both repeats are bounded: a longer sequence is no colour, and is shown instead.
_SGR = re.compile(r"\x1b\[([0-9;:]{0,128})m")
_ERASE_LINE = re.compile(r"\x1b\[[012]?K")
_SGR_BYTES = re.compile(rb"\x1b\[[0-9;:]{0,128}m")
_NO_TEXT = re.compile(rb"\x1b\[(?:[0-9;:]{0,128}m|[012]?K)")

# What Unicode calls default ignorable, and what breaks or turns lines: first and last of each.
# Joiners and selectors of a form are needed in some places, see below.
_HIDING = (
    "\u00ad\u00ad"  # soft hyphen
    "\u034f\u034f"  # combining grapheme joiner
    "\u061c\u061c"  # Arabic letter mark
    "\u115f\u1160\u3164\u3164\uffa0\uffa0"  # Hangul fillers: letters that are blank
    "\u17b4\u17b5"  # Khmer vowels that are not written
    "\u180e\u180e"  # Mongolian vowel separator
    "\u200b\u200b\u200e\u200f"  # zero-width space, left-to-right and right-to-left marks
    "\u2028\u202e"  # line and paragraph separators, bidirectional embeddings
    "\u2060\u206f"  # word joiner, invisible operators, bidirectional isolates
    "\ufeff\ufeff"  # byte order mark
    "\ufff0\ufffb"  # not assigned; interlinear annotation
    "\U0001bca0\U0001bca3"  # shorthand format controls
    "\U0001d173\U0001d17a"  # musical beams and ties
    "\U000e0000\U000e00ff\U000e01f0\U000e0fff"  # tags: invisible ASCII; not assigned
)
_RANGES = list(zip(_HIDING[::2], _HIDING[1::2], strict=True))
_JOINERS = "\u200c\u200d"
_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_PICTURES: Dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if code != 0x09},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{c: _escape(c) for first, last in _RANGES for c in range(ord(first), ord(last) + 1)},
}
_HIDDEN_CLASS = "".join(f"{first}-{last}" for first, last in _RANGES) + _JOINERS + _SELECTORS
_HIDDEN = re.compile(f"[{_HIDDEN_CLASS}]")
_NOT_FOR_JSON = re.compile(f"[\x7f-\x9f{_HIDDEN_CLASS}]")

# Persian, Indic scripts and emoji need joiners between their letters, and a selector of its form
# behind some of these, or in a keycap. Anywhere else they hide.
_LETTER = "\u00c0-\u1fff\u2070-\ufefe\uff00-\U000dffff"
_FORMED = (
    "\u00a9\u00ae\u00c0-\u180a\u1810-\u1fff\u203c\u2049\u2070-\ufdff\ufe10-\ufefe\uff00-\U000dffff"
)
_STRAY = re.compile(
    f"(?<![{_LETTER}])[{_JOINERS}]|[{_JOINERS}](?![{_LETTER}])"
    f"|(?<![{_FORMED}])(?!(?<=[0-9#*])\ufe0f\u20e3)[{_SELECTORS}]"
)


def to_text(line: bytes, *, keep_sgr: bool = False) -> str:
    r"""One line (its newline may be missing) as text without any effect but colour.

    Bytes that are not UTF-8 come out as ``\xNN``. SGR sequences are removed, or with ``keep_sgr``
    kept and closed by a reset, so that no colour runs into the next line.

    >>> to_text(b"\x1b[31mred\x1b[0m \x1b]0;title\x07")
    'red ␛]0;title␇'
    """
    if not line.translate(None, _PLAIN_BYTES):
        return line.decode("ascii")
    head, text = _settle(line)
    if _is_plain(text):
        shown = text
    else:
        shown = "".join(
            (piece if keep_sgr else "") if is_sgr else _inert(piece)
            for piece, is_sgr in _pieces(text)
        )
    if not keep_sgr:
        return shown
    shown = _live_sgr(head) + shown
    return shown + "\x1b[0m" if "\x1b" in shown and not shown.endswith("\x1b[0m") else shown


def inert(text: str) -> str:
    r"""Text of several lines without any effect; its newlines and tabs stay, its colours do not.

    For messages and results that a proc, a host or a file's name had a part in.

    >>> inert("a\r\n\x1b[31mb\x1b[0m\x1b[2J")
    'a\nb␛[2J'
    """
    if _is_plain(text):
        return text
    text = text.encode(errors="backslashreplace").decode().replace("\r\n", "\n")
    return "\n".join([_inert(line) for line in _SGR.sub("", text).split("\n")])


def one_row(text: str) -> str:
    """As :func:`inert`, in one row: newlines come out as pictures too."""
    return inert(text).replace("\n", _PICTURES[0x0A])


def to_json(value: object) -> str:
    r"""JSON of the value, in which what has an effect or cannot be seen is a ``\u`` escape.

    >>> to_json("\x9b2J é")
    '"\\u009b2J é"'
    """
    text = json.dumps(value, ensure_ascii=False)
    if _is_plain(text):
        return text
    return _NOT_FOR_JSON.sub(lambda match: json.dumps(match[0])[1:-1], text)


def to_html(line: bytes) -> str:
    r"""One line as HTML: escaped text, and ``span`` elements that carry its colours.

    The spans are balanced and never nested. The sixteen named colours are CSS variables with a
    fallback (``var(--logmesh-ansi-red,#e75c58)``), so a theme can set them. Beyond 1,000 changes
    of style the rest of a line keeps the last one: what comes out stays within a small multiple
    of what came in.

    >>> to_html(b"\x1b[1m<b>\x1b[0m")
    '<span style="font-weight:bold">&lt;b&gt;</span>'
    """
    if not line.translate(None, _PLAIN_BYTES):
        return html.escape(line.decode("ascii"))
    head, text = _settle(line)
    style = _Style()
    for match in _SGR.finditer(head):
        style.apply(match[1])
    runs: List[Tuple[str, List[str]]] = []
    for piece, is_sgr in _pieces(text):
        if is_sgr:
            if len(runs) < _MAX_RUNS:
                style.apply(piece[2:-1])
            continue
        css = style.css()
        if runs and runs[-1][0] == css:
            runs[-1][1].append(piece)
        else:
            runs.append((css, [piece]))
    out = []
    for css, pieces in runs:
        safe = html.escape(_inert("".join(pieces)))
        out.append(f'<span style="{css}">{safe}</span>' if css else safe)
    return "".join(out)


def settle(line: bytes) -> bytes:
    r"""The line without what its carriage returns overwrite; its last colours stay.

    >>> settle(b"10%\r20%\r\x1b[K")
    b'20%'
    """
    end = len(line)
    while True:
        start = line.rfind(b"\r", 0, end) + 1
        shown = line[start:end]
        if not start:
            return shown
        if _NO_TEXT.sub(b"", shown):
            # Colours that were set long before have been set again since.
            return b"".join(_SGR_BYTES.findall(line, max(0, start - 4096), start)[-8:]) + shown
        end = start - 1


def _settle(line: bytes) -> Tuple[str, str]:
    """(what was overwritten, what is seen at last) of a line."""
    text = line.decode("utf-8", "backslashreplace").removesuffix("\n")
    if "\x1b" in text:
        text = _ERASE_LINE.sub("", text)
    if "\r" not in text:
        return "", text
    end = len(text)
    while True:
        start = text.rfind("\r", 0, end) + 1
        shown = text[start:end]
        if not start or (shown and _SGR.sub("", shown)):
            return text[:start], shown
        end = start - 1


def _pieces(text: str) -> Iterator[Tuple[str, bool]]:
    """The text in order, as (piece, whether it is an SGR sequence)."""
    position = 0
    for match in _SGR.finditer(text):
        if match.start() > position:
            yield text[position : match.start()], False
        yield match[0], True
        position = match.end()
    if position < len(text):
        yield text[position:], False


def _is_plain(text: str) -> bool:
    """Whether there is nothing to make inert in it."""
    return text.isprintable() and (text.isascii() or not _HIDDEN.search(text))


def _inert(text: str) -> str:
    if _is_plain(text):
        return text
    return _STRAY.sub(lambda match: _escape(ord(match[0])), text).translate(_PICTURES)


def _live_sgr(head: str) -> str:
    """The SGR sequences of an overwritten text that still count behind it."""
    live: List[str] = []
    for match in _SGR.finditer(head):
        if match[1] in {"", "0"}:
            live.clear()
        else:
            live.append(match[0])
    return "".join(live)


_MAX_RUNS = 1000
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_NORMAL = ("#3e424d", "#e75c58", "#00a250", "#ddb62b", "#208ffb", "#d160c4", "#60c6c8", "#c5c1b4")
_BRIGHT = ("#282c36", "#b22b31", "#007427", "#b27d12", "#0065ca", "#a03196", "#258f8f", "#a1a6b2")
_PALETTE = [
    *(f"var(--logmesh-ansi-{name},{_NORMAL[i]})" for i, name in enumerate(_NAMES)),
    *(f"var(--logmesh-ansi-bright-{name},{_BRIGHT[i]})" for i, name in enumerate(_NAMES)),
    *(
        f"#{red:02x}{green:02x}{blue:02x}"
        for red in (0, 95, 135, 175, 215, 255)
        for green in (0, 95, 135, 175, 215, 255)
        for blue in (0, 95, 135, 175, 215, 255)
    ),
    *(f"#{grey:02x}{grey:02x}{grey:02x}" for grey in range(8, 248, 10)),
]
_TEXT_COLOUR = "var(--jp-content-font-color1,#000)"
_BACKGROUND = "var(--jp-layout-color0,#fff)"


@dataclass(slots=True)
class _Style:
    """What the SGR sequences so far have set. ``foreground`` and ``background`` are CSS colours."""

    foreground: Optional[str] = None
    background: Optional[str] = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False

    def css(self) -> str:
        """The declarations of a ``style`` attribute; empty for plain text."""
        foreground, background = self.foreground, self.background
        if self.inverse:
            foreground, background = background or _BACKGROUND, foreground or _TEXT_COLOUR
        parts = []
        if foreground:
            parts.append(f"color:{foreground}")
        if background:
            parts.append(f"background-color:{background}")
        if self.bold:
            parts.append("font-weight:bold")
        if self.dim:
            parts.append("opacity:0.6")
        if self.italic:
            parts.append("font-style:italic")
        if self.underline:
            parts.append("text-decoration:underline")
        return ";".join(parts)

    def apply(self, parameters: str) -> None:
        """Take the parameters of one SGR sequence (``1;38;5;208``). Unknown ones do nothing."""
        groups = [
            [int(number) if number else 0 for number in group.split(":")]
            for group in parameters.split(";")
        ]
        index = 0
        while index < len(groups):
            group = groups[index]
            index += 1
            if group[0] in {38, 48}:
                if len(group) > 1:
                    values = group[1:]
                    if values[0] == 2 and len(values) > 4:
                        del values[1]  # the colour space of the form 38:2:space:r:g:b
                else:
                    values = [number for following in groups[index:] for number in following[:1]]
                    index += {5: 2, 2: 4}.get(values[0] if values else -1, 1)
                colour = _extended_colour(values)
                if colour and group[0] == 38:
                    self.foreground = colour
                elif colour:
                    self.background = colour
            elif group[0] == 4:
                self.underline = group[1:2] != [0]
            else:
                self._apply_simple(group[0])

    def _apply_simple(self, code: int) -> None:
        if code == 0:
            self.foreground = self.background = None
            self.bold = self.dim = self.italic = self.underline = self.inverse = False
        elif code in _SWITCHES:
            for name, value in _SWITCHES[code]:
                setattr(self, name, value)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            self.foreground = _PALETTE[code - 30 if code < 90 else code - 82]
        elif 40 <= code <= 47 or 100 <= code <= 107:
            self.background = _PALETTE[code - 40 if code < 100 else code - 92]
        elif code == 39:
            self.foreground = None
        elif code == 49:
            self.background = None


_SWITCHES: Dict[int, Tuple[Tuple[str, bool], ...]] = {
    1: (("bold", True),),
    2: (("dim", True),),
    3: (("italic", True),),
    7: (("inverse", True),),
    21: (("underline", True),),
    22: (("bold", False), ("dim", False)),
    23: (("italic", False),),
    24: (("underline", False),),
    27: (("inverse", False),),
}


def _extended_colour(values: List[int]) -> Optional[str]:
    """CSS of ``5, n`` (palette) or ``2, r, g, b``; None if it is neither."""
    if values[:1] == [5] and len(values) >= 2 and values[1] < 256:
        return _PALETTE[values[1]]
    if values[:1] == [2] and len(values) >= 4 and max(values[1:4]) < 256:
        return "#{:02x}{:02x}{:02x}".format(*values[1:4])
    return None
