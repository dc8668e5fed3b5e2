"""Compressed bodies: garbage, bombs, cut short, with something behind."""

from __future__ import annotations

import gzip
import random
import zlib

import brotli
import zstandard

from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend.body import ENCODINGS, inflate
from daemon.frontend.refusal import Refusal
from tests.fuzz.inputs.grammar import Grammar, split, text_of
from tests.fuzz.targets.target import Target, refused

BYTES_MAX = 64 * 1024


def body(data: bytes) -> str:
    """A body in one of the encodings: its bytes within the limit, or a refusal."""
    encoding, packed = split(data, 2)
    name = text_of(encoding)
    try:
        found = inflate(packed, name if name in ENCODINGS else "gzip", BYTES_MAX)
    except InvalidPayload as error:
        return refused(error, error.message)
    except Refusal as refusal:
        assert refusal.outcome is Outcome.TOO_LARGE
        return refused(refusal, refusal.message)
    assert len(found) <= BYTES_MAX
    return "inflated"


def _packed(rng: random.Random) -> bytes:
    """Something compressed: small, at the limit, a bomb; one piece or several."""
    size = rng.choice(
        (
            0,
            1,
            40,
            1000,
            BYTES_MAX - 1,
            BYTES_MAX,
            BYTES_MAX + 1,
            4 * BYTES_MAX,
            16 * 1024 * 1024 * (rng.random() < 0.1),
        )
    )
    plain = (rng.randbytes(size % 97 + 1) * (size // (size % 97 + 1) + 1))[:size]
    match rng.randrange(7):
        case 0:
            return gzip.compress(plain, 1, mtime=0)
        case 1:
            return zlib.compress(plain, 1)
        case 2:
            packer = zlib.compressobj(1, zlib.DEFLATED, -15)
            return packer.compress(plain) + packer.flush()
        case 3:
            return bytes(brotli.compress(plain[: 1024 * 1024], quality=1))
        case 4:
            # a frame that asks for a window of up to 2 GiB
            window_log, sized = rng.choice((10, 20, 23, 24, 27)), rng.random() < 0.5
            options = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=sized)
            return zstandard.ZstdCompressor(compression_params=options).compress(plain)
        case 5:
            return zstandard.ZstdCompressor().compress(plain)
    return gzip.compress(plain[:100], 1, mtime=0) * rng.choice((2, 63, 64, 65, 200))


TARGETS = (
    Target(
        "body", "compressed bodies", body, (Grammar("text", ENCODINGS), Grammar("bytes", made=_packed)), 128 * 1024, share=1
    ),
)  # fmt: skip
