"""What a caller has to know to get past the door: keys, ids and secrets of the instance under fire."""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """Of one instance. `webhooks` is kind of sender (`tests.support.webhooks.WAYS`) → id."""

    pipeline: str
    source: str
    secret: str
    cdp: str
    merchant_key: str
    merchant: str
    webhooks: dict[str, str]
    origin: str

    def filled(self, template: bytes) -> bytes:
        """A seed's `$PIPELINE$`, `$SOURCE$`, `$CDP$`, `$MERCHANT_KEY$`, `$MERCHANT$`, `$WEBHOOK$` as they are here."""
        names = {
            "PIPELINE": self.pipeline, "SOURCE": self.source, "CDP": self.cdp, "MERCHANT_KEY": self.merchant_key,
            "MERCHANT": self.merchant, "WEBHOOK": next(iter(self.webhooks.values()), "wh_none"),
        }  # fmt: skip
        for name, value in names.items():
            template = template.replace(f"${name}$".encode(), value.encode())
        return template

    def template(self, data: bytes) -> bytes:
        """The other way round: bytes that were sent, to be kept."""
        for name, value in (
            ("PIPELINE", self.pipeline), ("SOURCE", self.source), ("CDP", self.cdp), ("MERCHANT_KEY", self.merchant_key),
            ("MERCHANT", self.merchant), *(("WEBHOOK", one) for one in self.webhooks.values()),
        ):  # fmt: skip
            data = data.replace(value.encode(), f"${name}$".encode())
        return data
