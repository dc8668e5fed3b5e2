"""Single parameters of a query string."""

from __future__ import annotations

from urllib.parse import unquote_plus


def parameter(query: str, name: str) -> str:
    """
    The first value of `name`, decoded; empty where it is absent.

    Unlike urllib's parser it makes no list of all parameters, so a long query costs nothing and can't fail.
    """
    start = 0 if query.startswith(f"{name}=") else query.find(f"&{name}=") + 1
    if start == 0 and not query.startswith(f"{name}="):
        return ""
    end = query.find("&", start)
    return unquote_plus(query[start + len(name) + 1 : len(query) if end < 0 else end])
