"""
How the senders of webhooks sign (contracts A.5, F.6): one scheme per kind.

A scheme checks a request against the secrets that are good now (two during a rotation), and signs a
request as the sender would, for tests and for `headgate webhooks test`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol
from urllib.parse import unquote

from msgspec import Struct

from daemon.events.signatures.common import (
    BadSignature,
    SignedRequest,
    any_same,
    check_time,
    number,
)

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]

#: Signatures of one request that are looked at; senders that rotate send two.
_SIGNATURES_MAX = 16


class Scheme(Protocol):
    """One way of signing."""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        """Raise BadSignature unless one of `secrets` has signed the request."""
        ...

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        """The headers that a sender adds to a request; `delivery` is its id."""
        ...


class Stripe(Struct, frozen=True):
    """`Stripe-Signature: t=…,v1=…[,v1=…]`: HMAC-SHA256 of `{t}.{body}` in hex; the key is the whole `whsec_…`."""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        timestamp, given = "", []
        for part in request.header("Stripe-Signature").split(",")[:_SIGNATURES_MAX]:
            name, _, value = part.strip().partition("=")
            if name == "t":
                timestamp = value
            elif name == "v1":
                given.append(value)
        seconds = number(timestamp, "t in Stripe-Signature")
        expected = (_stripe(secret, timestamp, request.body) for secret in secrets)
        _require(any_same(expected, given), "Stripe-Signature")
        check_time(seconds * 1000, now_ms, "the time in Stripe-Signature")

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        del delivery  # Stripe's is the body's `id`
        timestamp = str(now_ms // 1000)
        return {"stripe-signature": f"t={timestamp},v1={_stripe(secret, timestamp, request.body)}"}


def _stripe(secret: bytes, timestamp: str, body: bytes) -> str:
    return _hmac("sha256", secret, timestamp.encode() + b"." + body).hex()


class HubSpot(Struct, frozen=True):
    """`X-HubSpot-Signature-v3`: HMAC-SHA256 of method + decoded URI + body + timestamp (ms), in base64."""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        given = request.header("X-HubSpot-Signature-v3")
        timestamp = request.header("X-HubSpot-Request-Timestamp")
        milliseconds = number(timestamp, "X-HubSpot-Request-Timestamp")
        expected = [
            _hubspot(secret, request.method, uri, request.body, timestamp)
            for secret in secrets
            for uri in hubspot_uris(request.uri)
        ]
        if not any_same(expected, [given]):
            # the usual cause: a proxy that is not in server.trusted_proxies, so that we think of http
            raise BadSignature(
                f"X-HubSpot-Signature-v3 does not fit the body, the secret and {request.method} {request.uri[:300]}"
            )
        check_time(milliseconds, now_ms, "X-HubSpot-Request-Timestamp")

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        del delivery  # HubSpot's are in the body
        timestamp = str(now_ms)
        uri = hubspot_uris(request.uri)[0]
        return {
            "x-hubspot-signature-v3": _hubspot(secret, request.method, uri, request.body, timestamp),
            "x-hubspot-request-timestamp": timestamp,
        }


#: The sequences that HubSpot decodes in the URI before it signs ("Validate the v3 request signature").
_HUBSPOT_DECODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def hubspot_uris(uri: str) -> list[str]:
    """The URI as HubSpot may have signed it: decoded as its page lists, and decoded all through."""
    listed = _HUBSPOT_DECODED.sub(lambda match: chr(int(match[0][1:], 16)), uri)
    return list(dict.fromkeys((listed, unquote(uri))))


def _hubspot(secret: bytes, method: str, uri: str, body: bytes, timestamp: str) -> str:
    signed = method.encode() + uri.encode("utf-8", "surrogatepass") + body + timestamp.encode()
    return base64.b64encode(_hmac("sha256", secret, signed)).decode()


class StandardWebhooks(Struct, frozen=True):
    """
    `webhook-signature`: space-separated `v1,` + base64 of HMAC-SHA256 of `{id}.{timestamp}.{body}`.

    The key is what stands in base64 after `whsec_`. Times are Unix seconds.
    """

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        delivery = request.header("webhook-id")
        timestamp = request.header("webhook-timestamp")
        seconds = number(timestamp, "webhook-timestamp")
        given = request.header("webhook-signature").split(" ")[:_SIGNATURES_MAX]
        expected = (_standard(secret, delivery, timestamp, request.body) for secret in secrets)
        _require(any_same(expected, given), "webhook-signature")
        check_time(seconds * 1000, now_ms, "webhook-timestamp")

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        timestamp = str(now_ms // 1000)
        return {
            "webhook-id": delivery,
            "webhook-timestamp": timestamp,
            "webhook-signature": _standard(secret, delivery, timestamp, request.body),
        }


def standard_key(secret: bytes) -> bytes:
    """The key in a Standard Webhooks secret. Raises ValueError when it is not base64 or empty."""
    try:
        text = secret.removeprefix(b"whsec_").rstrip(b"=")
        key = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)  # some leave the padding out
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if not key:
        raise ValueError("it is empty")
    return key


def _standard(secret: bytes, delivery: str, timestamp: str, body: bytes) -> str:
    signed = f"{delivery}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return "v1," + base64.b64encode(_hmac("sha256", standard_key(secret), signed)).decode()


class Hmac(Struct, frozen=True):
    """
    A header with `prefix` + the HMAC of the body: Shopify, GitHub, and whoever does it their own way.

    The comparison is of the text as it has to be: upper-case hex or another spelling of the same base64
    is another text.
    """

    header: str
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        del now_ms  # nothing signs a time here
        given = request.header(self.header)
        _require(any_same((self._of(secret, request.body) for secret in secrets), [given]), self.header)

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        del now_ms, delivery
        return {self.header.lower(): self._of(secret, request.body)}

    def _of(self, secret: bytes, body: bytes) -> str:
        digest = _hmac(self.algorithm, secret, body)
        text = digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode()
        return self.prefix + text


class SharedSecret(Struct, frozen=True):
    """A header with `prefix` + the secret itself: no signature, only a password. Nothing guards the body."""

    header: str
    prefix: str = ""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        del now_ms
        given = request.header(self.header)
        expected: Iterable[str] = (self.prefix + secret.decode() for secret in secrets)
        if not any_same(expected, [given]):
            raise BadSignature(f"{self.header} does not hold the webhook's secret")

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        del request, now_ms, delivery
        return {self.header.lower(): self.prefix + secret.decode()}


class Unsigned(Struct, frozen=True):
    """Whoever knows the address may send."""

    def check(self, request: SignedRequest, secrets: Sequence[bytes], now_ms: int) -> None:
        """Everything passes."""

    def sign(self, request: SignedRequest, secret: bytes, now_ms: int, delivery: str) -> dict[str, str]:
        del request, secret, now_ms, delivery
        return {}


SHOPIFY = Hmac("X-Shopify-Hmac-Sha256", encoding="base64")
GITHUB = Hmac("X-Hub-Signature-256", prefix="sha256=")


def _hmac(algorithm: Algorithm, key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, getattr(hashlib, algorithm))


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise BadSignature(f"{name} does not fit the body and the webhook's secret")
