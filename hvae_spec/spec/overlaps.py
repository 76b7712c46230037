"""Settings of one cell that undo one another, so that their order would matter: the same field twice, a field and the
section around it, and two alternatives of a choice.

A variant may override what a level sets, as levels apply first. All else of one cell must not overlap: settings of one
variant or level, of two axes, and of a variant and an axis over values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hvae_spec.spec.base import Loc
from hvae_spec.spec.consistency import Inconsistency
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.fields import choice_at
from hvae_spec.spec.grid import parse_path


@dataclass(frozen=True)
class Setting:
    """A dotted path that a variant, a level or an axis sets."""

    path: str
    place: Loc
    """Where in the file it stands."""
    owner: str
    """What messages call it."""

    @property
    def parts(self) -> Loc:
        """The path's parts."""
        return parse_path(self.path)


@dataclass(frozen=True)
class Settings:
    """Settings, found by what they overlap."""

    by_path: dict[Loc, Setting] = field(default_factory=dict)
    within: dict[Loc, Setting] = field(default_factory=dict)
    """By every section around a setting."""
    chosen: dict[Loc, dict[str, Setting]] = field(default_factory=dict)
    """By choice and alternative."""

    def add(self, setting: Setting) -> None:
        """Add one, but for a whole section, which is refused as that."""
        parts = setting.parts
        if len(parts) == 1:
            return
        self.by_path.setdefault(parts, setting)
        for size in range(2, len(parts)):
            self.within.setdefault(parts[:size], setting)
        for choice, alternative in _alternatives(parts):
            self.chosen.setdefault(choice, {}).setdefault(alternative, setting)

    def around_or_within(self, parts: Loc) -> Setting | None:
        """One that sets a path, something around it or something within it."""
        around = (self.by_path[parts[:size]] for size in range(1, len(parts) + 1) if parts[:size] in self.by_path)
        return next(around, self.within.get(parts))

    def alternative(self, parts: Loc) -> tuple[Loc, Setting] | None:
        """A choice, and one that takes another alternative of it."""
        for choice, alternative in _alternatives(parts):
            for other, setting in self.chosen.get(choice, {}).items():
                if other != alternative:
                    return choice, setting
        return None


def _alternatives(parts: Loc) -> Iterator[tuple[Loc, str]]:
    """The choices on the way to a path, and the alternative that it takes."""
    for size in range(1, len(parts)):
        if _is_choice(parts[:size]):
            yield parts[:size], str(parts[size])


def _is_choice(parts: Loc) -> bool:
    return choice_at(MemberSpec, parts) is not None


def overlaps(experiment: Experiment) -> Iterator[Inconsistency]:
    """The settings that undo others of the same cell."""
    grid = experiment.grid
    of_axes = Settings()
    for axis, places in grid.axes.items():
        if isinstance(places, list):
            settings = [Setting(axis, ("grid", "axes", axis), f"the axis {axis}")]
        else:
            settings = []
            for level, paths in places.items():
                here: Loc = ("grid", "axes", axis, level)
                yield from _among([Setting(path, (*here, path), path) for path in paths])
                settings += [Setting(path, (*here, path), f"the axis {axis}") for path in paths]
        remedy = "one of the two, or one axis with named levels that set both"
        for setting in settings:
            yield from _between(setting, of_axes, remedy)
        for setting in settings:
            of_axes.add(setting)
    over_values = Settings()
    for axis in grid.value_axes:
        over_values.add(Setting(axis, ("grid", "axes", axis), f"the axis {axis}"))
    space = [] if experiment.search is None else list(experiment.search.space)
    searched = [Setting(path, ("search", "space", path), "the search") for path in space]
    yield from _among(searched)
    for setting in searched:
        yield from _between(setting, of_axes, "one of the two")
        over_values.add(setting)
    for name, paths in grid.variants.items():
        settings = [Setting(path, ("grid", "variants", name, path), path) for path in paths]
        yield from _among(settings)
        for setting in settings:
            yield from _between(setting, over_values, "one of the two")


def _among(settings: Iterable[Setting]) -> Iterator[Inconsistency]:
    """Those of one variant or level that overlap, the deeper one of each two."""
    before = Settings()
    for setting in sorted(settings, key=lambda setting: len(setting.parts)):
        yield from _between(setting, before, "one of the two")
        before.add(setting)


def _between(setting: Setting, others: Settings, remedy: str) -> Iterator[Inconsistency]:
    """Whether a setting overlaps one of some others."""
    parts = setting.parts
    other, alternative = others.around_or_within(parts), others.alternative(parts)
    if other is not None:
        message = f"{setting.path} is set by {other.owner} as well"
        whole = parts if len(parts) < len(other.parts) else other.parts
        choice = whole if parts != other.parts and _is_choice(whole) else None
        yield Inconsistency(setting.place, message, _remedy(choice, setting, other, remedy), stops=True)
    elif alternative is not None:
        choice, other = alternative
        message = f"{setting.path} takes another {choice[-1]} than {other.owner}, and would replace it"
        yield Inconsistency(setting.place, message, _remedy(choice, setting, other, remedy), stops=True)


def _remedy(choice: Loc | None, setting: Setting, other: Setting, otherwise: str) -> str:
    """What is expected in place of two settings. Where an axis is in the way of a choice, it is one axis over both."""
    if choice is None or other.owner == other.path:
        return otherwise
    levels = f"{{one: {{{other.path}: ...}}, other: {{{setting.path}: ...}}}}"
    return f"one axis with named levels in place of both, each with its {choice[-1]}: {choice[-1]}: {levels}"
