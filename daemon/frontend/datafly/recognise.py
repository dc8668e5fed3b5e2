"""
From an event to a work: its id, its visitor, and what the visitor's identity hash shall learn.

Two ways: a browser (or mail client) brings cookies and gets some; a server speaks for its visitors and
is believed.
"""

from __future__ import annotations

from daemon.events import clickids, datafly, identity
from daemon.events.datafly import Event, Received
from daemon.events.envelope import Channel, IdDeriver
from daemon.events.identity import Cookies
from daemon.frontend.datafly.work import DataflyWork
from daemon.frontend.endpoint import Call
from daemon.frontend.kit import Kit, Times
from daemon.ports import Source, Visit

#: What most events of servers have of click ids and vendor ids. Nobody writes into it.
_NOTHING: dict[str, str] = {}

#: What is kept of a User-Agent; real ones have a few hundred. A head of 64 KiB of them would make the envelope outgrow
#: what the log's topics have to take beside the body (kafka.log), and all that is appended with it would be refused.
USER_AGENT_CHARS_MAX = 4096

#: Sources whose prepared hashes are kept.
_DERIVERS_MAX = 10_000


_NO_COOKIES = identity.read_cookies(None)

#: Cookie headers whose reading is kept, and the longest of them: 8 MiB at most.
_COOKIES_KEPT = 4096
_COOKIE_CHARS_KEPT = 1024


class Recogniser:
    """Makes works; one per process and product."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._identity = kit.settings.identity
        self._ttl_s = self._identity.ttl_s
        self._click_ttl_s = self._identity.click_id_ttl_s
        self._sent: dict[str, Cookies] = {}
        self._window_s = kit.settings.claims.window_s
        self._times = Times()
        self._derivers: dict[str, IdDeriver] = {}

    def browser(
        self,
        call: Call,
        source: Source,
        event: Event,
        channel: Channel = "browser",
        anonymous_id: str | None = None,
    ) -> DataflyWork:
        """
        A work for an event that came from a page or a mail client, with the cookies to set.

        `anonymous_id` decides before the cookie (the pixel's `aid`).
        """
        kit = self._kit
        now_s = kit.now()
        headers = call.headers
        sent = self._cookies(headers.get("cookie"))
        visitor, fresh, cookie = sent.visitor, False, None
        if visitor is None or anonymous_id is not None:
            visitor, fresh, cookie = self._visitor(anonymous_id, visitor, event.anonymousId)
        url = datafly.page_url(event) or headers.get("referer")
        clicks = clickids.from_url(url) if url and "?" in url else _NOTHING
        made = learn_once = learn = _NOTHING
        if sent.lacks_common or (clicks and sent.missing):
            made = identity.new_vendor_ids(sent.missing, clicks, now_s, kit.random.take(24))
            learn_once = identity.vendor_fields(made)
        if fresh and sent.vendors:
            learn_once = {**learn_once, **identity.vendor_fields(sent.vendors)}
        if clicks or event.type in datafly.LINKING:
            learn = self._learnt(event, clicks, now_s)
        ttl_s = self._ttl_s
        if fresh and "uid" not in learn:
            ttl_s = self._identity.new_visitor_ttl_s
            if clicks:
                ttl_s = max(ttl_s, self._identity.click_id_ttl_s)
        event_id, claim_id = self._id(source, event)
        tenant = source.tenant
        visit = Visit(
            claim_id, self._window_s, "", f"{tenant}:{visitor}", learn or None, learn_once or None, ttl_s
        )
        received = Received(
            event_id,
            tenant,
            source.id,
            channel,
            self._times.iso(now_s),
            visitor,
            None,
            kit.clients.ip(call.scope, headers),
            (headers.get("user-agent") or "")[:USER_AGENT_CHARS_MAX],
            clicks,
            sent.vendors,
        )
        return DataflyWork(visit, event, received, now_s, self._click_ttl_s, sent.vendors, made, cookie)

    def server(
        self, source: Source, event: Event, channel: Channel, now_s: float, unique: str | None = None
    ) -> DataflyWork:
        """
        A work for an event that a server sent: its own context stands, and its visitor's past is added.

        `now_s` is when the request came in (Unix seconds): all events of one request have one receipt time.
        `unique` tells copies in place of the messageId, where that alone does not (webhooks).
        """
        event_id, claim_id = self._id(source, event, unique)
        # alias says that whom it calls previousId is the user: that is the visitor whose hash learns it
        visitor = event.previousId if event.type == "alias" else event.anonymousId
        clicks = learn = _NOTHING
        if visitor is not None:
            url = datafly.page_url(event)
            if url:
                clicks = clickids.from_url(url)
            if clicks or event.type in datafly.LINKING:
                learn = self._learnt(event, clicks, now_s)
        tenant = source.tenant
        if visitor is None:
            visit = Visit(claim_id, self._window_s)
        else:
            visit = Visit(
                claim_id, self._window_s, "", f"{tenant}:{visitor}", learn or None, None, self._ttl_s
            )
        received = Received(
            event_id,
            tenant,
            source.id,
            channel,
            self._times.iso(now_s),
            event.anonymousId or visitor,
            None,
            None,
            None,
            clicks,
            _NOTHING,
        )
        return DataflyWork(visit, event, received, now_s, self._click_ttl_s)

    def _cookies(self, header: str | None) -> Cookies:
        """The cookies of a request; those of a page that sends one event after the other are read once."""
        if header is None:
            return _NO_COOKIES
        sent = self._sent.get(header)
        if sent is None:
            sent = identity.read_cookies(header)
            if len(header) <= _COOKIE_CHARS_KEPT:
                if len(self._sent) >= _COOKIES_KEPT:
                    self._sent.clear()
                self._sent[header] = sent
        return sent

    def _learnt(self, event: Event, clicks: dict[str, str], now_s: float) -> dict[str, str]:
        learn = identity.click_fields(clicks, now_s) if clicks else {}
        if event.type in datafly.LINKING and event.userId:
            learn["uid"] = event.userId
        return learn

    def _id(self, source: Source, event: Event, unique: str | None = None) -> tuple[str, str | None]:
        """The event's id, and the same to claim where it is derived from the caller's."""
        told_by = unique or event.messageId
        if told_by is None:
            return self._kit.random.take(16).hex(), None
        deriver = self._derivers.get(source.id)
        if deriver is None:
            if len(self._derivers) > _DERIVERS_MAX:
                self._derivers.clear()
            deriver = self._derivers[source.id] = IdDeriver("datafly", source.tenant, source.id)
        event_id = deriver.of(told_by)
        return event_id, event_id

    def _visitor(
        self, given: str | None, cookie: str | None, body_id: str | None
    ) -> tuple[str, bool, str | None]:
        """
        The visitor's anonymous id, whether we see them for the first time, and the `_dfid` to set (or None).

        What was `given` outside the body decides, then the cookie; without one, an anonymousId in the body
        (a caller that keeps its own ids) stands. It becomes the cookie only where it has a cookie's form.
        """
        if given is not None and given != cookie:
            return given, True, given if cookie is None and identity.is_visitor_id(given) else None
        if cookie is not None:
            return cookie, False, None
        if body_id is not None:
            return body_id, True, body_id if identity.is_visitor_id(body_id) else None
        made = identity.uuid4_of(self._kit.random.take(16))
        return made, True, made
