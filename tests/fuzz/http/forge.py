"""
Requests that are well framed, so that they can follow one another on a connection, and whatever else they like.

Each begins as a good request of one of the endpoints, with a key; then headers, address, method and body are changed
at random, the body by the mutator that knows the endpoint's grammar.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from daemon.events.signatures import datafly_signature
from tests.fuzz import corpus
from tests.fuzz.http.answers import Owner, owner_of
from tests.fuzz.http.keys import Keys
from tests.fuzz.http.words import GOOD, HEADER_NAMES, HEADER_VALUES, MERCHANT, PACKERS
from tests.fuzz.inputs.grammar import Grammar, split
from tests.fuzz.inputs.mutator import Mutator
from tests.fuzz.inputs.words import FILLERS, TEXTS
from tests.fuzz.targets import datafly, resultfly, tracklayer, webhooks
from tests.support.webhooks import WAYS, body_of, signed

#: Bytes of a header that is made long: all of a head may have 64 KiB.
HEADER_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024

PERSON = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"

Headers = list[tuple[str, bytes]]


class Shot(NamedTuple):
    """A request: its bytes, and what its answer has to be judged by. `kind` is its endpoint, for the report."""

    kind: str
    method: str
    owner: Owner
    data: bytes


class Draft:
    """A request that is still being made."""

    def __init__(
        self, kind: str, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> None:
        self.kind = kind
        self.method = method
        self.target = target
        self.headers: Headers = [(name, value.encode()) for name, value in headers.items()]
        self.body = body


class Forge:
    """Makes requests for one instance, out of one source of chance."""

    def __init__(self, rng: random.Random, keys: Keys) -> None:
        self._rng = rng
        self._keys = keys
        self._bodies = {
            "datafly": self._mutator("datafly-event", datafly.EVENT, 1),
            "batch": self._mutator("datafly-batch", datafly.EVENT, 0),
            "resultfly": self._mutator("resultfly-event", resultfly.EVENT, 0),
            "items": self._mutator("resultfly-batch", resultfly.EVENT, 0),
            "contract": self._mutator("resultfly-contract", resultfly.CONTRACT, 0),
            "tracklayer": self._mutator("tracklayer-event", tracklayer.EVENT, 0),
            "webhook": self._mutator("webhook-event", webhooks.BODY, 2),
        }
        self._query = Mutator(rng, datafly.QUERY, list(corpus.seeds("datafly-pixel").values()), 4096)
        self._text = Grammar("text", TEXTS[:40], ())
        self._kinds: tuple[Callable[[], Draft], ...] = (
            self._browser, self._browser, self._segment, self._batch, self._pixel, self._signed, self._webhook, self._cdp,
            self._cdp, self._cdp_batch, self._contract, self._track, self._track, self._page, self._page, self._elsewhere,
        )  # fmt: skip

    def _mutator(self, target: str, grammar: Grammar, part: int) -> Mutator:
        seeds = [split(data, part + 1)[part] for data in corpus.seeds(target).values()]
        mine = [data.replace(MERCHANT, self._keys.merchant.encode()) for data in seeds]
        return Mutator(self._rng, (grammar,), [data.partition(b"\x1e")[0] for data in mine], BODY_BYTES_MAX)

    def _body(self, kind: str) -> bytes:
        """A body for one of the endpoints: out of its mutator, or a good one that never was before."""
        rng = self._rng
        if rng.random() < 0.7:
            return self._bodies[kind].new()
        told = f"{rng.getrandbits(64):x}"
        good = msgspec.json.encode(GOOD[kind])
        return good.replace(b"$ID$", told.encode()).replace(MERCHANT, self._keys.merchant.encode())

    def shot(self) -> Shot:
        """The next request."""
        rng = self._rng
        draft = rng.choice(self._kinds)()
        while rng.random() < 0.45:
            rng.choice(_CHANGES)(self, draft)
        return self.framed(draft)

    def framed(self, draft: Draft) -> Shot:
        """The draft as bytes, its body either with its length or in chunks."""
        lines = [f"{draft.method} {draft.target} HTTP/1.1".encode(), b"Host: t.example.com"]
        lines += [name.encode() + b": " + value for name, value in draft.headers]
        body = draft.body
        if body and self._rng.random() < 0.15:
            lines.append(b"Transfer-Encoding: chunked")
            body = self._chunked(body)
        elif body or draft.method not in ("GET", "HEAD", "OPTIONS"):
            lines.append(b"Content-Length: %d" % len(body))
        data = b"\r\n".join(lines) + b"\r\n\r\n" + body
        return Shot(draft.kind, draft.method, owner_of(draft.target), data)

    def _chunked(self, body: bytes) -> bytes:
        rng = self._rng
        parts = []
        while body:
            size = rng.choice((1, 7, 512, len(body)))
            extension = rng.choice((b"", b"", b"", b";a=b", b";" + b"x" * 100))
            parts.append(b"%x%b\r\n%b\r\n" % (len(body[:size]), extension, body[:size]))
            body = body[size:] if len(parts) < 50 else b""
        return b"".join(parts) + b"0\r\n\r\n"

    # --- the endpoints

    def _headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "User-Agent": PERSON}

    def _browser(self) -> Draft:
        headers = self._headers(self._keys.pipeline) | {
            "Origin": self._keys.origin,
            "Referer": "https://shop.example.com/?gclid=1",
        }
        if self._rng.random() < 0.3:
            headers["Cookie"] = "_dfid=3f2504e0-4f89-41d3-9a0c-0305e82c3301; _ga=GA1.1.123.456; _ttp=abc"
        return Draft("browser", "POST", f"/v1/{self._rng.choice('tttpig')}", headers, self._body("datafly"))

    def _segment(self) -> Draft:
        kind = self._rng.choice(("track", "page", "identify", "group", "screen", "alias"))
        token = base64.b64encode(f"{self._keys.pipeline}:".encode()).decode()
        headers = self._headers("") | {"Authorization": f"Basic {token}"}
        return Draft("segment", "POST", f"/v1/{kind}", headers, self._body("datafly"))

    def _batch(self) -> Draft:
        return Draft("batch", "POST", "/v1/batch", self._headers(self._keys.pipeline), self._body("batch"))

    def _pixel(self) -> Draft:
        query = "".join(
            chr(byte) if 0x21 <= byte < 0x7F else f"%{byte:02X}" for byte in split(self._query.new(), 2)[1]
        )
        kind = self._rng.choice(("track", "page", "identify", "group"))
        return Draft(
            "pixel", "GET", f"/v1/pixel/{kind}?wk={self._keys.pipeline}&{query}", {"User-Agent": PERSON}
        )

    def _signed(self) -> Draft:
        body = self._body("datafly")
        told = str(int(time.time() * 1000))
        headers = {
            "X-Pipeline-Key": self._keys.pipeline,
            "X-Timestamp": told,
            "X-Signature": datafly_signature(self._keys.secret.encode(), told, body),
            "Content-Type": "application/json",
        }
        return Draft("signed", "POST", "/v1/events", headers, body)

    def _webhook(self) -> Draft:
        if not self._keys.webhooks:
            return self._elsewhere()
        way = self._rng.choice(list(self._keys.webhooks))
        body = self._bodies["webhook"].new() if self._rng.random() < 0.8 else body_of(way)
        target = f"/v1/webhook?source={self._keys.webhooks[way]}"
        headers = signed(way, body, f"http://t.example.com{target}") if way in WAYS else {}
        return Draft("webhook", "POST", target, headers, body)

    def _cdp(self) -> Draft:
        return Draft("cdp", "POST", "/v1/cdp/events", self._headers(self._keys.cdp), self._body("resultfly"))

    def _cdp_batch(self) -> Draft:
        return Draft(
            "cdp batch", "POST", "/v1/cdp/events/batch", self._headers(self._keys.cdp), self._body("items")
        )

    def _contract(self) -> Draft:
        rng = self._rng
        name = rng.choice(("purchase", "anything", "x%20y", "%00", "%FF", "a%2Fb", "", "é".encode().hex()))
        headers = self._headers(self._keys.cdp)
        # few are put and fewer deleted: the events of the run shall find some
        if rng.random() < 0.1:
            return Draft(
                "contracts",
                "PUT",
                f"/v1/cdp/contracts/fuzz-{rng.randrange(20)}",
                headers,
                self._body("contract"),
            )
        method = "DELETE" if rng.random() < 0.02 else "GET"
        query = rng.choice(
            ("", "", "?version=1", "?version=x", "?format=json-schema", "?version=" + "9" * 30)
        )
        return Draft("contracts", method, f"/v1/cdp/contracts{rng.choice(('', '/' + name))}{query}", headers)

    def _track(self) -> Draft:
        return Draft(
            "track", "POST", "/v1/events", self._headers(self._keys.merchant_key), self._body("tracklayer")
        )

    def _page(self) -> Draft:
        rng = self._rng
        headers = {"Content-Type": "text/plain", "User-Agent": PERSON, "Referer": "https://shop.example.com/"}
        headers["X-Forwarded-For"] = (
            f"203.0.113.{rng.randrange(256)}"
            if rng.random() < 0.5
            else f"2001:db8:{rng.randrange(65536):x}::1"
        )
        return Draft("page", "POST", "/v1/browser/events", headers, self._body("tracklayer"))

    def _elsewhere(self) -> Draft:
        rng = self._rng
        target = rng.choice(
            ("/", "/health", "/datafly.js", "/v1/pixel.js", "/openapi.json", "/v1/x", "/v1/t/", "//v1/t", "/v1/cdp/x", "/v1/browser/x",
             "/v1/pixel/x", "/v1/../v1/t", "/%2e%2e/etc/passwd", "/v1/%74", "/v1/t;x=1", "/v1/T", "/metrics", "/readyz", "/v1/t?" + "a=b&" * 500)
        )  # fmt: skip
        method = rng.choice(("GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"))
        headers = {"Accept-Encoding": rng.choice(("gzip", "br", "gzip;q=0, *", "identity", ";;q=x"))}
        return Draft("elsewhere", method, target, headers, b"" if method in ("GET", "HEAD") else b"{}")

    # --- the changes

    def _change_header(self, draft: Draft) -> None:
        if draft.headers:
            rng = self._rng
            at = rng.randrange(len(draft.headers))
            name, value = draft.headers[at]
            draft.headers[at] = (name, self._fit(self._bodies["datafly"].part(value, self._text)))

    def _drop_header(self, draft: Draft) -> None:
        if draft.headers:
            del draft.headers[self._rng.randrange(len(draft.headers))]

    def _double_header(self, draft: Draft) -> None:
        if draft.headers:
            draft.headers.append(self._rng.choice(draft.headers))

    def _add_header(self, draft: Draft) -> None:
        rng = self._rng
        name = rng.choice(HEADER_NAMES)
        value = rng.choice(HEADER_VALUES).encode("utf-8", "replace")
        if rng.random() < 0.2:
            filler = rng.choice(FILLERS).encode("utf-8", "replace")
            value = filler * (rng.choice((256, 4096, HEADER_BYTES_MAX)) // len(filler))
        draft.headers.append((name, self._fit(value)))

    def _add_headers(self, draft: Draft) -> None:
        draft.headers += [(f"X-{number}", b"v") for number in range(self._rng.choice((5, 40, 80)))]

    def _fit(self, value: bytes) -> bytes:
        """What HTTP allows in a header, and is no longer than one may be."""
        return bytes(byte for byte in value[:HEADER_BYTES_MAX] if byte >= 0x20 and byte != 0x7F).strip()

    def _change_method(self, draft: Draft) -> None:
        draft.method = self._rng.choice(
            (
                "GET",
                "POST",
                "PUT",
                "PATCH",
                "DELETE",
                "OPTIONS",
                "HEAD",
                "TRACE",
                "PROPFIND",
                "get",
                "M-SEARCH",
            )
        )

    def _change_target(self, draft: Draft) -> None:
        rng = self._rng
        at = rng.randrange(1, len(draft.target) + 1)
        piece = rng.choice(
            (
                "/",
                "?",
                "&",
                "%00",
                "%ff",
                "%C3%A9",
                "..",
                "//",
                "a",
                "=",
                ";",
                "%2f",
                "%25",
                "+",
                "~",
                "a" * 2000,
            )
        )
        draft.target = draft.target[:at] + piece + draft.target[at:]

    def _change_body(self, draft: Draft) -> None:
        draft.body = self._bodies["datafly"].part(draft.body, datafly.EVENT)

    def _pack(self, draft: Draft) -> None:
        rng = self._rng
        name, packer = rng.choice(PACKERS)
        packed = packer(draft.body)
        if rng.random() < 0.3:
            packed = rng.choice(
                (packed[:-3], packed + b"x", packed * 2, packed[:5] + b"\x00" + packed[6:], draft.body)
            )
        draft.body = packed
        draft.headers.append(("Content-Encoding", name))

    def _bomb(self, draft: Draft) -> None:
        rng = self._rng
        if rng.random() < 0.2:
            name, packer = rng.choice(PACKERS)
            draft.body = packer(
                rng.choice((b" ", b"\0", b'{"a":')) * rng.choice((100_000, 600_000, 1_500_000))
            )
            draft.headers.append(("Content-Encoding", name))


_CHANGES: tuple[Callable[[Forge, Draft], None], ...] = (
    Forge._change_header, Forge._change_header, Forge._drop_header, Forge._double_header, Forge._add_header, Forge._add_header,
    Forge._add_headers, Forge._change_method, Forge._change_target, Forge._change_body, Forge._pack, Forge._bomb,
)  # fmt: skip
