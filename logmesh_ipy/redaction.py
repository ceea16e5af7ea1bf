r"""Takes secrets and what matches a pattern out of text before anybody sees it. Sans-IO.

:class:`Rules` are literal secrets and regular expressions; a :class:`Redactor` applies them to one
stream, however its text is cut into reads. What is found is replaced by ``[redacted]``; where finds
overlap, by one for all of them. Newlines are never added or taken away: patterns are matched within
a line (a ``\r`` ends one too), secrets are single lines.

What the end of a read may leave open is held back, and no more than that:

* without patterns, an end of the text that could be the beginning of a secret;
* with patterns, the unfinished line. One of more than 64 KiB is matched in windows of 64 KiB that
  overlap by half: a match of up to 32 KiB is found wherever it is, ``^`` and ``$`` match at the
  windows' edges too, and at most one window is held.

``idle()`` lets go of what is held, when nothing more has come for a while, but for four or more
bytes that begin a secret; ``flush()``, at a barrier and at the end, of all: such a beginning is
replaced then, whatever follows, and what completes the secret is swallowed. So of a secret no more
than three bytes are ever told. A pattern sees an unfinished line as it stands at that moment; what
comes later may complete a match, of which the rest is redacted then.

A pattern that takes exponential time on some line is stopped where ``bounded`` can do that: that
line is hidden as a whole, and where a batch has several of them, the lines behind them too.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

__all__ = ["MARK", "WINDOW_BYTES", "Redactor", "Rules", "TooSlowError"]

MARK = b"[redacted]"
WINDOW_BYTES = 64 << 10
_STEP = WINDOW_BYTES // 2
_TOLD = 3
"""So many bytes of a secret's beginning may be shown."""
_SLICES = 8
Span = Tuple[int, int]


class TooSlowError(Exception):
    """The work was given up."""


def _unbounded(work: Callable[[], None]) -> None:
    work()


class Rules:
    """What to redact. ``patterns``: Python's ``re`` syntax, applied to UTF-8; they must be valid.

    ``secrets``: without newlines, four bytes or more each. ``bounded(work)`` calls ``work``, and
    may raise TooSlowError in it. The rules are false where there is nothing to redact.
    """

    def __init__(
        self,
        patterns: Sequence[str] = (),
        secrets: Iterable[bytes] = (),
        *,
        bounded: Callable[[Callable[[], None]], None] = _unbounded,
    ) -> None:
        self._patterns = [re.compile(pattern.encode()) for pattern in patterns]
        self._secrets = sorted(set(secrets))
        if any(len(secret) <= _TOLD or len(secret.splitlines()) > 1 for secret in self._secrets):
            raise ValueError("a secret must be one line of four bytes or more")
        self._longest = max(map(len, self._secrets), default=0)
        self._bounded = bounded
        self.hidden_lines = 0
        """Lines that were hidden because a pattern took too long."""

    def __bool__(self) -> bool:
        return bool(self._patterns or self._secrets)

    def __repr__(self) -> str:
        return f"<Rules: {len(self._patterns)} patterns, {len(self._secrets)} secrets>"

    @property
    def warning(self) -> str:
        """How many lines were hidden, if any."""
        count = self.hidden_lines
        lines = "1 line is" if count == 1 else f"{count:,} lines are"
        return f"{lines} hidden: a pattern to redact took too long there" if count else ""

    @property
    def by_lines(self) -> bool:
        """Whether unfinished lines must be held."""
        return bool(self._patterns)

    def redact(self, text: bytes, *, goes_on: bool = False) -> bytes:
        """A whole text at once; of one that ``goes_on``, what is certain whatever follows.

        That is all but the last ``WINDOW_BYTES``, or more.
        """
        redactor = Redactor(self)
        told = redactor.feed(text)
        return told if goes_on else told + redactor.flush(ends_inside=False)

    def redact_text(self, text: str, *, goes_on: bool = False) -> str:
        """The same for what is shown as text; what UTF-8 cannot carry is escaped."""
        data = self.redact(text.encode(errors="backslashreplace"), goes_on=goes_on)
        return data.decode(errors="replace")

    def spans(self, text: bytes, end: int) -> List[Span]:
        """Where secrets are in ``text``, and matches in the lines of ``text[:end]``.

        Sorted; those that overlap are one. The last line may end at ``end`` without a newline.
        """
        found: List[Span] = []
        for secret in self._secrets:
            start = text.find(secret)
            while start >= 0:
                found.append((start, start + len(secret)))
                start = text.find(secret, start + 1)
        if self._patterns and end:
            lines = text[:end].splitlines()
            if self._may_match(lines):
                found += self._matches(text[:end].splitlines(keepends=True))
        return _merged(found) if found else found

    def window_spans(self, text: bytes, start: int, end: int) -> List[Span]:
        """Matches in the windows of an unfinished line that begin at ``start`` and before ``end``.

        These are multiples of half a window from ``start`` on.
        """
        found: List[Span] = []

        def match() -> None:
            for at in range(start, end, _STEP):
                for a, b in self._of_window(text[at : at + WINDOW_BYTES], last=False):
                    found.append((at + a, at + b))

        try:
            self._bounded(match)
        except TooSlowError:
            self.hidden_lines += 1
            found.append((start, end))
        return found

    def tail(self, text: bytes) -> int:
        """Where the longest end of ``text`` begins that may be the beginning of a secret."""
        first = max(0, len(text) - self._longest + 1)
        last_line = text[max(first, text.rfind(b"\n", first) + 1) :]
        longest = 0
        for secret in self._secrets:
            head = secret[: _TOLD + 1]
            at = last_line.find(head)
            while at >= 0 and len(last_line) - at > longest:
                rest = last_line[at:]
                if len(rest) < len(secret) and secret.startswith(rest):
                    longest = len(rest)
                at = last_line.find(head, at + 1)
            for count in range(min(_TOLD, len(last_line)), longest, -1):
                if secret.startswith(last_line[-count:]):
                    longest = count
                    break
        return len(text) - longest

    def _may_match(self, lines: List[bytes]) -> bool:
        """In bulk. Where it is not known, or windows must tell, it is true."""
        if max(map(len, lines)) > WINDOW_BYTES:
            return True
        found = False

        def search() -> None:
            nonlocal found
            found = any(any(map(pattern.search, lines)) for pattern in self._patterns)

        try:
            self._bounded(search)
        except TooSlowError:
            return True
        return found

    def _matches(self, lines: List[bytes]) -> List[Span]:
        """Line by line; one that takes too long is hidden."""
        found: List[Span] = []
        done = offset = 0

        def match() -> None:
            nonlocal done, offset
            for line in lines[done:]:
                spans = [(offset + a, offset + b) for a, b in self._of_line(line.rstrip(b"\r\n"))]
                found.extend(spans)
                done += 1
                offset += len(line)

        slices = _SLICES
        while done < len(lines):
            before = done
            try:
                if slices:
                    self._bounded(match)
            except TooSlowError:
                slices -= 1
            if done == before:
                line = lines[done]
                found.append((offset, offset + len(line.rstrip(b"\r\n"))))
                self.hidden_lines += 1
                done += 1
                offset += len(line)
        return found

    def _of_line(self, line: bytes) -> Iterator[Span]:
        last = _last_window(len(line))
        for at in range(0, last + 1, _STEP):
            for a, b in self._of_window(line[at : at + WINDOW_BYTES], last=at == last):
                yield at + a, at + b

    def _of_window(self, window: bytes, *, last: bool) -> Iterator[Span]:
        for pattern in self._patterns:
            for match in pattern.finditer(window):
                if not last and match.start() >= _STEP:
                    break  # The next window sees more of it.
                if match.end() > match.start():
                    yield match.span()


class Redactor:
    """One stream. ``count``: how often something was replaced."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.count = 0
        self._held = b""
        # Of what is held so many bytes have been told, or replaced: they are there to be matched.
        self._told = 0
        self._marked = False  # Whether the last one of these was replaced.

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return len(self._held) > self._told

    def feed(self, data: bytes) -> bytes:
        """What may be told of the text up to here."""
        rules = self._rules
        text = self._held + data if self._held else data
        if not rules.by_lines:
            return self._tell(text, rules.spans(text, 0), rules.tail(text))
        fresh = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        line = len(self._held) + fresh if fresh else 0
        keep = line + _last_window(len(text) - line)
        if not keep:
            self._held = text
            return b""
        spans = rules.spans(text, line)
        if keep > line:
            spans = _merged(spans + rules.window_spans(text, line, keep))
        return self._tell(text, spans, keep)

    def idle(self) -> bytes:
        """What is held but for what may be a secret; call it when nothing has come for a while."""
        tail = self._rules.tail(self._held)
        keep = len(self._held) if len(self._held) - tail <= _TOLD else tail
        return self._release(keep, self._rules.spans(self._held, keep))

    def flush(self, *, ends_inside: bool = True) -> bytes:
        """All that is held. ``ends_inside``: a secret may go on behind its end."""
        held = self._held
        spans = self._rules.spans(held, len(held))
        tail = self._rules.tail(held)
        if ends_inside and len(held) - tail > _TOLD:
            spans = _merged([*spans, (tail, len(held))])
        return self._release(len(held), spans)

    def _release(self, keep: int, spans: List[Span]) -> bytes:
        """Tell ``held[:keep]``, and keep what later text may complete."""
        text = self._held
        data = self._tell(text, spans, keep)
        first = 0 if self._rules.by_lines else min(keep, self._rules.tail(text))
        self._told += keep - first
        self._held = text[first:]
        return data

    def _tell(self, text: bytes, spans: List[Span], keep: int) -> bytes:
        """``text[:keep]`` without its spans and without what has been told; the rest is held."""
        at, marked = self._told, self._marked
        if not spans and not at:
            self._held, self._marked = text[keep:], False
            return text[:keep]
        out: List[bytes] = []
        for start, end in spans:
            if start >= keep:
                break
            if end <= at:
                continue
            out.append(text[at:start])
            if start >= at or not marked:
                out.append(MARK)
                self.count += 1
            at, marked = end, True
        if at < keep:
            out.append(text[at:keep])
            at, marked = keep, False
        self._held, self._told, self._marked = text[keep:], at - keep, marked
        return b"".join(out)


def _last_window(length: int) -> int:
    """Where the last window of a line of that length begins."""
    return max(0, -(-(length - WINDOW_BYTES) // _STEP) * _STEP)


def _merged(spans: List[Span]) -> List[Span]:
    """Sorted; those that overlap are one."""
    spans.sort()
    out = spans[:1]
    for start, end in spans[1:]:
        if start < out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out
