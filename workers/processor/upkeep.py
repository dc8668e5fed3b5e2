"""Beside the loop: whether PostgreSQL answers; days made ahead and dropped, ids forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from daemon.adapters.postgres.events.store import EventStore
from daemon.adapters.postgres.events.tidy import Tidier
from daemon.errors import SettingsError, Unavailable

log = logging.getLogger(__name__)

#: After a look that failed, seconds; the first ones come before the schema is there.
RETRY_S = 5.0

#: Between looks at whether PostgreSQL answers, and how long it gets, seconds: an outage is told within 10 s.
LOOK_S = 3.0
LOOK_TIMEOUT_S = 5.0


async def keep_looking(store: EventStore) -> None:
    """Ask PostgreSQL for a sign of life, for ever: an idle processor would not know of an outage."""
    while True:
        await store.answers(LOOK_TIMEOUT_S)
        await asyncio.sleep(LOOK_S)


async def keep_tidy(
    tidier: Tidier, every_s: float, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Tidy for ever. A store that is away is tried again; whatever else goes wrong is logged and does no harm."""
    while True:
        wait_s = every_s
        try:
            await tidier.tidy(now())
        except (Unavailable, SettingsError) as error:
            log.debug("nothing could be tidied: %s", error)
            wait_s = min(every_s, RETRY_S)
        except Exception:
            log.exception("the tables could not be tidied")
        await asyncio.sleep(wait_s)
