"""
Customer data (contracts C.3): what goes to the log of it, and what the destinations get.

At ingestion `dropped_empty` and, with `pii = hashed`, `hashed`; at delivery one table per destination. All of
it is pure and costs some microseconds an event. docs/user-data.md says what becomes of each field.
"""

from daemon.events.userdata.destinations import META, TIKTOK, meta_user_data, tiktok_user
from daemon.events.userdata.privacy import PII, READABLE, dropped_empty, hashed
from daemon.events.userdata.tables import Filled, Form, Key, Table, fill

__all__ = [
    "META",
    "PII",
    "READABLE",
    "TIKTOK",
    "Filled",
    "Form",
    "Key",
    "Table",
    "dropped_empty",
    "fill",
    "hashed",
    "meta_user_data",
    "tiktok_user",
]
