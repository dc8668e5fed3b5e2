"""
What Redis keeps of keys for all frontends, and how a change of keys is announced.

A cached key is `<number of the last change that its reader had seen>:<msgpack of the source>`. So a
copy can be told from an outdated one whenever it was written: it is older than the key's last change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from daemon.adapters.keystore.memory import Change
from daemon.adapters.redis.script import KEYS_CHANGED, KEYS_PUT
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.ports import Source

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_source = msgspec.msgpack.Decoder(Source).decode
_changes = msgspec.msgpack.Decoder(list[Change]).decode


def channel(settings: Settings) -> str:
    """The channel of announcements."""
    return f"{settings.redis.prefix}k:changes"


def read_announcement(message: bytes) -> list[Change]:
    """The changes of a message; none when it is not one of ours."""
    try:
        return _changes(message)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


class SharedKeys:
    """The keys in Redis."""

    def __init__(self, wire: RedisWire, settings: Settings) -> None:
        self._wire = wire
        self._prefix = f"{settings.redis.prefix}k:"
        self._channel = channel(settings)
        self._ttl_ms = max(1, int(settings.keys.redis_ttl_s * 1000))

    async def get(self, digests: Sequence[bytes]) -> dict[bytes, tuple[int, Source]]:
        """What is cached, each with its number; nothing while Redis is away."""
        if not self._wire.up:
            return {}
        try:
            values = await self._wire.command("MGET", *(self._prefix + digest.hex() for digest in digests))
        except (StoreUnavailable, CommandError):
            return {}
        found: dict[bytes, tuple[int, Source]] = {}
        for digest, value in zip(digests, values, strict=True):
            number, _, packed = (value or b"").partition(b":")
            if packed:
                try:
                    found[digest] = int(number), _source(packed)
                except (ValueError, msgspec.MsgspecError):
                    continue  # of another version of Headgate: as good as none
        return found

    async def put(self, seq: int, sources: Iterable[tuple[bytes, Source]]) -> None:
        """Cache what was read when `seq` was the last change; later knowledge stays."""
        rows = [part for digest, source in sources for part in (digest.hex(), _encode(source))]
        if rows and self._wire.up:
            try:
                await self._wire.call(KEYS_PUT, self._prefix, self._ttl_ms, seq, *rows)
            except StoreUnavailable:
                return
            except CommandError as error:
                log.error("Redis refuses to cache keys: %s", error)  # noqa: TRY400

    async def announce(self, changes: Sequence[Change]) -> bool:
        """Make every frontend forget what the changes concern; whether Redis took it."""
        rows = [(digest.hex(), change.seq) for change in changes for digest in change.digests]
        try:
            await self._wire.call(
                KEYS_CHANGED, _encode((self._prefix, self._ttl_ms, rows)), self._channel, _encode(changes)
            )
        except StoreUnavailable:
            return False
        except CommandError as error:
            log.error("Redis refuses to announce changed keys: %s", error)  # noqa: TRY400
            return False
        return True
