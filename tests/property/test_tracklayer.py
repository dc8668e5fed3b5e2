"""TrackLayer's events, whatever comes: refused with the reason, or an envelope that can be written and says the same."""

from __future__ import annotations

import json
import string
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.events.envelope import encode
from daemon.events.tracklayer import InvalidEvent, Received, decode, to_envelope
from daemon.events.tracklayer.currencies import CURRENCIES
from daemon.events.tracklayer.event import CONSENTS, TIME_S_MAX, TIME_S_MIN
from daemon.events.tracklayer.user import IDS, ONE_ID, ONE_TEXT, TEXTS

RECEIVED = Received("id", "acme", "server", "2026-02-25T14:30:00.000Z")

#: Never wall time: the machine may be busy.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = (
    "event_id", "event_name", "event_time", "merchant_id", "source", "user_data", "consent_state", "custom_data",
    "event_source_url", "value", "currency", "order_id", "items",
)  # fmt: skip

#: Texts with something in them, and without surrogates, which JSON in UTF-8 can't hold.
FILLED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
BLANK = st.sampled_from([None, "", " ", "\t\n"])
NUMBER = st.integers(-(2**63), 2**63 - 1)
AMOUNT = st.integers(0, 10**12) | st.floats(0, 1e12)

USER: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(TEXTS, FILLED | BLANK | st.lists(FILLED | BLANK, max_size=3)),
    **dict.fromkeys(IDS, FILLED | BLANK | NUMBER | st.lists(FILLED | NUMBER | BLANK, max_size=3)),
    **dict.fromkeys(ONE_TEXT, FILLED | BLANK),
    **dict.fromkeys(ONE_ID, FILLED | BLANK | NUMBER),
    "browser_ids": st.none()
    | st.dictionaries(st.sampled_from(["fbp", "fbc", "ttp"]), FILLED | NUMBER | BLANK),
}
REQUIRED: dict[str, st.SearchStrategy[Any]] = {
    "event_id": FILLED,
    "event_name": FILLED,
    "event_time": st.integers(TIME_S_MIN, TIME_S_MAX - 1),
    "merchant_id": st.uuids().map(str),
}
GOOD = st.fixed_dictionaries(
    REQUIRED,
    optional={
        "source": FILLED | BLANK,
        "user_data": st.none() | st.fixed_dictionaries({}, optional=USER),
        "value": st.none() | AMOUNT,
        "currency": BLANK | st.sampled_from(sorted(CURRENCIES)),
        "order_id": FILLED | BLANK,
        "items": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "id": FILLED | NUMBER | st.none(),
                    "quantity": st.none() | AMOUNT,
                    "price": st.none() | AMOUNT,
                    "more": ANYTHING,
                },
            ),
            max_size=3,
        ),
        "custom_data": st.none() | st.dictionaries(FILLED, ANYTHING, max_size=3),
        "consent_state": st.none()
        | st.dictionaries(st.sampled_from(CONSENTS), st.sampled_from(["granted", "denied", None])),
        "event_source_url": BLANK
        | st.text(string.ascii_letters + "/?#&=%äö", max_size=30).map("https://shop.example.com/".__add__),
    },
)


def written(body: bytes) -> dict[str, Any]:
    """The envelope of a body, as a reader of the log gets it. Raises InvalidEvent."""
    found: dict[str, Any] = json.loads(encode(to_envelope(decode(body), RECEIVED)))
    return found


def refused(body: bytes) -> set[str]:
    """The members that are named as wrong ("": the body as a whole); none where it was taken and could be written."""
    try:
        written(body)
    except InvalidEvent as error:
        found = error
    else:
        return set()
    assert found.message
    assert all(one.message for one in found.problems)
    assert len({(one.field, one.message) for one in found.problems}) == len(found.problems)
    return {one.field.split(".")[0].split("[")[0] for one in found.problems}


@PATIENT
@given(st.dictionaries(st.sampled_from(MEMBERS), ANYTHING))
def test_anything_is_refused_or_written(body: dict[str, Any]) -> None:
    """Never an error of ours; what is missing is named, and nothing that is not there and may be absent."""
    named = refused(json.dumps(body).encode())
    assert named <= {*body, *REQUIRED}
    assert named >= {name for name in REQUIRED if body.get(name) in (None, "")}


@PATIENT
@given(
    st.binary(max_size=200).filter(lambda one: not one.strip().startswith(b"{"))
    | ANYTHING.filter(lambda one: not isinstance(one, dict))
)
def test_what_is_no_object(body: Any) -> None:
    """As a whole."""
    assert refused(body if isinstance(body, bytes) else json.dumps(body).encode()) == {""}


@PATIENT
@given(GOOD, st.sampled_from(MEMBERS), ANYTHING)
def test_one_member_at_a_time(event: dict[str, Any], name: str, value: Any) -> None:
    """Whatever stands in for one member of a good event: taken, or that member alone is named."""
    assert refused(json.dumps({**event, name: value}).encode()) <= {name}


@PATIENT
@given(GOOD)
def test_a_good_event_says_the_same_in_its_envelope(event: dict[str, Any]) -> None:
    """What holds something is there as it came, what is empty is not."""
    envelope = written(msgspec.json.encode(event))
    assert (envelope["event"], envelope["messageId"]) == (event["event_name"], event["event_id"])
    assert envelope["source"] == event["merchant_id"]
    assert envelope.get("value") == event.get("value")
    assert envelope.get("properties") == event.get("custom_data")
    assert envelope.get("items") == (event.get("items") or None)
    assert envelope.get("user_data") == (_full(event.get("user_data") or {}) or None)
    context = envelope.get("context", {})
    for theirs, ours in (("order_id", envelope.get("order_id")), ("source", context.get("source"))):
        given_text = event.get(theirs)
        assert ours == (given_text if given_text and given_text.strip() else None)
    assert context.get("consent") == (_full(event.get("consent_state") or {}) or None)


@PATIENT
@given(GOOD)
def test_once_read_twice_the_same(event: dict[str, Any]) -> None:
    """What an envelope says of a person, sent again, gives the same envelope."""
    envelope = written(msgspec.json.encode(event))
    again = written(msgspec.json.encode({**event, "user_data": envelope.get("user_data")}))
    assert again == envelope


def _full(value: Any) -> Any:
    """`value` without what holds nothing."""
    if isinstance(value, dict):
        return {name: kept for name, one in value.items() if (kept := _full(one)) not in (None, {}, [])}
    if isinstance(value, list):
        return [kept for one in value if (kept := _full(one)) is not None]
    return None if isinstance(value, str) and not value.strip() else value
