"""The rivals of the benchmark have the arithmetic of ours, and take their turns."""

import json
from dataclasses import replace

import pytest
import torch

from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import MachineError, UserError
from hvae_spec.nn.bounds import bound as our_bound
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams, split_noise
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.tune.test_baseline import copy_weights
from tune.bench import __main__ as bench
from tune.bench import comparison, rivals
from tune.bench.rivals import RIVALS, Competition, jax_settings
from tune.bench.turns import FailedError, Pack, Turns
from tune.measure import timing

SETTINGS = {
    "inference": "model__inference",
    "norm": "model__norm",
    "mc": "objective__mc_samples",
    "iw": "objective__iw_samples",
}
CASES = [
    (3, {"inference": "ladder", "norm": "none"}),
    (2, {"inference": "ladder", "norm": "batch"}),
    (3, {"inference": "vae", "norm": "none"}),
    (2, {"inference": "vae", "norm": "batch", "mc": 2, "iw": 3}),
    (2, {"inference": "ladder", "norm": {"batch": {"heads": False}}, "iw": 3}),
    (1, {"inference": "ladder", "norm": "none", "mc": 2}),
]
BETA = 0.7


class Ours:
    """A step of a member with weights that are not the initial ones: what it is given, and what comes out."""

    def __init__(self, depth, settings):
        more = {SETTINGS[name]: value for name, value in settings.items()}
        self.spec = member(depth, **more, training__optimizer={"adam": {"lr": 0.01, "beta1": 0.8, "eps": 1e-4}})
        self.samples = self.spec.objective.mc_samples * self.spec.objective.iw_samples
        trainer = Trainer([self.spec], load_dataset(self.spec.data))
        model = trainer.model
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        self.before = {name: value.clone() for name, value in model.named_parameters()}
        self.x = torch.rand(1, 32, 64).round()
        flat = model.flat_noise(Streams([0]).begin("test"), self.samples, 32)
        self.noise = split_noise(flat, self.samples, 32, model.units)
        log_w = log_weight(model(self.x, self.noise), BETA)
        self.log_w = log_w[0].detach()
        value = our_bound(log_w, self.spec.objective.iw_samples).mean()
        self.bound = value.item()
        gradients = torch.autograd.grad(value, list(model.parameters()))
        self.gradients = dict(zip(self.before, gradients, strict=True))
        model.train()
        trainer.optimizer.begin_epoch(1)
        trainer.update(self.x, flat, torch.tensor([BETA]), self.spec.objective.iw_samples)
        self.model, self.after = model, {name: value.detach() for name, value in model.named_parameters()}

    def with_values(self, values):
        """Our model with these values of its parameters."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(values[name])
        return self.model


def in_jax(own, values):
    """Values of the parameters of member 0 of ours, by name, as the program in JAX has them."""
    np = pytest.importorskip("numpy")
    depth = own.spec.model.depth

    def linear(name, norm):
        found = {"weight": values[f"{name}.weight"][0].T}
        if f"{name}.bias" in values:
            return found | {"bias": values[f"{name}.bias"][0, :, 0]}
        return found | {"scale": values[f"{norm}.weight"][0, :, 0], "shift": values[f"{norm}.bias"][0, :, 0]}

    def mapping(name, head="head.linear"):
        layers = [key for key in values if key.startswith(f"{name}.mlp.linears.") and key.endswith(".weight")]
        mlp = [linear(f"{name}.mlp.linears.{place}", f"{name}.mlp.norms.{place}") for place in range(len(layers))]
        return {"mlp": mlp, "head": linear(f"{name}.{head}", f"{name}.head.norm")}

    made = {
        "up": [mapping(f"inference.up.{index}") for index in range(depth)],
        "prior": [mapping(f"generative.conditionals.{index}") for index in range(depth - 1)],
        "decoder": mapping("generative.likelihood", "logits"),
    }
    if own.spec.model.effective_inference == "ladder":
        made["down"] = [mapping(f"inference.down.{index}") for index in range(depth - 1)]
    return to_arrays(made, np)


def to_arrays(tree, np):
    if isinstance(tree, dict):
        return {key: to_arrays(value, np) for key, value in tree.items()}
    return [to_arrays(value, np) for value in tree] if isinstance(tree, list) else np.asarray(tree.detach())


@pytest.mark.parametrize(("depth", "settings"), CASES, ids=str)
def test_jax_has_our_log_weights_gradients_and_step(depth, settings):
    jax = pytest.importorskip("jax")
    pytest.importorskip("optax")
    from tune.bench import rival_jax

    own = Ours(depth, settings)
    theirs = rival_jax.Settings(**jax_settings(own.spec))
    weights, x = in_jax(own, own.before), own.x[0].numpy()
    noise = [eps[0].permute(1, 2, 0).numpy() for eps in own.noise]

    def everything(weights):
        log_w = rival_jax.log_weight(weights, x, noise, BETA, theirs)
        gradients = jax.grad(lambda at: rival_jax.bound(at, x, noise, BETA, theirs))(weights)
        state = rival_jax.adam(theirs).init(weights)
        return log_w, gradients, rival_jax.update(weights, state, x, noise, BETA, theirs)

    quickly = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    compiled = jax.jit(everything).lower(weights).compile(compiler_options=quickly)
    log_w, gradients, (after, _, value) = compiled(weights)
    close(log_w, own.log_w, rtol=1e-4, atol=2e-3)
    assert float(value) == pytest.approx(own.bound, rel=1e-4)
    for found, expected, rtol, atol in (
        (gradients, in_jax(own, own.gradients), 1e-3, 1e-4),
        (after, in_jax(own, own.after), 1e-4, 1e-4),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            close(one, torch.tensor(other), rtol=rtol, atol=atol)
    # The step is no small one: Adam's first is of the learning rate.
    assert max(abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (after, weights)), strict=True)) > 0.009


def close(found, expected, **tolerances):
    torch.testing.assert_close(torch.tensor(found.tolist()), expected, **tolerances)


def test_members_in_jax_are_trained_apart_and_learn():
    pytest.importorskip("optax")
    from tune.bench import rival_jax

    settings = rival_jax.Settings(**jax_settings(member(1, training__optimizer__adam__lr=0.01)))
    call = rival_jax.program(settings, 2)
    first = call().tolist()
    for _ in range(60):
        last = call()
    assert len(set(first)) == 2
    assert all(now > before + 2 for before, now in zip(first, last.tolist(), strict=True))


@pytest.mark.parametrize(("depth", "settings"), CASES[1:4], ids=str)
def test_compiled_pytorch_has_our_bound_gradients_and_step(depth, settings):
    from tune.bench import rival_torch

    own = Ours(depth, settings)
    plain, after, gradients = (comparison.plain_model(own.spec) for _ in range(3))
    copy_weights(own.with_values(own.after), after)
    copy_weights(own.with_values(own.gradients), gradients)
    copy_weights(own.with_values(own.before), plain)
    optimizer = comparison.optimizer(plain, own.spec, fused=True)
    assert all(group["fused"] for group in optimizer.param_groups)
    minimized = rival_torch.objective(plain, own.spec, backend="aot_eager")
    noise = [eps[0].flatten(1).T for eps in own.noise]
    value = minimized(own.x[0], torch.tensor(BETA), noise)
    assert -value.item() == pytest.approx(own.bound, rel=1e-4)
    rival_torch.update(minimized, optimizer, own.x[0], torch.tensor(BETA), noise)
    expected = zip(plain.named_parameters(), gradients.parameters(), after.parameters(), strict=True)
    for (name, parameter), gradient, changed in expected:
        if name.endswith("bias") and not gradient.any():
            continue  # one before a normalization, which ours has not
        torch.testing.assert_close(parameter.grad, -gradient.data, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(parameter.data, changed.data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("more", "lacking"),
    [
        ({"model__flow": "planar"}, "model.flow"),
        ({"model__layers.1.flow": "planar"}, "model.layers.flow"),
        ({"model__inference": "top_down"}, "model.inference"),
        ({"model__inference_steps": 2, "model__share_top_down": True}, "model.share_top_down, model.inference_steps"),
        ({"model__skip": "both"}, "model.skip"),
        ({"model__norm": "layer"}, "model.norm"),
        ({"model__nonlinearity": "tanh"}, "model.nonlinearity"),
        ({"model__observation": "gaussian"}, "model.observation"),
        ({"model__mean_clip": 1e-5}, "model.mean_clip"),
        ({"model__auxiliary": {"units": 3, "mlp": [4]}}, "model.auxiliary"),
        ({"model__prior": {"mixture": 3}}, "model.prior"),
        ({"objective__beta": [1.0, 0.5, 0.5]}, "objective.beta"),
        ({"objective__free_bits": {"nats": 0.5}}, "objective.free_bits"),
        ({"objective__iw_samples": 3, "objective__elbo_share": 0.5}, "objective.elbo_share"),
        ({"objective__estimator": "stl"}, "objective.estimator"),
        ({"training__ema": 0.9}, "training.ema"),
        ({"training__clip_norm": 1.0}, "training.clip_norm"),
        ({"training__matmul_precision": "high"}, "training.matmul_precision"),
        ({"training__optimizer": {"adamw": {}}}, "training.optimizer"),
    ],
    ids=str,
)
def test_what_the_program_in_jax_lacks_is_named(more, lacking):
    with pytest.raises(UserError, match=f"^the program in JAX lacks {lacking}: add it to tune/bench/rival_jax.py"):
        jax_settings(member(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"objective__warm_up": 3, "objective__beta": 0.5},
        {"training__schedule": {"cosine": {"over": 4}}},
        {"training__optimizer": {"adam": {"lr": 0.1}}, "training__last_batch": "keep"},
        {"data__redraw": "once", "evaluation__every": 2, "model__initialization": "lasagne"},
        {"depth": 1, "model__skip": "both", "model__inference_steps": 3, "model__inference": "ladder"},
    ],
    ids=str,
)
def test_what_changes_no_step_is_not_lacking(more):
    assert rivals.jax_lacks(member(**more)) == []


def turns(settings=1.0, more="0"):
    return Turns("tests.tune.counting", settings, {"MORE": more}, 1)


def test_another_program_takes_its_turns():
    with turns(0.5, more="0.25") as other:
        assert other.seconds(1, 3) == 1.75
        with pytest.raises(FailedError, match=r"^MemoryError$"):
            other.seconds(7, 1)
        pack = Pack(other, 2)  # it goes on
        assert timing.timed(pack, 4, "cpu") == 4.25
        with pytest.raises(FailedError, match=r"^the last words$"):
            other.seconds(9, 1)
        with pytest.raises(MachineError, match=r"^tests.tune.counting failed while it was measured: the last words$"):
            pack()
    assert other.process.returncode == 1


def test_a_program_that_cannot_start_says_why_and_ends():
    other = turns("no start")
    with pytest.raises(FailedError, match=r"^ValueError: cannot start$"):
        other.__enter__()
    assert other.process.returncode == 0
    with pytest.raises(FailedError, match=r"No module named tests.tune.missing"):
        Turns("tests.tune.missing", 1, {}, 1).__enter__()


@pytest.fixture
def counting(monkeypatch):
    """Rivals whose steps take a millisecond and ten, times their members."""

    def refuse(*_):
        raise UserError("it lacks all")

    def rival(seconds, packs):
        return rivals.Rival("Counting", "tests.tune.counting", lambda *_: seconds, lambda _: {}, lambda _: None, packs)

    three = {"one": rival(1e-3, False), "many": rival(1e-2, True), "none": replace(rival(1, True), check=refuse)}
    monkeypatch.setattr(rivals, "RIVALS", three)
    return three


def test_rivals_are_reported(counting, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tune.measure.cache.cache_path", lambda: tmp_path / "measurements.json")
    monkeypatch.setattr(bench, "startup", lambda *_, **__: ({}, []))
    options = ["--rivals", "--compile=never", "--device=cpu", "--threads=1", "--members=2,7", "--seconds=0.6"]
    overrides = ["--set=data.train_images=128", "--set=data.test_images=8", "--set=evaluation.iw_samples=10"]
    assert bench.main(["specs/quickstart.yaml", "--shapes=largest", "--json", *options, *overrides]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    ours = {row["members"]: row["ms_per_member_step"] for row in found["shapes"]}
    assert [(row["members"], row["rival"], row["rival_members"]) for row in found["rivals"]] == [
        (2, "one", 1), (2, "many", 2), (7, "one", 1),
    ]  # fmt: skip
    for row in found["rivals"]:
        theirs = {"one": 1.0, "many": 10.0}[row["rival"]]
        assert row["rival_ms_per_member_step"] == pytest.approx(theirs)
        assert row["ms_per_member_step"] == ours[row["members"]]
        assert row["ours_over_rival"] == pytest.approx(ours[row["members"]] / theirs)
        assert (row["name"], row["compiled"]) == ("digits L3 ladder+BN", False)
    left_out = {(row["rival"], row["members"]): row["reason"] for row in found["rivals_left_out"]}
    assert left_out == {("none", None): "it lacks all", ("many", 7): "MemoryError"}
    assert not (tmp_path / "measurements.json").exists()  # beside rivals threads wait otherwise than in a run
    assert "Counting left out: it lacks all" in err
    assert "Counting, 7 members at once left out: MemoryError" in err
    bench.print_tables(found, bench.console())
    table = " ".join(capsys.readouterr().out.split())
    assert "Rivals: ms per member-step" in table
    assert "10 (" in table


def test_without_jax_it_is_left_out_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(rivals, "JAX", ("json", "no_such_library"))
    notes = []
    monkeypatch.setattr(rivals, "RIVALS", {"jax": RIVALS["jax"]})
    with Competition(member(), "cpu", 1, notes.append) as there:
        assert there.steps(1) == {}
    assert notes == ["  JAX left out: no_such_library not installed: pip install 'hvae-spec[jax]'"]


@pytest.mark.slow
def test_the_rivals_run():
    notes = []
    with Competition(member(1), "cpu", 1, notes.append) as there:
        packs = there.steps(2)
        assert "torch" in packs
        assert all(0 < pack.seconds(3) < 60 for pack in packs.values())
    assert all("not installed" in note for note in notes)
    assert len(packs) + len(notes) == 2
