"""What an operator may write into a source: brought into its normal form, or refused with the reason."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable

from daemon.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^/?#\[\]@:]+)(?::([0-9]*))?(/?)", re.ASCII)
_NAME_CHARS_MAX = 100
ORIGINS_MAX = 1000


def origin(text: str) -> str:
    """
    `scheme://host[:port]` as browsers send it: lower case, without the scheme's own port.

    The host may begin with `*.` (any name below, not the name itself). Raises UsageError.
    """
    given = text.strip()
    if "://" not in given:
        raise UsageError(
            f"origin {text!r}: it begins with https:// or http://, as in https://www.example.com"
        )
    scheme = given.partition("://")[0].lower()
    host_part = given.partition("://")[2]
    match = _ORIGIN.fullmatch(f"{scheme}://{_ascii(host_part, f'origin {text!r}')}")
    if scheme not in _PORTS:
        raise UsageError(f"origin {text!r}: the scheme is http or https, not {scheme!r}")
    if match is None:
        reason = (
            "a host is missing" if not host_part.strip("/") else "only scheme, host and port, no user or path"
        )
        raise UsageError(f"origin {text!r}: {reason}, as in https://www.example.com")
    name, port_text = match[2], match[3]
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
        except ValueError:
            raise UsageError(f"origin {text!r}: {name} is no IPv6 address") from None
    else:
        base = name.removeprefix("*.")
        if "*" in base:
            raise UsageError(
                f"origin {text!r}: a * stands only for the whole first label, as in https://*.example.com"
            )
        if base != name and "." not in base:
            raise UsageError(f"origin {text!r}: a wildcard needs a domain of two labels or more below it")
        _check_host(base, f"origin {text!r}")
    if not port_text:
        return f"{scheme}://{name}"
    port = int(port_text)
    if not 1 <= port <= 65535:
        raise UsageError(f"origin {text!r}: {port} is no port")
    return f"{scheme}://{name}" if port == _PORTS[scheme] else f"{scheme}://{name}:{port}"


def origins(texts: Iterable[str]) -> list[str]:
    """All of them, each once, in their order. Raises UsageError."""
    if isinstance(texts, str):
        texts = [texts]
    normal = list(dict.fromkeys(origin(text) for text in texts))
    if len(normal) > ORIGINS_MAX:
        raise UsageError(f"a source has at most {ORIGINS_MAX} origins, not {len(normal)}")
    return normal


def cookie_domain(text: str | None) -> str | None:
    """
    The `Domain` of a source's cookies; None (or empty) for host-only. Raises UsageError.

    A leading dot stays as it was given: browsers pass it over (RFC 6265, 5.2.3), people look for it.
    """
    if text is None or not text.strip():
        return None
    dot = "." if text.strip().startswith(".") else ""
    given = text.strip().removeprefix(".")
    what = f"cookie domain {text!r}"
    if "/" in given or ":" in given:
        raise UsageError(f"{what}: a domain alone, without scheme, port or path, as in example.com")
    name = _ascii(given, what)
    if _is_address(name):
        raise UsageError(
            f"{what}: browsers take no Domain that is an address; leave it out for host-only cookies"
        )
    if "." not in name:
        raise UsageError(f"{what}: browsers take no Domain of one label; leave it out for host-only cookies")
    _check_host(name, what)
    return dot + name


def rate(value: float | None) -> float | None:
    """Requests per second, > 0; None for the settings' default. Raises UsageError."""
    if value is None:
        return None
    if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"the rate is a number of requests per second above 0, not {value!r}")
    return float(value)


def burst(value: int | None) -> int | None:
    """Requests at once, ≥ 1; None for the settings' default. Raises UsageError."""
    if value is None:
        return None
    if isinstance(value, bool) or value != int(value) or value < 1:
        raise UsageError(f"the burst is a whole number of requests from 1 on, not {value!r}")
    if value > 2**53:
        raise UsageError(f"the burst is at most 2^53, not {value}")  # what a float of Lua counts exactly
    return int(value)


def name(text: str, what: str) -> str:
    """A tenant's or a source's name: printable, 1 to 100 characters, no `/`. Raises UsageError."""
    if not text.strip() or text != text.strip():
        raise UsageError(f"{what} {text!r}: not empty, and no blanks around it")
    if len(text) > _NAME_CHARS_MAX:
        raise UsageError(f"{what}: at most {_NAME_CHARS_MAX} characters, not {len(text)}")
    if not text.isprintable() or "/" in text:
        # A tenant and a visitor are joined by a slash in the records' keys.
        raise UsageError(f"{what} {text!r}: printable characters only, and no /")
    return text


def _ascii(host: str, what: str) -> str:
    if host.isascii():
        return host.lower()
    labels = []
    for label in host.lower().split("."):
        try:
            labels.append(label if label.isascii() else label.encode("idna").decode("ascii"))
        except UnicodeError:
            raise UsageError(f"{what}: {label!r} is no part of a domain name") from None
    return ".".join(labels)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_host(host: str, what: str) -> None:
    if len(host) > 253:
        raise UsageError(f"{what}: a host name has at most 253 characters")
    for label in host.split("."):
        if not _LABEL.fullmatch(label):
            raise UsageError(f"{what}: {label!r} is no part of a host name")
    if host.rpartition(".")[2].isdigit() and not _is_address(host):
        raise UsageError(f"{what}: {host} is neither a name nor an IPv4 address")
