"""The keys of a front whose stores are in memory (`tests.support.front`)."""

from __future__ import annotations

from daemon.events import resultfly
from daemon.ports import ApiKey, Merchant
from tests.fuzz.http.keys import Keys
from tests.fuzz.targets.resultfly import CONTRACTS
from tests.support.contracts import cdp_key
from tests.support.front import KEY, ORIGIN, Front
from tests.support.webhooks import WAYS

_MERCHANT = "7d9f1a52-0c3e-4b8a-9f55-1c2d3e4f5a6b"


def keys_of(front: Front) -> Keys:
    """Gives the front a key of every kind, a webhook of every way, and the contracts that the seeds' events need."""
    front.keys.secrets["src_1"] = b"sk_secret"
    front.keys.api_keys["cdp_live_key"] = cdp_key(1, *resultfly.SCOPES)
    front.keys.api_keys["tl_live_key"] = ApiKey(
        "key_2", "merchant", "acme", _MERCHANT, ("events:write",), rate_per_s=None, burst=None
    )
    front.merchants.rows[_MERCHANT] = Merchant(_MERCHANT, "acme", "Acme Shop")
    for name, contract in CONTRACTS.items():
        front.contracts._put("acme", name, contract)
    webhooks = {way: front.webhooks.add(settings, secret) for way, (settings, secret) in WAYS.items()}
    return Keys(KEY, "src_1", "sk_secret", "cdp_live_key", "tl_live_key", _MERCHANT, webhooks, ORIGIN)
