"""The tables of the destinations: Meta (contracts C.3, F.1) and TikTok (F.4)."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.events.userdata import fields
from daemon.events.userdata.tables import Filled, Form, Key, Table, fill

META = Table(
    (
        Key(name="em", sources=("email",), form=Form.HASHED, normalise=fields.normalise_email),
        Key(name="ph", sources=("phone",), form=Form.HASHED, normalise=fields.normalise_phone),
        Key(name="ge", sources=("gender",), form=Form.HASHED, normalise=fields.normalise_gender),
        Key(
            name="db",
            sources=("date_of_birth",),
            form=Form.HASHED,
            normalise=fields.normalise_date_of_birth,
            by_country=True,
        ),
        Key(name="fn", sources=("first_name",), form=Form.HASHED, normalise=fields.normalise_name),
        Key(name="ln", sources=("last_name",), form=Form.HASHED, normalise=fields.normalise_name),
        Key(name="ct", sources=("city",), form=Form.HASHED, normalise=fields.normalise_city),
        Key(
            name="st", sources=("state",), form=Form.HASHED, normalise=fields.normalise_state, by_country=True
        ),
        Key(
            name="zp",
            sources=("zip", "postal_code"),
            form=Form.HASHED,
            normalise=fields.normalise_zip,
            by_country=True,
        ),
        Key(name="country", sources=("country",), form=Form.HASHED, normalise=fields.normalise_country),
        Key(
            name="external_id",
            sources=("customer_id", "external_ids"),
            form=Form.HASHED,
            normalise=fields.normalise_external_id,
            any_id=True,
        ),
        Key(
            name="client_ip_address",
            sources=("client_ip", "ip"),
            form=Form.RAW,
            normalise=fields.normalise_ip,
            many=False,
        ),
        Key(name="client_user_agent", sources=("user_agent",), form=Form.RAW, many=False),
        Key(name="fbp", sources=("browser_ids.fbp",), form=Form.RAW, many=False),
        Key(name="fbc", sources=("browser_ids.fbc",), form=Form.RAW, many=False),
        Key(
            name="madid",
            sources=("madid",),
            form=Form.RAW,
            normalise=fields.normalise_external_id,
            many=False,
        ),
        Key(name="fb_login_id", sources=("fb_login_id",), form=Form.RAW, many=False, number=True),
        Key(name="subscription_id", sources=("subscription_id",), form=Form.RAW, many=False),
        Key(name="lead_id", sources=("lead_id",), form=Form.RAW, many=False, number=True),
        Key(name="anon_id", sources=("anon_id",), form=Form.RAW, many=False),
        Key(name="ctwa_clid", sources=("ctwa_clid",), form=Form.RAW, many=False),
    ),
    takes_md5=True,
)

TIKTOK = Table(
    (
        Key(
            name="external_id",
            sources=("customer_id", "external_ids"),
            form=Form.HASHED,
            normalise=fields.normalise_external_id,
            any_id=True,
        ),
        Key(name="phone", sources=("phone",), form=Form.HASHED, normalise=fields.normalise_phone_plus),
        Key(name="email", sources=("email",), form=Form.HASHED, normalise=fields.normalise_email),
        Key(
            name="first_name",
            sources=("first_name",),
            form=Form.HASHED,
            normalise=fields.normalise_name_compact,
            many=False,
        ),
        Key(
            name="last_name",
            sources=("last_name",),
            form=Form.HASHED,
            normalise=fields.normalise_name_compact,
            many=False,
        ),
        Key(name="city", sources=("city",), form=Form.PLAIN, normalise=fields.normalise_city, many=False),
        Key(
            name="state",
            sources=("state",),
            form=Form.PLAIN,
            normalise=fields.normalise_state,
            by_country=True,
            many=False,
        ),
        Key(
            name="country",
            sources=("country",),
            form=Form.PLAIN,
            normalise=fields.normalise_country,
            many=False,
        ),
        Key(
            name="zip_code",
            sources=("zip", "postal_code"),
            form=Form.HASHED,
            normalise=fields.normalise_zip,
            by_country=True,
            many=False,
        ),
        Key(name="ttclid", sources=("browser_ids.ttclid",), form=Form.RAW, many=False),
        Key(name="ttp", sources=("browser_ids.ttp",), form=Form.RAW, many=False),
        Key(name="ip", sources=("client_ip", "ip"), form=Form.RAW, normalise=fields.normalise_ip, many=False),
        Key(name="user_agent", sources=("user_agent",), form=Form.RAW, many=False),
        Key(name="locale", sources=("locale",), form=Form.RAW, many=False),
    )
)


def meta_user_data(user_data: Mapping[str, object]) -> Filled:
    """`user_data` of Meta's Conversions API: hashed keys are lists, as Meta's own SDK sends them."""
    return fill(META, user_data)


def tiktok_user(user_data: Mapping[str, object]) -> Filled:
    """`user` of TikTok's Events API v1.3."""
    return fill(TIKTOK, user_data)
