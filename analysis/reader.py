"""What a results folder holds: the grid as last planned, joined with the records that exist."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hvae_spec.errors import MachineError, RecordError, as_machine_error
from hvae_spec.records.curves import Curves
from hvae_spec.records.index import read_index
from hvae_spec.records.layout import EvaluationRecord, Record, Results, State
from hvae_spec.records.plan import GridFile, PlannedGrid, PlannedMember, SearchSettings
from hvae_spec.records.result import EvaluationResult, Segment, Status, TrainingResult
from hvae_spec.records.rows import EpochRow, UnitsRow
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import paths_affecting
from hvae_spec.spec.grid import set_path
from hvae_spec.spec.labels import GRID, LABELS, beside_inference, level_text
from hvae_spec.spec.report import ReportSpec
from hvae_spec.spec.seeds import StagedSeeds


@dataclass(frozen=True)
class Origin:
    """What a member was made with, and when it was done."""

    segments: tuple[Segment, ...]
    """Of its training, and that of its evaluation."""
    finished_at: str | None
    """ISO 8601; None while it is not."""


@dataclass(frozen=True)
class Entry:
    """One member: what the grid calls it, and what its record holds so far."""

    digest: str
    """The evaluation digest."""
    training_digest: str
    labels: dict[str, Any]
    """`dataset`, `depth`, `variant`, `seed`, and the level on every further axis by its dotted path or its name."""
    planned: bool
    """Whether the grid as last planned has this member. Without a grid.json, every record counts as planned."""
    folder: Path
    evaluation_folder: Path
    status: Status
    spec: dict[str, Any] = field(repr=False)
    """The resolved spec as a tree; empty before the member begins."""
    training: TrainingResult | None = field(repr=False)
    evaluation: EvaluationResult | None = field(repr=False)
    epochs: list[EpochRow] = field(repr=False)
    units: list[UnitsRow] = field(repr=False)
    lost: tuple[int, ...] = ()
    """Epochs whose row of learning curves is damaged or missing."""
    faults: tuple[str, ...] = ()
    """What of its record is damaged, each with its remedy or with what it costs."""

    @property
    def result(self) -> dict[str, Any]:
        """Fields of the training's result and of the evaluation's by name; empty while there is neither."""
        found: dict[str, Any] = {} if self.training is None else dict(self.training)
        if self.status == "damaged":
            found["failure"] = self.faults[0]
        if self.evaluation is not None:
            found |= {name: value for name, value in self.evaluation if value is not None}
        return found

    @property
    def origin(self) -> Origin:
        """What the member was made with, as far as it is."""
        training, evaluation = self.training, self.evaluation
        measured = () if evaluation is None or evaluation.segment is None else (evaluation.segment,)
        ended = training if evaluation is None and training is not None and training.status != "trained" else evaluation
        return Origin(
            (*(() if training is None else training.segments), *measured), None if ended is None else ended.finished_at
        )


@dataclass(frozen=True)
class Contents:
    """All members of a results folder, in the order of the grid; records that it no longer plans follow."""

    name: str
    variants: tuple[str, ...]
    """Names of the grid's variants in the order of the spec."""
    entries: tuple[Entry, ...]
    faults: tuple[str, ...] = ()
    """What is damaged of records that are left out."""
    stages: StagedSeeds | None = None
    """How many seeds there are, where they come in two stages."""
    grids: tuple["Contents", ...] = ()
    """If the folder holds several grids, each with its own labels. A member that several of them have is in each."""
    absent: dict[str, str] = field(default_factory=dict)
    """Data sets whose files were missing, so that members were left out, each with what is said of them."""
    report: ReportSpec = field(default_factory=ReportSpec)
    """What the report is to say, as the grid was last planned."""
    foretold: dict[str, list[Any]] = field(default_factory=dict)
    """Those of its contrasts that were planned before the grid had a result."""
    folder: Path = Path()
    """The results folder; of several folders side by side, none."""
    search: SearchSettings | None = None
    """What the points of a search are; None of an ablation."""


def read(path: str | Path, grid: GridFile | None = None, specs: Mapping[str, dict[str, Any]] | None = None) -> Contents:
    """What the results folder at `path` holds.

    Args:
        path: the folder.
        grid: what is planned, in the place of the folder's grid.json; the folder need not be there then.
        specs: of planned members that may have no record yet, by the name of the record's folder.

    Raises:
        RecordError: there is no such folder, it holds no results, or its grid.json is damaged.
        MachineError: the system does not let something in it be read.

    """
    root = Path(path)
    results = Results(root)
    faults: list[str] = []
    try:
        if grid is None and not root.is_dir():
            message = "no such results folder; `python -m tune.run` makes one, by default results/<name>"
            raise RecordError(f"{root}: {message}")
        grid = results.grid if grid is None else grid
        specs = {**(specs or {}), **{name: entry.spec for name, entry in read_index(results).items()}}
        planned = [] if grid is None else grid.members
        for member in planned:
            _check_labels(root / "grid.json", member.labels)
        entries = [_planned(results, member, specs) for member in planned]
        grids = () if grid is None else tuple(_grids(root, grid, entries))
        entries = _with_grid(entries, grids)
        known = {member.training for member in planned}
        others = [Record(folder) for folder in results.folders]
        shorts = {training[:12] for training in known}
        unplanned: list[tuple[Entry, str]] = []
        for record in others:
            if record.folder.name.rsplit("-", 1)[-1] in shorts:
                continue
            try:
                if record.has_spec:
                    unplanned.append(_unplanned(record, planned=not planned))
            except (RecordError, MachineError, OSError) as error:  # its place in the grid is not known
                faults.append(str(error))
        entries += [entry for entry, _ in unplanned] if planned else _told_apart(unplanned)
    except OSError as error:
        raise as_machine_error(root, error) or RecordError(f"{root}: cannot be read ({error})") from None
    if faults and not entries:
        raise RecordError(faults[0])
    if not entries:
        raise RecordError(f"{root}: holds no results (neither grid.json nor members/); give the folder of a grid")
    if grid is None:
        return Contents(root.absolute().name, (), tuple(entries), tuple(faults), folder=root)
    return replace(_contents(root, grid, entries, grid.absent), faults=tuple(faults), grids=grids)


def _contents(root: Path, grid: PlannedGrid, entries: Sequence[Entry], absent: dict[str, str]) -> Contents:
    report = ReportSpec(**grid.report.model_dump(exclude_none=True))
    variants, told = tuple(grid.variants), grid.foretold
    return Contents(grid.name, variants, tuple(entries), (), grid.stages, (), absent, report, told, root, grid.search)


def _grids(root: Path, file: GridFile, entries: Sequence[Entry]) -> Iterator[Contents]:
    """What each of several grids calls its members."""
    path = root / "grid.json"
    by_digest = {entry.digest: entry for entry in entries}
    for grid in file.grids:
        own = []
        for digest, labels in grid.labels.items():
            _check_labels(path, labels)
            if digest not in by_digest:
                raise RecordError(
                    f"{path}: {grid.name} has a member that is none of all; run tune.run again to rewrite it"
                )
            own.append(replace(by_digest[digest], labels=_plain_labels(labels)))
        yield _contents(root, grid, own, file.absent)


def _with_grid(entries: Sequence[Entry], grids: Sequence[Contents]) -> list[Entry]:
    """Entries with the first grid that has them as a label: two grids may call different members the same."""
    first: dict[str, str] = {}
    for grid in grids:
        for entry in grid.entries:
            first.setdefault(entry.digest, grid.name)
    return [
        replace(entry, labels={**entry.labels, GRID: first[entry.digest]}) if entry.digest in first else entry
        for entry in entries
    ]


def _planned(results: Results, member: PlannedMember, specs: dict[str, dict[str, Any]]) -> Entry:
    record = results.record(member.training, Path(member.folder).name)
    evaluation = record.evaluation(member.digest)
    spec = specs.get(record.folder.name)
    try:
        tree = _full(record, spec) if record.has_spec or spec is not None else {}
    except (RecordError, MachineError, OSError) as error:
        return _entry(record, evaluation, member, {}, planned=True, fault=str(error))
    return _entry(record, evaluation, member, tree, planned=True)


def _told_apart(unplanned: Sequence[tuple[Entry, str]]) -> list[Entry]:
    """Records without a grid, each with what names of models add for flows, priors and so on. Variants of which models
    that differ in this have the same labels have it in their names, too.
    """
    alike: dict[tuple[Any, ...], set[str]] = {}
    for entry, added in unplanned:
        alike.setdefault(tuple(entry.labels.items()), set()).add(added)
    several = {dict(labels)["variant"] for labels, found in alike.items() if len(found) > 1}

    def named(variant: str, added: str) -> str:
        return variant + added if variant in several else variant

    return [
        replace(entry, labels={**entry.labels, "variant": named(entry.labels["variant"], added)})
        for entry, added in unplanned
    ]


def _unplanned(record: Record, planned: bool) -> tuple[Entry, str]:
    """A record that no grid names, with its latest evaluation, and what its model's name adds for flows and the like.
    Labels are those of its result, else of its spec.
    """
    spec = record.spec
    digests = spec.digests
    evaluation = (record.evaluations or [record.evaluation(digests.evaluation)])[-1]
    result = evaluation.result
    digest = digests.evaluation if result is None else result.digest
    labels = dict(result.labels) if result is not None else {}
    if not set(LABELS) <= labels.keys():
        labels = {"dataset": spec.data.name, "depth": spec.model.depth, "variant": spec.label, "seed": spec.seed}
    _check_labels(evaluation.folder / "result.json", labels)
    member = PlannedMember(
        digest=digest,
        training=digests.training,
        folder=record.folder.name,
        labels=labels,
        measured={} if result is None else _measured(result),
    )
    entry = _entry(record, evaluation, member, spec.model_dump(mode="json"), planned=planned)
    return entry, beside_inference(spec.model)


def _measured(result: EvaluationResult) -> dict[str, Any]:
    """How a member was measured, as far as the result says."""
    method, ais, refined, probe = result.batch_norm_statistics, result.ais, result.refine, result.probe
    found = {
        "evaluation.iw_samples": result.iw_samples,
        "evaluation.batch_norm_statistics": method,
        "evaluation.ais": None if ais is None else ais.model_dump(include={"images", "chains", "steps"}),
        "evaluation.refine": None if refined is None else refined.model_dump(include={"images", "steps", "lr"}),
        "evaluation.probe": None if probe is None else {"labels": list(probe.asked)},
    }
    return {path: value for path, value in found.items() if value is not None}


def _full(record: Record, spec: dict[str, Any] | None) -> dict[str, Any]:
    """A record's spec with all defaults: from the index, where it has none, or else the record's own."""
    try:
        member = record.spec if spec is None else MemberSpec.model_validate(spec)
    except ValidationError:
        member = record.spec
    return member.model_dump(mode="json")


def _entry(
    record: Record,
    evaluation: EvaluationRecord,
    member: PlannedMember,
    spec: dict[str, Any],
    *,
    planned: bool,
    fault: str = "",
) -> Entry:
    try:
        state = record.state(member.digest)
    except MachineError as error:  # it costs no other record
        state = State("damaged", str(error))
    fault = state.damage or fault
    trained, result = (None, None) if fault else (state.training, state.result)
    if not fault and trained is None and record.has_spec:
        fault = _fault_of_spec(record)
    limit = spec["training"]["epochs"] if spec else None
    curves = Curves([], []) if fault else record.curves_of(trained, limit)
    paths = {".".join(path) for path in paths_affecting(MemberSpec, "evaluation")}
    for path in paths & member.measured.keys() if spec else ():
        # The record's spec is that of the member that was trained; this one may be measured in another way.
        set_path(spec, path, member.measured[path])
    if fault:
        status: Status = "damaged"
    elif trained is None:
        status = "running" if curves.epochs or curves.faults else "pending"
    elif trained.status != "trained":
        status = trained.status
    else:
        status = "trained" if result is None else result.status
    return Entry(
        member.digest,
        member.training,
        _plain_labels(member.labels),
        planned,
        record.folder,
        evaluation.folder,
        status,
        spec,
        trained,
        result if status not in ("running", "pending") else None,
        curves.epochs,
        curves.units,
        curves.lost,
        (fault,) if fault else tuple(record.in_full(fault) for fault in curves.faults),
    )


def _fault_of_spec(record: Record) -> str:
    """What is wrong with the spec of a member that has not ended; empty if nothing is."""
    try:
        _ = record.spec
    except (RecordError, MachineError) as error:
        return f"{str(error).partition('; delete')[0]}; run tune.run again, which rewrites it as the member goes on"
    return ""


def _check_labels(path: Path, labels: dict[str, Any]) -> None:
    missing = [key for key in LABELS if key not in labels]
    if missing:
        raise RecordError(f"{path}: labels without {', '.join(missing)}; run tune.run again to rewrite it")
    odd = [key for key in ("depth", "seed") if not isinstance(labels[key], int) or isinstance(labels[key], bool)]
    if odd:
        raise RecordError(f"{path}: labels whose {odd[0]} is not a whole number; run tune.run again to rewrite it")


def _plain_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as entries of columns. In grids that were planned by earlier versions, lists and mappings are no texts."""
    return {key: plain_level(value) for key, value in labels.items()}


def plain_level(value: Any) -> Any:
    """A level as one entry of a column: numbers, flags and texts as they are, all others as text.

    Null must be a value like any other, or else pandas would drop its cells as missing.
    """
    return level_text(value) if value is None or isinstance(value, list | tuple | dict) else value
