"""
The API reference as one page of HTML: no script, nothing fetched from elsewhere.

What all operations of a group have in common (fields, parameters, answers) stands once, before them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from scripts.api_reference.schema import Json, Reader, Row, code, prose

STYLE = Path(__file__).with_name("page.css")

#: What stands on the page for the ingest port; the admin port puts in what it is.
DEFAULT_URL = "http://127.0.0.1:8080"

FIELD_HEAD = ("Field", "Type", "Meaning")
PARAMETER_HEAD = ("Parameter", "In, type", "Meaning")
ANSWER_HEAD = ("Status", "When", "Headers")


@dataclass
class Entry:
    """One operation, or several that differ only in their path."""

    method: str
    paths: list[str]
    operation: Json
    fields: list[Row] = field(default_factory=list)
    items: list[tuple[str, list[Row]]] = field(default_factory=list)
    parameters: list[Row] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)
    body: str = ""

    @property
    def anchor(self) -> str:
        """Its fragment."""
        return str(self.operation["operationId"])

    def same_as(self, other: Entry) -> bool:
        """Whether the two differ only in their path."""
        mine, theirs = self._but_path(), other._but_path()
        return self.method == other.method and mine == theirs

    def _but_path(self) -> Json:
        return {
            name: part
            for name, part in self.operation.items()
            if name not in ("operationId", "x-codeSamples")
        }


def page(document: Json) -> str:
    """The page."""
    reader = Reader(document)
    groups = {tag["name"]: _entries(reader, document, tag["name"]) for tag in document["tags"]}
    title = f"{document['info']['title']} API"
    nav = "".join(_nav(name, entries) for name, entries in groups.items())
    parts = [
        _intro(document, title),
        _auth(document),
        *(_group(document, tag, groups[tag["name"]]) for tag in document["tags"]),
        _everywhere(reader, document),
        _headers(document),
    ]
    style = STYLE.read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Contents"><a class="home" href="#top">{escape(title)}</a>'
        f'<a href="#auth">Who may send</a>{nav}<a href="#everywhere">Everywhere</a>'
        '<a href="#headers">Headers of answers</a></nav>\n'
        f'<main id="top">\n{"".join(parts)}</main>\n</body>\n</html>\n'
    )


def _entries(reader: Reader, document: Json, tag: str) -> list[Entry]:
    found: list[Entry] = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if tag not in operation["tags"] or (method == "head" and "get" in item):
                continue
            shown = "GET, HEAD" if method == "get" and "head" in item else method.upper()
            entry = Entry(shown, [path], operation)
            same = next((one for one in found if one.same_as(entry)), None)
            if same is not None:
                same.paths.append(path)
                continue
            _read(reader, entry)
            found.append(entry)
    return sorted(found, key=lambda one: one.method == "OPTIONS")


def _read(reader: Reader, entry: Entry) -> None:
    operation = entry.operation
    entry.parameters = [reader.parameter(one) for one in operation.get("parameters", [])]
    entry.answers = [reader.answer(status, one) for status, one in operation["responses"].items()]
    body = operation.get("requestBody")
    if body is not None:
        media = body["content"]["application/json"]
        entry.fields = reader.fields(media["schema"])
        entry.items = reader.items(media["schema"])
        entry.body = body["description"]


# ---------------------------------------------------------------- parts of the page


def _intro(document: Json, title: str) -> str:
    info = document["info"]
    head, _, points = info["description"].partition("\n\n")
    items = "".join(f"<li>{prose(one)}</li>" for one in points.removeprefix("- ").strip().split("\n- "))
    setup = (
        f"URL={DEFAULT_URL}\nKEY=dk_…      # a pipeline key\nSECRET=sk_…   # the secret key of the same source\n"
        "headgate sources create --tenant acme --name shop --origin https://shop.example.com   # prints both\n\n"
        "WEBHOOK=wh_… WEBHOOK_SECRET=…\n"
        "headgate webhooks create --source src_… --kind github                                 # prints both\n\n"
        "TL_KEY=tl_… MERCHANT=…\n"
        "headgate merchants create --name Shop                                                 # prints both\n\n"
        "CDP_KEY=cdp_…\n"
        "headgate keys create --kind cdp --tenant acme --scope cdp:events:write \\\n"
        "  --scope cdp:contracts:write --scope cdp:contracts:read                               # prints it"
    )
    return (
        f"<header><h1>{escape(title)}</h1><p class=lead>{prose(head)} Version {escape(info['version'])}; for programs: "
        f'<a href="{DEFAULT_URL}/openapi.json">/openapi.json</a>.</p></header>\n'
        f"<ul class=points>{items}</ul>\n"
        f"<p>The lines below are for a shell in which these are set:</p>{_block(setup)}\n"
    )


def _auth(document: Json) -> str:
    rows = []
    for name, scheme in document["components"]["securitySchemes"].items():
        how = f"?{scheme['name']}=" if scheme.get("in") == "query" else scheme.get("name", "Authorization")
        cells = (
            f'<strong id="auth-{name}">{escape(scheme["x-displayName"])}</strong>',
            code(how),
            prose(scheme["description"]),
        )
        rows.append(Row(name, cells))
    return (
        f'<section id="auth"><h2>Who may send</h2>{_table(("Credential", "Where", "What"), rows)}</section>\n'
    )


def _group(document: Json, tag: Json, entries: list[Entry]) -> str:
    anchor = _slug(tag["name"])
    parts = [f'<section id="{anchor}"><h2>{escape(tag["name"])}</h2><p>{prose(tag["description"])}</p>']
    main = [one for one in entries if one.method != "OPTIONS"]
    if len(main) > 1:
        shared = [
            ("Fields of all of these", FIELD_HEAD, _take([one.fields for one in main])),
            ("Parameters of all of these", PARAMETER_HEAD, _take([one.parameters for one in main])),
            ("Answers of all of these", ANSWER_HEAD, _take_whole([one.answers for one in main])),
        ]
        bodies = {one.body for one in main}
        if len(bodies) == 1 and (body := bodies.pop()):
            parts.append(f"<p>{prose(body)}</p>")
            for one in main:
                one.body = ""
        after = ""
        for title, head, rows in shared:
            if rows:
                text = f"<h3>{title}</h3>{_table(head, rows)}"
                if head is ANSWER_HEAD:
                    after = text
                else:
                    parts.append(text)
        parts += [_entry(document, one) for one in entries]
        parts.append(after)
    else:
        parts += [_entry(document, one) for one in entries]
    return "".join(parts) + "</section>\n"


def _take(tables: list[list[Row]]) -> list[Row]:
    """Take the lines that are the same in all tables out of them, and give them."""
    shared = [row for row in tables[0] if all(row in other for other in tables[1:])]
    if len(shared) < 2:
        return []
    for table in tables:
        table[:] = [row for row in table if row not in shared]
    return shared


def _take_whole(tables: list[list[Row]]) -> list[Row]:
    """The same, where the tables have no line of their own: half a table of answers would be misread."""
    return _take(tables) if all(table == tables[0] for table in tables) else []


def _entry(document: Json, entry: Entry) -> str:
    operation = entry.operation
    paths = " ".join(code(path) for path in entry.paths)
    verb = entry.method.split(",")[0].lower()
    heading = f'<span class="verb {verb}">{entry.method}</span> {paths}<small>{escape(operation["summary"])}</small>'
    parts = [f'<article id="{entry.anchor}"><h3>{heading}</h3>', _callers(document, operation)]
    if "description" in operation:
        parts.append(f"<p>{prose(operation['description'])}</p>")
    if entry.body:
        parts.append(f"<p>{prose(entry.body)}</p>")
    if entry.fields:
        parts.append(_table(FIELD_HEAD, entry.fields))
    for name, rows in entry.items:
        parts.append(f"<h4>Each of {code(name)}</h4>{_table(FIELD_HEAD, rows)}")
    if entry.parameters:
        parts.append(_table(PARAMETER_HEAD, entry.parameters))
    parts += [_block(sample["source"]) for sample in operation.get("x-codeSamples", [])]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in body:
        parts.append(_folded("A fuller body", _block(_pretty(body["example"]))))
    examples = _answer_examples(operation)
    if examples:
        parts.append(_folded("Answers as they look", examples))
    if entry.answers:
        parts.append(_table(ANSWER_HEAD, entry.answers))
    return "".join(parts) + "</article>\n"


def _answer_examples(operation: Json) -> str:
    """The bodies of a good answer, where there is more than one."""
    media = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    examples = media.get("examples", {})
    return "".join(_block(_pretty(one["value"])) for one in examples.values())


def _callers(document: Json, operation: Json) -> str:
    """Who may ask for an operation: one way or the other, each by the names of its credentials."""
    schemes = document["components"]["securitySchemes"]
    ways = []
    for way in operation.get("security", []):
        # a sender's several headers are one word
        names = {schemes[name]["x-displayName"]: name for name in reversed(way)}
        links = (f'<a href="#auth-{name}">{escape(title)}</a>' for title, name in reversed(names.items()))
        ways.append(" + ".join(links) or "without")
    if not ways:
        return '<p class="auth">For everybody, without a key.</p>'
    return f'<p class="auth">{", or ".join(ways)}</p>'


def _everywhere(reader: Reader, document: Json) -> str:
    answers = document["components"]["responses"]
    rows = [
        reader.answer(status, answers[name])
        for status, name in (("404", "NotFound"), ("405", "MethodNotAllowed"))
    ]
    return f'<section id="everywhere"><h2>Everywhere</h2>{_table(ANSWER_HEAD, rows)}</section>\n'


def _headers(document: Json) -> str:
    rows = [
        Row(name, (code(name), prose(header["description"])))
        for name, header in document["components"]["headers"].items()
        if "description" in header
    ]
    return (
        f'<section id="headers"><h2>Headers of answers</h2>{_table(("Header", "Meaning"), rows)}</section>\n'
    )


def _nav(name: str, entries: list[Entry]) -> str:
    links = "".join(
        f'<li><a href="#{one.anchor}"><span class="verb {one.method.split(",")[0].lower()}">'
        f"{one.method.split(',')[0]}</span> {escape(one.paths[0])}</a></li>"
        for one in entries
        if one.method != "OPTIONS"
    )
    return f'<a href="#{_slug(name)}">{escape(name)}</a><ul>{links}</ul>'


# ---------------------------------------------------------------- pieces


def _table(head: tuple[str, ...], rows: list[Row]) -> str:
    cells = "".join(f"<th scope=col>{escape(one)}</th>" for one in head)
    lines = []
    for row in rows:
        # the names of the columns again, for narrow screens, where a line of the table becomes a block
        tds = [
            f'<td data-head="{escape(name)}">{cell}</td>' if cell else '<td class="none"></td>'
            for name, cell in zip(head, row.cells, strict=True)
        ]
        lines.append(f"<tr>{''.join(tds)}</tr>")
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _block(text: str) -> str:
    return f"<pre tabindex=0><code>{escape(text, quote=False)}</code></pre>"


def _folded(title: str, inner: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")
