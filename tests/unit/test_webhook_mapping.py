"""From a webhook's body to events: mappings, presets, names, ids, and what can't be used (contracts A.5)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from daemon.events.payload import InvalidPayload
from daemon.events.webhooks import (
    KINDS,
    BadConfig,
    Mapped,
    Mapper,
    WebhookLimits,
    effective,
    form_payload,
    read_config,
)
from daemon.events.webhooks.paths import MISSING, VALUES_MAX, Path
from tests.support.webhooks import BODIES, HEADERS

LIMITS = WebhookLimits(event_bytes_max=64 * 1024, items_max=5, item_bytes_max=1024)


def mapper(**settings: Any) -> Mapper:
    """A custom webhook that is not signed, unless the settings say otherwise."""
    usual = {"source_type": "custom", "scheme": "none"} if "source_type" not in settings else {}
    return Mapper(read_config({**usual, **settings}))


def mapped(document: Any, headers: dict[str, str] | None = None, **settings: Any) -> dict[str, Any]:
    """The one event of a document, as builtins without what is empty."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    [one] = mapper(**settings).events(body, headers or {}, LIMITS)
    assert isinstance(one, Mapped)
    return event_of(one)


def event_of(one: Mapped) -> dict[str, Any]:
    """An event as builtins without what is empty."""
    found = {}
    for name in one.event.__struct_fields__:
        value = getattr(one.event, name)
        if isinstance(value, msgspec.Raw):
            value = json.loads(bytes(value)) if bytes(value) else None
        elif isinstance(value, dict):
            value = {key: json.loads(bytes(part)) for key, part in value.items()}
        if value is not None:
            found[name] = value
    return found


# --- the documented shape ---------------------------------------------------------------------------


def test_the_documented_example() -> None:
    """A.5."""
    event = mapped(
        BODIES["stripe"][0],
        source_type="stripe",
        event_type_path="$.type",
        mappings={
            "event": "$.type",
            "userId": "$.data.object.customer",
            "properties.amount": "$.data.object.amount",
            "properties.currency": "$.data.object.currency",
            "properties.payment_id": "$.data.object.id",
        },
    )
    assert event == {
        "type": "track",
        "event": "charge.succeeded",
        "userId": "cus_1",
        "messageId": "evt_1",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "properties": {"amount": 1999, "currency": "eur", "payment_id": "ch_1"},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_useful_event_without_a_mapping(kind: str) -> None:
    document, name = BODIES[kind]
    settings = {"source_type": kind, **({"scheme": "none"} if kind == "custom" else {})}
    event = mapped(document, HEADERS.get(kind), **settings)
    assert event["event"] == name
    assert event["properties"]
    assert kind == "standard-webhooks" or event["messageId"]


def test_a_mapping_replaces_the_presets_but_not_id_time_and_name() -> None:
    document = BODIES["stripe"][0]
    event = mapped(document, source_type="stripe", mappings={"properties.id": "$.id"})
    assert event == {
        "type": "track", "event": "charge.succeeded", "messageId": "evt_1",
        "timestamp": "2023-11-14T22:13:20.000Z", "properties": {"id": "evt_1"},
    }  # fmt: skip
    mine = {"messageId": "$.data.object.id", "timestamp": "$.none"}
    event = mapped(document, source_type="stripe", mappings=mine)
    assert event == {"type": "track", "event": "charge.succeeded", "messageId": "ch_1"}


def test_what_is_in_force_is_a_mapping_file_of_its_own() -> None:
    for kind in KINDS:
        config = read_config({"source_type": kind, **({"scheme": "none"} if kind == "custom" else {})})
        again = read_config(msgspec.to_builtins(effective(config)))
        assert effective(again) == again
        Mapper(again)


# --- the event's name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "headers", "name"),
    [
        ({}, {}, "e"),
        ({"event_type_path": "$.kind"}, {}, "k"),
        ({"event_type_path": "$.number"}, {}, "7"),
        ({"event_type_header": "X-Topic"}, {"x-topic": "h"}, "h"),
        ({"event_type_path": "$.kind", "mappings": {"event": "$.type"}}, {}, "t"),
        ({"event_type_path": "$.kind", "mappings": {"event": "$.none"}}, {}, "k"),
        ({"event_names": {"e": "Translated"}}, {}, "Translated"),
        ({"event_names": {"x": "Translated"}}, {}, "e"),
        ({"mappings": {"event": "$.type"}, "event_names": {"t": "Mapped"}}, {}, "Mapped"),
    ],
)
def test_where_the_name_comes_from(settings: Any, headers: dict[str, str], name: str) -> None:
    document = {"event": "e", "type": "t", "kind": "k", "number": 7}
    assert mapped(document, headers, **settings)["event"] == name


def test_the_second_best_name_of_a_custom_sender() -> None:
    assert mapped({"type": "t"})["event"] == "t"
    assert mapped({"event": "", "type": "t"})["event"] == "t"


@pytest.mark.parametrize(
    ("document", "settings", "message"),
    [
        ({}, {}, r"no event name: \$\.event and \$\.type gave nothing"),
        ({"event": None}, {}, "no event name"),
        ({"event": "  "}, {}, "event is required"),
        ({"event": ["a"]}, {}, r"event_type_path \(\$\.event\) must be a string or an integer, not an array"),
        ({"event": {}}, {}, "not an object"),
        ({"event": True}, {}, "not true or false"),
        ({"event": 1.5}, {}, "not the number 1.5"),
        ({"event": "x" * 1025}, {}, "longer than 1024"),
        ({}, {"event_type_header": "X-Topic"}, "no event name: the header x-topic gave nothing"),
        ({}, {"mappings": {"event": "$.a"}, "event_type_path": "$.b"}, r"\$\.b and \$\.a gave nothing"),
    ],
)
def test_without_a_name_there_is_no_event(document: Any, settings: Any, message: str) -> None:
    with pytest.raises(InvalidPayload, match=message):
        mapped(document, **settings)


def test_other_types_than_track() -> None:
    event = mapped(
        {"id": 5, "email": "a@b.c"}, type="identify", mappings={"userId": "$.id", "traits.email": "$.email"}
    )
    assert event == {"type": "identify", "userId": "5", "traits": {"email": "a@b.c"}}
    with pytest.raises(InvalidPayload, match="userId is required on identify"):
        mapped({}, type="identify")
    with pytest.raises(InvalidPayload, match="groupId is required on group"):
        mapped({}, type="group")


# --- what paths select ------------------------------------------------------------------------------

DOCUMENT = {
    "event": "e",
    "text": "t",
    "number": 7,
    "price": 19.90,
    "nothing": None,
    "flag": False,
    "list": [{"a": 1}, {"a": 2, "b": "x"}, {"a": None}],
    "object": {"a b": {"c": "deep"}, "": "empty name"},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.text", "t"),
        ("$.number", 7),
        ("$.nothing", None),
        ("$.flag", False),
        ("$.list", DOCUMENT["list"]),
        ("$.list[0]", {"a": 1}),
        ("$.list[-2].b", "x"),
        ("$.list[5]", MISSING),
        ("$.list[-4]", MISSING),
        ("$.list.a", MISSING),
        ("$.object[0]", MISSING),
        ("$.text.length", MISSING),
        ("$.text[0]", MISSING),
        ("$['object']['a b'].c", "deep"),
        ("$.object['']", "empty name"),
        ("$.none.at.all", MISSING),
        ("$.list[*].a", [1, 2, None]),
        ("$.list[1:].a", [2, None]),
        ("$.list[?@.b].a", [2]),
        ("$.list[?@.a == $.number]", MISSING),
        ("$.list[?@.a > 1 && @.b == 'x'].b", ["x"]),
        ("$..b", ["x"]),
        ("$..c", ["deep"]),
        ("$.list[*].c", MISSING),
        ("$.text[0:]", MISSING),
        ("$.object[0:]", MISSING),
        ("$.list[::-2].a", [None, 1]),
        ("$.list[2:0:-1].a", [None, 2]),
    ],
)
def test_what_a_property_is_given(path: str, value: Any) -> None:
    """A path that names one value gives it; one that selects any number gives a list; nothing leaves it out."""
    event = mapped(DOCUMENT, mappings={"properties.x": path, "properties.y": "$.text"})
    assert event["properties"] == ({"y": "t"} if value is MISSING else {"x": value, "y": "t"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.text", "t"),
        ("$.number", "7"),
        ("$.nothing", None),
        ("$.none", None),
        ("$.list[*].b", "x"),
        ("$.list[*].a", "1"),
        ("$.list[?@.none].a", None),
        ("$..c", "deep"),
    ],
)
def test_what_a_text_is_given(path: str, value: str | None) -> None:
    """The first value; an integer as its digits; nothing and null leave it out."""
    for member in ("userId", "anonymousId", "groupId", "messageId", "name"):
        assert mapped(DOCUMENT, mappings={member: path}).get(member) == value


@pytest.mark.parametrize("path", ["$.list", "$.object", "$.flag", "$.price", "$.list[*]"])
def test_what_is_no_text_is_refused_with_its_path(path: str) -> None:
    with pytest.raises(
        InvalidPayload, match=r"^userId \(\$\.\w+(\[\*\])?\) must be a string or an integer, not"
    ):
        mapped(DOCUMENT, mappings={"userId": path})


def test_an_id_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="userId is longer than 512"):
        mapped({"event": "e", "u": "x" * 513}, mappings={"userId": "$.u"})


def test_whole_objects_and_nested_places() -> None:
    event = mapped(
        DOCUMENT,
        mappings={
            "properties": "$.object",
            "traits.a.b.c": "$.text",
            "traits.a.d": "$.number",
            "traits.e.f": "$.none",
            "context.page.url": "$.text",
            "context.ip": "$.text",
        },
    )
    assert event["properties"] == DOCUMENT["object"]
    assert event["traits"] == {"a": {"b": {"c": "t"}, "d": 7}}
    assert event["context"] == {"page": {"url": "t"}, "ip": "t"}
    for path in ("$.list", "$.text", "$.flag"):
        for member in ("properties", "traits", "context"):
            with pytest.raises(InvalidPayload, match=rf"^{member} \(\{path}\) must be an object, not"):
                mapped(DOCUMENT, mappings={member: path})
    assert "properties" not in mapped(DOCUMENT, mappings={"properties": "$.nothing", "traits": "$.none"})


def test_numbers_pass_as_they_were_written() -> None:
    body = b'{"event":"e","a":19.90,"b":123456789012345678901234567890,"c":1e5,"d":-0.0,"e":0.1000000000000000055511}'
    [one] = mapper(mappings={"properties": "$"}).events(body, {}, LIMITS)
    assert isinstance(one, Mapped)
    properties = bytes(one.event.properties)
    for written in (b"19.90", b"123456789012345678901234567890", b"-0.0", b"0.1000000000000000055511"):
        assert written in properties
    assert json.loads(properties)["c"] == 1e5


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-02-25T14:30:00-05:00", "2026-02-25T14:30:00-05:00"),
        (1700000000, "2023-11-14T22:13:20.000Z"),
        (1700000000.5, "2023-11-14T22:13:20.500Z"),
        (1700000000123, "2023-11-14T22:13:20.123Z"),
        ("1700000000", "2023-11-14T22:13:20.000Z"),
        ("1700000000123", "2023-11-14T22:13:20.123Z"),
        ("20260225", "20260225"),
        (0, "1970-01-01T00:00:00.000Z"),
        (None, None),
        ("", None),
    ],
)
def test_times(value: Any, time: str | None) -> None:
    assert mapped({"event": "e", "at": value}, mappings={"timestamp": "$.at"}).get("timestamp") == time


@pytest.mark.parametrize(
    "value", ["yesterday", True, [], {}, 10**30, -(10**30), 1e300, "9" * 40, "2026-99-01"]
)
def test_bad_times(value: Any) -> None:
    with pytest.raises(InvalidPayload, match="timestamp"):
        mapped({"event": "e", "at": value}, mappings={"timestamp": "$.at"})


# --- ids --------------------------------------------------------------------------------------------


def test_where_the_delivery_id_comes_from() -> None:
    header = {"x-id": "from the header"}
    assert (
        mapped({"event": "e", "messageId": "b"}, header, message_id_header="X-Id")["messageId"]
        == "from the header"
    )
    assert mapped({"event": "e", "messageId": "b"}, message_id_header="X-Id")["messageId"] == "b"
    shopify = {"x-shopify-topic": "t", "x-shopify-webhook-id": "w1"}
    assert mapped({"id": 1}, shopify, source_type="shopify")["messageId"] == "w1"
    assert (
        mapped({"id": 1}, shopify, source_type="shopify", mappings={"messageId": "$.id"})["messageId"] == "1"
    )
    assert "messageId" not in mapped({"id": 1}, {"x-shopify-topic": "t"}, source_type="shopify")


def test_hubspots_event_ids_are_not_unique_and_more_tells_copies() -> None:
    """HubSpot: "This value is not guaranteed to be unique." attemptNumber changes with each try, so it is not in it."""
    hubspot = mapper(source_type="hubspot")
    event = BODIES["hubspot"][0][0]

    def unique(**changes: Any) -> tuple[str | None, str | None]:
        [one] = hubspot.events(json.dumps([{**event, **changes}]).encode(), {}, LIMITS)
        assert isinstance(one, Mapped)
        return one.event.messageId, one.unique

    first = unique()
    assert first[0] == "100"
    assert first == unique(attemptNumber=3)
    for changes in (
        {"portalId": 9},
        {"subscriptionId": 9},
        {"objectId": 9},
        {"occurredAt": 1},
        {"eventId": 9},
    ):
        assert unique(**changes)[1] != first[1]
    [own] = mapper(source_type="hubspot", mappings={"messageId": "$.objectId"}).events(
        json.dumps(event).encode(), {}, LIMITS
    )
    assert isinstance(own, Mapped)
    assert (own.event.messageId, own.unique) == ("3", None)


# --- several events in a body -----------------------------------------------------------------------


def test_a_body_with_several_events() -> None:
    document = [{"eventId": n, "subscriptionType": f"s{n}"} for n in range(3)]
    found = mapper(source_type="hubspot").events(json.dumps(document).encode(), {}, LIMITS)
    assert [event_of(one)["event"] for one in found if isinstance(one, Mapped)] == ["s0", "s1", "s2"]
    assert mapped({"eventId": 1, "subscriptionType": "alone"}, source_type="hubspot")["event"] == "alone"


def test_a_bad_one_of_several_fails_alone() -> None:
    document = {"batch": [{"event": "a"}, {}, 5, None, {"event": "b", "x": "y" * 2000}]}
    found = mapper(items_path="$.batch[*]").events(json.dumps(document).encode(), {}, LIMITS)
    assert [isinstance(one, Mapped) for one in found] == [True, False, False, False, False]
    assert "over 1024 bytes" in str(found[4])


def test_items_have_a_limit_and_ids_of_their_own() -> None:
    body = json.dumps([{"event": "a"}] * 6).encode()
    with pytest.raises(InvalidPayload, match="holds 6 events; at most 5"):
        mapper(items_path="$[*]").events(body, {}, LIMITS)
    with pytest.raises(InvalidPayload, match="holds no event"):
        mapper(source_type="hubspot").events(b"[]", {}, LIMITS)
    body = json.dumps([{"event": "a"}] * 2).encode()
    found = mapper(items_path="$[*]", message_id_header="X-Id").events(body, {"x-id": "d"}, LIMITS)
    assert [event_of(one)["messageId"] for one in found if isinstance(one, Mapped)] == ["d-0", "d-1"]


# --- hostile documents ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"nul", b"\xff\xfe", b'{"event":"\xed\xa0\x80"}', b'{"event":"\\ud800"}', b'{"event":NaN}',
        b'{"event":"e","x":1e999}', b'{"event":"e","x":' + b"1" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"event":"e"}{"event":"e"}', b"\x00", b'"event"', b"5", b"null", b"[]", b"[[]]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_bodies_are_refused(body: bytes, kind: str) -> None:
    settings = {"source_type": kind, **({"scheme": "none"} if kind == "custom" else {})}
    try:
        [found] = mapper(**settings).events(body, {}, LIMITS)
    except InvalidPayload as error:
        found = error
    assert isinstance(found, InvalidPayload), found


def test_a_crowded_body_is_kept_from_paths_that_visit_many() -> None:
    body = json.dumps({"event": "e", "list": [1] * VALUES_MAX}).encode()
    roomy = json.dumps({"event": "e", "list": [1] * 100}).encode()
    for path in ("$..x", "$.list[*]", "$.list[?@ == 2]", "$.list[1:]"):
        crowded = mapper(mappings={"properties.x": path})
        with pytest.raises(
            InvalidPayload, match=rf"^properties\.x .* would visit more than {VALUES_MAX} values"
        ):
            crowded.events(body, {}, LIMITS)
        assert isinstance(crowded.events(roomy, {}, LIMITS)[0], Mapped)
        with pytest.raises(InvalidPayload, match="items_path"):
            mapper(items_path=path).events(body, {}, LIMITS)
    assert mapped(body, mappings={"properties.x": "$.list[5]"})["properties"] == {"x": 1}


def test_as_deep_as_a_body_may_be_every_path_works() -> None:
    deep: Any = {"x": "bottom"}
    for _ in range(250):
        deep = [deep]
    event = mapped({"event": "e", "d": deep}, mappings={"userId": "$..x", "properties.d": "$.d"})
    assert event["userId"] == "bottom"


def test_the_same_part_can_not_be_mapped_without_end() -> None:
    body = json.dumps({"event": "e", "x": "y" * 3000}).encode()
    with pytest.raises(InvalidPayload, match="over 65536 bytes"):
        mapper(mappings={f"properties.p{n}": "$" for n in range(100)}).events(body, {}, LIMITS)


# --- forms ------------------------------------------------------------------------------------------


def test_githubs_forms() -> None:
    assert form_payload(b"payload=%7B%22a%22%3A%22%C3%A4+b%22%7D") == '{"a":"ä b"}'.encode()
    assert form_payload(b"x=1&payload=%7B%7D&payload=2") == b"{}"
    for bad in (
        b"",
        b"{}",
        b"payload",
        b"pay=1",
        b"payload=%ff",
        "payload=ä".encode(),
        b"&".join([b"a=1"] * 20),
    ):
        with pytest.raises(InvalidPayload):
            form_payload(bad)


# --- settings that can't be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source_type": "paypal"}, "source_type: 'paypal' is none of stripe, shopify"),
        ({"mapings": {}}, "did you mean 'mappings'"),
        ({"zzz": {}}, "there are source_type, type"),
        ({"mappings": []}, "mappings: expected `object`"),
        ({"mappings": {"userId": 5}}, "mappings"),
        ({"mappings": {"userId": "data.id"}}, r"^mappings: userId: 'data\.id' is no JSONPath: it begins with \$"),
        ({"mappings": {"userId": ""}}, "it begins with"),
        ({"mappings": {"userId": "$.a["}}, r"^mappings: userId: '\$\.a\[' is no JSONPath: unexpected end"),
        ({"mappings": {"userId": "$.a b"}}, "unexpected token 'b' .at character 5"),
        ({"mappings": {"userId": "$" + ".a" * 300}}, "longer than 512"),
        ({"mappings": {"userId": "$..a..b"}}, r"'\.\.' visits the whole document"),
        ({"mappings": {"userId": "$['a','b']"}}, "a bracket holds one selector"),
        ({"mappings": {"userId": "$[?@.a[*]]"}}, "a filter compares single values"),
        ({"mappings": {"userId": "$[?@..a]"}}, "a filter compares single values"),
        ({"mappings": {"userId": "$[?!(@.b == 1 || @.*)]"}}, "a filter compares single values"),
        ({"mappings": {"userId": "$[?match(@.a, '(a+)+b')]"}}, "function 'match' is not defined"),
        ({"mappings": {"userId": "$[?length(@.a) > 1]"}}, "function 'length' is not defined"),
        ({"mappings": {"userId": "$.a | $.b"}}, "is no JSONPath"),
        ({"mappings": {"userId": "$.a.~"}}, "is no JSONPath"),
        ({"mappings": {"user": "$.a"}}, "'user' is no place in an event; there are event, name, userId"),
        ({"mappings": {"type": "$.a"}}, "'type' is no place"),
        ({"mappings": {"": "$.a"}}, "is no place"),
        ({"mappings": {"userId.x": "$.a"}}, "is no place"),
        ({"mappings": {"properties.": "$.a"}}, "is no place"),
        ({"mappings": {"properties..a": "$.a"}}, "is no place"),
        ({"mappings": {"properties" + ".a" * 17: "$.a"}}, "is no place"),
        ({"mappings": {"properties": "$.a", "properties.b": "$.b"}}, "goes below a place that has a value"),
        ({"mappings": {"properties.b": "$.b", "properties": "$.a"}}, "has a value and places below it"),
        ({"mappings": {"traits.a.b": "$.b", "traits.a": "$.a"}}, "has a value and places below it"),
        ({"mappings": {f"properties.p{n}": "$.a" for n in range(101)}}, "at most 100"),
        ({"mappings": {f"properties.p{n}": "$[*]" for n in range(17)}}, "at most 16"),
        ({"event_type_path": "type"}, "^event_type_path: 'type' is no JSONPath"),
        ({"items_path": "$["}, "^items_path"),
        ({"event_type_path": "$.a", "event_type_header": "x"}, "not both"),
        ({"event_type_header": "x y"}, "no name of a header"),
        ({"message_id_header": ""}, "no name of a header"),
        ({"event_names": {"a": " "}}, "translated to an empty name"),
        ({"event_names": {str(n): "x" for n in range(1001)}}, "at most 1000"),
        ({"type": "click"}, "type: 'click' is none of track, page"),
        ({"scheme": "none", "header": "X"}, "header: nothing is signed with the scheme none"),
        ({"scheme": "hmac"}, "header: a custom webhook needs the name of the header"),
        ({"scheme": None}, "header: a custom webhook needs the name of the header"),
        ({"scheme": "shared-secret", "header": "X", "algorithm": "sha1"}, "algorithm: a shared secret"),
        ({"scheme": None, "header": "X", "algorithm": "md5"}, "algorithm: 'md5' is none of sha1, sha256, sha512"),
        ({"scheme": None, "header": "X", "encoding": "hexx"}, "encoding: 'hexx' is none of hex, base64"),
        ({"scheme": None, "header": "X", "prefix": "a\nb"}, "prefix"),
        ({"source_type": "github", "header": "X"}, "header: github signs in its own way"),
        ({"source_type": "stripe", "scheme": "none"}, "scheme: stripe signs in its own way"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        mapper(
            **{"scheme": "none", "source_type": "custom", **settings}
            if "source_type" not in settings
            else settings
        )
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 64


@pytest.mark.parametrize("document", [None, [], 5, "x", {}])
def test_settings_are_an_object_that_names_its_kind(document: Any) -> None:
    with pytest.raises(BadConfig):
        read_config(document)


def test_a_path_that_names_one_value_knows_it() -> None:
    assert Path("$.a[0]['b c']", "x").singular
    assert not Path("$.a[*]", "x").singular
    assert repr(Path("$.a", "x")) == "Path($.a)"
    assert repr(MISSING) == "MISSING"
