"""
Frames on a stream: 4 bytes of length (big-endian), then one message in msgpack.

`FrameReader` takes bytes as they come and gives whole messages; `pack` makes a frame. A frame over
the limit, or bytes that are no message, raise FrameError: the connection is then of no more use.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from daemon.errors import HeadgateError

T = TypeVar("T")

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()


class FrameError(HeadgateError):
    """The peer sent something that is no frame; close the connection."""


def pack(message: Any) -> bytes:
    """One message as a frame."""
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    _LENGTH.pack_into(buffer, 0, len(buffer) - 4)
    return bytes(buffer)


class FrameReader(Generic[T]):
    """
    Messages out of a byte stream.

    `kind` is the union to decode to; `bytes_max` bounds one frame (and so what is held back of an
    unfinished one).
    """

    def __init__(self, kind: Any, bytes_max: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._bytes_max = bytes_max
        self._held = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[T]:
        """Take `data`; give each message that is whole now. Raises FrameError."""
        messages: list[T] = []
        held = self._held
        if held:
            held += data
            data = held
        start = 0
        end = len(data)
        # The view must be gone before the buffer is cut, hence the inner block.
        with memoryview(data) as view:
            while end - start >= 4:
                (size,) = _LENGTH.unpack_from(view, start)
                if size > self._bytes_max:
                    raise FrameError(f"a frame of {size} bytes is over the limit of {self._bytes_max}")
                if end - start - 4 < size:
                    break
                try:
                    messages.append(self._decoder.decode(view[start + 4 : start + 4 + size]))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise FrameError(f"a frame holds no message: {error}") from error
                start += 4 + size
            # Mostly the bytes end with a frame, and nothing is copied to be held.
            if data is not held and start < end:
                held += view[start:]
        if data is held:
            del held[:start]
        return messages
