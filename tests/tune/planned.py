"""Plans of small grids, and records of trainings and evaluations that nobody ran."""

from pathlib import Path

from hvae_spec.data.counts import stated_counts
from hvae_spec.records.layout import Record, Results
from hvae_spec.records.result import Divergence, EvaluationResult, TrainingResult
from hvae_spec.spec.experiment import EVALUATION_VERSION
from hvae_spec.spec.load import validate
from hvae_spec.spec.yaml import parse
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import Packing, make_plan

GRID = """
name: small
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [8]}], inference: ladder, batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 4, batch_size: 128}
evaluation: {iw_samples: 5}
grid:
  depth: [1, 2]
  variants:
    VAE: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    VAE+BN: {model.inference: vae, objective.warm_up: 0}
    VAE+BN+WU: {model.inference: vae}
    Ladder: {}
  exclude: [{variant: Ladder, depth: 1}]
  seeds: [0, 1, 2]
"""


def reading_of(text):
    tree, problems = parse(text, "test.yaml")
    return validate(tree, problems, count_images=stated_counts)


def plan_of(text, root, *, sources=(), forecaster=None, retrain=False, **options):
    """The plan of a spec for a results folder. Further options are those of `Machine` and `Packing`."""
    machine = {"cores": 2} | {name: options.pop(name) for name in list(options) if name in Machine.__annotations__}
    return make_plan(
        reading_of(text),
        Ledger(Results(root), [Results(source) for source in sources]),
        RunInfo(Path(root), "cpu", sources=tuple(map(Path, sources))),
        Machine(**machine),
        Packing(**options),
        forecaster=forecaster,
        retrain=retrain,
    )


def record_of(root, member):
    return Results(root).record(member.digests.training, member.folder)


def train(root, member, status="trained", *, epochs=None, has_optimizer=True):
    """Write the record of a training that ended so; returns it."""
    record, digests = record_of(root, member), member.digests
    record.begin(member.spec)
    record.write_curves([], [])
    record.finish(
        TrainingResult(
            digest=digests.training,
            trajectory=digests.trajectory,
            status=status,
            epochs=epochs or member.spec.training.epochs,
            divergence=Divergence(epoch=2, step=3, quantity="KL") if status == "diverged" else None,
            failure="it raised" if status == "failed" else None,
        )
    )
    if status == "trained":
        record.weights.touch()
        if has_optimizer:
            record.optimizer.touch()
    return record


def finish(root, member, status="finished", **options):
    """Write the record of a member: one that is trained and evaluated, or whose training diverged or failed."""
    record = train(root, member, "trained" if status == "finished" else status, **options)
    if status == "finished":
        digests = member.digests
        result = EvaluationResult(
            digest=digests.evaluation,
            training=digests.training,
            estimator=EVALUATION_VERSION,
            labels=member.labels,
            status=status,
        )
        record.evaluation(digests.evaluation).finish(result)
    return record


def labeled(root):
    """The records of a grid by variant and seed, each with the member's status."""
    results = Results(root)
    found: dict[tuple[str, int], tuple[Record, str]] = {}
    for member in results.grid.members:
        record = results.record(member.training, member.folder)
        found[member.labels["variant"], member.labels["seed"]] = record, record.status(member.digest)
    return found
