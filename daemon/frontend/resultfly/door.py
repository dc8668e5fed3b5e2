"""What ResultFly's endpoints share: the key and its scopes, and the answers (contracts B.1, B.6)."""

from __future__ import annotations

from daemon.events import resultfly
from daemon.events.outcome import Outcome
from daemon.events.payload import InvalidPayload
from daemon.events.resultfly import ErrorAnswer
from daemon.frontend.auth import TOKEN_CHARS_MAX
from daemon.frontend.intake import Intake
from daemon.frontend.kit import Kit
from daemon.frontend.refusal import Refusal
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.rsgi import Scope, Transport
from daemon.ports import ApiKey

#: Class prefix of ResultFly's keys.
PREFIX = "cdp_"


async def caller(kit: Kit, scope: Scope, needed: str) -> ApiKey:
    """The request's key. Refuses what is none (401), and one without the scope `needed` (403)."""
    header = scope.headers.get("authorization")
    if header is None:
        raise _bad_key("no API key; send 'Authorization: Bearer cdp_…'")
    scheme, _, token = str(header).partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token.startswith(PREFIX) or len(token) > TOKEN_CHARS_MAX:
        raise _bad_key("this is no key of the CDP; send 'Authorization: Bearer cdp_…'")
    key = kit.keys.cached_api_key(token)
    if key is None:
        key = await kit.keys.find_api_key(token)
    if key is None or key.kind != "cdp":
        raise _bad_key("unknown or revoked API key")
    if needed not in key.scopes:
        raise Refusal(Outcome.FORBIDDEN, f"this key lacks the scope {needed}")
    return key


def _bad_key(message: str) -> Refusal:
    return Refusal(Outcome.INVALID_KEY, message)


def invalid(error: InvalidPayload) -> Refusal:
    """What is wrong with a body, as the refusal that answers it."""
    return Refusal(Outcome.INVALID_PAYLOAD, error.message, code=resultfly.code_of(error))


def error_reply(refusal: Refusal) -> Reply:
    """`{"status":"error","error_code":…,"message":…}` with the code's HTTP status."""
    code = refusal.code or resultfly.CODES[refusal.outcome]
    return answer(code, refusal.message, refusal.headers)


def answer(code: str, message: str, headers: list[tuple[str, str]]) -> Reply:
    """The same by its code."""
    body = resultfly.encode_answer(ErrorAnswer(code, message))
    return Reply(resultfly.STATUSES[code], [JSON, *headers], body)


def other_method(kit: Kit, scope: Scope, transport: Transport, allow: str) -> None:
    """405 with Allow."""
    named = kit.turned_away(scope, "method_not_allowed")
    reply = answer(
        "method_not_allowed",
        f"{scope.method} is not allowed here; use {allow}",
        [("allow", allow), *named],
    )
    transport.response_bytes(reply.status, reply.headers, reply.body)


class NotFound:
    """Whatever is not there, under ResultFly's prefix."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def __call__(self, scope: Scope, transport: Transport) -> None:
        """404."""
        named = self._kit.turned_away(scope, "not_found")
        text = f"there is nothing at {scope.path[:200]}; there are /v1/cdp/events, /v1/cdp/events/batch, /v1/cdp/contracts"
        reply = answer("not_found", text, named)
        transport.response_bytes(reply.status, reply.headers, reply.body)


class ResultflyEndpoint(Intake):
    """Base of the endpoints that take events."""

    id_name = "externalEventId"

    def error(self, refusal: Refusal) -> Reply:
        """B.6."""
        return error_reply(refusal)

    def other_method(self, scope: Scope, transport: Transport) -> None:
        """405."""
        other_method(self.kit, scope, transport, self.allow)
