"""The OpenAPI document is valid, whole and up to date, and so is the page made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import openapi_spec_validator
import pytest

from daemon.events import datafly
from daemon.events.payload import InvalidPayload
from daemon.frontend.app import App
from daemon.frontend.openapi import answers, samples
from daemon.frontend.openapi.document import document, encoded
from daemon.frontend.openapi.schemas import REQUIRED
from scripts.api_reference.__main__ import files
from tests.support.front import Front

DOCUMENT = document()


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_files_are_up_to_date(path: Any) -> None:
    assert path.read_bytes() == files()[path], "run: python -m scripts.api_reference"


def test_it_is_an_openapi_document() -> None:
    openapi_spec_validator.validate(msgspec.json.decode(encoded()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        yield from (one for part in node.values() for one in references(part))
    elif isinstance(node, list):
        yield from (one for part in node for one in references(part))


def test_every_part_is_used_and_every_reference_leads_somewhere() -> None:
    parts = {
        f"#/components/{room}/{name}"
        for room, named in DOCUMENT["components"].items()
        if room != "securitySchemes"
        for name in named
    }
    used = set(references(DOCUMENT))
    # They belong to no operation: they answer where there is none.
    alone = {"#/components/responses/NotFound", "#/components/responses/MethodNotAllowed"}
    assert used | alone == parts


async def test_every_route_is_in_it_and_nothing_else(front: Front) -> None:
    assert App(front.kit).paths == DOCUMENT["paths"].keys()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, item in DOCUMENT["paths"].items() for method, one in item.items()]


def test_operations_have_names_of_their_own_and_lines_to_try() -> None:
    names = [one["operationId"] for _, _, one in operations()]
    assert len(names) == len(set(names))
    assert [path for path, method, one in operations() if method != "head" and not one["x-codeSamples"]] == []


def test_every_code_has_a_meaning_and_every_outcome_that_is_answered_has_a_code() -> None:
    codes = {code for _, code in datafly.ERRORS.values()}
    assert codes <= answers.MEANINGS.keys()
    told = {code for family in answers.FAMILIES for codes in family.statuses().values() for code in codes}
    assert told | {"NOT_FOUND", "METHOD_NOT_ALLOWED"} == answers.MEANINGS.keys()


@pytest.mark.parametrize("kind", REQUIRED)
def test_what_a_type_needs_is_what_is_asked_of_it(kind: str) -> None:
    assert REQUIRED.keys() == datafly.TYPES == samples.EVENTS.keys()
    full = samples.EVENTS[kind]
    least = {name: full[name] for name in ("type", *REQUIRED[kind])}
    for good in (full, least):
        assert datafly.decode_server(msgspec.json.encode(good)).type == kind
    for name in least:
        for bad in (
            {**least, name: ""},
            {**least, name: None},
            {k: v for k, v in least.items() if k != name},
        ):
            with pytest.raises(InvalidPayload) as refused:
                datafly.decode_server(msgspec.json.encode(bad))
            assert refused.value.field == name


def test_the_batch_of_the_examples_is_one() -> None:
    batch = datafly.decode_batch(msgspec.json.encode(samples.BATCH), 500)
    for item in batch.batch:
        datafly.decode_item(item, 65536)
