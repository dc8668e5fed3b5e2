"""
POST /v1/t, /v1/p, /v1/i, /v1/g: Datafly's browser endpoints (contracts A.1, A.8, 0.2).

`BrowserEndpoint._steps` is the path of a request, step by step; each step goes on or refuses.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from daemon.errors import Unavailable
from daemon.events import clickids, datafly, identity
from daemon.events.datafly import Event, Received
from daemon.events.envelope import IdDeriver, encode, record_key
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.frontend import auth, body, cookies, cors, limits
from daemon.frontend.body import CallerGone
from daemon.frontend.kit import Kit, Times
from daemon.frontend.refusal import Headers, Refusal, unavailable
from daemon.frontend.reply import CLOSE, JSON, Reply, datafly_error
from daemon.frontend.rsgi import Scope, Transport
from daemon.ports import Durability, Record, Source, Visit

log = logging.getLogger(__name__)

#: Seconds between looks at an id that another request has claimed and not finished.
PENDING_POLL_S = 0.02
#: Seconds after which such a request is answered 503 with Retry-After: 1.
PENDING_WAIT_S = 1.0


class BrowserEndpoint:
    """One of the four paths. `letter` is its last part: t, p, i or g."""

    def __init__(self, kit: Kit, letter: str) -> None:
        self._kit = kit
        self._type = datafly.BROWSER_TYPES[letter]
        self._identity = kit.settings.identity
        self._claims = kit.settings.claims
        self._development = kit.settings.development
        self._times = Times()
        self._derivers: dict[str, IdDeriver] = {}
        metrics = kit.accounts.metrics
        self._seconds = metrics.requests.at(letter)
        self._body_s = metrics.stages.at("body")
        self._decode_s = metrics.stages.at("decode")

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        if scope.method != "POST":
            self._other_method(scope, transport)
            return
        accounts = self._kit.accounts
        accounts.received()
        started = perf_counter()
        outcome = Outcome.UNAVAILABLE
        cors_headers: Headers = []
        try:
            outcome, reply = await self._steps(scope, transport, started, cors_headers)
        except CallerGone:
            outcome = Outcome.TIMEOUT
            return
        except Exception as error:  # noqa: BLE001  every failure has its answer, see _refusal
            refusal = _refusal(error)
            outcome = refusal.outcome
            reply = self._refused(scope, refusal, cors_headers)
        finally:
            accounts.ended(outcome)
        if self._kit.draining:
            reply.headers.append(CLOSE)
        transport.response_bytes(reply.status, reply.headers, reply.body)
        self._seconds.observe(perf_counter() - started)

    # --- the path of a request ---------------------------------------------------------------------

    async def _steps(
        self, scope: Scope, transport: Transport, started: float, cors_headers: Headers
    ) -> tuple[Outcome, Reply]:
        kit = self._kit
        if kit.accounts.in_work > kit.settings.server.requests_max:
            raise unavailable("too many requests in work", 1.0)
        source = await self._source(scope)
        self._check_origin(scope, source, cors_headers)
        headers = scope.headers
        body.check_type(headers)
        encoding = headers.get("content-encoding")
        body.check_encoding(encoding)
        bytes_max = kit.settings.limits.body_bytes_max
        length = body.check_length(headers, bytes_max)
        await limits.take(kit.limiter, source, kit.settings.limits)
        data = await kit.bodies.read(transport, length, encoding, bytes_max)
        read = perf_counter()
        self._body_s.observe(read - started)
        event = datafly.decode(data, self._type)
        work = self._recognised(scope, source, event)
        self._decode_s.observe(perf_counter() - read)
        outcome = await self._published(work)
        return outcome, self._answer(scope, source, work, outcome, cors_headers)

    async def _source(self, scope: Scope) -> Source:
        token = auth.pipeline_key(scope)
        source = self._kit.keys.cached(token)
        if source is None:
            source = await self._kit.keys.find(token)
            if source is None:
                raise auth.bad_key()
        return source

    def _check_origin(self, scope: Scope, source: Source, cors_headers: Headers) -> None:
        origin = scope.headers.get("origin")
        if origin is None:
            return
        if not cors.allowed(origin, source.origins, self._development):
            raise Refusal(
                Outcome.FORBIDDEN,
                f"origin {origin[:200]!r} is not among the source's origins; add it to the source",
            )
        cors_headers += cors.reply_headers(origin)

    def _recognised(self, scope: Scope, source: Source, event: Event) -> BrowserWork:
        """Who the visitor is, what their identity hash shall learn, and the event's id."""
        kit = self._kit
        now_s = kit.now()
        headers = scope.headers
        sent = identity.read_cookies(headers.get("cookie"))
        visitor, fresh, cookie = self._visitor(sent.visitor, event.anonymousId)
        url = datafly.page_url(event) or headers.get("referer")
        clicks = clickids.from_url(url) if url else {}
        missing = tuple(name for name in identity.VENDOR_COOKIES if name not in sent.vendors)
        made = identity.new_vendor_ids(missing, clicks, now_s, kit.random.take(24)) if missing else {}

        learn = identity.click_fields(clicks, now_s) if clicks else {}
        if event.type == "identify" and event.userId:
            learn["uid"] = event.userId
        learn_once = identity.vendor_fields(made)
        if fresh and sent.vendors:
            learn_once.update(identity.vendor_fields(sent.vendors))
        ttl_s = self._identity.ttl_s
        if fresh and "uid" not in learn:
            ttl_s = self._identity.new_visitor_ttl_s
            if clicks:
                ttl_s = max(ttl_s, self._identity.click_id_ttl_s)

        if event.messageId is not None:
            event_id = self._deriver(source).of(event.messageId)
            claim_id: str | None = event_id
        else:
            event_id, claim_id = kit.random.take(16).hex(), None
        visit = Visit(
            claim_id=claim_id,
            claim_window_s=self._claims.window_s,
            visitor=f"{source.tenant}:{visitor}",
            learn=learn or None,
            learn_once=learn_once or None,
            ttl_s=ttl_s,
        )
        received = Received(
            id=event_id,
            tenant=source.tenant,
            source=source.id,
            channel="browser",
            received_at=self._times.iso(now_s),
            anonymous_id=visitor,
            user_id=None,
            ip=kit.clients.ip(scope),
            user_agent=headers.get("user-agent"),
            clicks=clicks,
            vendors=sent.vendors,
        )
        return BrowserWork(visit, event, received, now_s, made, cookie, self._identity.click_id_ttl_s)

    def _visitor(self, cookie: str | None, body_id: str | None) -> tuple[str, bool, str | None]:
        """
        The visitor's anonymous id, whether we see them for the first time, and the `_dfid` to set (or None).

        The cookie decides; without one, an anonymousId in the body (a caller that keeps its own ids)
        stands, and becomes the cookie only where it has the cookie's form.
        """
        if cookie is not None:
            return cookie, False, None
        if body_id is not None:
            is_cookie = identity.is_visitor_id(body_id)
            return body_id, True, body_id if is_cookie else None
        made = identity.uuid4_of(self._kit.random.take(16))
        return made, True, made

    def _deriver(self, source: Source) -> IdDeriver:
        deriver = self._derivers.get(source.id)
        if deriver is None:
            if len(self._derivers) > 10_000:
                self._derivers.clear()
            deriver = self._derivers[source.id] = IdDeriver("datafly", source.tenant, source.id)
        return deriver

    async def _published(self, work: BrowserWork) -> Outcome:
        """The event's outcome, once it is durable or a duplicate. Refuses (503) otherwise."""
        await self._kit.ticker.add(work)
        waited_s = 0.0
        while work.outcome is None:
            # somebody else has claimed this id and not finished: their outcome decides ours
            if waited_s >= PENDING_WAIT_S:
                raise unavailable("another request with this messageId is being published; try again", 1.0)
            await asyncio.sleep(PENDING_POLL_S)
            waited_s += PENDING_POLL_S
            await self._kit.ticker.add(work)
        if work.outcome is Outcome.UNAVAILABLE:
            raise unavailable("the event could not be made durable now; try again", work.retry_after_s)
        return work.outcome

    # --- answers -----------------------------------------------------------------------------------

    def _answer(
        self, scope: Scope, source: Source, work: BrowserWork, outcome: Outcome, cors_headers: Headers
    ) -> Reply:
        headers: Headers = [JSON, *cors_headers]
        if outcome is Outcome.DUPLICATE:
            headers.append(("x-headgate-duplicate", "1"))
        else:
            headers.append(("x-headgate-durability", work.durability or "local"))
        to_set = work.cookies()
        if to_set:
            secure = not self._development or self._kit.clients.https(scope)
            headers += cookies.set_cookies(to_set, source.cookie_domain, secure)
        return Reply(200, headers, datafly.SUCCESS)

    def _refused(self, scope: Scope, refusal: Refusal, cors_headers: Headers) -> Reply:
        reply = datafly_error(refusal)
        request_id = _request_id(scope, self._kit)
        reply.headers.append(("x-request-id", request_id))
        if refusal.outcome is not Outcome.FORBIDDEN:
            reply.headers += cors_headers
        self._kit.accounts.refused(refusal.outcome, reply.status, scope.path, refusal.message, request_id)
        return reply

    def _other_method(self, scope: Scope, transport: Transport) -> None:
        if scope.method != "OPTIONS":
            self._kit.accounts.other("method_not_allowed")
            transport.response_bytes(
                405,
                [JSON, ("allow", "POST, OPTIONS")],
                datafly.error_body("METHOD_NOT_ALLOWED", f"{scope.method} is not allowed here; use POST"),
            )
            return
        self._kit.accounts.other("preflight")
        origin = scope.headers.get("origin")
        headers: Headers = [("allow", "POST, OPTIONS"), ("vary", "Origin")]
        if origin is not None:
            wanted = cors.normal(origin)
            if (self._development and cors.is_local(wanted)) or self._kit.keys.origin_listed(wanted):
                headers = [("allow", "POST, OPTIONS"), *cors.preflight_headers(origin)]
        transport.response_empty(204, headers)


class BrowserWork:
    """One browser event that waits for its tick."""

    __slots__ = (
        "_click_ttl_s", "_cookie", "_event", "_made", "_now_s", "_received", "_sent",
        "durability", "outcome", "retry_after_s", "visit",
    )  # fmt: skip

    def __init__(
        self,
        visit: Visit,
        event: Event,
        received: Received,
        now_s: float,
        made: dict[str, str],
        cookie: str | None,
        click_ttl_s: float,
    ) -> None:
        """`made` are fresh vendor ids for the cookies that were missing; `cookie` is the `_dfid` to set."""
        self.visit = visit
        self.outcome: Outcome | None = None
        self.durability: Durability | None = None
        self.retry_after_s = 1.0
        self._event = event
        self._received = received
        self._sent = received.vendors
        self._now_s = now_s
        self._made = made
        self._cookie = cookie
        self._click_ttl_s = click_ttl_s

    def record(self) -> Record:
        """The record, with what the visitor's identity hash knows."""
        received = self._received
        known = self.visit.known
        if known:
            received.user_id = known.get("uid")
            clicks = identity.known_clicks(known, self._now_s, self._click_ttl_s)
            clicks.update(received.clicks)
            received.clicks = clicks
        received.vendors = {**self._vendors(), **self._sent}
        event = self._event
        return Record(
            key=record_key(received.tenant, received.anonymous_id),
            value=encode(datafly.to_envelope(event, received)),
            id=received.id,
            contract="datafly",
            type=event.type,
            tenant=received.tenant,
            timestamp_ms=int(self._now_s * 1000),
        )

    def cookies(self) -> dict[str, str]:
        """The cookies to set: those that the request did not bring."""
        to_set: dict[str, str] = {}
        if self._cookie is not None:
            to_set[identity.VISITOR_COOKIE] = self._cookie
        if self._made or self.visit.known:
            to_set.update(self._vendors())
        return to_set

    def _vendors(self) -> dict[str, str]:
        """Vendor ids beside those in the request's cookies: what the visitor had before, else the fresh ones."""
        known = self.visit.known
        vendors = dict(self._made)
        if known:
            vendors.update(identity.known_vendors(known))
        for name in self._sent:
            vendors.pop(name, None)
        return vendors


def _refusal(error: Exception) -> Refusal:
    """Any failure as the refusal that answers it."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InvalidPayload):
        return Refusal(Outcome.INVALID_PAYLOAD, error.message)
    if isinstance(error, Unavailable):
        return unavailable(str(error), error.retry_after_s)
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return unavailable("an unexpected failure; try again", 1.0)


def _request_id(scope: Scope, kit: Kit) -> str:
    """The caller's own X-Request-Id if it is a short plain one, else a fresh id."""
    given = scope.headers.get("x-request-id")
    if given and len(given) <= 64 and given.isascii() and given.isprintable():
        return str(given)
    return kit.random.take(8).hex()
