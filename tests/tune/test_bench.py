"""The benchmark: what it compares with, and what it prints."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.errors import UserError
from hvae_spec.reading import read
from hvae_spec.spec.choices.flow import FLOWS, RecordedFlow
from hvae_spec.spec.choices.term import TERMS, Term
from hvae_spec.spec.cost import mappings, parameters, training_macs
from tests.members import member
from tune.bench import __main__ as bench
from tune.bench import baseline, comparison
from tune.bench.floor import Floor, Matmul, step_matmuls
from tune.plan.planner import shape

SPEC = """
name: tiny
data: {dataset: digits, train_images: 64, test_images: 8}
model: {layers: [{units: 3, mlp: [8]}, {units: 2, mlp: [8]}], inference: ladder, batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 6, batch_size: 32}
evaluation: {iw_samples: 10}
grid:
  variants: {VAE: {model.inference: vae, objective.warm_up: 0}, VAE+WU: {model.inference: vae}, Ladder: {}}
  seeds: [0, 1]
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tune.measure.cache.cache_path", lambda: tmp_path / "measurements.json")
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model__inference": "vae", "model__observation": "gaussian"},
        {"model__inference_steps": 3, "objective__mc_samples": 2},
        {"model__share_top_down": True, "objective__mc_samples": 2, "objective__iw_samples": 3},
    ],
    ids=str,
)
def test_the_floors_products_are_the_counted_ones(settings):
    spec = member(**settings)
    counts = image_counts(spec.data)
    an_image = training_macs(spec, counts) / (spec.training.epochs * counts.train)
    # Three per layer, but that nobody needs the gradient of the image.
    unneeded = Matmul(64, spec.model.layers[0].mlp[0], 32)
    total = sum(product.macs for product in step_matmuls(spec))
    assert total == 32 * an_image - unneeded.macs
    layers = sum((len(mapping.widths) - 1) * mapping.passes(1) for mapping in mappings(spec, counts.pixels))
    assert len(step_matmuls(spec)) == 3 * layers - 1


def test_a_floor_is_the_sum_of_its_products():
    spec, floor = member(), Floor("cpu", 1, 0.0)
    floor._measure = lambda product, precision: 1e-9 * product.macs
    assert floor.step_ms(spec) == pytest.approx(1e-6 * sum(p.macs for p in step_matmuls(spec)))
    a_sample = sum(
        a * b for m in mappings(spec, image_pixels(spec.data)) if m.per_sample for a, b in pairwise(m.widths)
    )
    assert floor.samples_per_second(spec) == pytest.approx(1e9 / a_sample)
    assert len(floor.known) < len(step_matmuls(spec))  # one measurement per shape of product


def test_products_are_measured():
    floor = Floor("cpu", 1, 0.0)
    small, large = (floor.product_seconds(Matmul(size, size, size), "highest") for size in (32, 256))
    assert 1e-8 < small < large < 1


def test_every_shape_of_a_grid_is_measured_once(spec):
    shapes = bench.grid_shapes(read("specs/mnist_grid.yaml"))
    assert [name for name, _ in shapes] == [
        f"mnist L{depth} {style}"
        for depth in range(1, 6)
        for style in ("VAE", "VAE+BN", "ladder+BN")
        if depth > 1 or style != "ladder+BN"
    ]
    assert len({shape(spec) for _, spec in shapes}) == len(shapes)
    assert [name for name, _ in bench.grid_shapes(read(spec))] == ["digits L2 VAE+BN", "digits L2 ladder+BN"]


def test_shapes_of_one_name_are_told_apart(spec):
    overrides = ["grid.axes={training.batch_size: [16, 32]}", "grid.variants={}"]
    assert [name for name, _ in bench.grid_shapes(read(spec, overrides))] == [
        "digits L2 ladder+BN (batch 16)",
        "digits L2 ladder+BN (batch 32)",
    ]


def test_an_objective_with_a_term_that_the_plain_program_lacks_is_not_compared(spec, monkeypatch, capsys):
    monkeypatch.setitem(TERMS._items, "sparsity", Term("-Σ_i |z_i|"))
    with pytest.raises(
        UserError, match="the plain program has no term of the objective sparsity: add it to tune/bench/"
    ):
        comparison.step(member(), "cpu")
    assert bench.main([str(spec), "--no-ray", "--compile=never", "--device=cpu", "--threads=1", "--members=1"]) == 2
    assert "sparsity" in capsys.readouterr().err


def test_a_model_with_a_flow_that_the_plain_program_lacks_is_not_compared(monkeypatch):
    monkeypatch.setitem(FLOWS._items, "shift", RecordedFlow())
    with pytest.raises(UserError, match=r"the plain program has no normalizing flow shift: add it to tune/bench/"):
        comparison.step(member(model__flow="shift"), "cpu")


def test_a_model_with_classes_is_not_compared():
    with pytest.raises(UserError, match=r"the plain program has no classes: compare without model\.classes"):
        comparison.step(member(model__classes={"mlp": [3]}, data__labeled="all"), "cpu")


@pytest.mark.parametrize("flow", ["planar", {"iaf": {"steps": 2, "mlp": [6]}}], ids=str)
def test_a_model_with_flows_is_trained_and_evaluated_for_comparison(flow, monkeypatch):
    spec = member(2, model__flow=flow)
    model = comparison.plain_model(spec)
    monkeypatch.setattr(comparison, "plain_model", lambda member: model)
    comparison.step(spec, "cpu")()
    for layer in model.up:
        assert all(parameter.any() for parameter in layer.flow.parameters())  # the heads too have left zero
    assert comparison.evaluation(spec, "cpu")().isfinite().all()


@pytest.mark.parametrize(
    ("optimizer", "numbers"),
    [({"adam": {"beta1": 0.8, "eps": 1e-4}}, 7), ({"adamw": {"beta2": 0.9, "weight_decay": 0.5}}, 7),
     ({"sgd": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.5}}, 5)],
    ids=["adam", "adamw", "sgd"],
)  # fmt: skip
def test_the_plain_program_and_the_floor_have_the_members_optimizer_and_average(optimizer, numbers, monkeypatch):
    spec = member(training__optimizer=optimizer, training__ema=0.9)
    seen, plain_step = [], comparison.plain_step

    def step(model, chosen, *given, average, **more):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        plain_step(model, chosen, *given, average=average, **more)
        seen.append((before, model, chosen, average))

    monkeypatch.setattr(comparison, "plain_step", step)
    comparison.step(spec, "cpu")()
    ((before, model, chosen, average),) = seen
    ((name, settings),) = optimizer.items()
    matrices, others = chosen.param_groups
    assert type(chosen) is baseline.OPTIMIZERS[name]
    assert {id(one) for one in matrices["params"]} == {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)
    }
    assert (matrices["weight_decay"], others["weight_decay"]) == (settings.get("weight_decay", 0), 0)
    for key in ("momentum", "nesterov", "eps"):
        assert matrices.get(key) == settings.get(key, matrices.get(key))
    betas = tuple(settings.get(key, default) for key, default in (("beta1", 0.9), ("beta2", 0.999)))
    assert matrices.get("betas", betas) == betas
    for start, now, kept in zip(before, model.parameters(), average.module.parameters(), strict=True):
        torch.testing.assert_close(kept, 0.9 * start + 0.1 * now)
    # Read and written in a step: the parameter, what the optimizer keeps, and the average; the gradient is read.
    floor = Floor("cpu", 1)
    floor.kind, floor.bandwidth = "cuda", 1e9
    monkeypatch.setattr(floor, "product_seconds", lambda product, precision: 0.0)
    assert floor.step_ms(spec) == pytest.approx(1e-6 * 4 * (numbers + 2) * parameters(spec, 64))


def test_rounding_is_no_worse_than_the_plain_models():
    for overrides in ({"batch_norm": False}, {"batch_norm": True}, {"flow": "planar"}, {"flow": "iaf"}):
        spec = member(**{f"model__{field}": value for field, value in overrides.items()})
        ours, plain = comparison.rounding(spec, "cpu")
        assert 0 < ours < 1.5 * plain < 0.1


def test_json(spec, capsys):
    options = ["--json", "--no-ray", "--compile=never", "--device=cpu", "--threads=1"]
    options += ["--members=1,2", "--seconds=0.05"]
    assert bench.main([str(spec), *options, "--set", "evaluation.iw_samples=20"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    names = ["digits L2 VAE+BN", "digits L2 ladder+BN"]
    assert set(found) == {"machine", "shapes", "evaluation", "epoch_setup", "numerics", "startup"}
    assert [(row["name"], row["members"], row["compiled"]) for row in found["shapes"]] == [
        (name, members, False) for name in names for members in (1, 2)
    ]
    for row in found["shapes"]:
        assert row["ms_per_member_step"] > row["floor_ms_per_member_step"] > 0
        assert row["plain_ms_per_step"] > row["floor_ms_per_member_step"]
        assert row["bytes"] > 0
    for part in ("evaluation", "epoch_setup", "numerics"):
        assert [row["name"] for row in found[part]] == names
        assert all(value > 0 for row in found[part] for key, value in row.items() if key not in ("name", "compiled"))
    assert set(found["evaluation"][0]) == {
        "name", "samples_per_second", "plain_samples_per_second", "floor_samples_per_second", "compiled", "images",
        "iw_samples",
    }  # fmt: skip
    assert (found["evaluation"][0]["images"], found["evaluation"][0]["iw_samples"]) == (8, 20)
    assert found["machine"]["threads"] == 1
    assert found["machine"]["precision"] == "highest"
    assert set(found["startup"]) == {"import_seconds", "worker_import_seconds", "plan_seconds"}
    assert all(seconds > 0 for seconds in found["startup"].values())
    assert "[2/2] digits L2 ladder+BN" in err
    # What was measured is there for plans.
    from tune.measure.cache import load_measurement

    kept = load_measurement(read(spec).cells[-1].member, "cpu", 1, False)
    assert [step.ms_per_member_step for step in kept.steps] == [r["ms_per_member_step"] for r in found["shapes"][2:]]


def test_tables(spec, capsys, monkeypatch):
    monkeypatch.setattr(
        bench, "startup", lambda *_, **__: ({"import_seconds": 0.25, "plan_seconds": None}, ["it broke"])
    )
    options = ["--shapes=largest", "--compile=never", "--device=cpu", "--threads=1", "--members=2", "--seconds=0.05"]
    assert bench.main([str(spec), *options]) == 0
    out, err = capsys.readouterr()
    assert "digits L2 ladder+BN" in out
    assert "VAE" not in out
    assert "plain / best" in out
    assert "import: 0.25 s" in out
    assert "plan: failed" in out
    assert "it broke" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], "missing.yaml"),
        (["specs/quickstart.yaml", "--set", "model.depht=3"], "depht"),
        (["specs/quickstart.yaml", "--device", "tpu"], "--device tpu: expected auto, cpu, cuda"),
        (["specs/quickstart.yaml", "--device", "cuda:99"], "CUDA device"),
    ],
)
def test_bad_input(capsys, arguments, message):
    assert bench.main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--members=0", "expected a whole number greater than 0, not '0'"),
        ("--members=1,,2", "expected a whole number greater than 0, not ''"),
        ("--threads=two", "expected a whole number greater than 0, not 'two'"),
        ("--seconds=0", "expected a number greater than 0, not '0'"),
        ("--seconds=nan", "expected a number greater than 0, not 'nan'"),
    ],
)
def test_bad_flags(capsys, flag, message):
    with pytest.raises(SystemExit) as exit_code:
        bench.main(["specs/quickstart.yaml", flag])
    assert exit_code.value.code == 2
    assert message in capsys.readouterr().err
