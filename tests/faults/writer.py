"""Prints lines that can be judged: each says who wrote it as which one, with a checksum.

What a writer prints follows from its number and a seed, so a judge can write it again. It counts
in shared memory what its writes have put out, before and after each: what lies between may or may
not have arrived when it is killed. It imports the standard library only, and runs in procs, as
their commands, and as children of these:

    python tests/faults/writer.py TALLY SEED 7 --streams 12 --lines 10000 --rate 1000

Its number may be told as ``7+RANK``, of the environment's rank. The streams are written in threads.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import struct
import threading
import time
import zlib
from typing import Iterator, NamedTuple, Tuple

__all__ = ["ROOT", "LineSource", "Tally", "Written", "write_lines"]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_SLOT = struct.Struct("@QQ")
_SOURCES = 4096
_BASE_BYTES = 1 << 16
_SIZES = (0, 3, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 120, 200, 500, 3000)
_LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ \u00e9\u4e2d\N{GRINNING FACE} .:/_-=[]<>&"


class LineSource:
    """The lines of one stream of a writer: ``line(n)`` for n from 0."""

    def __init__(self, seed: int, source: int, stream: int) -> None:
        self._head = b"%d.%d." % (source, stream)
        self._mix = (seed * 97 + source * 31 + stream) & 0xFFFFFFFF
        letters = random.Random(seed).choices(_LETTERS, k=_BASE_BYTES)
        self._base = "".join(letters)

    def line(self, number: int) -> bytes:
        """One line with its newline."""
        key = zlib.crc32(b"%d" % number, self._mix)
        size, start = _SIZES[key & 15], (key >> 4) % (_BASE_BYTES - _SIZES[-1])
        text = b"%b%d %b" % (self._head, number, self._base[start : start + size].encode())
        return b"%b %08x\n" % (text, zlib.crc32(text))

    def number_of(self, line: bytes) -> int:
        """Which one of this source a line says it is; -1 if none."""
        head, _, _ = line.partition(b" ")
        number = head[len(self._head) :]
        return int(number) if head.startswith(self._head) and number.isdigit() else -1


class Written(NamedTuple):
    """Bytes of one stream: those of writes that have returned, and of those that have begun."""

    done: int
    begun: int


class Tally:
    """What all writers have written, in a file that they share; any process may read it."""

    def __init__(self, path: str) -> None:
        size = _SOURCES * 2 * _SLOT.size
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < size:
                os.ftruncate(fd, size)
            self._memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def written(self, source: int, stream: int) -> Written:
        """How far a stream has come; nothing written is (0, 0)."""
        done, begun = _SLOT.unpack_from(self._memory, self._place(source, stream))
        return Written(done, begun)

    def put(self, fd: int, source: int, stream: int, data: bytes) -> None:
        """Write all of ``data``, and count it."""
        place = self._place(source, stream)
        done, _ = _SLOT.unpack_from(self._memory, place)
        left = memoryview(data)
        while left:
            _SLOT.pack_into(self._memory, place, done, done + len(left))
            count = os.write(fd, left)
            done += count
            left = left[count:]
            _SLOT.pack_into(self._memory, place, done, done + len(left))

    def close(self) -> None:
        """Idempotent."""
        self._memory.close()

    @staticmethod
    def _place(source: int, stream: int) -> int:
        if not (0 <= source < _SOURCES and stream in (1, 2)):
            raise ValueError(f"source {source}, stream {stream}")
        return (source * 2 + stream - 1) * _SLOT.size


def _portions(lines: Iterator[bytes], sizes: random.Random) -> Iterator[Tuple[int, bytes]]:
    """(lines, data) as a program would write them: single lines, some at once, parts of lines."""
    rest = b""
    for line in lines:
        rest += line
        if sizes.random() < 0.2:
            continue
        cut = sizes.randrange(len(rest)) if sizes.random() < 0.1 else len(rest)
        yield rest.count(b"\n", 0, cut), rest[:cut]
        rest = rest[cut:]
    yield rest.count(b"\n"), rest


def write_lines(
    path: str, seed: int, source: int, stream: int = 1, *, lines: int, rate: float = 0.0
) -> None:
    """Write so many lines to fd 1 or 2, at most ``rate`` a second (0: as fast as it goes)."""
    tally = Tally(path)
    made = LineSource(seed, source, stream)
    dice = random.Random(f"{seed} {source} {stream}")
    began, count = time.monotonic(), 0
    for some, data in _portions(map(made.line, range(lines)), dice):
        tally.put(stream, source, stream, data)
        count += some
        ahead = count / rate - (time.monotonic() - began) if rate else 0.0
        if ahead > 0:
            time.sleep(ahead)
    tally.close()


def main() -> None:
    """The command line (see the module's text)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tally")
    parser.add_argument("seed", type=int)
    parser.add_argument("source")
    parser.add_argument("--streams", default="1")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.0)
    given = parser.parse_args()
    first, _, rank = given.source.partition("+")
    source = int(first) + (int(os.environ[rank]) if rank else 0)
    threads = [
        threading.Thread(
            target=write_lines,
            args=(given.tally, given.seed, source, int(stream)),
            kwargs={"lines": given.lines, "rate": given.rate},
        )
        for stream in given.streams
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
