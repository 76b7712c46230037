"""A file that names grids instead of being one: `name` and `grids`, the files of the grids. Together they are one plan,
in which a member that several of them have is trained once.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from hvae_spec.errors import Problem, SpecError
from hvae_spec.spec.base import SpecModel
from hvae_spec.spec.consistency import CountImages
from hvae_spec.spec.experiment import ExperimentName, MemberSpec
from hvae_spec.spec.fields import paths_affecting
from hvae_spec.spec.grid import Member
from hvae_spec.spec.load import (
    GridReading,
    Reading,
    named_file,
    parse_file,
    validate,
    with_bases,
    with_overrides,
)
from hvae_spec.spec.messages import problems_of
from hvae_spec.spec.yaml import Node, inline


class GridsFile(SpecModel):
    """A file that names grids."""

    name: ExperimentName
    """Names the results folder `results/<name>`: letters, digits, `.`, `_` and `-`."""
    grids: Annotated[tuple[str, ...], Field(min_length=1)]
    """Specs, relative to this file: each is a grid, and they run as one."""


def read(
    path: str | Path, overrides: Sequence[str] = (), profile: str | None = None, *, count_images: CountImages
) -> Reading:
    """The grid of a spec file with its resolved cells, or all grids that the file names.

    Args:
        path: the YAML file.
        overrides: `dotted.path=value` strings, the value in YAML, as `--set` takes them. They apply to each grid, but
            for `name`, which is the file's own.
        profile: one of the spec's `profiles`, applied before the overrides. Every grid that the file names must have
            it.
        count_images: counts the images that a member's data set has.

    Raises:
        SpecError: with every problem of the file, its bases and the overrides.

    """
    path, problems = Path(path), list[Problem]()
    tree = parse_file(path, problems)
    if _names_grids(tree):
        return _read_grids(tree, path, overrides, profile, problems, count_images)
    tree = with_bases(tree, path, problems)
    with_overrides(tree, overrides, profile, problems)
    return validate(tree, problems, count_images=count_images)


def _names_grids(tree: Node) -> bool:
    return isinstance(tree.value, dict) and "grids" in tree.value


def _read_grids(
    tree: Node,
    path: Path,
    overrides: Sequence[str],
    profile: str | None,
    problems: list[Problem],
    count_images: CountImages,
) -> Reading:
    own = [text for text in overrides if text.partition("=")[0].strip() == "name"]
    others = [text for text in overrides if text not in own]
    with_overrides(tree, own, None, problems)
    _refuse_sections(tree, problems)
    if not problems:
        try:
            GridsFile.model_validate(tree.plain())
        except ValidationError as error:
            problems += problems_of(error, tree)
    entries = tree.value["grids"].value
    grids: dict[int, GridReading] = {}
    for place, entry in enumerate(entries if isinstance(entries, list) and not problems else ()):
        try:
            grids[place] = _read_grid(entry, path, others, profile, count_images)
        except SpecError as error:
            problems += error.problems
    problems += _conflicts(entries, grids)
    if problems:
        raise SpecError(problems)
    name = str(tree.value["name"].value)
    return Reading(name if profile is None else f"{name}-{profile}", tuple(grids.values()))


def _refuse_sections(tree: Node, problems: list[Problem]) -> None:
    """Say, once, that what a grid is made of stands in the files of the grids."""
    if beside := [key for key in tree.value if key not in GridsFile.model_fields]:
        listed = ", ".join(f"`{key}`" for key in beside)
        problems.append(
            Problem(
                "invalid",
                tree.keys[beside[0]],
                f"{listed} beside `grids`, which names the files of whole grids",
                "`name` and `grids` alone; what all grids have in common goes into a `base` of theirs",
            )
        )


def _read_grid(
    entry: Node, path: Path, overrides: Sequence[str], profile: str | None, count_images: CountImages
) -> GridReading:
    """One of the grids that the file at `path` names.

    Raises:
        SpecError: the entry names no grid, or the grid has problems.

    """

    def fail(message: str, expected: str) -> SpecError:
        return SpecError([*problems, Problem("invalid", entry.place, message, expected)])

    problems: list[Problem] = []
    target = named_file(path, entry, "a grid")
    tree = parse_file(target, problems)
    if target.resolve() == path.resolve():
        raise fail(f"{entry.value} names itself as one of its grids", "the files of its grids")
    if _names_grids(tree):
        raise fail(f"{entry.value} is no grid, but names grids itself", "the files of its grids, in its place")
    tree = with_bases(tree, target, problems)
    if profile is not None and profile not in (names := _profiles(tree)):
        has = f"which has {', '.join(names)}" if names else "which has none"
        raise fail(
            f"--profile {inline(profile)} applies to every grid, and is no profile of {entry.value}, {has}",
            f"a profile of that name in {entry.value}, a file without this grid, or no --profile",
        )
    with_overrides(tree, overrides, profile, problems)
    return validate(tree, problems, count_images=count_images).grids[0]


def _profiles(tree: Node) -> list[str]:
    profiles = tree.child("profiles")
    there = profiles.value if profiles is not None and isinstance(profiles.value, dict) else {}
    return [name for name, settings in there.items() if isinstance(settings.value, dict)]


def _conflicts(entries: Any, grids: dict[int, GridReading]) -> Iterator[Problem]:
    """What keeps grids from being one plan: names that are not their own, and members that they would run otherwise.

    Args:
        entries: the values that name the grids.
        grids: those that could be read, by their place among the entries.

    """
    names: dict[str, int] = {}
    trained: dict[str, tuple[int, Member]] = {}
    for place, grid in grids.items():
        other = names.setdefault(grid.name.lower(), place)
        if other != place:
            files = f"{entries[other].value} and {entries[place].value}"
            twice = f"{entries[place].value} is named twice"
            message = twice if entries[other].value == entries[place].value else f"{files} are both named {grid.name}"
            if grids[other].name != grid.name:
                names_of_both = f"{grids[other].name} and {grid.name}"
                message = f"{files} are named {names_of_both}, which would share a folder where case does not count"
            yield Problem("inconsistent", entries[place].place, message, "grids of different names")
            continue
        told: set[str] = set()
        for member in grid.members:
            first, shared = trained.setdefault(member.digests.training, (place, member))
            for words in _otherwise(shared, member) if first != place else ():
                if words not in told:
                    told.add(words)
                    files = f"{entries[first].value} and {entries[place].value}"
                    message = f"{files} have members in common ({member.folder}), which they run with {words}"
                    expected = "the same in both, as such a member is trained once; --set gives it to all grids"
                    yield Problem("inconsistent", entries[place].place, message, expected)


def _otherwise(one: Member, other: Member) -> Iterator[str]:
    """In which settings two members of one training differ that are none of it: `evaluation.every 10 and 5`."""
    for path in sorted(paths_affecting(MemberSpec, "nothing")):
        first, second = (reduce(getattr, path, member.spec) for member in (one, other))
        if first != second:
            yield f"{'.'.join(path)} {inline(first)} and {inline(second)}"
