"""Who is calling: the address and scheme, seen through proxies that we trust (contracts 0.1.11)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from daemon.frontend.rsgi import RequestHeaders, Scope


class ClientAddress:
    """Finds the caller's address: the peer, or the right-most untrusted entry of X-Forwarded-For."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in trusted_proxies]
        self._trusts = lru_cache(4096)(self._is_trusted)

    def ip(self, scope: Scope, headers: RequestHeaders) -> str:
        """The caller's address, without a port; `headers` are the scope's."""
        peer = _host(scope.client)
        if not self._networks or not self._trusts(peer):
            return peer
        hops = ",".join(headers.get_all("x-forwarded-for")).split(",")
        for hop in reversed(hops):
            address = _address(hop.strip())
            if address is None:
                return peer  # what stands left of a hop that is no address can't be told from a forgery
            peer = address
            if not self._trusts(address):
                break
        return peer

    def https(self, scope: Scope) -> bool:
        """Whether the caller came by https, to us or to a trusted proxy."""
        if scope.scheme == "https":
            return True
        if self._networks and self._trusts(_host(scope.client)):
            return str(scope.headers.get("x-forwarded-proto", "")).split(",")[-1].strip().lower() == "https"
        return False

    def url(self, scope: Scope) -> str:
        """The address that the caller called, as far as we and trusted proxies (X-Forwarded-Proto, -Host) know."""
        host = str(scope.headers.get("host", ""))
        if self._networks and self._trusts(_host(scope.client)):
            host = str(scope.headers.get("x-forwarded-host", "")).split(",")[-1].strip() or host
        scheme = "https" if self.https(scope) else "http"
        query = f"?{scope.query_string}" if scope.query_string else ""
        return f"{scheme}://{host}{scope.path}{query}"

    def _is_trusted(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._networks)


@lru_cache(65536)
def _peer(host: str) -> str:
    return _address(host) or host


def _host(client: str) -> str:
    return _peer(client.rpartition(":")[0])


def _address(text: str) -> str | None:
    """An address in its usual spelling, out of `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)
