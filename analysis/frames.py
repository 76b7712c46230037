"""Tidy frames of a results folder: one row per member; per member and epoch; per member, evaluation, layer and
unit; per member and number of importance samples.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import bits, folders, reader
from analysis.columns import at, columns_by_path, setting_columns, setting_fields, short_columns
from analysis.reader import Contents, Entry, Origin
from hvae_spec.records.layout import ACTIVE
from hvae_spec.records.plan import GridFile, SearchSettings
from hvae_spec.records.result import STATUSES, AisResult, ClassificationResult, ProbeResult, RefineResult
from hvae_spec.records.rows import EpochRow
from hvae_spec.spec.grid import LONGEST_NAME, slug, value_at
from hvae_spec.spec.labels import GRID, LABELS, NONE, level_label
from hvae_spec.spec.report import ReportSpec
from hvae_spec.spec.seeds import StagedSeeds

METRICS = (
    *("test_log_likelihood", "test_log_likelihood_se", "test_log_likelihood_mc_se"),
    *("test_log_likelihood_redraw_variance", "test_log_likelihood_redraw_variance_se", "test_elbo", "test_elbo_se"),
    *("validation_log_likelihood", "validation_log_likelihood_se", "validation_log_likelihood_mc_se"),
    *("validation_elbo", "validation_elbo_se", "curve_test_log_likelihood", "curve_test_images"),
    *("curve_validation_log_likelihood", "curve_validation_images"),
    *("iw_samples", "effective_sample_size", "active_units", "active_units_by_variance", "auxiliary_nats"),
)
REFINED = ("images", "steps", "lr", "bound", "elbo")
"""Of a refinement (`hvae_spec.records.result.RefineResult`), what is one number."""
CLASSIFIED = {
    "test_error": "error",
    "test_wrong": "wrong",
    "validation_error": "validation_error",
    "kl_classes": "kl",
}
"""Of a classification (`hvae_spec.records.result.ClassificationResult`), what is one number, by column."""
PROBED = ("classes", "largest_class", "flow_draws")
"""Of linear probes (`hvae_spec.records.result.ProbeResult`), what is one number."""
SECONDS = ("training_seconds", "curve_seconds", "evaluation_seconds")
"""What a member's wall time is made of."""
OF_BOUNDS = ("iw_samples", "bound", "mc_se")
"""Columns of `Frames.bounds` beside labels."""
OF_UNITS = ("epoch", "layer", "unit", "kl", "kl_se", "active")
"""Columns of `Frames.units` beside labels."""
OF_STATISTICS = (
    *("all_places", "as_claimed", "claimed", "compared", "detectable", "df", "difference", "diverged_level"),
    *("diverged_reference", "effect", "estimate", "factor", "factor_2", "family", "family_size"),
    *("fine_tuning", "found", "high", "kind", "last_epoch", "layer", "left_out", "level", "level_2", "low"),
    *("mc_se", "mean", "n", "order", "p", "p_best", "p_holm", "paper", "place", "places", "planned_pairs"),
    *("published", "quantity", "rank", "reference", "reference_2", "row", "sd", "se", "table", "tests"),
    *("tolerance", "total", "unlike", "value", "verdict", "with", "without", "y"),
    *STATUSES,
)
"""Columns that tables made of these frames have beside those of axes."""
COSTS = ("parameters", "epochs", "steps", "training_seconds", "evaluation_seconds", "wall_seconds", "ms_per_step")


@dataclass(frozen=True)
class Frames:
    """A results folder as tidy DataFrames. A missing value is NaN, everywhere. Every column is once in a frame, and its
    name is one by which it is an attribute: `frames.members.batch_size`.
    """

    name: str
    """The grid's name."""
    axes: Mapping[str, str]
    """The further axes: the column of each, in all four frames, and its path in the spec. `training.batch_size` is the
    column `batch_size`, that of the setting. Where an axis has other levels than its setting has values, `null` say,
    `clip_norm_level` holds its levels and `clip_norm` the setting. Titles have the path."""
    members: pd.DataFrame
    """One row per member: labels, `stage` (1, or 2 for seeds of a second stage), status, metrics (nats per image; `_se`
    is the standard error over test images, `_mc_se` the Monte Carlo error, `_redraw_variance` that of an image's bound
    over draws of its zeros and ones, in nats^2; `validation_...` are of the validation set, if there is one;
    `curve_test_log_likelihood` is of the first `curve_test_images` test images, where the curve is of these, and
    `curve_validation_log_likelihood` likewise), `auxiliary_nats` (what an auxiliary variable of q takes from the ELBO
    beside the KL of the layers), `bits_per_dim` (of the test log-likelihood, where x is or was made of
    gray levels, see `analysis.bits`), `active_units_i`, `kl_i` and `kl_standard_normal_i` (of q(z_i|.) to
    N(0, I)) of layer i, `ais_...` (of annealed importance sampling, see `hvae_spec.records.result.AisResult`;
    `ais_difference` is AIS less the bound, `ais_estimate` AIS and the gap), `refine_...` (of the amortized bounds of
    the images that were refined, see `hvae_spec.records.result.RefineResult`; `refine_layers` is how many layers from
    z_1 on were refined jointly), `refined_bound` and `refined_elbo` (after that, `..._difference` less the amortized
    one with its `..._se`, and all with `_i` of layer i alone), `probe_100_i` and `probe_all_i` (the accuracy of a
    linear probe of the classes on layer i with 100 labels and with all; `probe_100_se_i` its standard error over test
    images), `test_error` (of a model with classes: percent of the test images whose likeliest class by q(y|x) is not
    theirs, `test_wrong` of them; `test_error_low` and `test_error_high` are Wilson's 95% interval, `validation_error`
    is of the validation set, and `kl_classes` KL(q(y|x) || p(y)) on the test set), costs, settings (see
    `analysis.columns`), data, `best_epoch` and `stopped_epoch` (with early stopping: whose weights are kept, and where
    it ended the training), `digest` (of the evaluation) and `training_digest`. `continues` and `extended_from` are
    training digests: of the first phase and of the shorter training that the training started from."""
    epochs: pd.DataFrame
    """One row per member and epoch: learning curves, and the test curve at its points, or with a validation set the
    validation curve (`validation_log_likelihood`, ...). `train_bound` is the objective,
    whose KL has the weight `beta`, `train_bound_beta_1` the same bound with beta = 1, `train_reconstruction` is
    log p(x|z_1), `kl_i` the KL of layer i and `auxiliary_nats` what an auxiliary variable of q takes beside them, all
    over training batches; `test_log_likelihood` and `test_elbo` are of
    the first `test_images` test images. The final evaluation is no point of the curve."""
    units: pd.DataFrame
    """One row per member, evaluation, layer and unit (both from 1): `kl`, `kl_se`, `active`. A layer whose units have
    no KL of their own, as q or p does not factorize over them, has one row of the layer's KL, whose `unit` is 0 and
    whose `active` is NaN. Evaluations are the points of the curve, on the validation set if there is one, and in the
    last epoch the final one, on the test set."""
    bounds: pd.DataFrame
    """One row per finished member and number of importance samples: `iw_samples`, `bound` (the importance-weighted
    bound on the test set, nats per image), `mc_se` (its Monte Carlo error)."""
    faults: tuple[str, ...] = ()
    """What is damaged in the folder, each with what fixes it or what it costs: records, which have the status `damaged`
    or are left out, and rows of curves, which are NaN in `epochs`."""
    left_out: tuple[str, ...] = ()
    """Of these, the records that are left out, as their place in the grid cannot be read."""
    stages: StagedSeeds | None = None
    """How many seeds there are, where they come in two stages."""
    grids: tuple["Frames", ...] = ()
    """If there are several grids in the folder, or several folders, the frames of each, with its own labels. A member
    that several of them have is in the frames of each; in those of the whole it is once, and the factor `grid` names
    the first that has it."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Data sets whose files were missing when the folder was last planned, so that members were left out; by name, each
    with what was missing and how it is had."""
    report: ReportSpec = field(default_factory=ReportSpec)
    """What the report is to say, and how ours are judged beside published values."""
    foretold: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Those of `report.contrasts` that were planned before the grid had a result."""
    specs: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """The resolved specs of members that have begun, as trees, by `digest`."""

    folder: Path = Path()
    """The results folder; of several folders side by side, that of each of the `grids`."""
    search: SearchSettings | None = None
    """If the grid is a search and no ablation: what its points are, by the value of the factor `trial`."""
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False)
    """What members were made with, by `digest`; of those whose records can be read."""

    @property
    def factors(self) -> tuple[str, ...]:
        """Columns of the further axes."""
        return tuple(self.axes)

    @property
    def varied(self) -> tuple[str, ...]:
        """Columns of the further axes of the grid; of several grids, which one it is, is none."""
        return tuple(column for column, path in self.axes.items() if path != GRID)

    def columns(self, paths: Sequence[str]) -> tuple[str, ...]:
        """The columns of the axes at some paths, as far as the grid has such axes."""
        return tuple(column for column, path in self.axes.items() if path in paths)

    @property
    def planned(self) -> "Frames":
        """Without the records that the grid no longer plans."""
        return self.select(self.members["planned"])

    def select(self, mask: "pd.Series[bool]") -> "Frames":
        """The members for which `mask` (one entry per row of `.members`) is true, with their rows of the others."""
        if mask.all():  # as almost everywhere in a report: nothing to look for
            every = (self.members, self.epochs, self.units, self.bounds)
            members, epochs, units, bounds = (frame.copy() for frame in every)
            return replace(self, members=members, epochs=epochs, units=units, bounds=bounds, grids=())
        members = self.members[mask]
        epochs, units, bounds = (
            frame[frame["digest"].isin(members["digest"])] for frame in (self.epochs, self.units, self.bounds)
        )
        return replace(self, members=members, epochs=epochs, units=units, bounds=bounds, grids=())

    def label(self, factor: str, level: Any) -> str:
        """What a level of one of `factors` is called: `batch 64`."""
        plain = level.item() if isinstance(level, np.generic) else level
        return level_label(self.axes[factor], plain, self.axes.values())

    def as_variants(self, axes: Sequence[str]) -> "Frames":
        """The same members with the axes of these paths in their variants' names: `VAE, batch norm on`. Settings keep
        their columns.
        """
        own = {column: path for column, path in self.axes.items() if path in axes}
        if not own:
            return self
        ordered = self.members.sort_values("variant", kind="stable")
        categories = list(dict.fromkeys(self._names(ordered, own)))
        members, epochs, units, bounds = (
            frame.assign(variant=pd.Categorical(self._names(frame, own), categories=categories, ordered=True))
            for frame in (self.members, self.epochs, self.units, self.bounds)
        )
        others = {column: path for column, path in self.axes.items() if column not in own}
        return replace(
            self,
            axes=others,
            members=members.drop(columns=list(own.keys() - setting_fields().keys() - short_columns().keys())),
            epochs=epochs.drop(columns=list(own)),
            units=units.drop(columns=list(own)),
            bounds=bounds.drop(columns=list(own)),
        )

    def _names(self, frame: pd.DataFrame, axes: Iterable[str]) -> "pd.Series[str]":
        """Every row's variant and its place on some axes."""
        names = frame["variant"].astype(str)
        for axis in axes:
            names = names + ", " + frame[axis].map(partial(self.label, axis)).astype(str)
        return names

    def groups(self, by: Sequence[str] = ()) -> "Iterator[Group]":
        """The planned members apart by data set, of which tables and figures show each by itself.

        Args:
            by: columns of axes whose levels make groups of their own, too: with `frames.factors`, every place does.

        """
        frames, keys = self.planned, ["dataset", *by]
        places = frames.members[keys].drop_duplicates()
        taken: set[str] = set()
        for place in places.itertuples(index=False, name=None):
            where = dict(zip(keys, place, strict=True))
            own = frames.select(_is_at(frames.members, where))
            alike = {column: list(own.members[column].drop_duplicates()) for column in self.axes}
            levels = [self.label(column, found[0]) for column, found in alike.items() if len(found) == 1]
            title = ", ".join([str(place[0]), *levels])
            stem = slug(title, LONGEST_NAME) if len(places) > 1 else ""
            # Two titles may differ only in letters that a file name cannot hold.
            name = stem if stem not in taken else f"{stem}-{len(taken) + 1}"
            taken.add(name)
            yield Group(title, name, where, own)


@dataclass(frozen=True)
class Group:
    """The members of one data set, or of one place on some further axes."""

    title: str
    """The data set, and the axes on which all members have the same level: `mnist, batch 64`."""
    slug: str
    """`title` for a file name; empty if the grid has only one group."""
    place: dict[str, Any]
    """The data set, and the level on every axis that the groups are by."""
    frames: Frames

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table with the columns of `place` that are of this group."""
        return table[_is_at(table, self.place)]


def load(path: str | Path, grid: GridFile | None = None, specs: Mapping[str, dict[str, Any]] | None = None) -> Frames:
    """The frames of a results folder, whatever the state of its grid.

    Args:
        path: the folder.
        grid: what is planned, in the place of the folder's grid.json; the folder need not be there then.
        specs: of planned members that may have no record yet, by the name of the record's folder.

    Raises:
        RecordError: there is no such folder, it holds no results, or its grid.json is damaged.

    """
    return _frames(reader.read(path, grid, specs))


def load_all(paths: Sequence[str | Path]) -> Frames:
    """The frames of one or several results folders, see `analysis.load`.

    Raises:
        RecordError: as `load`, and if two folders have the same member on other images.

    """
    return _frames(folders.read(paths))


def _frames(contents: Contents) -> Frames:
    entries = contents.entries
    paths = tuple(dict.fromkeys(key for entry in entries for key in entry.labels if key not in LABELS))
    members, axes = _members(entries, contents.variants, paths, contents.stages)
    labels = members[[*LABELS, "stage", *axes, "digest"]]
    epochs, units, bounds = _epochs(entries, labels), _units(entries, labels), _bounds(entries, labels)
    every = (*entries, *(entry for grid in contents.grids for entry in grid.entries))
    faults = dict.fromkeys([*(fault for entry in every for fault in entry.faults), *contents.faults])
    return Frames(
        contents.name,
        axes,
        members,
        epochs,
        units,
        bounds,
        tuple(faults),
        contents.faults,
        contents.stages,
        tuple(map(_frames, contents.grids)),
        contents.absent,
        contents.report,
        contents.foretold,
        {entry.digest: entry.spec for entry in entries if entry.spec},
        contents.folder,
        contents.search,
        {entry.digest: entry.origin for entry in entries if entry.status != "damaged"},
    )


def _is_at(table: pd.DataFrame, place: dict[str, Any]) -> "pd.Series[bool]":
    mask = pd.Series(True, index=table.index)
    for key, value in place.items():
        mask &= table[key].isna() if pd.isna(value) else table[key] == value
    return mask


def _members(
    entries: Sequence[Entry], variants: Sequence[str], paths: Sequence[str], stages: StagedSeeds | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """`Frames.members`, and `Frames.axes` of the axes at these paths."""
    labels = [entry.labels for entry in entries]
    names = [str(item["variant"]) for item in labels]
    depths = [int(item["depth"]) for item in labels]
    results = [entry.result for entry in entries]
    for result in results:
        result["wall_seconds"] = sum(result.get(cost) or 0.0 for cost in SECONDS) if result else None
    data = [dict(result.get("data") or {}) for result in results]
    divergences = [dict(result.get("divergence") or {}) for result in results]
    layers = range(max(depths))
    place: dict[str, Any] = {
        "dataset": [str(item["dataset"]) for item in labels],
        "depth": depths,
        "variant": pd.Categorical(names, categories=list(dict.fromkeys([*variants, *names])), ordered=True),
        "seed": [int(item["seed"]) for item in labels],
        "stage": [1 if stages is None or int(item["seed"]) < stages.first else 2 for item in labels],
    }
    columns: dict[str, Any] = {
        "status": pd.Categorical([entry.status for entry in entries], categories=list(STATUSES)),
        "planned": [entry.planned for entry in entries],
        **{metric: _numbers(result.get(metric) for result in results) for metric in METRICS},
        "bits_per_dim": bits.column([entry.spec for entry in entries], results),
        **_spread("active_units_", [result.get("active_units_per_layer") for result in results], layers),
        **_spread(
            "active_units_by_variance_",
            [result.get("active_units_by_variance_per_layer") for result in results],
            layers,
        ),
        **_spread("kl_", [result.get("kl_per_layer") for result in results], layers),
        **_annealed([dict(result.get("ais") or {}) for result in results]),
        **_refined([result.get("refine") for result in results], layers),
        **_probed([result.get("probe") for result in results], layers),
        **_classified([result.get("classification") for result in results]),
        **_spread("kl_standard_normal_", [item.get("kl_standard_normal_per_layer") for item in results], layers),
        "divergence_epoch": _numbers(item.get("epoch") for item in divergences),
        "divergence_quantity": [item.get("quantity") for item in divergences],
        "failure": [result.get("failure") for result in results],
        **{cost: _numbers(result.get(cost) for result in results) for cost in COSTS},
        **{name: _numbers(result.get(name) for result in results) for name in ("best_epoch", "stopped_epoch")},
        "device": [_device(entry) for entry in entries],
        "data_sha256": [item.get("train_sha256") for item in data],
        "test_sha256": [item.get("test_sha256") for item in data],
        "data_canonical": [item.get("canonical") for item in data],
        "train_images": _numbers(item.get("train_images") for item in data),
        "test_images": _numbers(item.get("test_images") for item in data),
        "validation_images": _numbers(item.get("validation_images") for item in data),
        "training_maximum": _numbers(item.get("training_maximum") for item in data),
    }
    records: dict[str, Any] = {
        "continues": [result.get("continues") for result in results],
        "extended_from": [result.get("extended_from") for result in results],
        "folder": [str(entry.folder) for entry in entries],
        "evaluation_folder": [str(entry.evaluation_folder) for entry in entries],
        "training_digest": [entry.training_digest for entry in entries],
        "digest": [entry.digest for entry in entries],
    }
    # A member without a result has got as far as its learning curve has.
    reached = np.array([max((row["epoch"] for row in entry.epochs), default=0) for entry in entries], dtype=float)
    columns["epochs"] = np.where(np.isnan(columns["epochs"]), reached, columns["epochs"])
    settings = setting_columns(entries)
    levels = {path: [_factor(entry, path) for entry in entries] for path in paths}
    axes = _axes(levels, settings, {*place, *columns, *records})
    on_axes = {column: levels[path] for column, path in axes.items()}
    others = {column: values for column, values in settings.items() if column not in axes}
    return pd.DataFrame({**place, **on_axes, **columns, **others, **records}), axes


def _axes(
    levels: Mapping[str, Sequence[Any]], settings: Mapping[str, Sequence[Any]], others: set[str]
) -> dict[str, str]:
    """The column of each axis, and its path (see `Frames.axes`).

    Args:
        levels: the levels of all members on each axis, by its path.
        settings: columns of settings.
        others: further columns of the members.

    """
    taken = {*others, *settings, *EpochRow.__annotations__, *OF_UNITS, *OF_BOUNDS, *OF_STATISTICS}
    by_path = {path: column for path, column in columns_by_path().items() if column in settings}
    axes: dict[str, str] = {}
    for path, own in levels.items():
        setting = by_path.get(path)
        if setting is not None and _are_values(own, settings[setting]):
            axes[setting] = path
        else:
            axes[next(name for name in _columns(path) if _is_free(name, {*taken, *axes}))] = path
    return axes


def _are_values(levels: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether the levels of an axis are the values of its setting, as far as both are known. Null is a level like any
    other, but no value.
    """
    pairs = zip(levels, values, strict=True)
    return all(level == value if value is not None else level != NONE for level, value in pairs)


def _columns(path: str) -> Iterator[str]:
    """Names for the column of an axis, best first."""
    whole, below = (
        "".join(letter if f"_{letter}".isidentifier() else "_" for letter in text)
        for text in (path, path.partition(".")[2] or path)
    )
    yield from (below, f"{below}_level", f"{whole}_level")
    yield from (f"axis_{number}" for number in itertools.count(1))


def _is_free(name: str, taken: set[str]) -> bool:
    """Whether a frame can have such a column as an attribute."""
    is_name = name.isidentifier() and not iskeyword(name) and not hasattr(pd.DataFrame, name)
    return is_name and name not in taken


def _annealed(found: Sequence[Mapping[str, Any]]) -> dict[str, "np.ndarray[Any, Any]"]:
    """Columns `ais_...` of annealed importance sampling; NaN without it."""
    columns = {f"ais_{name}": _numbers(item.get(name) for item in found) for name in AisResult.model_fields}
    columns["ais_difference"] = columns["ais_log_likelihood"] - columns["ais_bound"]
    columns["ais_estimate"] = columns["ais_log_likelihood"] + columns["ais_gap"]
    return columns


def _refined(found: Sequence[RefineResult | None], layers: range) -> dict[str, "np.ndarray[Any, Any]"]:
    """Columns `refine_...` of the amortized bounds of refined images, and `refined_...` of those after a refinement, of
    all layers jointly and, with `_i`, of layer i alone; NaN without it.
    """
    columns = {f"refine_{name}": _numbers(getattr(item, name, None) for item in found) for name in REFINED}
    joint = [None if item is None else item.runs[0] for item in found]
    columns["refine_layers"] = _numbers(None if run is None else len(run.layers) for run in joint)
    parts = {"": joint}
    for layer in range(1, len(layers) + 1):
        every = [[] if item is None else item.runs for item in found]
        parts[f"_{layer}"] = [next((run for run in runs if run.layers == [layer]), None) for runs in every]
    for suffix, runs in parts.items():
        for column, amortized, name, error in (
            ("refined_bound", "refine_bound", "log_likelihood", "difference_se"),
            ("refined_elbo", "refine_elbo", "elbo", "elbo_difference_se"),
        ):
            values = _numbers(getattr(run, name, None) for run in runs)
            columns[column + suffix] = values
            columns[f"{column}_difference{suffix}"] = values - columns[amortized]
            columns[f"{column}_difference_se{suffix}"] = _numbers(getattr(run, error, None) for run in runs)
    return columns


def _probed(found: Sequence[ProbeResult | None], layers: range) -> dict[str, "np.ndarray[Any, Any]"]:
    """Columns `probe_classes`, `probe_largest_class` and, for each number of labels that occurs, `probe_100_i` and
    `probe_100_se_i`, or `probe_all_...`, the accuracy on layer i and its standard error; NaN without it.
    """
    columns = {f"probe_{name}": _numbers(getattr(item, name, None) for item in found) for name in PROBED}
    probes = [{} if item is None else dict(zip(item.asked, item.probes, strict=True)) for item in found]
    asked = {count for own in probes for count in own}
    for count in sorted(asked, key=lambda count: (count == "all", count)):
        with_it = [own.get(count) for own in probes]
        columns |= _spread(f"probe_{count}_", [getattr(probe, "accuracy", None) for probe in with_it], layers)
        columns |= _spread(f"probe_{count}_se_", [getattr(probe, "accuracy_se", None) for probe in with_it], layers)
    return columns


def _classified(found: Sequence[ClassificationResult | None]) -> dict[str, "np.ndarray[Any, Any]"]:
    """Columns of how well q(y|x) names classes: `test_error` with the ends of its interval, and others; NaN without
    classes.
    """
    columns = {name: _numbers(getattr(item, own, None) for item in found) for name, own in CLASSIFIED.items()}
    for place, end in enumerate(("low", "high")):
        columns[f"test_error_{end}"] = _numbers(None if item is None else item.interval[place] for item in found)
    return columns


def _epochs(entries: Sequence[Entry], labels: pd.DataFrame) -> pd.DataFrame:
    rows = [row for entry in entries for row in _epoch_rows(entry)]
    fields = dict.fromkeys(key for row in rows for key in row if key != "format")
    frame = _labeled(labels, [len(entry.epochs) + len(entry.lost) for entry in entries])
    columns: dict[str, Any] = {}
    for name in fields:
        values: list[Any] = [row.get(name) for row in rows]
        if name == "kl_per_layer":
            columns |= _spread("kl_", values, range(max((len(item) for item in values if item), default=0)))
        else:
            columns[name] = _numbers(values)
    columns["epoch"] = np.array([row["epoch"] for row in rows], dtype=np.int64)
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _epoch_rows(entry: Entry) -> list[Mapping[str, Any]]:
    """A member's rows of learning curves; of those that are lost, the epoch alone."""
    rows: list[Mapping[str, Any]] = [*(_complete(row, entry) for row in entry.epochs)]
    rows += [{"epoch": epoch} for epoch in entry.lost]
    return sorted(rows, key=lambda row: int(row["epoch"]))


def _complete(row: EpochRow, entry: Entry) -> EpochRow:
    """A row of learning curves with what earlier versions did not write, as far as the rest tells it."""
    if "test_elbo" in row and "test_images" not in row:
        data = None if entry.training is None else entry.training.data
        row = {**row, "test_images": None if data is None else data.test_images}
    if "train_bound_beta_1" in row:
        return row
    bound = row["train_bound"] if row["beta"] == 1 else None
    if row["beta"] != 1 and at(entry.spec, "objective.iw_samples") == 1:
        bound = _number(row["train_reconstruction"]) - sum(map(_number, row["kl_per_layer"]))
    return {**row, "train_bound_beta_1": bound}


def _units(entries: Sequence[Entry], labels: pd.DataFrame) -> pd.DataFrame:
    rows: list[tuple[int, int, int, float, float]] = []
    counts: list[int] = []
    for entry in entries:
        before = len(rows)
        rows += _unit_rows(entry)
        counts.append(len(rows) - before)
    frame = _labeled(labels, counts)
    values = np.array(rows, dtype=float).reshape(-1, 5)
    columns: dict[str, Any] = dict(zip(("epoch", "layer", "unit"), values[:, :3].astype(np.int64).T, strict=True))
    active: Any = values[:, 3] > ACTIVE
    of_layers = values[:, 2] == 0
    if of_layers.any():
        active = np.where(of_layers, np.nan, active.astype(object))
    columns |= {"kl": values[:, 3], "kl_se": values[:, 4], "active": active}
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _bounds(entries: Sequence[Entry], labels: pd.DataFrame) -> pd.DataFrame:
    rows: list[tuple[float, float, float]] = []
    counts: list[int] = []
    for entry in entries:
        before = len(rows)
        bounds = {} if entry.evaluation is None else entry.evaluation.bound_by_samples or {}
        found = [(count, _number(bound), _number(mc_se)) for count, (bound, mc_se) in bounds.items()]
        rows += sorted(found)
        counts.append(len(rows) - before)
    frame = _labeled(labels, counts)
    values = np.array(rows, dtype=float).reshape(-1, 3)
    columns = {"iw_samples": values[:, 0].astype(np.int64), "bound": values[:, 1], "mc_se": values[:, 2]}
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _unit_rows(entry: Entry) -> Iterator[tuple[int, int, int, float, float]]:
    """(epoch, layer, unit, KL, its standard error), one per unit of every evaluation; of a layer whose units have no KL
    of their own one, with 0 for the unit. Evaluations are those of the curve and the final one, which replaces a point
    of the curve in the same epoch. With early stopping the final one is that of the best epoch, and the points after it
    are of weights that were not kept.
    """
    final, training = entry.evaluation, entry.training
    widths = [layer["units"] for layer in at(entry.spec, "model.layers") or ()]
    last = None
    if training is not None and final is not None and final.unit_kl is not None:
        last = training.best_epoch or training.epochs
    for row in entry.units:
        if last is None or row["epoch"] < last:
            yield from _of_layers(row["epoch"], widths, row["kl"], row["kl_se"])
    if last is not None and final is not None:
        yield from _of_layers(last, widths, final.unit_kl or [], final.unit_kl_se or [])


def _of_layers(
    epoch: int, widths: Sequence[int], kl: Sequence[Sequence[float | None]], kl_se: Sequence[Sequence[float | None]]
) -> Iterator[tuple[int, int, int, float, float]]:
    for layer, (kls, errors) in enumerate(zip(kl, kl_se, strict=True), start=1):
        is_of_layer = len(kls) == 1 and layer <= len(widths) and widths[layer - 1] > 1
        for unit, (value, error) in enumerate(zip(kls, errors, strict=True), start=0 if is_of_layer else 1):
            yield epoch, layer, unit, _number(value), _number(error)


def _device(entry: Entry) -> str | None:
    segments = [] if entry.training is None else entry.training.segments
    return segments[-1].device if segments else None


def _labeled(labels: pd.DataFrame, counts: Sequence[int]) -> pd.DataFrame:
    """The labels of member m repeated `counts[m]` times."""
    return labels.take(np.repeat(np.arange(len(labels)), counts)).reset_index(drop=True)


def _factor(entry: Entry, axis: str) -> Any:
    """A member's level on an axis; of a record made before the grid had this axis, by its spec, which knows no levels'
    names.
    """
    if axis in entry.labels:
        return entry.labels[axis]
    return reader.plain_level(value_at(entry.spec, axis)) if entry.spec and "." in axis else None


def _spread(prefix: str, values: Sequence[Sequence[Any] | None], layers: range) -> dict[str, "np.ndarray[Any, Any]"]:
    """Columns `<prefix>1` ... `<prefix>L` of one list over layers per row; NaN above a shallower member's top."""
    return {
        f"{prefix}{layer + 1}": _numbers(item[layer] if item and len(item) > layer else None for item in values)
        for layer in layers
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _numbers(values: Any) -> "np.ndarray[Any, Any]":
    """Float array in which None is NaN."""
    return np.array(list(values), dtype=float)
