"""
Click ids: the ad platforms' parameters in the address of a landing page (contracts A.8).

Their names are case-sensitive, as listed; a value over 512 characters is no click id.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

#: Parameter → whose it is.
CLICK_IDS = {
    "gclid": "Google Ads",
    "fbclid": "Meta",
    "ttclid": "TikTok",
    "li_fat_id": "LinkedIn",
    "ScCid": "Snapchat",
    "epik": "Pinterest",
    "tduid": "The Trade Desk",
}

VALUE_CHARS_MAX = 512


def from_url(url: str) -> dict[str, str]:
    """The click ids in the query of `url`, by parameter name; the first of a name counts."""
    _, mark, rest = url.partition("?")
    if not mark:
        return {}
    found: dict[str, str] = {}
    for pair in rest.partition("#")[0].split("&"):
        name, _, raw = pair.partition("=")
        if name in CLICK_IDS and raw and name not in found:
            value = unquote_plus(raw)
            if value and len(value) <= VALUE_CHARS_MAX and value.isprintable():
                found[name] = value
    return found
