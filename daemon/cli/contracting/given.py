"""A file of contracts: event type → contract, in JSON or TOML."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from daemon.cli.webhooking.given import read_file
from daemon.errors import UsageError
from daemon.events.contract.definition import (
    CONTRACTS_MAX,
    Contract,
    checked_event_type,
    contract_of,
    shown,
)
from daemon.events.payload import InvalidPayload


def contracts_from(name: str) -> dict[str, Contract]:
    """The contracts of a file, by event type. Raises UsageError, which names the place, and NotFound for the file."""
    document = _document(name)
    if not isinstance(document, dict):
        raise UsageError(
            f'{name} does not hold an object such as {{"purchase_completed": {{"properties": {{…}}}}}}'
        )
    if len(document) > CONTRACTS_MAX:
        raise UsageError(f"{name} holds {len(document)} event types; a tenant has at most {CONTRACTS_MAX}")
    found: dict[str, Contract] = {}
    for event_type, value in document.items():
        try:
            found[checked_event_type(event_type)] = contract_of(value)
        except InvalidPayload as error:
            raise UsageError(f"{name}, {shown(event_type)!r}: {error.message}") from None
    return found


def _document(name: str) -> Any:
    data = read_file(name, "the file of contracts")
    toml = name.lower().endswith(".toml")
    try:
        return tomllib.loads(data.decode()) if toml else msgspec.json.decode(data)
    except RecursionError:
        raise UsageError(f"{name} is not taken: it is nested too deep") from None
    except (ValueError, msgspec.DecodeError) as error:  # of TOML also a number of thousands of digits
        raise UsageError(f"{name} is not {'TOML' if toml else 'JSON'}: {error}") from None
