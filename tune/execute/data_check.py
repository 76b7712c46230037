"""The images that a run is about to use: what was found, and whether the records in its folder were made with them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hvae_spec.data.counts import check_headers
from hvae_spec.data.dataset import Dataset, in_use, load_dataset
from hvae_spec.data.missing import missing, missing_files
from hvae_spec.data.own import in_both
from hvae_spec.errors import DataError, RecordError, harmless
from hvae_spec.records.index import spec_of
from hvae_spec.records.layout import Record
from hvae_spec.records.result import DataState
from hvae_spec.spec.data import DataSpec
from hvae_spec.spec.grid import Cell
from tune.plan.changes import members_that
from tune.plan.planner import Plan

SKIP = "--skip-missing-data"


def absent_data(cells: Iterable[Cell]) -> dict[str, str]:
    """What is said of every data set of these cells whose files are missing, by its name."""
    names = dict.fromkeys(cell.member.data.dataset for cell in cells)
    return {name: text for name in names if (text := missing(name))}


def missing_lines(plan: Plan) -> list[str]:
    """What is said of the data sets whose files are missing: of those whose members a plan leaves out, and of those
    that it needs, a line each.
    """
    left = Counter(need.absent for need in plan.left_out)
    lines = [f"Left out: {members_that(count, 'needs', 'need')} files of {text}" for text, count in left.items()]
    needed = [member.spec.data.dataset for job in plan.jobs for member in job.members]
    for name, count in Counter(needed).items():
        if text := missing(name):
            lines.append(
                f"Missing: {members_that(count, 'needs', 'need')} files of {text}. A run tries to download them before "
                f"anything else; {SKIP} leaves these members out."
            )
    return lines


def check_left_out(plan: Plan) -> None:
    """Refuse a plan that leaves everything out.

    Raises:
        DataError: files are missing of every data set, and nothing is done yet.

    """
    if plan.left_out and len(plan.left_out) == len(plan.needs):
        texts = dict.fromkeys(need.absent for need in plan.left_out)
        raise DataError("\n".join([*texts, f"so {SKIP} leaves nothing to run"]))


def found_images(plan: Plan) -> list[str]:
    """What was found where a plan's images of the user's own are, in lines, a heading and indented ones for each data
    set. They are read as a whole, and so are published ones that are here and of which some images have labels; of
    others the headers.

    Raises:
        DataError: images are missing or damaged, or not what the spec says of them.

    """
    lines = []
    with_labels = {cell.member.data.dataset for cell in plan.reading.cells if cell.member.data.adds_labeled}
    for data in {_key(cell.member.data): cell.member.data for cell in plan.reading.cells}.values():
        if data.is_own or (data.dataset in with_labels and not missing_files(data.dataset)):
            dataset = _load(data)
            _check_uses(plan, {_key(data): dataset})
            lines += _found(dataset)
        else:
            check_headers(data.dataset)
    return lines


def _load(data: DataSpec) -> Dataset:
    """The images that a spec names, all of them, however many it uses."""
    return load_dataset(DataSpec(dataset=data.dataset, own=data.own))


def _found(dataset: Dataset) -> list[str]:
    """What was found where images of the user's own are; nothing of others."""
    if not dataset.found:
        return []
    counts, (height, width) = dataset.counts, dataset.shape
    kind = "intensities" if dataset.train.dtype.kind == "f" else f"{dataset.levels:,} gray levels"
    images = f"{counts.train:,} training and {counts.test:,} test images of {height} x {width} pixels, {kind}"
    lines = [f"{dataset.name}: {images}", *(f"  {line}" for line in dataset.found)]
    if both := in_both(dataset):
        lines.append(f"  {both:,} of the {counts.test:,} test images stand in the training set, too")
    return [harmless(line) for line in lines]


def check_data(plan: Plan) -> list[str]:
    """Load every data set that is needed once, so that what is missing is downloaded, or named, before anything runs,
    and compare it with the images of earlier results: before weights are evaluated again, before a training goes on
    from another one, and before a cell gets more seeds.

    Returns:
        What was found where images of the user's own are, as `found_images` has it.

    Raises:
        DataError: a data set is missing or damaged, or is not what the records were made with.

    """
    loaded = _load_all({_key(data): data for job in plan.jobs for data in (job.members[0].spec.data,)})
    _check_uses(plan, loaded)
    seen: set[Path] = set()
    first: dict[str, tuple[Record, DataState]] = {}
    for data, record in _records(plan):
        if record.folder in seen:
            continue
        seen.add(record.folder)
        dataset = loaded.get(_key(data))
        for state in _images_of(record):
            if dataset is not None:
                _compare(record, state, dataset)
            else:
                # Nothing of these data is run, but records of other folders may come to stand beside each other.
                _compare_records(record, state, *first.setdefault(_key(data), (record, state)))
    return [line for dataset in loaded.values() for line in _found(dataset)]


def _check_uses(plan: Plan, loaded: Mapping[str, Dataset]) -> None:
    """Make sure that the images are such as the cells' observation models are of, and that they have classes where
    these are asked for, which of the user's own only the file tells.

    Raises:
        DataError: they are not.

    """
    members = (cell.member for cell in plan.reading.cells)
    uses = {repr((one.data, one.model.observation_name, one.evaluation.probe, one.classes)): one for one in members}
    for member in uses.values():
        dataset = loaded.get(_key(member.data))
        if dataset is not None:
            dataset = in_use(dataset, member.data)
            dataset.drawing(member.model.observation_name)
            probe, labeled = member.evaluation.probe, member.data.labeled
            if probe is not None:
                dataset.check_probe(probe.counts(dataset.distinct))
            if member.classes and labeled is not None:
                dataset.check_labels(labeled, member.classes)


def _load_all(needed: dict[str, DataSpec]) -> dict[str, Dataset]:
    """Every data set that is needed, by its key.

    Raises:
        DataError: some are missing or damaged: of every one what is wrong and what fixes it.

    """
    loaded: dict[str, Dataset] = {}
    faults: list[str] = []
    are_missing = []
    for key, data in needed.items():
        try:
            loaded[key] = _load(data)
        except DataError as error:
            faults.append(str(error))
            if gone := missing_files(data.dataset):
                are_missing.append(data.dataset)
                if len(gone) > 1:
                    names = ", ".join(source.name for source in gone)
                    faults.append(f"All {len(gone)} files of {data.dataset} that are missing: {names}.")
                faults.append(f"`python -m hvae_spec.data fetch {data.dataset}` tries again.")
    if faults:
        if loaded and len(are_missing) + len(loaded) == len(needed):
            faults.append(f"{SKIP} runs the members that need none of {', '.join(are_missing)}.")
        raise DataError("\n".join(faults))
    return loaded


def _key(data: DataSpec) -> str:
    return repr((data.dataset, data.own))


def _records(plan: Plan) -> Iterator[tuple[DataSpec, Record]]:
    """The records that a plan uses, and all others of its folder, each with its images: a cell may get other seeds in
    place of those that it has.
    """
    for need in plan.needs:
        shorter = None if need.extends is None else Record(need.extends)
        for record in (plan.results.find(need.member.digests.training), need.adopted, shorter):
            if record is not None:
                yield need.member.spec.data, record
    for name, entry in plan.index.items():
        spec = spec_of(entry)
        if spec is not None:
            yield spec.data, Record(plan.results.root / "members" / name)


def _images_of(record: Record) -> Iterator[DataState]:
    """The images that a record's training and its evaluations were made with, as far as they can be read: the plan
    names what is damaged.
    """
    with suppress(RecordError):
        training = record.training
        if training is not None and training.data is not None:
            yield training.data
            for evaluation in record.evaluations:
                result = evaluation.result
                if result is not None and result.data is not None:
                    yield result.data


def _compare_records(record: Record, state: DataState, other: Record, its: DataState) -> None:
    if (state.train_sha256, state.test_sha256) != (its.train_sha256, its.test_sha256):
        raise DataError(
            f"{state.dataset}: the images that {record.folder} was made with are not those of {other.folder}\n"
            "      expected the same images in all results of a folder: choose another folder with --results, or leave "
            "out a --records"
        )


def _compare(record: Record, state: DataState, dataset: Dataset) -> None:
    for part, theirs, ours in (
        ("training", state.train_sha256, dataset.train_sha256),
        ("test", state.test_sha256, dataset.test_sha256),
    ):
        if theirs != ours:
            raise DataError(
                f"{dataset.name}: the {part} images are not those that {record.folder} was made with "
                f"(SHA-256 {ours[:12]}..., not {theirs[:12]}...)\n"
                "      expected the same images in all results of a folder: put the former files back, or choose "
                "another folder with --results"
            )
