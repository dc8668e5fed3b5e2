"""Meta's own business SDK as an oracle: what it makes of a field, and of a whole customer."""

from __future__ import annotations

from typing import Any

# Only these two modules: the rest of the SDK opens sessions and takes seconds to import.
from facebook_business.adobjects.serverside.gender import Gender
from facebook_business.adobjects.serverside.normalize import Normalize
from facebook_business.adobjects.serverside.user_data import UserData

#: SHA-256 of nothing, which the SDK sends where nothing was left of a value.
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#: Our input field → the SDK's parameter, which takes lists in the plural.
LISTS = {
    "email": "emails",
    "phone": "phones",
    "date_of_birth": "dates_of_birth",
    "first_name": "first_names",
    "last_name": "last_names",
    "city": "cities",
    "state": "states",
    "zip": "zip_codes",
    "country": "country_codes",
    "external_ids": "external_ids",
}
PLAIN = {
    "client_ip": "client_ip_address",
    "user_agent": "client_user_agent",
    "fb_login_id": "fb_login_id",
    "subscription_id": "subscription_id",
    "lead_id": "lead_id",
    "anon_id": "anon_id",
    "ctwa_clid": "ctwa_clid",
}


class Refused:
    """The SDK raised an error."""

    def __repr__(self) -> str:
        return "refused"


REFUSED = Refused()


def sdk_text(key: str, value: str) -> str | Refused | None:
    """What the SDK would hash for `value` under Meta's `key`; None for an empty value."""
    try:
        text: str | None = Normalize.normalize_field_skip_hashing(key, value)
    except (TypeError, ValueError):
        return REFUSED
    return text


def sdk_hash(key: str, value: str) -> str | None:
    """What the SDK sends for `value` under Meta's `key`; None when it refuses it, or sends a hash of nothing."""
    try:
        digest: str | None = Normalize.normalize_field(key, value)
    except (TypeError, ValueError):
        return None
    return None if digest == NOTHING else digest


def sdk_user_data(user_data: dict[str, Any]) -> dict[str, Any]:
    """A whole customer by the SDK; lists sorted, as it leaves them in an order of chance."""
    given: dict[str, Any] = {}
    for name, parameter in LISTS.items():
        if name in user_data:
            value = user_data[name]
            given[parameter] = value if isinstance(value, list) else [value]
    if "gender" in user_data:
        given["genders"] = [Gender(user_data["gender"])]
    for name, parameter in PLAIN.items():
        if name in user_data:
            given[parameter] = user_data[name]
    given |= user_data.get("browser_ids", {})
    normal = UserData(**given).normalize()
    return {name: sorted(one) if isinstance(one, list) else one for name, one in normal.items()}
