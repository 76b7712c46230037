"""The images that a run is about to use, against those that the records in its folder were made with."""

from collections.abc import Iterator

from hvae_spec.data.dataset import Dataset, load_dataset
from hvae_spec.errors import DataError
from hvae_spec.records.layout import Record
from hvae_spec.records.result import DataState
from tune.plan.needs import Need
from tune.plan.planner import Plan


def check_data(plan: Plan) -> None:
    """Load every data set that is needed once, so that what is missing is downloaded, or named, before anything runs,
    and compare it with the images of earlier results: before weights are evaluated again, before a training goes on
    from another one, and before a cell gets more seeds.

    Raises:
        DataError: a data set is missing or damaged, or is not what the records were made with.

    """
    loaded: dict[str, Dataset] = {}
    for job in plan.jobs:
        data = job.members[0].spec.data
        key = repr((data.dataset, data.own))
        if key not in loaded:
            loaded[key] = load_dataset(data)
    for need in plan.needs:
        data = need.member.spec.data
        dataset = loaded.get(repr((data.dataset, data.own)))
        if dataset is not None:
            for record, state in _images_of(plan, need):
                _compare(record, state, dataset)


def _images_of(plan: Plan, need: Need) -> Iterator[tuple[Record, DataState]]:
    """The images that a member's record, or that of the shorter training it goes on from, was made with."""
    shorter = None if need.extends is None else Record(need.extends)
    for record in (plan.results.find(need.member.digests.training), need.adopted, shorter):
        training = None if record is None else record.training
        if record is not None and training is not None and training.data is not None:
            yield record, training.data
            for evaluation in record.evaluations:
                result = evaluation.result
                if result is not None and result.data is not None:
                    yield record, result.data


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
