"""Codes of currencies (ISO 4217)."""

from __future__ import annotations

import iso4217

#: Codes that were withdrawn in the last years: an event may be older than the change, or its shop behind it.
WITHDRAWN = frozenset(
    {
        "ANG",  # 2025, XCG
        "BGN",  # 2026, EUR
        "CUC",  # 2021, CUP
        "HRK",  # 2023, EUR
        "SLL",  # 2024, SLE
        "ZWL",  # 2024, ZWG
    }
)

#: Every code that is taken.
CURRENCIES = frozenset(code for code in iso4217.raw_table if code) | WITHDRAWN
