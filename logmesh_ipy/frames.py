"""Frames: how a byte stream is cut into bounded pieces. Sans-IO; ``wire`` says what is in them.

A frame is ``u32 length`` (big-endian, of what follows), ``u8 kind``, body. ``length`` is at most
1 MiB, and at most 4 KiB until the handshake is done: an endless or absurd frame ends the
connection when its first four bytes are in.
"""

from __future__ import annotations

import struct
from typing import Iterator, List, Tuple, Union

from .errors import ProtocolError

__all__ = ["HEADER", "MAX_FRAME_BYTES", "MAX_HELLO_BYTES", "FrameDecoder", "frame"]

MAX_FRAME_BYTES = 1 << 20
MAX_HELLO_BYTES = 4096
HEADER = struct.Struct("!IB")


class FrameDecoder:
    """Cuts a byte stream into frames. Holds at most one incomplete frame.

    >>> FrameDecoder().feed(frame(9, b"body"))
    [(9, b'body')]
    """

    __slots__ = ("_buffer", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of the frame that is not complete yet."""
        return len(self._buffer)

    @property
    def missing_bytes(self) -> int:
        """How many bytes are missing to know the next frame's length, or to complete it."""
        pending = len(self._buffer)
        if pending < 4:
            return 4 - pending
        return 4 + int.from_bytes(self._buffer[:4], "big") - pending

    def feed(self, data: bytes) -> List[Tuple[int, bytes]]:
        """(kind, body) of each frame that ``data`` completes.

        Raises ProtocolError as soon as a length is not allowed, whatever has arrived of it.
        """
        frames: List[Tuple[int, bytes]] = []
        buffer: Union[bytes, bytearray] = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        position, end = 0, len(buffer)
        while end - position >= 4:
            length = int.from_bytes(buffer[position : position + 4], "big")
            if not 1 <= length <= self.max_frame_bytes:
                raise ProtocolError(
                    f"a frame of {length:,} bytes; 1 to {self.max_frame_bytes:,} are allowed"
                )
            stop = position + 4 + length
            if stop > end:
                break
            frames.append((buffer[position + 4], bytes(buffer[position + 5 : stop])))
            position = stop
        if buffer is self._buffer:
            del self._buffer[:position]
        else:
            self._buffer += data[position:]
        return frames

    def feed_slowly(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """``feed`` one frame at a time: the limit may be raised between two of them."""
        while data:
            missing = self.missing_bytes
            yield from self.feed(data[:missing])
            data = data[missing:]


def frame(kind: int, body: bytes) -> bytes:
    """The bytes of a frame that is passed on unread."""
    return HEADER.pack(len(body) + 1, kind) + body
