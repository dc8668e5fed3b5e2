"""
`python -m scripts.country_names > daemon/events/userdata/country_names.py` makes the table of countries' names.

The names are those of the Unicode CLDR, as Babel has them, in the languages below, and what CLDR does not say:
ISO's own forms and old or everyday names. A test fails when the file is behind.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import pycountry
from babel import Locale

from daemon.events.userdata.places import COUNTRY_CODES, name_key

#: The first is English, whose names win where languages disagree.
LANGUAGES = [
    "en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "uk", "tr", "ja", "zh", "zh_Hant", "ko", "sv", "da", "nb",
    "fi", "cs", "sk", "hu", "ro", "el", "bg", "hr", "sr", "sl", "lt", "lv", "et", "he", "ar", "fa", "hi", "id", "ms",
    "th", "vi", "ca",
]  # fmt: skip

#: Code → other names, divided by semicolons.
ALIASES = {
    "ae": "UAE; Emirates",
    "ba": "Bosnia",
    "bn": "Brunei Darussalam",
    "bo": "Bolivia, Plurinational State of; Plurinational State of Bolivia",
    "bq": "Bonaire, Sint Eustatius and Saba; Bonaire",
    "cd": "Congo, The Democratic Republic of the; Democratic Republic of the Congo; DR Congo; DRC; Congo-Kinshasa",
    "cg": "Congo; Republic of the Congo; Congo-Brazzaville",
    "ch": "Helvetia; Swiss Confederation",
    "ci": "Ivory Coast",
    "cn": "PR China; PRC; People's Republic of China; Mainland China",
    "cv": "Cabo Verde; Cape Verde",
    "cz": "Czech Republic; Czechia",
    "de": "Federal Republic of Germany; BRD",
    "fk": "Falkland Islands; Falkland Islands (Malvinas); Malvinas",
    "fm": "Micronesia; Micronesia, Federated States of; Federated States of Micronesia",
    "gb": "UK; U.K.; United Kingdom of Great Britain and Northern Ireland; Great Britain; Britain; England; Scotland; "
    "Wales; Northern Ireland; Großbritannien; Grande-Bretagne; Inglaterra",
    "gm": "Gambia; The Gambia; Republic of the Gambia",
    "gs": "South Georgia and the South Sandwich Islands",
    "hk": "Hong Kong; Hongkong; Hong Kong Special Administrative Region of China",
    "hm": "Heard Island and McDonald Islands",
    "ie": "Republic of Ireland; Eire",
    "ir": "Iran, Islamic Republic of; Islamic Republic of Iran",
    "kg": "Kyrgyz Republic",
    "kn": "Saint Kitts and Nevis; Saint Kitts",
    "kp": "Korea, Democratic People's Republic of; Democratic People's Republic of Korea; DPRK",
    "kr": "Korea, Republic of; Republic of Korea; Korea",
    "la": "Lao People's Democratic Republic; Lao",
    "lc": "Saint Lucia",
    "md": "Moldova, Republic of; Republic of Moldova",
    "mf": "Saint Martin (French part); Saint Martin",
    "mk": "Macedonia; The former Yugoslav Republic of Macedonia; FYROM; Republic of North Macedonia",
    "mm": "Burma; Myanmar",
    "mo": "Macao; Macau; Macao Special Administrative Region of China",
    "nl": "Holland; The Netherlands; Kingdom of the Netherlands",
    "pm": "Saint Pierre and Miquelon",
    "ps": "Palestine; Palestine, State of; the State of Palestine",
    "re": "Reunion Island",
    "ru": "Russian Federation",
    "sh": "Saint Helena, Ascension and Tristan da Cunha; Saint Helena",
    "sk": "Slovak Republic",
    "st": "Sao Tome and Principe; Sao Tome",
    "sx": "Sint Maarten (Dutch part)",
    "sy": "Syrian Arab Republic",
    "sz": "Swaziland; Eswatini",
    "tc": "Turks and Caicos",
    "tl": "East Timor",
    "tr": "Turkey; Republic of Turkey",
    "tt": "Trinidad",
    "tw": "Taiwan, Province of China; Taiwan, Republic of China; Republic of China",
    "tz": "Tanzania, United Republic of; United Republic of Tanzania",
    "um": "United States Minor Outlying Islands",
    "us": "USA; U.S.A.; United States of America; America; EEUU; EE. UU.; Etats-Unis d'Amérique; Estados Unidos de América",
    "va": "Vatican; Holy See; Holy See (Vatican City State)",
    "vc": "Saint Vincent; Saint Vincent and the Grenadines",
    "ve": "Venezuela, Bolivarian Republic of; Bolivarian Republic of Venezuela",
    "vg": "Virgin Islands, British",
    "vi": "Virgin Islands, U.S.; Virgin Islands of the United States; United States Virgin Islands",
    "vn": "Viet Nam; Socialist Republic of Viet Nam",
    "za": "RSA",
}

HEAD = '''"""
What countries are called: alpha-2 code → its alpha-3 code and its names, as `places.name_key` makes them.

Made by `python -m scripts.country_names` from the Unicode CLDR; a test fails when this file is behind.
"""

COUNTRY_NAMES = {
'''


def names() -> dict[str, list[str]]:
    """Code → keys. A name that means two countries is left out, unless English knows which one."""
    english: dict[str, str] = {}
    others: defaultdict[str, set[str]] = defaultdict(set)
    for country in pycountry.countries:
        code = country.alpha_2.lower()
        for name in (country.alpha_3, *(ALIASES.get(code, "").split(";"))):
            _add(english, name, code)
    for language in LANGUAGES:
        territories = Locale.parse(language).territories
        for code in sorted(COUNTRY_CODES):
            name = territories.get(code.upper(), "")
            for form in {name, name.replace("&", "and"), name.replace("St.", "Saint").replace("&", "and")}:
                if language == LANGUAGES[0]:
                    _add(english, form, code)
                elif form:
                    others[name_key(form)].add(code)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, code in english.items():
        found[code].append(key)
    for key, codes in others.items():
        if len(codes) == 1 and key not in english:
            found[next(iter(codes))].append(key)
    return {code: sorted(found[code]) for code in sorted(found)}


def _add(english: dict[str, str], name: str, code: str) -> None:
    key = name_key(name)
    if key and english.setdefault(key, code) != code:
        raise ValueError(f"{name!r} is {english[key]} and {code}: take it out of the one it does not mean")


def text() -> str:
    """The module, as it lies in the tree."""
    lines = [f'    "{code}": "{" ".join(keys)}",\n' for code, keys in names().items()]
    return HEAD + "".join(lines) + "}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
