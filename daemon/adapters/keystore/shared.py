"""
What Redis keeps of keys for all frontends, and how a change of keys is announced.

A cached key is `<number of the last change that its reader had seen>:<kind><msgpack>`, where the kind is
`s` for a source and `k` for a key of a server's own (ResultFly, TrackLayer). So a copy can be told from an outdated one whenever it was written: it is older than the key's last change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from daemon.adapters.keystore.memory import Change, Held
from daemon.adapters.redis.script import KEYS_CHANGED, KEYS_PUT
from daemon.adapters.redis.wire import CommandError, RedisWire
from daemon.config.schema import Settings
from daemon.errors import StoreUnavailable
from daemon.ports import ApiKey, Source

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[bytes, Callable[[bytes], Held]] = {
    b"s": msgspec.msgpack.Decoder(Source).decode,
    b"k": msgspec.msgpack.Decoder(ApiKey).decode,
}
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

    async def get(self, digests: Sequence[bytes]) -> dict[bytes, tuple[int, Held]]:
        """What is cached, each with its number; nothing while Redis is away."""
        if not self._wire.up:
            return {}
        try:
            values = await self._wire.command("MGET", *(self._prefix + digest.hex() for digest in digests))
        except (StoreUnavailable, CommandError):
            return {}
        found: dict[bytes, tuple[int, Held]] = {}
        for digest, value in zip(digests, values, strict=True):
            number, _, packed = (value or b"").partition(b":")
            if packed:
                try:
                    found[digest] = int(number), _decoders[packed[:1]](packed[1:])
                except (ValueError, KeyError, msgspec.MsgspecError):
                    continue  # of another version of Headgate: as good as none
        return found

    async def put(self, seq: int, keys: Iterable[tuple[bytes, Held]]) -> None:
        """Cache what was read when `seq` was the last change; later knowledge stays."""
        rows = [part for digest, held in keys for part in (digest.hex(), _packed(held))]
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


def _packed(held: Held) -> bytes:
    return (b"s" if isinstance(held, Source) else b"k") + _encode(held)
