"""How the senders of webhooks sign: published vectors, their own libraries, and one flipped bit (contracts F.6)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
import stripe

from daemon.events.signatures import BadSignature, SignedRequest
from daemon.events.signatures.providers import (
    GITHUB,
    SHOPIFY,
    Hmac,
    HubSpot,
    Scheme,
    SharedSecret,
    StandardWebhooks,
    Stripe,
    Unsigned,
    hubspot_uris,
    standard_key,
)
from daemon.events.webhooks import Mapper, read_config
from tests.support.webhooks import SIGNATURES, SIGNING, TIMED, WAYS, body_of, signed

NOW_S = 1_700_000_000
URI = "https://data.example.com/v1/webhook?source=wh_abc123"


def check(
    scheme: Scheme,
    headers: dict[str, str],
    body: bytes,
    secret: str,
    now_s: float = NOW_S,
    uri: str = URI,
    *more: str,
) -> None:
    """Raise BadSignature or not."""
    request = SignedRequest("POST", uri, headers, body)
    scheme.check(request, [one.encode() for one in (secret, *more)], int(now_s * 1000))


# --- the vectors ------------------------------------------------------------------------------------


def test_stripes_vector() -> None:
    signature = "38877139021993b830af32feea6e18a8da83eb2f6e49ee50bd9e4cf4ca4d3789"
    check(Stripe(), {"stripe-signature": f"t=1700000000,v1={signature}"}, b'{"a":1}', "whsec_test")


def test_shopifys_vector() -> None:
    signature = "0Jy1Y9Sq0FsN8H3q2VaFHSsyKoGpKEceGz58RZUKNKo="
    check(SHOPIFY, {"x-shopify-hmac-sha256": signature}, b'{"a":1}', "shpss_test")


def test_githubs_published_vector() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(GITHUB, {"x-hub-signature-256": signature}, b"Hello, World!", "It's a Secret to Everybody")


def test_the_vector_of_standard_webhooks() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    check(StandardWebhooks(), headers, b'{"test": 2432232314}', secret, 1614265330)


def test_hubspots_vector() -> None:
    headers = {
        "x-hubspot-signature-v3": "jXsc/7prlgaWK2tIwJ1iqoyfwcqDjKgdmTcyMqGhgIA=",
        "x-hubspot-request-timestamp": "1700000000000",
    }
    check(HubSpot(), headers, b'{"a":1}', "hs_secret")


# --- the providers' own libraries -------------------------------------------------------------------


def test_what_stripes_library_signs_and_what_it_thinks_of_ours() -> None:
    body, secret = b'{"id": "evt_1", "name": "\xc3\xa4"}', "whsec_test_secret"
    theirs = stripe.WebhookSignature._compute_signature(f"{NOW_S}.{body.decode()}", secret)
    check(Stripe(), {"stripe-signature": f"t={NOW_S},v1={theirs},v0=old"}, body, secret)

    fresh = int(datetime.now(UTC).timestamp())
    request = SignedRequest("POST", URI, {}, body)
    ours = Stripe().sign(request, secret.encode(), fresh * 1000, "")["stripe-signature"]
    assert stripe.WebhookSignature.verify_header(body, ours, secret, tolerance=300)


def test_what_the_library_of_standard_webhooks_signs_and_what_it_thinks_of_ours() -> None:
    body = b'{"type":"invoice.paid","name":"\xc3\xa4"}'
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    library = standardwebhooks.Webhook(secret)
    signature = library.sign("msg_1", datetime.fromtimestamp(NOW_S, UTC), body.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW_S), "webhook-signature": signature}
    check(StandardWebhooks(), headers, body, secret)

    fresh = int(datetime.now(UTC).timestamp() * 1000)
    ours = StandardWebhooks().sign(SignedRequest("POST", URI, {}, body), secret.encode(), fresh, "msg_2")
    assert library.verify(body, ours) == {"type": "invoice.paid", "name": "ä"}


def test_what_shopify_github_and_hubspot_document() -> None:
    """Their pages' own few lines, written out."""
    body, key = b'{"a":"\xe2\x82\xac"}', b"key"
    digest = hmac.new(key, body, hashlib.sha256)
    check(SHOPIFY, {"x-shopify-hmac-sha256": base64.b64encode(digest.digest()).decode()}, body, "key")
    check(GITHUB, {"x-hub-signature-256": f"sha256={digest.hexdigest()}"}, body, "key")
    timestamp = str(NOW_S * 1000)
    source = "POST" + URI + body.decode() + timestamp
    v3 = base64.b64encode(hmac.new(key, source.encode(), hashlib.sha256).digest()).decode()
    check(HubSpot(), {"x-hubspot-signature-v3": v3, "x-hubspot-request-timestamp": timestamp}, body, "key")


# --- one flipped bit --------------------------------------------------------------------------------


def _scheme(name: str) -> Scheme:
    return Mapper(read_config(WAYS[name][0])).scheme


def _flips(data: bytes) -> list[bytes]:
    """The data with each of its bits flipped in turn."""
    return [
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    ]


@pytest.mark.parametrize("name", SIGNING)
def test_any_flipped_bit_of_the_body_is_seen(name: str) -> None:
    body = body_of(name)
    headers, secret = signed(name, body, URI, now_s=NOW_S), WAYS[name][1]
    assert secret is not None
    check(_scheme(name), headers, body, secret)
    for flipped in _flips(body):
        with pytest.raises(BadSignature):
            check(_scheme(name), headers, flipped, secret)


@pytest.mark.parametrize("name", SIGNATURES)
def test_any_flipped_bit_of_the_signature_is_seen(name: str) -> None:
    """Also one that makes it upper-case hex, or another spelling of the same base64."""
    body = body_of(name)
    headers, secret = signed(name, body, URI, now_s=NOW_S), WAYS[name][1]
    assert secret is not None
    for flipped in _flips(headers[SIGNATURES[name]].encode()):
        with pytest.raises(BadSignature):
            check(_scheme(name), {**headers, SIGNATURES[name]: flipped.decode("latin-1")}, body, secret)


@pytest.mark.parametrize("name", TIMED)
def test_any_flipped_bit_of_the_time_is_seen(name: str) -> None:
    body = body_of(name)
    headers, secret = signed(name, body, URI, now_s=NOW_S), WAYS[name][1]
    assert secret is not None
    for flipped in _flips(headers[TIMED[name]].encode()):
        with pytest.raises(BadSignature):
            check(_scheme(name), {**headers, TIMED[name]: flipped.decode("latin-1")}, body, secret)


@pytest.mark.parametrize("name", SIGNATURES)
def test_another_secret_or_none_fails(name: str) -> None:
    body = body_of(name)
    headers = signed(name, body, URI, now_s=NOW_S)
    other = "whsec_" + base64.b64encode(b"another").decode()
    with pytest.raises(BadSignature):
        check(_scheme(name), headers, body, other)
    with pytest.raises(BadSignature):
        _scheme(name).check(SignedRequest("POST", URI, headers, body), [], NOW_S * 1000)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_missing_or_empty_or_endless_header_fails_with_its_name(name: str) -> None:
    body = body_of(name)
    headers = signed(name, body, URI, now_s=NOW_S)
    secret = WAYS[name][1]
    assert secret is not None
    for header in set(headers) - {"content-type", *_telling(name)}:
        for value in ("", " ", "v1," * 5000):
            with pytest.raises(BadSignature, match=f"(?i){header}"):
                check(_scheme(name), {**headers, header: value}, body, secret)
        without = {key: value for key, value in headers.items() if key != header}
        with pytest.raises(BadSignature, match=f"(?i){header} is missing"):
            check(_scheme(name), without, body, secret)


def _telling(name: str) -> set[str]:
    return {"x-shopify-topic", "x-shopify-webhook-id", "x-github-event", "x-github-delivery"}


# --- time, several signatures, several secrets ------------------------------------------------------


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize(("off_s", "good"), [(-300, True), (300, True), (-301, False), (301, False)])
def test_five_minutes_either_way(name: str, off_s: int, good: bool) -> None:
    body = body_of(name)
    headers, secret = signed(name, body, URI, now_s=NOW_S + off_s), WAYS[name][1]
    assert secret is not None
    if good:
        check(_scheme(name), headers, body, secret)
        return
    with pytest.raises(BadSignature) as caught:
        check(_scheme(name), headers, body, secret)
    assert caught.value.stale


@pytest.mark.parametrize("name", TIMED)
def test_who_can_not_sign_learns_nothing_about_the_clock(name: str) -> None:
    body = body_of(name)
    headers = signed(name, body, URI, now_s=NOW_S - 9999)
    with pytest.raises(BadSignature) as caught:
        check(_scheme(name), headers, body, "whsec_" + base64.b64encode(b"another").decode())
    assert not caught.value.stale


@pytest.mark.parametrize("name", SIGNING)
def test_both_secrets_of_a_rotation_are_good(name: str) -> None:
    body = body_of(name)
    old, new = ("whsec_" + base64.b64encode(text).decode() for text in (b"old one", b"new one"))
    for secret in (old, new):
        headers = signed(name, body, URI, now_s=NOW_S, secret=secret)
        check(_scheme(name), headers, body, new, NOW_S, URI, old)


def test_one_of_several_signatures_is_enough() -> None:
    body = body_of("stripe")
    good = signed("stripe", body, URI, now_s=NOW_S)["stripe-signature"].partition(",v1=")[2]
    header = f"t={NOW_S},v1={'0' * 64},v1={good},v0={good}"
    check(Stripe(), {"stripe-signature": header}, body, "whsec_test")
    with pytest.raises(BadSignature):
        check(Stripe(), {"stripe-signature": f"t={NOW_S},v0={good}"}, body, "whsec_test")

    headers = signed("standard-webhooks", body, URI, now_s=NOW_S)
    secret = WAYS["standard-webhooks"][1]
    assert secret is not None
    good = headers["webhook-signature"]
    check(
        StandardWebhooks(), {**headers, "webhook-signature": f"v1a,{good[3:]} v1,AAAA {good}"}, body, secret
    )
    with pytest.raises(BadSignature):
        check(StandardWebhooks(), {**headers, "webhook-signature": f"v1a,{good[3:]}"}, body, secret)
    many = " ".join(["v1,AAAA"] * 16)
    with pytest.raises(BadSignature):
        check(StandardWebhooks(), {**headers, "webhook-signature": f"{many} {good}"}, body, secret)


@pytest.mark.parametrize(
    "time", ["", "soon", "1.7e9", "-1700000000", "+1700000000", "１７００００００００", "9" * 16]
)
def test_a_time_that_is_no_plain_number_fails(time: str) -> None:
    body = body_of("stripe")
    with pytest.raises(BadSignature):
        check(Stripe(), {"stripe-signature": f"t={time},v1={'0' * 64}"}, body, "whsec_test")


# --- HubSpot's URI, the custom ways -----------------------------------------------------------------


def test_hubspots_uri_is_decoded() -> None:
    listed = hubspot_uris("https://a.example/v1/webhook?source=wh_1&x=%3A%2f%3F%40%20%41%2C")
    assert listed == [
        "https://a.example/v1/webhook?source=wh_1&x=:/?@%20%41,",
        "https://a.example/v1/webhook?source=wh_1&x=:/?@ A,",
    ]
    assert hubspot_uris(URI) == [URI]


@pytest.mark.parametrize("wrong", ["http://data.example.com/v1/webhook?source=wh_abc123", URI + "4"])
def test_another_uri_is_another_request_for_hubspot(wrong: str) -> None:
    headers = signed("hubspot", b"[]", URI, now_s=NOW_S)
    with pytest.raises(BadSignature, match="does not fit the body, the secret and POST http"):
        check(HubSpot(), headers, b"[]", "hs_secret", uri=wrong)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "v1="])
def test_custom_signatures(algorithm: str, encoding: str, prefix: str) -> None:
    digest = hmac.new(b"key", b"body", algorithm).digest()
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    scheme = Hmac("X-Sig", algorithm, encoding, prefix)  # type: ignore[arg-type]
    check(scheme, {"x-sig": f" {prefix}{text} "}, b"body", "key")
    for wrong in (text.upper() if encoding == "hex" else text.rstrip("="), prefix, f"x{prefix}{text}"):
        if wrong != prefix + text:
            with pytest.raises(BadSignature):
                check(scheme, {"x-sig": wrong}, b"body", "key")


def test_a_shared_secret_is_compared_as_it_is() -> None:
    scheme = SharedSecret("X-Token", "Bearer ")
    check(scheme, {"x-token": "Bearer grün"}, b"", "grün")
    for wrong in ("grün", "Bearer gruen", "Bearer grün2", "bearer grün", "Bearer \udcff"):
        with pytest.raises(BadSignature, match="X-Token does not hold"):
            check(scheme, {"x-token": wrong}, b"", "grün")


def test_without_a_signature_everything_passes() -> None:
    Unsigned().check(SignedRequest("POST", URI, {}, b""), [], 0)
    assert Unsigned().sign(SignedRequest("POST", URI, {}, b""), b"", 0, "") == {}


def test_secrets_of_standard_webhooks() -> None:
    assert standard_key(b"whsec_AAEC") == standard_key(b"AAEC") == b"\x00\x01\x02"
    assert standard_key(b"whsec_AA") == standard_key(b"whsec_AA==") == b"\x00"
    for bad in (b"", b"whsec_", b"whsec_*", b"whsec_A", "whsec_ä".encode()):
        with pytest.raises(ValueError):  # noqa: PT011  the words are binascii's
            standard_key(bad)
