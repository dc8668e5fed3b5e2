"""What of `user_data` goes to the log: nothing that is empty, and with `pii = hashed` nothing that is readable."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.events.userdata.destinations import META
from daemon.events.userdata.tables import VALUES_MAX, Form, Key, convert, country_of

#: Deeper than any field of C.3 goes; what lies below stays as it is.
_DEPTH_MAX = 8

#: Input fields that say who somebody is → the key of Meta's by whose rule they are hashed.
PII: dict[str, Key] = {source: key for key in META.keys if key.form is Form.HASHED for source in key.sources}

#: Input fields that stay readable with `pii = hashed`: destinations want them so, and nobody is named by them.
READABLE = frozenset(
    {
        *(source.partition(".")[0] for key in META.keys if key.form is Form.RAW for source in key.sources),
        "locale",
    }
)

#: The only field that is an object.
_OBJECT = "browser_ids"


def dropped_empty(user_data: Mapping[str, object]) -> dict[str, object]:
    """`user_data` without null, empty and whitespace-only values, and without what is empty for lack of them."""
    return {name: kept for name, value in user_data.items() if (kept := _full(value, _DEPTH_MAX)) is not None}


def _full(value: object, depth: int) -> object:
    """`value` without what is empty in it; None when nothing is left."""
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if depth == 0:
        return value
    if isinstance(value, dict):
        return {
            name: kept for name, one in value.items() if (kept := _full(one, depth - 1)) is not None
        } or None
    if isinstance(value, list):
        return [kept for one in value if (kept := _full(one, depth - 1)) is not None] or None
    return value


def hashed(user_data: Mapping[str, object]) -> dict[str, object]:
    """
    `user_data` as it goes to the log with `pii = hashed`: every field of `PII` under its own name, its values
    replaced by the SHA-256 of their normalised form, in lower-case hex.

    Delivery takes them for hashes and sends them as they are: the rules are those of Meta, with the country
    that is known here. What can't be normalised is left out, and so are fields that C.3 does not know, as
    anything might be in them. Fields of `READABLE` stay. Empty values go.
    """
    country = country_of(user_data)
    out: dict[str, object] = {}
    for name, value in user_data.items():
        key = PII.get(name)
        if key is not None:
            kept: object = _hashed(key, value, country)
        else:
            kept = _readable(name, value) if name in READABLE else None
        if kept is not None:
            out[name] = kept
    return out


def _readable(name: str, value: object) -> object:
    """`value` of a field that stays readable: text and numbers, alone, in a list, or each with its name."""
    if isinstance(value, dict):
        parts = value if name == _OBJECT else {}
        value = {inner: one for inner, one in parts.items() if not isinstance(one, dict | list)}
    elif isinstance(value, list):
        value = [one for one in value if not isinstance(one, dict | list)]
    return _full(value, 1)


def _hashed(key: Key, value: object, country: str) -> str | list[str] | None:
    if not isinstance(value, list):
        return convert(key, value, country, takes_md5=META.takes_md5)
    hashes = (convert(key, one, country, takes_md5=META.takes_md5) for one in value[:VALUES_MAX])
    return list(dict.fromkeys(one for one in hashes if one is not None)) or None
