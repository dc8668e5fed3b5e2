"""
Reading what is left of a damaged file, without SQLite, which gives up at the first page that it does not understand.

The pages of the file, with the committed pages of its WAL over them, are looked at one by one. Each leaf of a table
holds whole rows or their beginnings; the rest of a row stands in a chain of overflow pages. A row is taken if it has
the shape of one and its checksum is right, so whatever else lies in the pages does no harm. Pages that SQLite had
given free (drained rows) are told by its own map of them and left out.

Format: https://sqlite.org/fileformat2.html (sections 1.3, 1.6, 1.8, 2.1 and 4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from daemon.adapters.local.aside import wal_of
from daemon.adapters.local.rows import DamagedRow, Row, read_row

_MAGIC = b"SQLite format 3\x00"
#: What our files have unless their head says otherwise.
PAGE_BYTES = 4096
#: A row is cut at 512 KiB of events; one event can be larger than that, but never this large.
PAYLOAD_BYTES_MAX = 1 << 30
_LEAF = b"\x0d"
#: Kinds of pages in the map of pages: free, and the two kinds of overflow. None of them is a leaf in use.
_NO_LEAF = (b"\x02", b"\x03", b"\x04")


class Found(NamedTuple):
    """A row that is whole."""

    number: int
    state: int
    row: Row


class Damaged(NamedTuple):
    """A row that was there and can't be read, with the number of records that it names (0: not known)."""

    number: int
    records: int


class Image:
    """The pages of the file at `path` and of its WAL. Use it in a `with`. Raises OSError when they can't be opened."""

    def __init__(self, path: Path) -> None:
        self._file = _Bytes(path)
        self._wal = _Bytes(wal_of(path))
        head = self._file.read(0, 100)
        told = struct.unpack(">H", head[16:18])[0] if len(head) == 100 else 0
        size = 65536 if told == 1 else told
        wal_head = self._wal.read(0, 32)
        wal_size = struct.unpack(">I", wal_head[8:12])[0] if len(wal_head) == 32 else 0
        good = head.startswith(_MAGIC) and _is_page_size(size)
        self.page_bytes = size if good else wal_size if _is_page_size(wal_size) else PAGE_BYTES
        self.usable = self.page_bytes - (head[20] if good else 0)
        self._frames = self._committed_frames(wal_head)
        self.pages = max([self._file.size // self.page_bytes, *self._frames])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._wal.close()

    def page(self, number: int) -> bytes:
        """Page `number`, counted from 1; empty where there is none, or the disk does not give it."""
        at = self._frames.get(number)
        if at is not None:
            return self._wal.read(at, self.page_bytes)
        return self._file.read((number - 1) * self.page_bytes, self.page_bytes) if number > 0 else b""

    def in_use(self, number: int) -> bool:
        """Whether page `number` may be a leaf, by the map of pages; where that says nothing, it may."""
        per_map = self.usable // 5 + 1
        if number < 2:
            return False
        map_page = (number - 2) // per_map * per_map + 2
        if number == map_page:
            return False
        at = 5 * (number - map_page - 1)
        return self.page(map_page)[at : at + 1] not in _NO_LEAF

    def _committed_frames(self, wal_head: bytes) -> dict[int, int]:
        """Page → where its newest committed version stands in the WAL."""
        if len(wal_head) < 32 or struct.unpack(">I", wal_head[:4])[0] & ~1 != 0x377F0682:
            return {}
        committed: dict[int, int] = {}
        begun: dict[int, int] = {}
        at = 32
        while at + 24 + self.page_bytes <= self._wal.size:
            head = self._wal.read(at, 24)
            # Frames of an older round of the WAL stand behind those of this one, with other salts.
            if head[8:16] != wal_head[16:24]:
                break
            number, size_after_commit = struct.unpack(">II", head[:8])
            begun[number] = at + 24
            if size_after_commit:
                committed |= begun
                begun = {}
            at += 24 + self.page_bytes
        return committed


class Chunk(NamedTuple):
    """What the pages up to `page` (the last one looked at) held."""

    page: int
    found: list[Found]
    damaged: list[Damaged]


def chunks(image: Image, first_page: int, bytes_max: int, pages_max: int) -> Iterator[Chunk]:
    """
    The rows in the pages from `first_page` on, as near to their order as the pages allow.

    A chunk ends with a page, after about `bytes_max` bytes of rows or `pages_max` pages.
    """
    found: list[Found] = []
    damaged: list[Damaged] = []
    size = began = 0
    for number in range(first_page, image.pages + 1):
        page = image.page(number)
        if page[:1] == _LEAF and image.in_use(number):
            for one in _cells(image, page):
                if isinstance(one, Found):
                    found.append(one)
                    size += len(one.row.body)
                else:
                    damaged.append(one)
        began += 1
        if size >= bytes_max or began >= pages_max or number == image.pages:
            yield Chunk(number, sorted(found, key=lambda one: one.number), damaged)
            found, damaged, size, began = [], [], 0, 0


def _cells(image: Image, page: bytes) -> Iterator[Found | Damaged]:
    count = struct.unpack(">H", page[3:5])[0]
    if 8 + 2 * count > len(page):
        return
    for at in struct.unpack(f">{count}H", page[8 : 8 + 2 * count]):
        try:
            one = _cell(image, page, at)
        except (IndexError, struct.error):
            continue
        if one is not None:
            yield one


def _cell(image: Image, page: bytes, at: int) -> Found | Damaged | None:
    """The row whose cell begins at `at`; None for what is none of ours."""
    size, at = _varint(page, at)
    number, at = _varint(page, at)
    if not 8 < size <= PAYLOAD_BYTES_MAX or not 0 < number < 1 << 62:
        return None
    payload = _payload(image, page, at, size)
    head, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    # id (NULL, as it is the row's number), state, topic, first_ms, last_ms, records, body, and perhaps the checksum.
    if not 7 <= len(kinds) <= 8 or kinds[0] != 0 or kinds[2] < 13 or not kinds[2] & 1:
        return None
    if kinds[6] < 12 or kinds[6] & 1 or any(kind > 9 for kind in (kinds[1], *kinds[3:6], *kinds[7:])):
        return None
    values: list[int | bytes | None] = []
    for kind in kinds:
        length = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]
        values.append(_value(kind, payload[at : at + length]))
        at += length
    return _row(number, values, whole=at <= len(payload))


def _row(number: int, values: list[int | bytes | None], *, whole: bool) -> Found | Damaged | None:
    _, state, topic, first_ms, last_ms, records, body, *rest = values
    check = rest[0] if rest else None
    if not (
        isinstance(state, int)
        and isinstance(topic, bytes)
        and isinstance(first_ms, int)
        and isinstance(last_ms, int)
        and isinstance(records, int)
        and isinstance(body, bytes)
        and not isinstance(check, bytes)
    ):
        return None
    try:
        name = topic.decode()
        held = read_row(name, body, check)
    except (DamagedRow, UnicodeError):
        return Damaged(number, records if 0 < records < 1_000_000 else 0)
    if not whole or sum(len(batch.records) for batch in held) != records:
        return Damaged(number, 0)
    return Found(number, state, Row(name, first_ms, last_ms, records, body))


def _payload(image: Image, page: bytes, at: int, size: int) -> bytes:
    """A cell's payload, the part on overflow pages included; shorter than `size` where a page is missing."""
    usable = image.usable
    most = usable - 35
    if size <= most:
        return page[at : at + size]
    least = (usable - 12) * 32 // 255 - 23
    here = least + (size - least) % (usable - 4)
    here = here if here <= most else least
    parts = [page[at : at + here]]
    left = size - here
    following = struct.unpack(">I", page[at + here : at + here + 4])[0]
    while left > 0:
        overflow = image.page(following)
        if not overflow:
            break
        following = struct.unpack(">I", overflow[:4])[0]
        parts.append(overflow[4 : 4 + min(left, usable - 4)])
        left -= usable - 4
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where the next thing begins. Raises IndexError past the end."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1


def _value(kind: int, data: bytes) -> int | bytes | None:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind <= 6:
        return int.from_bytes(data, "big", signed=True)
    return data


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


class _Bytes:
    """A file by position. Not mapped: what the disk can't read would end the process instead of being an error."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self.size = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        self.size = os.fstat(self._descriptor).st_size

    def read(self, at: int, size: int) -> bytes:
        """`size` bytes from `at` on; empty where they are not all there."""
        if at + size > self.size:
            return b""
        try:
            found = os.pread(self._descriptor, size, at)
        except OSError:
            return b""  # a bad block: the rest may be good
        return found if len(found) == size else b""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
