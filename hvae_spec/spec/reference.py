"""The reference of the language: one row per field of a spec file, from the fields' declarations and the JSON Schema.

`python -m hvae_spec.spec.reference` prints the table of what the paper leaves open as Markdown.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hvae_spec.spec.base import BELOW_ONE, LARGEST, LARGEST_COUNT, SMALLEST
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.fields import (
    OPEN,
    Affects,
    AuthorsCode,
    BeforeFineTuning,
    NoBearing,
    Paper,
    PerMember,
    SameAs,
    SpecField,
    fields,
    paths_affecting,
    settings,
)

NOT_STATED = "not stated"
TYPES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "string": "text",
    "null": "null",
}
"""JSON Schema's types in words."""


@dataclass(frozen=True)
class FieldRow:
    """A field of a spec file as the reference shows it. All texts are Markdown."""

    path: str
    """`model.layers[].units`: the dotted path, with `[]` behind a list."""
    type: str
    """What it may be, in words: `whole number above 0, or null`."""
    default: str
    """Its default as in the YAML, in backquotes; `required` if it must be given."""
    description: str
    """What it does: its docstring, on one line."""
    paper: str
    """What the paper sets it to, and where; `not stated` if the paper leaves it open; empty if that has no bearing on
    a published number.
    """
    authors: str
    """What the authors' published code does, where that is known and not what the paper says; else empty."""
    affects: str
    """The part of a member's life that it affects (`fields.Part`); empty for what is no member's: name, grid, profiles.
    """
    per_member: bool
    """Whether members of one pack may differ in it."""


def rows() -> list[FieldRow]:
    """One row per field of a spec file, in the order of the sections; a section stands before what is in it."""
    schema = Experiment.model_json_schema()
    of_members = {item.path for item in fields(MemberSpec)}
    values = {item.path: item for item in settings(Experiment)}
    found = []
    for item in fields(Experiment):
        is_members, is_value = item.path in of_members, item.path in values
        affects = item.fact(Affects)
        found.append(
            FieldRow(
                path=_path(schema, item),
                type=_type(schema, _node(schema, item.path)),
                default=_default(item),
                description=" ".join((item.infos[-1].description or "").split()),
                paper=_paper(values[item.path]) if is_members and is_value else "",
                authors=_authors(item) if is_value else "",
                affects=(affects.part if affects else "trajectory") if is_members else "",
                per_member=item.fact(PerMember) is not None,
            )
        )
    return found


def left_open() -> list[FieldRow]:
    """The rows of what the paper leaves open, if only on one of its data sets, and of what the authors' code does in
    another way than the paper says.
    """
    return [row for row in rows() if NOT_STATED in row.paper or row.authors]


def left_open_table() -> str:
    """`left_open` as a Markdown table."""
    lines = ["| field | default | the paper | the authors' code |", "|:--|:--|:--|:--|"]
    for row in left_open():
        texts = (f"`{row.path}`", row.default, row.paper, row.authors)
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    return "\n".join(lines)


def _paper(item: SpecField) -> str:
    exempt = item.fact(NoBearing)
    if (exempt is not None and not exempt.quantities) or item.path in paths_affecting(MemberSpec, "nothing"):
        return ""
    if item.fact(BeforeFineTuning):
        return "as in plain training"
    if item.papers_choice:
        return f"{_quoted(item.papers_choice)} instead"
    paper = item.fact(Paper)
    if paper is None:
        return NOT_STATED
    where = f" ({paper.where})" if paper.where else ""
    if paper.is_varied:
        return f"varied{where}"
    return ("; ".join(_settings_of(paper)) or NOT_STATED) + where


def _settings_of(paper: Paper) -> Iterator[str]:
    if paper.by_layer:
        yield f"`{_yaml(paper.by_layer)}` for z_1 to z_{len(paper.by_layer)}"
    elif paper.value is not OPEN:
        yield _quoted(paper.value)
    for dataset, value in paper.by_dataset.items():
        implied = f" ({NOT_STATED}; implied by the authors' code)" * (dataset in paper.implied)
        yield f"{dataset}: {NOT_STATED if value is OPEN else _quoted(value)}{implied}"
    if paper.is_varied_in_fine_tuning:
        yield "varied in fine-tuning"
    elif paper.fine_tuning is not OPEN and paper.fine_tuning != paper.value:
        yield f"{_quoted(paper.fine_tuning)} in fine-tuning"


def _authors(item: SpecField) -> str:
    stated = item.fact(AuthorsCode)
    return stated.text if stated and not item.fact(BeforeFineTuning) else ""


def _default(item: SpecField) -> str:
    value = item.own_default
    if value is OPEN:
        return "required"
    same = item.fact(SameAs)
    if value is None and same is not None:
        return f"as `{same.name}`"
    if isinstance(value, BaseModel) and not item.infos[-1].is_required():
        content = value.model_dump(mode="json", exclude_defaults=True)
        return _quoted(content) if content else "its fields' defaults"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return "none" if value is None else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    """A value as YAML writes it in a line: `{leaky_relu: 0.1}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value).replace("e-0", "e-")


def _path(schema: dict[str, Any], item: SpecField) -> str:
    names = []
    for length, name in enumerate(item.path, start=1):
        node = _node(schema, item.path[:length]) if length < len(item.path) else {}
        names.append(name + "[]" * bool(_items(schema, node)) + ".*" * bool(_values(schema, node)))
    return ".".join(names)


def _node(schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The JSON Schema of the field at a path, list items and the values of a user's own keys looked through."""
    node = schema
    for name in path:
        options = list(_options(schema, node))
        options += [inner for option in options for inner in _options(schema, option.get("items", {}))]
        options += _options(schema, _values(schema, node))
        node = next(option["properties"][name] for option in options if name in option.get("properties", {}))
    return node


def _options(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a node, references resolved; the node itself if it has none."""
    if "$ref" in node:
        yield from _options(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        return
    alternatives = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    if not alternatives:
        yield node
    for option in alternatives:
        yield from _options(schema, option)


def _values(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the sections under keys that a user chooses; empty if it is no mapping of sections."""
    found = (option.get("additionalProperties") for option in _options(schema, node))
    return next((value for value in found if isinstance(value, dict) and "$ref" in value), {})


def _items(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the sections in a list; empty if it is no list of sections."""
    found = (option["items"] for option in _options(schema, node) if isinstance(option.get("items"), dict))
    return next((item for item in found if "$ref" in item), {})


def _type(schema: dict[str, Any], node: dict[str, Any]) -> str:
    names = dict.fromkeys(_type_of(schema, option) for option in _options(schema, node))
    return ", or ".join(names)


def _type_of(schema: dict[str, Any], node: dict[str, Any]) -> str:
    """One alternative in words."""
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    kind = node.get("type", "")
    if kind == "array":
        return _list_type(schema, node)
    if kind == "object":
        names = list(node.get("properties", ()))
        is_choice = len(names) == 1 and names == node.get("required")
        return f"`{{{names[0]}: ...}}`" if is_choice else "section" if names else "mapping"
    return TYPES.get(kind, "anything") + _range(node)


def _list_type(schema: dict[str, Any], node: dict[str, Any]) -> str:
    if "prefixItems" in node:
        return "[" + ", ".join(_type(schema, item) for item in node["prefixItems"]) + "]"
    items = node.get("items", {})
    return "list of sections" if "$ref" in items else f"list: each {_type(schema, items)}"


def _range(node: dict[str, Any]) -> str:
    """` above 0, below 1`. A bound that only keeps numbers representable is left out."""
    bounds = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    representable = (SMALLEST, BELOW_ONE, LARGEST, -LARGEST)
    own = [
        f"{word} {node[key]:g}"
        for key, word in bounds.items()
        if key in node and node[key] < LARGEST_COUNT and node[key] not in representable
    ]
    return " " + ", ".join(own) if own else ""


if __name__ == "__main__":
    sys.stdout.write(left_open_table() + "\n")
