"""
Countries and states of the United States: what people write, and the codes that stand for it.

Codes are lower case, as they are hashed. The names of countries, in forty languages, are a table of their
own (`country_names.py`), which is loaded when the first name is looked up: most callers send codes.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_CODES = """
    ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw
    by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi
    fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in
    io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me
    mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf
    pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv
    sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy uz va vc ve vg vi vn vu wf ws ye
    yt za zm zw
"""

#: ISO 3166-1 alpha-2.
COUNTRY_CODES = frozenset(_CODES.split())

#: States, the district, territories and the post's military "states" → USPS code; names without any spaces.
US_STATES = {
    "alabama": "al", "alaska": "ak", "arizona": "az", "arkansas": "ar", "california": "ca", "colorado": "co",
    "connecticut": "ct", "delaware": "de", "districtofcolumbia": "dc", "florida": "fl", "georgia": "ga",
    "hawaii": "hi", "idaho": "id", "illinois": "il", "indiana": "in", "iowa": "ia", "kansas": "ks",
    "kentucky": "ky", "louisiana": "la", "maine": "me", "maryland": "md", "massachusetts": "ma",
    "michigan": "mi", "minnesota": "mn", "mississippi": "ms", "missouri": "mo", "montana": "mt",
    "nebraska": "ne", "nevada": "nv", "newhampshire": "nh", "newjersey": "nj", "newmexico": "nm",
    "newyork": "ny", "northcarolina": "nc", "northdakota": "nd", "ohio": "oh", "oklahoma": "ok",
    "oregon": "or", "pennsylvania": "pa", "rhodeisland": "ri", "southcarolina": "sc", "southdakota": "sd",
    "tennessee": "tn", "texas": "tx", "utah": "ut", "vermont": "vt", "virginia": "va", "washington": "wa",
    "westvirginia": "wv", "wisconsin": "wi", "wyoming": "wy",
    "washingtondc": "dc", "newyorkstate": "ny", "stateofnewyork": "ny", "washingtonstate": "wa",
    "americansamoa": "as", "guam": "gu", "northernmarianaislands": "mp", "puertorico": "pr",
    "usvirginislands": "vi", "unitedstatesvirginislands": "vi", "virginislands": "vi",
    "virginislandsus": "vi",
    "armedforcesamericas": "aa", "armedforceseurope": "ae", "armedforcespacific": "ap",
}  # fmt: skip

#: Older abbreviations, which outside of the United States may mean something else.
US_ABBREVIATIONS = {
    "ala": "al", "ariz": "az", "ark": "ar", "calif": "ca", "colo": "co", "conn": "ct", "del": "de",
    "fla": "fl", "ill": "il", "ind": "in", "kan": "ks", "kans": "ks", "mass": "ma", "mich": "mi",
    "minn": "mn", "miss": "ms", "mont": "mt", "neb": "ne", "nebr": "ne", "nev": "nv", "okla": "ok",
    "ore": "or", "oreg": "or", "penn": "pa", "penna": "pa", "tenn": "tn", "tex": "tx", "wash": "wa",
    "wva": "wv", "wis": "wi", "wisc": "wi", "wyo": "wy",
}  # fmt: skip


def country_by_name(name: str) -> str | None:
    """The alpha-2 code of the country called `name`, in one of the languages of the table, or of its alpha-3 code."""
    key = name_key(name)
    names = _names()
    return names.get(key) or (names.get(key[3:]) if key.startswith("the") else None)


def name_key(name: str) -> str:
    """`name` as the table has it: lower case, letters and digits only, without accents."""
    letters = unicodedata.normalize("NFKD", name.lower().replace("ı", "i"))
    return unicodedata.normalize("NFC", "".join(filter(str.isalnum, letters)))


@cache
def _names() -> dict[str, str]:
    from daemon.events.userdata.country_names import COUNTRY_NAMES

    return {name: code for code, names in COUNTRY_NAMES.items() for name in names.split()}
