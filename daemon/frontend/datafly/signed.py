"""
Which source a server's request belongs to, and whether it may speak for it (contracts A.2, 0.2.15).

A request is signed, or carries a pipeline key; `X-Signature` decides first, and a failed check never
falls back to another way. The secrets of sources are never tried in turn: the request names its source.
"""

from __future__ import annotations

from daemon.events import datafly
from daemon.events.outcome import Outcome
from daemon.events.signatures import BadSignature, check_datafly
from daemon.frontend import auth, body
from daemon.frontend.datafly.door import DataflyEndpoint
from daemon.frontend.endpoint import Call
from daemon.frontend.query import parameter
from daemon.frontend.refusal import Refusal
from daemon.ports import Source


class SignedEndpoint(DataflyEndpoint):
    """Base of the endpoints that take signed requests."""

    def signature(self, call: Call) -> str | None:
        """`X-Signature`; None where it is absent or empty."""
        return call.headers.get("x-signature") or None

    async def signed_body(
        self, call: Call, signature: str, length: int | None, bytes_max: int
    ) -> tuple[Source, bytes]:
        """The source and the inflated body of a signed request. Refuses (401) a signature that does not fit."""
        headers = call.headers
        source = await self._named_source(call)
        data = await self.kit.bodies.read(call.transport, length, None, bytes_max)
        call.unread = False
        secret = await self.kit.directory.secret(source.id)
        if secret is None:
            raise _bad_signature(f"source {source.id} has no secret key to check a signature with")
        try:
            check_datafly(secret, signature, headers.get("x-timestamp"), data, int(self.kit.now() * 1000))
        except BadSignature as error:
            code = datafly.TIMESTAMP_OUT_OF_RANGE if error.stale else datafly.INVALID_SIGNATURE
            raise Refusal(Outcome.INVALID_KEY, str(error), code=code) from None
        encoding = headers.get("content-encoding")
        if encoding and encoding.strip().lower() != "identity":
            data = body.inflate(data, encoding.strip().lower(), bytes_max)
        return source, data

    async def _named_source(self, call: Call) -> Source:
        """By X-Pipeline-Key, else the Bearer or Basic key, else ?source=, else the Host."""
        scope, headers = call.scope, call.headers
        key = headers.get("x-pipeline-key")
        if key:
            return await self.source_of(auth.checked(key.strip()))
        if headers.get("authorization") is not None:
            return await self.by_key(call, in_query=False)
        source_id = parameter(scope.query_string, "source")
        if not source_id:
            host = str(headers.get("host", "")).lower()
            hosts = self.kit.settings.datafly.hosts
            source_id = hosts.get(host) or hosts.get(host.partition(":")[0], "")
        if not source_id:
            raise auth.bad_key("the request names no source; send X-Pipeline-Key: dk_… beside the signature")
        source = await self.kit.directory.by_id(source_id)
        if source is None:
            raise auth.bad_key("unknown or disabled source")
        return source


def _bad_signature(message: str) -> Refusal:
    return Refusal(Outcome.INVALID_KEY, message, code=datafly.INVALID_SIGNATURE)
