"""
Whether a browser event came from a person or from a machine, by its user agent (contracts C.4).

The crawlers are those of the isbot project (PyPI: is-bot), which looks for what machines write into their
user agents instead of for each one's name. Of the lists there are it found the most bots and took the
fewest browsers for one; docs/user-data.md has the figures. Where it goes by words that devices and apps
are called by as well, its patterns are made narrower here.

One look costs some 50 µs, so the last few thousand answers are kept.
"""

from __future__ import annotations

import re
from functools import lru_cache

from is_bot import Bots

#: No browser has a shorter user agent.
USER_AGENT_CHARS_MIN = 16

#: What stands behind is not looked at: real ones have at most some 500 characters.
USER_AGENT_CHARS_MAX = 1024

#: How many answers are kept; with keys of USER_AGENT_CHARS_MAX these are 4 MiB at most.
_ANSWERS_MAX = 4096

#: Patterns of the library that take people for machines → what stands in their place.
NARROWED = {
    # Hisense's TVs: "OMI/4.21.4.112.Catcher4.66".
    "catch": r"catch(?!er)",
    # LG's TVs: "WebAppManager".
    "manager": r"(?<!webapp)manager",
    # Sogou's browsers and apps: "SogouMSE,SogouMobileBrowser/6.1.5".
    "sogou": r"\bsogou(?!mse|mobile|search)",
    # Toutiao's apps: "NewsArticle/7.2.5 … (News 7.2.5 12.200000)".
    "(?:^|[^g])news(?!sapphire)": r"(?:^|[^g])news(?!sapphire|article/|lite/| \d)",
    # Google's TVs: "GoogleTV".
    "(?<! channel/|google/)google(?!(?:wv|app|/google| pixel))": (
        r"(?<! channel/|google/)google(?!(?:wv|app|/google| pixel| ?tv))"
    ),
    # Feature phones: "CLDC-1.1 JavaPlatform/JP-8.5".
    "java(?!;)": r"java(?!;|platform)",
    # Apps in a web view by the name of their package: "[air.com.example/1.0]".
    r"\.com\b": r"\.com\b(?!\.)",
    # A plug-in that Internet Explorer names.
    "chromeframe": None,
}

#: What the library does not know: browsers without a person (headless engines, those under a test's control),
#: HTTP clients that no page runs in, and a few crawlers that look like Chrome.
SIGNATURES = (
    "casperjs",
    "happydom",
    "happy-dom",
    "htmlunit",
    "jsdom",
    "nightmare",
    "puppeteer",
    "slimerjs",
    "testcafe",
    "webdriver",
    "zombie.js",
    "(unknown; linux x86_64",  # PhantomJS without its name; "Unknown; Linux armv7l" is a TV
    "cfnetwork/",
    "dalvik/",
    "dart:io",
    "powershell",
    "amzn-user",
    "assetnote",
    "catchpoint",
    "gtmetrix",
    "miniature.io",
    " ylt ",
)

#: "(Linux; Android 13; Spider 8)", "(Linux; U; Android 7.0; en-us; C Bot Tab 70 …": the model is a device's name.
_MODEL = re.compile(r"(\([^()]*?\bandroid [\w.]+;(?: [a-z]{2}[-_][a-z]{2};)?)[^;()]*")

#: Where a | is no alternative of the whole pattern.
_GROUPS = re.compile(r"\(.*\)|\[.*?\]|\\.")

_SPECIAL = frozenset(r"\^$.|?*+()[]{}")


class _Words:
    """
    The patterns, sorted by what finds them fastest in a lower-case text.

    Most are plain words, for which `in` is ten times as fast as any regular expression; those that start with
    `^` are only tried at the start; what the standard library can't compile is left to the library's own engine.
    """

    def __init__(self) -> None:
        patterns = sorted({NARROWED.get(pattern, pattern) or "" for pattern in Bots().patterns} - {""})
        # The library ignores case; here the text is lower already. An upper-case class (\S) stays what it is.
        patterns = [re.sub(r"(?<!\\)[A-Z]", lambda letter: letter[0].lower(), one) for one in patterns]
        self._words = tuple(one for one in patterns if _SPECIAL.isdisjoint(one))
        others = [one for one in patterns if not _SPECIAL.isdisjoint(one)]
        plain = [one for one in others if _compiles(one)]
        start = [one for one in plain if one.startswith("^") and "|" not in _GROUPS.sub("", one)]
        self._at_start = re.compile("|".join(start))
        self._anywhere = re.compile("|".join(one for one in plain if one not in start))
        self._rest = Bots(one for one in others if one not in plain)

    def found(self, text: str) -> bool:
        for word in self._words:
            if word in text:
                return True
        return (
            self._at_start.match(text) is not None
            or self._anywhere.search(text) is not None
            or self._rest.is_bot(text)
        )


def _compiles(pattern: str) -> bool:
    """Whether the standard library can read `pattern`."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


_WORDS = _Words()


def is_bot(user_agent: str | None) -> bool:
    """
    Whether `user_agent`, as the header has it, is not a person's browser.

    True for crawlers, link previews, monitors, headless and remote-controlled browsers, HTTP libraries, and for
    none at all (None, empty, or too short to be a browser's).
    """
    if user_agent is None or len(user_agent) < USER_AGENT_CHARS_MIN:
        return True
    return _is_bot(user_agent[:USER_AGENT_CHARS_MAX])


@lru_cache(maxsize=_ANSWERS_MAX)
def _is_bot(user_agent: str) -> bool:
    text = user_agent.strip().lower()
    if len(text) < USER_AGENT_CHARS_MIN:
        return True
    for signature in SIGNATURES:
        if signature in text:
            return True
    return _WORDS.found(_MODEL.sub(r"\1", text, count=1))
