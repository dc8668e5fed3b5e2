"""
The kinds of processes, in the order in which they start.

Stopping goes the other way round: frontends first, so that what they accepted is still written
by the publishers, and the embedded servers last. The processors end before the publishers, through
whom they write dead letters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """
    One kind of process.

    `module` is run as `python -m <module>`; `rolls` says whether a reload replaces it (the embedded
    servers are Headgate's own stores: rolling them would be an outage, so they never are).
    """

    name: str
    module: str
    rolls: bool = True


EMBEDDED = Role("embedded", "workers.embedded", rolls=False)
PUBLISHER = Role("publisher", "workers.publisher")
PROCESSOR = Role("processor", "workers.processor")
FRONTEND = Role("frontend", "workers.frontend")

#: Start order; the stop order is its reverse.
ROLES: tuple[Role, ...] = (EMBEDDED, PUBLISHER, PROCESSOR, FRONTEND)

BY_NAME = {role.name: role for role in ROLES}
