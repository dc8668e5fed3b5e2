"""
/v1/cdp/contracts: what events of each type carry, and have to (contracts 0.3.28).

GET lists the contracts in force; below it, by event type, GET shows one (also an older version, also as JSON
Schema), PUT puts one into force, DELETE ends it and keeps its history.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import Struct

from daemon.events import resultfly
from daemon.events.contract import definition
from daemon.events.contract.definition import CONTRACT_BYTES_MAX, StoredContract
from daemon.events.contract.schema import MEDIA_TYPE, json_schema
from daemon.events.payload import InvalidPayload
from daemon.frontend.endpoint import Call
from daemon.frontend.query import parameter
from daemon.frontend.refusal import Headers
from daemon.frontend.reply import JSON, Reply
from daemon.frontend.resultfly.door import invalid
from daemon.frontend.resultfly.management import Management, not_found
from daemon.ports import ApiKey

#: What precedes the event type in a path.
BELOW = "/v1/cdp/contracts/"

_SCHEMA = ("content-type", MEDIA_TYPE)
#: What is looked up each time shall not be kept on the way.
_FRESH = ("cache-control", "no-store")
#: Digits of a version's number; PostgreSQL's bigint has 19.
_VERSION_DIGITS_MAX = 18


class ContractList(Struct, frozen=True):
    """All contracts of a tenant that are in force, by event type."""

    contracts: list[StoredContract]


class ContractsEndpoint(Management):
    """The list."""

    scopes: ClassVar = {"GET": resultfly.CONTRACTS_READ}

    async def steps(self, call: Call, key: ApiKey) -> Reply:  # noqa: ARG002  its method says it all
        """All in force."""
        found = await self.kit.contract_store.in_force(key.tenant)
        return Reply(200, [JSON, _FRESH], msgspec.json.encode(ContractList(found)))


class ContractEndpoint(Management):
    """One contract. Its event type is the rest of the path, percent-decoded: any characters will do."""

    scopes: ClassVar = {
        "GET": resultfly.CONTRACTS_READ,
        "PUT": resultfly.CONTRACTS_WRITE,
        "DELETE": resultfly.CONTRACTS_WRITE,
    }

    async def steps(self, call: Call, key: ApiKey) -> Reply:
        """By method."""
        event_type = call.scope.path.removeprefix(BELOW)
        match call.scope.method:
            case "PUT":
                return await self._put(call, key.tenant, event_type)
            case "DELETE":
                return await self._delete(key.tenant, event_type)
        return await self._get(call, key.tenant, event_type)

    async def _put(self, call: Call, tenant: str, event_type: str) -> Reply:
        data = await self.read(call, CONTRACT_BYTES_MAX)
        try:
            definition.checked_event_type(event_type)
            contract = definition.read(data)
        except InvalidPayload as error:
            raise invalid(error) from None
        stored = await self.kit.contract_store.put(tenant, event_type, contract)
        self.kit.contracts.changed(tenant)
        return Reply(200, [JSON], msgspec.json.encode(stored))

    async def _delete(self, tenant: str, event_type: str) -> Reply:
        if _impossible(event_type) or await self.kit.contract_store.delete(tenant, event_type) is None:
            raise not_found(f"there is no contract for the event type {definition.shown(event_type)!r}")
        self.kit.contracts.changed(tenant)
        return Reply(204, [], b"")

    async def _get(self, call: Call, tenant: str, event_type: str) -> Reply:
        query = call.scope.query_string
        try:
            number = _version(parameter(query, "version"))
            as_schema = _wants_schema(parameter(query, "format"), call.headers.get("accept"))
        except InvalidPayload as error:
            raise invalid(error) from None
        stored = None
        if not _impossible(event_type):
            stored = await self.kit.contract_store.version(tenant, event_type, number)
        if stored is None:
            which = "" if number is None else f" in version {number}"
            raise not_found(
                f"there is no contract for the event type {definition.shown(event_type)!r}{which}"
            )
        headers: Headers = [_SCHEMA if as_schema else JSON, _FRESH, ("vary", "Accept")]
        if as_schema:
            return Reply(200, headers, msgspec.json.encode(json_schema(event_type, stored.contract)))
        return Reply(200, headers, msgspec.json.encode(stored))


def _impossible(event_type: str) -> bool:
    """Whether no contract can have that event type."""
    try:
        definition.checked_event_type(event_type)
    except InvalidPayload:
        return True
    return False


def _version(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS_MAX and int(text)):
        raise InvalidPayload("version must be a whole number from 1 on", "version")
    return int(text)


def _wants_schema(wanted: str, accept: str | None) -> bool:
    if wanted:
        if wanted not in ("json", "json-schema"):
            raise InvalidPayload("format must be json or json-schema", "format")
        return wanted == "json-schema"
    return accept is not None and MEDIA_TYPE in accept.lower()
