"""
trackEventSchema: decoding an event and checking every field of it (contracts C.2, 0.4.29).

All that is wrong is found at once, so that whoever integrates does not mend one field per request.
`custom_data` and `items` stay the bytes that came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from daemon.events.payload import ID_CHARS_MAX, NAME_CHARS_MAX, InvalidPayload, JsonReader, optional_time
from daemon.events.tracklayer.answers import FieldProblem
from daemon.events.tracklayer.currencies import CURRENCIES
from daemon.events.tracklayer.problems import InvalidEvent, Problems
from daemon.events.tracklayer.user import INTEGER_MAX, OUT_OF_RANGE, check_numbers, user_data
from daemon.events.userdata import dropped_empty

__all__ = ["InvalidEvent", "TrackEvent", "decode"]

#: Bounds of event_time, Unix seconds: the years 2000 to 2099 in any time zone. Milliseconds are beyond.
TIME_S_MIN = 946_684_800 - 86_400
TIME_S_MAX = 4_102_444_800 + 86_400

#: Longest event_source_url, in characters: landing pages with all their click ids have some thousand.
URL_CHARS_MAX = 8192
#: Items of one event.
ITEMS_MAX = 1000

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
#: Scheme, `://`, a host (or what an app has in its place), the rest; no blanks and no control characters.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[^\s/?#\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*", re.IGNORECASE)

#: What can be consented to (contracts C.10), and what is said of it.
CONSENTS = ("ad_storage", "ad_user_data", "analytics_storage", "ad_personalization")
CONSENT_VALUES = ("granted", "denied")

_NOTHING = Raw(b"")


class _Body(Struct, gc=False):
    """The members that are read; others are left out."""

    event_id: Any = None
    event_name: Any = None
    event_time: Any = None
    merchant_id: Any = None
    source: Any = None
    user_data: Any = None
    consent_state: Any = None
    custom_data: Raw = _NOTHING
    event_source_url: Any = None
    value: Any = None
    currency: Any = None
    order_id: Any = None
    items: Raw = _NOTHING


class TrackEvent(Struct, kw_only=True, gc=False):
    """
    A checked event. `timestamp` is its event_time as ISO 8601 in UTC, `merchant_id` and `currency` are normal.

    What was absent, null or empty is None; `user_data` has no empty values.
    """

    event_id: str
    event_name: str
    timestamp: str
    merchant_id: str
    source: str | None
    user_data: dict[str, Any] | None
    consent: dict[str, Any] | None
    custom_data: Raw | None
    url: str | None
    value: int | float | None
    currency: str | None
    order_id: str | None
    items: Raw | None


_bodies = JsonReader.of(_Body)
_members = JsonReader.of(dict[str, Raw])
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


def decode(body: bytes) -> TrackEvent:
    """The event in a request's body. Raises InvalidEvent with everything that is wrong with it."""
    problems = Problems()
    found = _read(body, problems)
    event = TrackEvent(
        event_id=_required(found.event_id, "event_id", ID_CHARS_MAX, problems),
        event_name=_required(found.event_name, "event_name", NAME_CHARS_MAX, problems),
        timestamp=_time(found.event_time, problems),
        merchant_id=_merchant(found.merchant_id, problems),
        source=_text(found.source, "source", ID_CHARS_MAX, problems),
        user_data=user_data(found.user_data, problems),
        consent=_consent(found.consent_state, problems),
        custom_data=_object(found.custom_data, "custom_data", problems),
        url=_url(found.event_source_url, problems),
        value=_amount(found.value, "value", problems),
        currency=_currency(found.currency, problems),
        order_id=_text(found.order_id, "order_id", ID_CHARS_MAX, problems),
        items=_items(found.items, problems),
    )
    problems.check()
    return event


def page_url(text: str | None) -> str | None:
    """`text` if it can be a page's address (a `Referer`), else None."""
    return text if text and len(text) <= URL_CHARS_MAX and _URL.fullmatch(text) else None


def _read(body: bytes, problems: Problems) -> _Body:
    try:
        found: _Body = _bodies.read(body)
        return found
    except InvalidPayload as error:
        if not error.field:
            raise InvalidEvent([FieldProblem("", error.message)]) from None
    # One member holds what can't be read, such as a number beyond all bounds: look at each by itself. The decoder has
    # stopped there: what stands behind may be no JSON at all.
    try:
        members: dict[str, Raw] = _members.read_part(body)
    except InvalidPayload as error:
        raise InvalidEvent([FieldProblem("", error.message)]) from None
    found = _Body()
    for name, raw in members.items():
        if name in ("custom_data", "items"):
            setattr(found, name, raw)
        elif name in _Body.__struct_fields__:
            try:
                setattr(found, name, _anything.decode(raw))
            except msgspec.ValidationError:
                problems.add(name, OUT_OF_RANGE)
    return found


# --- fields -----------------------------------------------------------------------------------------


def _required(value: Any, field: str, chars_max: int, problems: Problems) -> str:
    if type(value) is str:
        if not value.strip():
            problems.add(field, "is required")
        elif len(value) > chars_max:
            problems.add(field, f"is longer than {chars_max} characters")
        return value
    _missing(value, field, "a string", problems)
    return ""


def _missing(value: Any, field: str, wanted: str, problems: Problems) -> None:
    if value is not None:
        problems.wrong_type(field, wanted, value)
    elif all(problem.field != field for problem in problems.found):
        problems.add(field, "is required")


def _text(value: Any, field: str, chars_max: int, problems: Problems) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        problems.wrong_type(field, "a string", value)
    elif len(value) > chars_max:
        problems.add(field, f"is longer than {chars_max} characters")
    elif value.strip():
        return value
    return None


def _time(value: Any, problems: Problems) -> str:
    wanted = "Unix seconds (an integer) or an ISO 8601 time"
    seconds: float
    if type(value) is int:
        seconds = value
    elif type(value) is float:
        if not value.is_integer():
            problems.add("event_time", f"must be {wanted}, not a fraction")
            return ""
        seconds = value
    elif type(value) is str and value.strip():
        moment = _moment(value)
        if moment is None:
            problems.add("event_time", f"must be {wanted}, such as 1772029800 or 2026-02-25T14:30:00Z")
            return ""
        seconds = moment
    else:
        _missing(None if type(value) is str else value, "event_time", wanted, problems)
        return ""
    if not TIME_S_MIN <= seconds < TIME_S_MAX:
        ms = TIME_S_MIN * 1000 <= seconds < TIME_S_MAX * 1000
        hint = "; this looks like milliseconds" if ms else ""
        problems.add("event_time", f"must lie between the years 2000 and 2099, in Unix seconds{hint}")
        return ""
    return _iso(seconds)


def _moment(text: str) -> float | None:
    """Unix seconds of an ISO 8601 time (UTC where it names no zone); None for what is none."""
    try:
        if optional_time(text, "event_time") is None:
            return None
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (InvalidPayload, ValueError, OverflowError):
        return None


def _iso(seconds: float) -> str:
    """`2026-02-25T14:30:00.000Z`."""
    whole, fraction = divmod(round(seconds * 1000), 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:03d}Z"


def _merchant(value: Any, problems: Problems) -> str:
    if type(value) is str and value.strip():
        normal = value.lower()
        if not _UUID.fullmatch(normal):
            problems.add("merchant_id", "must be a UUID such as 3f2504e0-4f89-41d3-9a0c-0305e82c3301")
        return normal
    _missing(None if type(value) is str else value, "merchant_id", "a UUID", problems)
    return ""


def _url(value: Any, problems: Problems) -> str | None:
    text = _text(value, "event_source_url", URL_CHARS_MAX, problems)
    if text is None:
        return None
    if _URL.fullmatch(text) is None:
        problems.add("event_source_url", "must be a whole address such as https://shop.example.com/p/1")
    return text


def _amount(value: Any, field: str, problems: Problems) -> int | float | None:
    """A finite number ≥ 0. JSON has no infinite ones; what is beyond a float's range is refused in reading."""
    if value is None:
        return None
    if type(value) is not int and type(value) is not float:
        problems.wrong_type(field, "a number", value)
        return None
    if value < 0:
        problems.add(field, "must be 0 or more")
        return None
    if isinstance(value, float) or value <= INTEGER_MAX:
        return value
    try:
        return float(value)  # so many bits can't be written again as an integer
    except OverflowError:
        problems.add(field, OUT_OF_RANGE)
        return None


def _currency(value: Any, problems: Problems) -> str | None:
    text = _text(value, "currency", ID_CHARS_MAX, problems)
    if text is None:
        return None
    code = text.strip().upper()
    if code not in CURRENCIES:
        problems.add("currency", "must be a code of ISO 4217 such as EUR")
    return code


def _object(raw: Raw, field: str, problems: Problems) -> Raw | None:
    data = bytes(raw)
    if data[:1] == b"{":
        return raw
    if data and data != b"null":
        # not decoded for this: it may be a number that can't be
        problems.wrong_type(
            field, "an object", {b"[": [], b'"': "", b"t": True, b"f": False}.get(data[:1], 0)
        )
    return None


def _consent(value: Any, problems: Problems) -> dict[str, Any] | None:
    if value is None:
        return None
    if type(value) is not dict:
        problems.wrong_type("consent_state", "an object", value)
        return None
    check_numbers(value, "consent_state", problems)
    kept = dropped_empty(value)
    for name in CONSENTS:
        one = kept.get(name)
        if one is not None and one not in CONSENT_VALUES:
            problems.add(f"consent_state.{name}", 'must be "granted" or "denied"')
    return kept or None


def _items(raw: Raw, problems: Problems) -> Raw | None:
    data = bytes(raw)
    if not data or data == b"null":
        return None
    try:
        items = _anything.decode(data)
    except msgspec.ValidationError:
        problems.add("items", OUT_OF_RANGE)
        return None
    if type(items) is not list:
        problems.wrong_type("items", "an array", items)
        return None
    if len(items) > ITEMS_MAX:
        problems.add("items", f"has {len(items)} items; at most {ITEMS_MAX} are taken")
        return None
    for index, item in enumerate(items):
        field = f"items[{index}]"
        if type(item) is not dict:
            problems.wrong_type(field, "an object", item)
            continue
        for name, check in _ITEM.items():
            if (one := item.get(name)) is not None:
                check(one, f"{field}.{name}", problems)
    return raw if items else None


def _item_id(value: Any, field: str, problems: Problems) -> None:
    if type(value) is not int:
        _required(value, field, ID_CHARS_MAX, problems)


_ITEM: dict[str, Callable[[Any, str, Problems], Any]] = {
    "id": _item_id,
    "quantity": _amount,
    "price": _amount,
}
