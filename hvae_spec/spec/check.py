"""Whether an experiment is consistent: paths that name no field, cells that cannot be, exclusions of nothing."""

import copy
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from hvae_spec.errors import Place, Problem, shorten
from hvae_spec.spec import grid as grids
from hvae_spec.spec.base import Loc
from hvae_spec.spec.characters import at_look_alike
from hvae_spec.spec.consistency import (
    CountImages,
    Inconsistency,
    combination_problems,
    grid_problems,
    may_follow_from,
    member_problems,
    ranking_problems,
    same_model,
)
from hvae_spec.spec.experiment import BESIDE_MEMBERS, Experiment, Grid
from hvae_spec.spec.grid import Cell, Combination, UnknownPathError, parse_path
from hvae_spec.spec.messages import origin, problems_of, show
from hvae_spec.spec.overlaps import overlaps
from hvae_spec.spec.suggest import closest, closest_paths, known_keys
from hvae_spec.spec.yaml import Node, inline


def check(
    experiment: Experiment, tree: Node, count_images: CountImages, faulty: Sequence[Loc] = ()
) -> tuple[list[Cell], list[Problem]]:
    """The cells of an experiment, and what is wrong with it beyond the types of its fields.

    Args:
        experiment: the experiment.
        tree: the text that it was read from.
        count_images: counts the images that a member's data set has.
        faulty: paths whose values were faulty and are replaced by stand-ins; nothing is held against those.

    """
    within = (*grid_problems(experiment), *overlaps(experiment))
    contradictions = [inconsistency for inconsistency in within if not may_follow_from(inconsistency, faulty)]
    problems = [_located(inconsistency, tree) for inconsistency in contradictions]
    unknown, experiment = _without_unknown_paths(experiment, tree)
    problems += unknown
    if any(inconsistency.stops for inconsistency in contradictions):
        experiment = experiment.model_copy(update={"grid": Grid(), "search": None})
    cells: list[Cell] = []
    labels: list[dict[str, Any]] = []
    crossed: set[tuple[str, Loc]] = set()
    for item in grids.combinations(experiment):
        labels.append(item.labels)
        if grids.is_excluded(experiment, item):
            continue
        which = _which(experiment, item)
        found = []
        for inconsistency in combination_problems(experiment, item):
            # What is wrong whatever the level of an axis is told at the first one.
            told = (inconsistency.message, inconsistency.path[:-1])
            found += [] if told in crossed else [_located(inconsistency, tree, item, which)]
            crossed.add(told)
        try:
            cell = grids.resolve(experiment, item)
            within_cell = (*member_problems(cell.member, count_images), *ranking_problems(experiment, cell.member))
            found += [
                _located(inconsistency, tree, item, which)
                for inconsistency in within_cell
                if not may_follow_from(inconsistency, faulty)
            ]
            if cell.member.training.first_phase is not None:
                place = tree.locate(origin(("training", "first_phase"), item))
                cell = dataclasses.replace(cell, first_phase_at=place)
            cells.append(cell)
        except ValidationError as error:
            found += problems_of(error, tree, item)
        except UnknownPathError:
            found += [_unknown_path(error, tree, path, item.tree, which) for path, error in item.unknown]
        problems += found
    if experiment.grid.exclude and not any(path[:1] == ("grid",) for path in faulty):
        problems += _exclusion_problems(experiment, tree, labels)
    if not faulty:
        problems += _report_problems(experiment, tree, cells)
    if not any(path[:1] in (("grid",), ("report",)) for path in faulty):
        problems += _layout_problems(experiment, tree)
    if not problems and not faulty:
        problems = _same_model_problems(experiment, cells, tree)
    if not cells and not problems:
        place = tree.locate(("grid", "exclude"))
        message = "the grid is empty: every cell is excluded"
        problems.append(Problem("inconsistent", place, message, "at least one cell"))
    return cells, _first_of_each(problems)


def _located(inconsistency: Inconsistency, tree: Node, item: Combination | None = None, which: str = "") -> Problem:
    path = origin(inconsistency.path, item)
    sections = ("grid", "variants"), ("grid", "axes"), ("search", "space")
    is_setting = path[:2] in sections or path[:1] == ("profiles",)
    # A name or a dotted path of the grid is shown itself where it is the trouble, and its value where that is.
    place = tree.locate_key(path) if is_setting and item is None and isinstance(path[-1], str) else tree.locate(path)
    return Problem("inconsistent", place, inconsistency.message + which, inconsistency.remedy)


def _which(experiment: Experiment, item: Combination) -> str:
    """Which cell is meant, where the grid has variants or named levels: ` (variant 'VAE', width 'wide' at depth 2)`."""
    factors = [] if item.variant is None else [f"variant {item.variant!r}"]
    factors += [f"{axis} {item.axes[axis]!r}" for axis in experiment.grid.level_axes]
    return f" ({', '.join(factors)} at depth {item.depth})" if factors else ""


def _first_of_each(problems: list[Problem]) -> list[Problem]:
    """One problem per place and remedy: a mistake in the common part shows in many cells, and is reported once."""
    return list({(problem.place, problem.expected): problem for problem in reversed(problems)}.values())


def _without_unknown_paths(experiment: Experiment, tree: Node) -> tuple[list[Problem], Experiment]:
    """Settings of variants and axes that name no field of the spec, and the experiment without them. What a variant
    sets within a value of some level is known only in their cells.
    """
    grid = experiment.grid
    full = experiment.model_dump(mode="json", exclude=set(BESIDE_MEMBERS))
    problems: list[Problem] = []
    unknown: set[tuple[Loc, str]] = set()
    levels = [
        (("grid", "axes", axis, level), list(settings))
        for axis, places in grid.level_axes.items()
        for level, settings in places.items()
    ]
    of_levels = {parse_path(path) for _, paths in levels for path in paths}
    variants = [
        (("grid", "variants", name), [path for path in settings if not _is_within(path, of_levels)])
        for name, settings in grid.variants.items()
    ]
    space = [] if experiment.search is None else list(experiment.search.space)
    sections: list[tuple[Loc, list[str]]] = [
        *variants,
        (("grid", "axes"), list(grid.value_axes)),
        *levels,
        (("search", "space"), space),
    ]
    for parent, paths in sections:
        for path in paths:
            try:
                grids.set_path(copy.deepcopy(full), path, None)
            except UnknownPathError as error:
                problems.append(_unknown_path(error, tree, (*parent, path), full))
                unknown.add((parent, path))
    if not unknown:
        return [], experiment

    def known(section: Loc, settings: Any) -> Any:
        """Settings, or axes over values, less what names no field."""
        return {path: value for path, value in settings.items() if (section, path) not in unknown}

    def known_levels(axis: str, places: Any) -> Any:
        if isinstance(places, list):
            return places
        return {level: known(("grid", "axes", axis, level), settings) for level, settings in places.items()}

    update = {
        "variants": {name: known(("grid", "variants", name), paths) for name, paths in grid.variants.items()},
        "axes": {axis: known_levels(axis, places) for axis, places in known(("grid", "axes"), grid.axes).items()},
    }
    search = None if any(section == ("search", "space") for section, _ in unknown) else experiment.search
    return problems, experiment.model_copy(update={"grid": grid.model_copy(update=update), "search": search})


def _is_within(path: str, others: set[Loc]) -> bool:
    """Whether what a path names lies within what one of some others names."""
    parts = parse_path(path)
    return any(parts[:size] in others for size in range(1, len(parts)))


def _unknown_path(error: UnknownPathError, tree: Node, path: Loc, full: dict[str, Any], which: str = "") -> Problem:
    shown = shorten(repr(error.path), 80)
    place = tree.locate_key(path)
    parts = error.path.split(".")
    if error.position == len(parts):
        message, known = f"{shown} is a whole section: variants and axes set its fields", error.known
        return Problem("invalid", place, message, "a dotted path: " + ", ".join(f"{parts[0]}.{key}" for key in known))
    if error.position == 0 and parts[0] in known_keys(()):
        return Problem("invalid", place, f"{shown} cannot vary within a grid", f"a path in {', '.join(error.known)}")
    inside = shorten(".".join(parts[: error.position]), 80)
    expected = f"one of {', '.join(error.known)}" + (f" in {inside}" if inside else "")
    if not error.known:
        expected = f"{inside}, which has nothing inside it"
    elif error.known[0] == "0":
        expected = f"an index from 0 to {len(error.known) - 1} in {inside}"
    near = _meant_paths(error, full, beside=tree.nearest(path[:-1]).keys)
    problem = Problem("invalid", place, f"{shown} is not a field of the spec{which}", expected, " or ".join(near))
    return at_look_alike(problem, error.path)


def _meant_paths(error: UnknownPathError, full: dict[str, Any], beside: Collection[str]) -> list[str]:
    """The fields that a mistaken path was probably meant to name, less those that are set `beside` it."""
    found: list[str] = []
    for near in closest_paths(error):
        try:
            grids.set_path(copy.deepcopy(full), near, None)
            found.append(near)
        except UnknownPathError as again:
            # Another of its words may be mistaken too.
            found += _meant_paths(again, full, beside) if again.position > error.position else []
    return [path for path in dict.fromkeys(found) if path not in beside]


def _exclusion_problems(experiment: Experiment, tree: Node, labels: list[dict[str, Any]]) -> list[Problem]:
    """Entries of `grid.exclude` that name no cell.

    An entry is not held against a list that was replaced over its head: exclusions of a base, or of a file under a
    `--set`, may name cells that the new list no longer has.
    """
    problems: list[Problem] = []
    known: dict[str, list[Any]] = {}
    for label in labels:
        for key, value in label.items():
            seen = known.setdefault(key, [])
            if not any(grids.same(value, other) for other in seen):
                seen.append(value)
    for index, entry in enumerate(experiment.grid.exclude):
        path: Loc = ("grid", "exclude", index)
        before = len(problems)
        if not entry:
            expected = f"one of {', '.join(known)}"
            problems.append(Problem("inconsistent", tree.locate(path), "an empty entry excludes nothing", expected))
        for key, value in entry.items():
            if not _is_held(tree, (*path, key), key):
                continue
            shown = shorten(repr(key), 80)
            if key not in known:
                message = f"{shown} is no factor of the grid"
                if key == "variant":
                    message = "the grid has no variants"
                expected = f"one of {', '.join(known)}"
                near = closest(key, [other for other in known if other not in entry])
                problem = Problem("invalid", tree.locate_key((*path, key)), message, expected, near)
                problems.append(at_look_alike(problem, key))
            elif not any(grids.same(value, other) for other in known[key]):
                node = tree.nearest((*path, key))
                text = value if isinstance(value, str) else node.written
                options = {str(other): inline(other) for other in known[key]}
                # A name like a number needs quotes to be text.
                near = options.get(text) or options.get(closest(text, options), "")
                message = f"the excluded cell does not exist: no {key} is {show(value, node.written)}"
                expected = f"one of {', '.join(options.values())}"
                problem = Problem("inconsistent", node.place, message, expected, near)
                problems.append(at_look_alike(problem, text))
        strict = all(_is_held(tree, path, key) for key in known)
        if strict and len(problems) == before and not any(grids.matches(entry, label) for label in labels):
            message = "the excluded cell does not exist in this combination"
            problems.append(Problem("inconsistent", tree.locate(path), message, "a cell of the grid"))
    return problems


def _report_problems(experiment: Experiment, tree: Node, cells: Sequence[Cell]) -> list[Problem]:
    """References and contrasts of the report that name no field, level or variant of the grid.

    As for exclusions, none is held against variants and axes that were replaced over its head.
    """
    report, axes = experiment.report, experiment.grid.axes
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    full = experiment.model_dump(mode="json", exclude=set(BESIDE_MEMBERS))
    problems: list[Problem] = []
    for section, entries in (("reference", report.reference), ("contrasts", report.contrasts)):
        for name, wished in entries.items():
            path: Loc = ("report", section, name)
            factor = name if name in axes else "variant"
            if not _is_held(tree, path, factor) or not cells:
                continue
            is_of_variants = name not in axes and section == "contrasts" and name.split(".")[0] not in grids.SECTIONS
            if not is_of_variants and name not in axes:
                try:
                    grids.set_path(copy.deepcopy(full), name, None)
                except UnknownPathError as error:
                    problems.append(_unknown_path(error, tree, path, full))
                    continue
            known = variants if is_of_variants else list(axes[name]) if name in axes else _levels(name, cells)
            places: list[Loc] = [path] if section == "reference" else [(*path, 0), (*path, 1)]
            values = [wished] if section == "reference" else wished
            problems += _unknown_levels(tree, dict(zip(places, values, strict=True)), known, name, is_of_variants)
            if section == "contrasts" and grids.same(*wished):
                message = f"{shorten(repr(name), 80)} compares {inline(wished[0])} with itself"
                problems.append(Problem("inconsistent", tree.locate(path), message, "two that differ"))
    return problems


def _levels(path: str, cells: Sequence[Cell]) -> list[Any]:
    """The values of a field in some cells, each once."""
    found: list[Any] = []
    for cell in cells:
        value = grids.value_at(cell.member.model_dump(mode="json"), path)
        if not any(grids.same(value, other) for other in found):
            found.append(value)
    return found


def _unknown_levels(
    tree: Node, wished: dict[Loc, Any], known: Sequence[Any], name: str, is_of_variants: bool
) -> list[Problem]:
    problems = []
    for path, value in wished.items():
        # Of a choice with settings, the name is enough.
        if any(grids.same(value, level) or (isinstance(level, dict) and list(level) == [value]) for level in known):
            continue
        options = {str(level): inline(level) for level in known}
        near = options.get(str(value)) or options.get(closest(str(value), options), "")
        if is_of_variants:
            message = f"the grid has no variant {shorten(repr(value), 80)}"
        else:
            is_nested = isinstance(value, dict | list)
            shown = shorten(inline(value), 80) if is_nested else show(value, tree.nearest(path).written)
            message = f"the grid has no cell whose {shorten(name, 80)} is {shown}"
        expected = f"one of {', '.join(options.values())}"
        problem = Problem("inconsistent", tree.locate(path), message, expected, near)
        problems.append(at_look_alike(problem, str(value)))
    return problems


def _layout_problems(experiment: Experiment, tree: Node) -> Iterator[Problem]:
    """Places of `report.layout` that name no factor of the grid, or one that has another place.

    As exclusions, they are not held against axes that were replaced over their head.
    """
    # Every data set has a table and a figure of its own.
    known = ["depth", "variant", *(axis for axis in experiment.grid.axes if axis != "data.dataset")]
    taken: dict[str, str] = {}
    for place, factor in experiment.report.layout.places.items():
        path: Loc = ("report", "layout", place)
        if factor not in known and _is_held(tree, path, factor):
            near = closest(factor, known)
            message = f"report.layout.{place}: {shorten(repr(factor), 80)} is no factor of the grid"
            problem = Problem("invalid", tree.locate(path), message, f"one of {', '.join(known)}", near)
            yield at_look_alike(problem, factor)
        elif factor in taken:
            message = f"{factor} is both report.layout.{taken[factor]} and report.layout.{place}"
            yield Problem("inconsistent", tree.locate(path), message, "another factor, or null")
        taken.setdefault(factor, place)


def _is_held(tree: Node, path: Loc, factor: str) -> bool:
    """Whether what stands at `path` was written with the values of a factor of the grid in sight, or after them."""
    values = {"variant": ("grid", "variants"), "depth": ("grid", "depth")}.get(factor, ("grid", "axes", factor))
    entry, factor_source = tree.locate(path).source, tree.locate(values).source
    by_hand = entry.startswith("--set")
    in_file = entry == tree.place.source and not factor_source.startswith("--set")
    return by_hand or in_file or entry == factor_source


def _same_model_problems(experiment: Experiment, cells: list[Cell], tree: Node) -> list[Problem]:
    """Pairs of cells that are one model, each by what tells its two cells apart, at the second one's."""
    problems, axes = [], experiment.grid.axes
    for first, second in same_model(cells):
        apart = [axis for axis in first.axes if not grids.same(first.axes[axis], second.axes[axis])]
        by_variant = bool(experiment.grid.variants) and first.variant != second.variant
        axis = apart[0] if len(apart) == 1 else ""
        if by_variant and not apart:
            names = f"variants {first.variant!r} and {second.variant!r} resolve"
            message = f"{names} to the same model at depth {second.depth}" + _beside(second, apart)
        elif axis and not by_variant:
            levels = " and ".join(_level(cell.axes[axis], axes[axis]) for cell in (first, second))
            names = f"levels {levels} of {axis} resolve"
            where = f"variant {second.variant!r} at depth {second.depth}" + _beside(second, apart)
            message = f"{names} to the same model with {where}"
        else:
            whose = [
                ", ".join(
                    [f"variant {cell.variant!r}"] * by_variant
                    + [f"{axis} {_level(cell.axes[axis], axes[axis])}" for axis in apart]
                )
                for cell in (first, second)
            ]
            where = ("" if by_variant else f" with variant {second.variant!r}") + f" at depth {second.depth}"
            message = f"({whose[0]}) and ({whose[1]}) resolve to the same model{where}{_beside(second, apart)}"
        place = tree.locate_key(("grid", "variants", second.variant))
        if apart:
            # The last one that differs, as cells are counted by it first.
            place = _place_of_level(tree, apart[-1], second.axes[apart[-1]], axes.get(apart[-1]))
        problems.append(Problem("inconsistent", place, message, "settings that differ, or one of them in grid.exclude"))
    return problems


def _level(value: Any, levels: Any) -> str:
    """A level of an axis in a message: a value as it stands in the YAML, a name in quotes."""
    return inline(value) if isinstance(levels, list) else repr(value)


def _beside(cell: Cell, apart: Collection[str]) -> str:
    """The levels of a cell on the axes by which it is not told from another one: `, model.norm batch`."""
    return "".join(f", {axis} {inline(value)}" for axis, value in cell.axes.items() if axis not in apart)


def _place_of_level(tree: Node, axis: str, value: Any, levels: Any) -> Place:
    """Where a level of an axis stands in a file: a value itself, of a named level its name."""
    path: Loc = ("grid", "axes", axis)
    if isinstance(levels, list):
        index = next(index for index, level in enumerate(levels) if grids.same(level, value))
        return tree.locate((*path, index))
    return tree.locate_key((*path, value)) if levels is not None else tree.locate(("search",))
