"""Schemas, parameters and answers of an OpenAPI document as rows of tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import Any

Json = dict[str, Any]

CORS = "Access-Control-*"


@dataclass(frozen=True)
class Row:
    """One line of a table: cells of HTML. `name` says which lines of two tables are about the same."""

    name: str
    cells: tuple[str, ...]


class Reader:
    """Follows the references of one document."""

    def __init__(self, document: Json) -> None:
        self._document = document

    def resolve(self, node: Json) -> Json:
        """`node`, or what it refers to."""
        if "$ref" not in node:
            return node
        found: Any = self._document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        resolved: Json = found
        return resolved

    def name_of(self, node: Json) -> str:
        """The last part of a reference."""
        return str(node["$ref"]).rsplit("/", 1)[-1]

    # --- bodies

    def fields(self, schema: Json) -> list[Row]:
        """The members of an object; of one of several objects, all of them, with who needs which."""
        schema = self.resolve(schema)
        variants = [self.resolve(one) for one in schema.get("oneOf", [schema])]
        kinds = [one.get("properties", {}).get("type", {}).get("const", "") for one in variants]
        members: dict[str, list[tuple[str, Json, bool]]] = {}
        for kind, variant in zip(kinds, variants, strict=True):
            for name, member in variant.get("properties", {}).items():
                needed = name in variant.get("required", ())
                members.setdefault(name, []).append((kind, member, needed))
        rows = []
        for name, uses in members.items():
            needed_by = [kind for kind, _, needed in uses if needed]
            if len(needed_by) == len(variants):
                need = "required"
            elif needed_by:
                need = "required on " + ", ".join(needed_by)
            else:
                need = ""
            rows.append(Row(name, self._member(name, [member for _, member, _ in uses], need)))
        return rows

    def _member(self, name: str, uses: list[Json], need: str) -> tuple[str, ...]:
        consts = [str(one["const"]) for one in uses if "const" in one]
        text = str(uses[0].get("description", ""))
        kind = ", ".join(code(f'"{one}"') for one in consts) if consts else self.kind(uses[0])
        # what is asked of it where it is needed goes with the type of those uses
        strictest = next((one for one in uses if "minLength" in one), uses[0])
        return (
            code(name) + (f' <b class="need">{escape(need)}</b>' if need else ""),
            kind,
            prose(text) + limits(strictest),
        )

    def kind(self, schema: Json) -> str:
        """The type in words."""
        if "$ref" in schema:
            return escape(self.name_of(schema))
        kinds = schema.get("type", "any")
        words = [one for one in (kinds if isinstance(kinds, list) else [kinds]) if one != "null"]
        if words == ["array"]:
            return f"array of {self.kind(schema['items'])}"
        if schema.get("format") == "date-time":
            return "ISO 8601 time"
        if "enum" in schema:
            return ", ".join(code(str(one)) for one in schema["enum"])
        return " or ".join(escape(one) for one in words)

    def items(self, schema: Json) -> list[tuple[str, list[Row]]]:
        """The arrays among the members of an object: name and the members of what is in them."""
        found = []
        for name, member in self.resolve(schema).get("properties", {}).items():
            if member.get("type") == "array":
                found.append((name, self.fields(member["items"])))
        return found

    # --- parameters

    def parameter(self, node: Json) -> Row:
        """A parameter."""
        one = self.resolve(node)
        name = str(one["name"])
        shown = "p.*, t.*" if one.get("explode") else name
        need = ' <b class="need">required</b>' if one.get("required") else ""
        return Row(
            f"{one['in']} {name}",
            (
                code(shown) + need,
                f"{escape(one['in'])}: {self.kind(one['schema'])}",
                prose(str(one.get("description", ""))) + limits(one["schema"]),
            ),
        )

    # --- answers

    def answer(self, status: str, node: Json) -> Row:
        """An answer."""
        one = self.resolve(node)
        # the half dozen of CORS in one word
        names = dict.fromkeys(re.sub("^Access-Control-.*", CORS, name) for name in one.get("headers", {}))
        shown = f'<span class="names">{"".join(code(name) for name in names)}</span>' if names else ""
        return Row(status, (f'<b class="s{status[0]}">{status}</b>', prose(one["description"]), shown))

    def example(self, media: Json) -> Any:
        """The first example of a body, None where there is none."""
        if "example" in media:
            return media["example"]
        for one in media.get("examples", {}).values():
            return one["value"]
        return None


def limits(schema: Json) -> str:
    """What a value must be beside its type."""
    found = []
    if "minLength" in schema:
        found.append("not blank")
    if "maxLength" in schema:
        found.append(f"at most {schema['maxLength']:,} characters")
    if "minItems" in schema or "maxItems" in schema:
        found.append(f"{schema.get('minItems', 0)} to {schema.get('maxItems', '…')} of them")
    return f' <span class="limit">{"; ".join(found)}</span>' if found else ""


def code(text: str) -> str:
    """As code."""
    return f"<code>{escape(text)}</code>"


def prose(text: str) -> str:
    """Sentences with `code` in them; a new line is one."""
    parts = escape(text, quote=False).replace("\n", "<br>").split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
