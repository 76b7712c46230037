"""Facts about a field of a spec, stated beside its declaration and read from there by everything that must know them.

A fact is metadata of the field's annotation, outermost: `warm_up: Annotated[Natural, PerMember()] = 0`. A fact that a
section states holds for every field within it, whatever these state themselves. What a field does not state holds by
default, and the defaults are the safe ones: a field affects every training step, keeps members with other values out
of one pack and out of one measurement of speed, is a column of `frames.members`, is shown in reports, and is named
beside a published number where it differs from its default.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.choice import OneOf

Path = tuple[str, ...]
"""Names of fields from the root of a spec, list indices left out: `("model", "layers", "units")`."""
Part = Literal["trajectory", "schedule", "length", "evaluation", "nothing"]
"""What of a member a field affects. `trajectory`: a training step itself. `schedule`: a training step through the
values that the schedule has in its epoch. `length`: how many epochs there are. `evaluation`: the final evaluation.
`nothing`: no number of a result (speed, memory, or which points a learning curve has)."""
Hindrance = Literal["data", "budget", "settings"]
"""What is another one than the published number's, so that no verdict on it can be given."""
Fact = TypeVar("Fact")
OPEN = object()
"""Stands for what the paper sets a field to where it leaves the field open."""


@dataclass(frozen=True)
class Affects:
    """Which part of a member's life a field affects; a field that does not say affects the `trajectory`."""

    part: Part


@dataclass(frozen=True)
class PerMember:
    """Members of one pack may differ in the field: a pack applies it member by member."""

    null_apart: bool = False
    """Whether members for which it is null are in packs of their own, as their steps do less."""


@dataclass(frozen=True)
class DecidesStopping:
    """With early stopping the field has a say in when a training stops, and so in what its weights are."""


@dataclass(frozen=True)
class NoStepCost:
    """A training step, the drawing of an epoch's batches and a measured evaluation take as long whatever the value."""

    reason: str
    """Why."""


@dataclass(frozen=True)
class Column:
    """The column of `frames.members` that holds the field, where it is not named after the field's path.

    A section with a column is one column as a whole, its JSON text.
    """

    name: str
    words: str = ""
    """What tables and notes call it. Empty: the column's name with spaces."""
    lowest_layer: int = 1
    """Of a field of stochastic layers: the lowest layer that reads it."""
    of_one: str = ""
    """Of a field of stochastic layers: what tables and notes call that of one layer, where that is not `words`."""


@dataclass(frozen=True)
class ShortName:
    """What labels of levels call the field (see `hvae_spec.spec.labels`), where that is not its name in the YAML."""

    name: str


@dataclass(frozen=True)
class ColumnPrefix:
    """The columns of the fields within a section are named this and the field's name, whatever column they state."""

    prefix: str


@dataclass(frozen=True)
class NoColumn:
    """The field is no column of its own in `frames.members`."""

    reason: str


@dataclass(frozen=True)
class NotInReport:
    """The field is not listed among a report's settings."""

    reason: str


@dataclass(frozen=True)
class SameAs:
    """Null stands for the value of this other field of the same section."""

    name: str


@dataclass(frozen=True)
class ShortFor:
    """The field is the short form of another one of its section. The two are one field: at most one of them has a
    value, the other is null, and of several layers of a spec the later one that gives either counts.
    """

    name: str
    """The other field, which is the long form."""
    values: Mapping[Any, Any] = field(default_factory=dict, hash=False)
    """What the long form holds, as it stands in the YAML, where this one has each of its values. However these are
    written, a member has them in the short form, and all others in the long one. Empty: a member has them as they are
    written.
    """


@dataclass(frozen=True)
class Measured:
    """The column of `frames.members` with what a result says was really used, which is compared in place of the spec's
    value, as that may stand for "all".
    """

    column: str


@dataclass(frozen=True)
class Factor:
    """One of the settings that the paper's variants differ in (Sec. 3)."""

    suffix: str = ""
    """What the names of variants that have it end in or contain, `+WU` say: elsewhere the paper has the default."""


@dataclass(frozen=True)
class Paper:
    """What the paper sets a field to for its published numbers. A field that does not say is left open by it."""

    value: Any = OPEN
    """As it stands in the YAML."""
    where: str = ""
    """Where the paper says so: `Sec. 2.2`."""
    by_dataset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Values on some data sets, in place of `value`; `OPEN` where the paper leaves it open on one."""
    by_layer: tuple[Any, ...] = ()
    """Of a field of stochastic layers: its values from z_1 up, in place of `value`."""
    fine_tuning: Any = OPEN
    """The value in fine-tuning (Table 1), where that is another one."""
    is_varied: bool = False
    """Whether the paper has several values side by side. Which of its numbers a member answers is found by them."""
    is_varied_in_fine_tuning: bool = False
    """The same, in fine-tuning alone."""
    iwae: Any = OPEN
    """What Burda et al. set it to for their importance-weighted autoencoder, with which the paper compares itself."""
    iwae_by_dataset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The same on some data sets, in place of `iwae`."""
    implied: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    """The data sets for which the paper is silent and the authors' code implies the value, so that marks beside
    published values say so too; each with the other values that the paper may mean, which hinder no verdict."""
    hinders: Hindrance = "settings"
    """What a member is another one of than the published number, where it differs in the field: then it is shown, and
    no verdict is given. What the paper leaves open hinders none."""

    def setting(self, dataset: str, depth: int, *, fine_tuned: bool) -> Any:
        """The value on a data set at a depth, `OPEN` if the paper leaves it open there; a list over the layers of a
        field of layers.
        """
        if self.by_layer:
            return list(self.by_layer[:depth])
        if fine_tuned and self.fine_tuning is not OPEN:
            return self.fine_tuning
        return self.by_dataset.get(dataset, self.value)

    def is_answered(self, *, fine_tuned: bool) -> bool:
        """Whether the published number that a member answers is found by this field, so that none can differ in it."""
        return self.is_varied or (fine_tuned and self.is_varied_in_fine_tuning)


@dataclass(frozen=True)
class ChoiceColumn:
    """The column of `frames.members` with the name of the choice that the field holds; its settings have their own."""

    column: Column
    paper: Paper
    """What the paper chooses."""


@dataclass(frozen=True)
class BeforeFineTuning:
    """A section describes the training before fine-tuning: the paper's settings in it are those of plain training."""


@dataclass(frozen=True)
class AuthorsCode:
    """What the authors' published code does, where that is not what the paper says."""

    text: str
    """Markdown."""
    value: Any = OPEN
    """The same as it stands in the YAML, where it is one value on all data sets."""


@dataclass(frozen=True)
class NoBearing:
    """The field has no bearing on published numbers: beside these, a difference in it is not named."""

    reason: str
    quantities: tuple[str, ...] = ()
    """The quantities on which it has none (`active_units`). Empty: all."""


@dataclass(frozen=True)
class ReadIf:
    """Nothing reads the field but of data sets and observation models, by their names, of which this is true."""

    condition: Callable[[str, str], bool]


@dataclass(frozen=True)
class IdleBeside:
    """Nothing but a first phase reads the field of a member for which this other column has a value of which this is
    true.
    """

    column: str
    condition: Callable[[Any], bool]


@dataclass(frozen=True)
class IdleWhere:
    """The field makes no difference to a member of which all these columns have these values, or such of which these
    functions are true.
    """

    values: Mapping[str, Any | Callable[[Any], bool]] = field(hash=False)


@dataclass(frozen=True)
class SpecField:
    """A field of a spec, and the sections in which it lies."""

    path: Path
    infos: tuple[FieldInfo, ...]
    """What pydantic holds of the sections from the root to the field, the field's own last."""
    is_name: bool = False
    """Whether it is but the name of the choice that the field holds (`ChoiceColumn`)."""

    @property
    def dotted(self) -> str:
        """The path as the YAML writes it: `model.layers.units`."""
        return ".".join(self.path)

    @property
    def papers_choice(self) -> str | None:
        """What the paper chooses in the place of the choice whose setting the field is; None if it is no setting of
        another one.
        """
        inner = zip(self.infos[:-1], self.path[1:], strict=True)
        chosen = ((fact(info, ChoiceColumn), name) for info, name in inner)
        return next((one.paper.value for one, name in chosen if one and one.paper.value != name), None)

    def fact(self, kind: type[Fact]) -> Fact | None:
        """The fact of a kind that holds for the field: the outermost that it or a section around it states. Of the
        paper and of its authors' code none holds for a setting of another choice than the paper's.
        """
        if kind in (Paper, AuthorsCode) and self.papers_choice:
            return None
        return next((stated for info in self.infos if (stated := fact(info, kind)) is not None), None)

    @cached_property
    def column(self) -> str:
        """Its column in `frames.members`; the path below the first section, `lr_decay_every`, if it does not say."""
        prefix, own = self.fact(ColumnPrefix), fact(self.infos[-1], Column)
        if prefix:
            return prefix.prefix + self.path[-1]
        return own.name if own else "_".join(self.path[1:] or self.path)

    @property
    def words(self) -> str:
        """What tables and notes call it: `learning rate`."""
        prefix, own = self.fact(ColumnPrefix), fact(self.infos[-1], Column)
        if own is None or not own.words:
            return self.column.replace("_", " ")
        return (prefix.prefix.replace("_", " ") if prefix else "") + own.words

    @property
    def words_of_one(self) -> str:
        """Of a field of every section in a list: what tables and notes call that of one section, `flow`."""
        own = fact(self.infos[-1], Column)
        return own.of_one if own is not None and own.of_one else self.words

    @cached_property
    def is_in_list(self) -> bool:
        """Whether it is a field of every section in a list, as those of the stochastic layers are."""
        return any(get_origin(info.annotation) is tuple for info in self.infos[:-1])

    @property
    def own_default(self) -> Any:
        """Its default where its section is given; `OPEN` if it must be given."""
        info = self.infos[-1]
        return OPEN if info.is_required() else info.get_default(call_default_factory=True)

    @property
    def default(self) -> Any:
        """Its value where nothing is given, in a section that is null by default None; `OPEN` if it must be given."""
        value: Any = OPEN
        for name, info in zip(self.path, self.infos, strict=True):
            if isinstance(value, BaseModel):
                value = getattr(value, name, None)
            elif value is not None:
                value = OPEN if info.is_required() else info.get_default(call_default_factory=True)
        return value


def fields(model: type[BaseModel]) -> Iterator[SpecField]:
    """Every field below a section, sections first and then what is in them."""
    for attribute, info in model.model_fields.items():
        name = info.alias or attribute
        yield SpecField((name,), (info,))
        for section in _sections(info):
            yield from (SpecField((name, *inner.path), (info, *inner.infos)) for inner in fields(section))


def settings(model: type[BaseModel]) -> Iterator[SpecField]:
    """Every field that holds a value of its own: those without sections in them, those that are one column, and the
    names of choices that have a column.
    """
    whole: set[Path] = set()
    for item in fields(model):
        if any(item.path[:length] in whole for length in range(len(item.path))):
            continue
        chosen = fact(item.infos[-1], ChoiceColumn)
        if chosen is not None:
            named = FieldInfo(annotation=str, default=item.infos[-1].get_default().choice)
            named.metadata = [chosen.column, chosen.paper]
            yield SpecField(item.path, (*item.infos[:-1], named), is_name=True)
        if fact(item.infos[-1], Column) or fact(item.infos[-1], NoColumn):
            whole.add(item.path)
            yield item
        elif not any(_sections(item.infos[-1])):
            yield item


def fact(info: FieldInfo, kind: type[Fact]) -> Fact | None:
    """The fact of a kind that a field states; None if it states none."""
    return next((item for item in info.metadata if isinstance(item, kind)), None)


@kept_until_a_choice_joins
def short_forms(model: type[BaseModel]) -> dict[Path, tuple[Path, Mapping[Any, Any]]]:
    """The fields that are short forms (`ShortFor`), by path: the path of the long form, and its values by those of the
    short one.
    """
    stated = ((item.path, fact(item.infos[-1], ShortFor)) for item in fields(model))
    return {path: ((*path[:-1], short.name), short.values) for path, short in stated if short is not None}


@kept_until_a_choice_joins
def paths_affecting(model: type[BaseModel], part: Part) -> frozenset[Path]:
    """Paths of the fields that affect a part (`Affects`)."""
    stated = ((item.path, item.fact(Affects)) for item in fields(model))
    return frozenset(path for path, affects in stated if affects is not None and affects.part == part)


@kept_until_a_choice_joins
def paths_stating(model: type[BaseModel], kind: type[Any]) -> frozenset[Path]:
    """Paths of the fields for which a fact of a kind is stated."""
    return frozenset(item.path for item in fields(model) if item.fact(kind) is not None)


@kept_until_a_choice_joins
def exclusion(model: type[BaseModel], kind: type[Any]) -> dict[str, Any]:
    """The fields for which a fact of a kind is stated, as pydantic's `model_dump(exclude=...)` takes them."""
    root: dict[str, Any] = {}
    for item in fields(model):
        if item.fact(kind) is None:
            continue
        node: Any = root
        for name, info in zip(item.path[:-1], item.infos, strict=False):
            node = True if node is True else node.setdefault(name, {})
            if node is not True and get_origin(info.annotation) is tuple:
                node = node.setdefault("__all__", {})
        if node is not True:
            node[item.path[-1]] = True
    return root


def without(tree: Any, paths: frozenset[Path]) -> Any:
    """A spec's tree (`model_dump`) less the fields at some paths."""
    return _less(tree, _nested(paths))


def _less(tree: Any, dropped: dict[str, Any]) -> Any:
    """A tree less what is dropped: keys with nothing below them, and what the others name below theirs."""
    if isinstance(tree, list | tuple):
        return [_less(item, dropped) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kept = ((key, value) for key, value in tree.items() if dropped.get(key) != {})
    return {key: _less(value, dropped[key]) if key in dropped else value for key, value in kept}


@cache
def _nested(paths: frozenset[Path]) -> dict[str, Any]:
    """Paths as nested keys. Of a path and one below it, the shorter counts."""
    root: dict[str, Any] = {}
    for path in paths:
        if not any(path[:length] in paths for length in range(1, len(path))):
            node = root
            for name in path:
                node = node.setdefault(name, {})
    return root


def _sections(info: FieldInfo) -> Iterator[type[BaseModel]]:
    """The sections that a field may hold, those of all choices among them."""
    chosen = fact(info, OneOf)
    return _sections_in(info.annotation) if chosen is None else iter(chosen.sections.values())


@kept_until_a_choice_joins
def sections(model: type[BaseModel]) -> dict[Path, dict[str, Any]]:
    """The fields of every section by its path, sections that are null by default and all alternatives of choices among
    them: the defaults of the fields where the section is given, as they stand in the YAML; `OPEN` of one that must be
    given.
    """
    found: dict[Path, dict[str, Any]] = {}
    for item in fields(model):
        default = item.own_default
        plain = default if default is OPEN else TypeAdapter(Any).dump_python(default, mode="json")
        found.setdefault(item.path[:-1], {})[item.path[-1]] = plain
    return found


@kept_until_a_choice_joins
def choices_with_settings(model: type[BaseModel]) -> dict[Path, OneOf]:
    """The fields that hold a choice with its settings, by path: of the mapping there, one key names the choice."""
    stated = ((item.path, fact(item.infos[-1], OneOf)) for item in fields(model))
    return {path: chosen for path, chosen in stated if chosen is not None}


def choice_at(model: type[BaseModel], path: Iterable[str | int]) -> OneOf | None:
    """The choice with its settings that a field at a path holds, if it holds one.

    Args:
        model: the type of the spec.
        path: with the indices of entries of lists.

    """
    return choices_with_settings(model).get(names_of(path))


def names_of(path: Iterable[str | int]) -> Path:
    """A path without the indices of entries of lists."""
    return tuple(part for part in path if isinstance(part, str))


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections within an annotation: through Annotated, unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _sections_in(part)
