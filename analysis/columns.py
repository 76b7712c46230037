"""Settings of members: columns read from their resolved specs, as the fields of a spec declare them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analysis.reader import Entry
from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel
from hvae_spec.spec.choices.optimizer import OptimizerSettings
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import (
    Column,
    Factor,
    NoColumn,
    Path,
    SameAs,
    ShortFor,
    SpecField,
    choices_with_settings,
    fact,
    paths_affecting,
    paths_stating,
    settings,
    without,
)
from hvae_spec.spec.grid import parse_path
from hvae_spec.spec.labels import layers_text


@kept_until_a_choice_joins
def sharing() -> dict[str, list[SpecField]]:
    """The fields of each column: one, or those of alternatives of a choice or the forms of a field, of which a spec has
    one.
    """
    found: dict[str, list[SpecField]] = {}
    for item in settings(MemberSpec):
        if item.fact(NoColumn) is None:
            found.setdefault(item.column, []).append(item)
    return found


@kept_until_a_choice_joins
def setting_fields() -> dict[str, SpecField]:
    """Columns of `.members` read from the resolved spec, and their fields."""
    return {name: items[0] for name, items in sharing().items()}


@kept_until_a_choice_joins
def short_columns() -> dict[str, SpecField]:
    """Columns of short forms of fields, beside those of the fields: `batch_norm`, which is in the column `norm` too."""
    short = (item for items in sharing().values() for item in items if _values_of_short(item))
    return {item.path[-1]: item for item in short}


@kept_until_a_choice_joins
def columns_by_path() -> dict[str, str]:
    """The column that holds the values of a field as a spec has them, by the field's dotted path."""
    found = {item.dotted: name for name, items in sharing().items() for item in items}
    return found | {item.dotted: name for name, item in short_columns().items()}


def _values_of_short(item: SpecField) -> Mapping[Any, Any]:
    """What the long form of a field has, by the values of the short form that the item is; empty if it is none."""
    short = fact(item.infos[-1], ShortFor)
    return {} if short is None else short.values


FACTORS = tuple(item.dotted for items in sharing().values() for item in items if item.fact(Factor) is not None)
"""What the paper's variants differ in, as dotted paths. A choice that joins is none of the paper's."""


def _and_what_it_is_else(item: SpecField) -> Iterator[SpecField]:
    """A field, and those that stand for it one after another where it is null (`SameAs`)."""
    yield item
    same = item.fact(SameAs)
    if same is not None:
        path = (*item.path[:-1], same.name)
        yield from _and_what_it_is_else(next(other for other in setting_fields().values() if other.path == path))


@kept_until_a_choice_joins
def _standing_in() -> dict[str, tuple[SpecField, ...]]:
    """The fields that give the value of each column, one after another where it is null."""
    return {name: tuple(_and_what_it_is_else(item)) for name, item in setting_fields().items()}


def setting_columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The columns of `setting_fields`, `short_columns` and `background`, one value per member, None where nothing is
    known.

    A field of stochastic layers is one text over the layers (`units` is `64-32`, `widths` is `512,512-256,256`, or
    `linear` without hidden layers). One that may be null for "as another" is None where it is so in all layers
    (`widths_down`, `widths_top_down`).
    `background` is alike for members that differ in nothing but the paper's factors (`FACTORS`), the seed, and what
    affects no number of a result.
    """
    specs = _specs(entries)
    return {
        **{name: [setting(spec, item) for spec in specs] for name, item in setting_fields().items()},
        **{name: [_in_short(spec, item) for spec in specs] for name, item in short_columns().items()},
        **_columns_of_extensions(specs),
        "background": [_background(spec) for spec in specs],
    }


def setting(spec: dict[str, Any], item: SpecField) -> Any:
    """A field's value in a spec tree as one entry of a column; None if it is null, or there is no spec."""
    if not item.is_in_list:
        found = [_in_long(_value(spec, one.path, one), one) for one in sharing()[item.column]]
        found.append(_of_an_extension(spec, item))
        return as_entry(next((value for value in found if value is not None), None))
    layers = (_value(spec, item.path[:-1], item) or [])[_lowest(item) - 1 :]
    names = _standing_in()[item.column]
    values = [_first(layer, names) for layer in layers]
    is_as_other = len(names) > 1 and values == [_first(layer, names[1:]) for layer in layers]
    return None if is_as_other else layers_text(values, _of_one_layer)


def _of_one_layer(value: Any) -> str:
    """A field's value in one layer as a part of the entry of all layers."""
    return "none" if value is None else str(as_entry(value))


def default_value(item: SpecField) -> Any:
    """The value of a field where nothing is given, in its long form; `OPEN` if it must be given."""
    values = (_in_long(one.default, one) for one in sharing()[item.column] if one.path[:-1] == item.path[:-1])
    return next((value for value in values if value is not None), None)


def _in_long(value: Any, item: SpecField) -> Any:
    """A field's value as the long form of the field has it, if it is a short form."""
    values = _values_of_short(item)
    return values.get(value) if values else value


def _in_short(spec: dict[str, Any], item: SpecField) -> Any:
    """A short form's value; what it has no word for is as by default. None without a spec."""
    value = _value(spec, item.path, item)
    return item.own_default if value is None and spec else value


def _of_an_extension(spec: dict[str, Any], item: SpecField) -> Any:
    """What every optimizer has, of one of an extension whose code is not there; None of all else."""
    path = (*item.path[:-2], *_unknown(spec, item.path[:-2])[:1], item.path[-1])
    known = len(path) != len(item.path) or item.path[-1] not in OptimizerSettings.model_fields
    return None if known else at(spec, ".".join(path))


def _columns_of_extensions(specs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Columns of the settings of choices whose code is not there, named as those of choices that are."""
    whole = {item.path for item in settings(MemberSpec) if not item.is_name}
    found: dict[str, list[Any]] = {}
    for path in choices_with_settings(MemberSpec).keys() - whole:
        for place, spec in enumerate(specs):
            for name in _unknown(spec, path):
                values = at(spec, ".".join((*path, name)))
                for key in values if isinstance(values, dict) else ():
                    if key not in OptimizerSettings.model_fields:
                        column = found.setdefault("_".join((*path[1:], name, key)), [None] * len(specs))
                        column[place] = as_entry(values[key])
    return dict(sorted(found.items()))


def _unknown(spec: dict[str, Any], path: Path) -> list[str]:
    """The choice at a path of a spec tree, if it is a part of an extension whose code is not there."""
    chosen, section = choices_with_settings(MemberSpec).get(path), at(spec, ".".join(path))
    return [name for name in section if name not in chosen.sections] if chosen and isinstance(section, dict) else []


def expected(value: Any, item: SpecField) -> Any:
    """What `setting` is where a field has a value as in the YAML, or a field of layers the values of a list."""
    return (
        layers_text(value[_lowest(item) - 1 :], _of_one_layer)
        if item.is_in_list and isinstance(value, list)
        else as_entry(value)
    )


def inference_model(name: str, depth: int) -> InferenceModel:
    """The description of an inference model; with a single layer, of the simpler one which it then is the same as."""
    described = INFERENCES[name]
    return INFERENCES[described.with_one_layer] if depth == 1 and described.with_one_layer else described


def as_entry(value: Any) -> Any:
    """A value as one entry of a column: lists and mappings as their JSON text."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def chosen_name(entry: str) -> str:
    """The name of a choice that is one entry of a column, without the settings that it may have."""
    return str(next(iter(json.loads(entry)))) if entry.startswith("{") else entry


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path of a spec tree; None if there is none."""
    for part in parse_path(path):
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _value(tree: Any, path: Sequence[str], item: SpecField) -> Any:
    """The value at a path that begins a field's path; None if there is none."""
    for name, info in zip(path, item.infos, strict=False):
        if not isinstance(tree, dict) or not tree:
            return None
        tree = _child(tree, name, info)
    return next(iter(tree), None) if item.is_name and tree else tree


def _child(section: dict[str, Any], name: str, info: FieldInfo) -> Any:
    """A field of a section's tree. In a record made before there was this field, it is as by default."""
    if name in section or info.is_required():
        return section.get(name)
    default = info.get_default(call_default_factory=True)
    return default.model_dump(mode="json") if isinstance(default, BaseModel) else default


def _first(section: dict[str, Any], items: Sequence[SpecField]) -> Any:
    """The first of some fields of a section that is not null."""
    values = (_child(section, item.path[-1], item.infos[-1]) for item in items)
    return next((value for value in values if value is not None), None)


def _lowest(item: SpecField) -> int:
    """The lowest layer that reads a field of layers."""
    column = fact(item.infos[-1], Column)
    return column.lowest_layer if column else 1


def _specs(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Each member's spec. One that has not begun has its cell's, if another seed of the cell has begun."""

    def cell(entry: Entry) -> str:
        return json.dumps({**entry.labels, "seed": None}, sort_keys=True)

    known = {cell(entry): entry.spec for entry in entries if entry.spec and entry.planned}
    return [entry.spec or known.get(cell(entry), {}) for entry in entries]


def _background(spec: dict[str, Any]) -> str | None:
    """A digest of all that a spec says but for the paper's factors, the seed, and what affects no number of a result;
    None without a spec.
    """
    if not spec:
        return None
    no_background = paths_stating(MemberSpec, Factor) | paths_affecting(MemberSpec, "nothing")
    rest = {**without(spec, no_background), "seed": None}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()
