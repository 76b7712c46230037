"""`python -m hvae_spec.check FILE`: whether the parts of an extension keep what the built-in ones promise."""

import copy
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from hvae_spec import compiler, extensions
from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import Dataset, load_dataset
from hvae_spec.errors import UserError
from hvae_spec.nn.batch_norm import recording
from hvae_spec.nn.flow import Flow
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.likelihood import Likelihood
from hvae_spec.nn.nonlinearity import NONLINEARITIES
from hvae_spec.nn.norm import NORMS
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams, split_noise
from hvae_spec.output import code_of_output
from hvae_spec.spec.choice import Named, OneOf
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.cost import parameters
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import Path as FieldPath
from hvae_spec.spec.fields import fact, fields
from hvae_spec.spec.parts import DESCRIPTIONS
from hvae_spec.training.checkpoint import load_checkpoint, save_checkpoint
from hvae_spec.training.optimizer import OPTIMIZERS
from hvae_spec.training.trainer import Trainer, watched

TINY: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 48, "test_images": 8},
    "model": {"layers": [{"units": 3, "mlp": [6, 6]}, {"units": 2, "mlp": [4]}]},
    "training": {"epochs": 3, "batch_size": 16},
    "evaluation": {"iw_samples": 3},
}
"""The member that every part is tried in."""
SEEDS, EPOCHS = (0, 1, 2), 3
ROUNDING = 1e-4
"""How far a step of a pack may be from those of its members alone, relative to their size."""
DRAWS, ERRORS = 1 << 14, 5.0
"""How many samples are compared with a density, and by how many standard errors their means may be off."""
NODES, FARTHEST = 401, 3.0
"""Points of the quadrature along each pixel, and where it ends, before it is stretched twice exponentially."""
ERROR = 1e-3
"""How far the integral of a density, and a mean, may be from what they are to be."""


class BrokenPromiseError(Exception):
    """A part does not keep what the built-in parts promise."""


@dataclass(frozen=True)
class Part:
    """A part to check, and tiny members that choose it."""

    kind: str
    name: str
    specs: tuple[MemberSpec, ...]
    """Of three seeds."""
    dataset: Dataset

    def trainer(self, members: Sequence[int] = range(len(SEEDS))) -> Trainer:
        """A pack of some of the members, freshly initialized."""
        return Trainer([self.specs[m] for m in members], self.dataset)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m hvae_spec.check") -> int:
    """The command. Returns its exit code: 1 if a part breaks a promise, 2 if the file does not run."""

    def show() -> int:
        parser = CommandParser(
            prog=prog, description="Try the parts of an extension on tiny models: do they keep what built-in parts do?"
        )
        parser.add_argument("file", type=path_argument, metavar="FILE", help="a Python file (it runs)")
        return _check(parser.parse_args(arguments).file)

    return run_command(show)


def _check(path: Path) -> int:
    """Check every part of a file and print a table. Returns the exit code.

    Raises:
        UserError: the file does not run, or registers nothing.

    """
    extension = extensions.readable(path)
    extensions.run([extension])
    found = [one for one in extensions.parts(extension) if one[0] in DESCRIPTIONS]
    if not found:
        raise UserError(f"{path}: registers no part; expected decorators of hvae_spec.extend")
    table = Table(title=f"{path.name}: {len(found)} part{'s' * (len(found) > 1)}", box=box.SIMPLE_HEAVY, padding=0)
    table.add_column("part", no_wrap=True)
    checks = {name: one for name, one in CHECKS.items() if not one.kinds or any(kind in one.kinds for kind, _ in found)}
    for heading in checks:
        table.add_column(heading, justify="center", min_width=max(map(len, heading.split())))
    broken: list[str] = []
    for kind, name in found:
        broken += _add_row(table, kind, name, checks)
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)
    console.print(table)
    for line in broken:
        console.print(Text(line), soft_wrap=True)
    return code_of_output() or (1 if broken else 0)


def _add_row(table: Table, kind: str, name: str, checks: Mapping[str, "Promise"]) -> list[str]:
    """Check a part and add its row, with a column for each of some checks. Returns what is wrong, in words."""
    outcomes: list[str] = []
    broken: dict[str, list[str]] = {}
    try:
        part = _part(kind, name)
    except Exception as error:
        table.add_row(f"{kind} {name}", *("-" for _ in checks))
        return [f"{kind} {name}: cannot be chosen: {_in_words(error)}"]
    if misshapen := _misshapen(part):
        table.add_row(f"{kind} {name}", *("-" for _ in checks))
        return [f"{kind} {name}: {misshapen}"]
    for check, promise in checks.items():
        if promise.kinds and kind not in promise.kinds:
            outcomes.append("-")
            continue
        try:
            with torch.random.fork_rng():
                promise.check(part)
            outcomes.append("yes")
        except Exception as error:
            outcomes.append("NO")
            broken.setdefault(_in_words(error), []).append(check)
    table.add_row(f"{kind} {name}", *outcomes)
    return [f"{kind} {name}, {', '.join(checks)}: {cause}" for cause, checks in broken.items()]


def _misshapen(part: Part) -> str | None:
    """What an observation model, a nonlinearity or a normalization gives in another shape than it is to, with its line;
    None where all is as it should be, or raises an exception of its own, which the checks show.
    """
    trainer = part.trainer()
    likelihood = trainer.model.generative.likelihood
    found: list[tuple[Any, Callable[[], Tensor], str, tuple[int, ...]]] = []
    if part.kind == "observation":
        x = units_first(_batch(part, len(SEEDS)))
        members, pixels, _, images = x.shape
        z = torch.zeros(members, trainer.model.units[0], 2, images)
        noise = torch.randn(members, pixels, 2, images)
        found = [
            (likelihood.forward, lambda: likelihood(z, x), "[M, S, B]", (members, 2, images)),
            (likelihood.mean, lambda: likelihood.mean(z), "[M, D, S, B]", tuple(noise.shape)),
            (likelihood.sample, lambda: likelihood.sample(z, noise), "[M, D, S, B]", tuple(noise.shape)),
        ]
    for module in trainer.model.modules():
        if part.kind == "normalization" and type(module) is NORMS[part.name]:
            a = torch.randn(len(SEEDS), part.specs[0].model.layers[0].mlp[0], 2, 4)
            found = [(module.forward, lambda norm=module, a=a: norm(a), "[M, U, S, B]", tuple(a.shape))]
            break
    if part.kind == "nonlinearity":
        function, a = compiler.nonlinearity(part.specs[0].model), torch.randn(3, 4, 2, 5)
        found = [(NONLINEARITIES[part.name], lambda: function(a), "that of its argument", tuple(a.shape))]
    for function, call, words, expected in found:
        try:
            with torch.no_grad(), torch.random.fork_rng():
                shape = tuple(call().shape)
        except Exception:
            continue
        if shape != expected:
            code = getattr(function, "__code__", None)
            where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
            return f"`{function.__name__}` gives the shape {[*shape]}, expected {words} = {[*expected]}{where}"
    return None


def _in_words(error: Exception) -> str:
    """An error, with the last line of the extension that it went through."""
    if isinstance(error, BrokenPromiseError | UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename in {str(one.path) for one in extensions.every()}]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _part(kind: str, name: str) -> Part:
    """A part in tiny members."""
    path, chosen = _field(kind)
    default = getattr(DESCRIPTIONS[kind][0][name], "default", None) if isinstance(chosen, OneOf) else None
    tree = copy.deepcopy(TINY)
    node: Any = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = name if default is None else default.model_dump(mode="json")
    if getattr(DESCRIPTIONS[kind][0][name], "needs_encoder", False):
        tree["model"]["inference"] = next(other for other in INFERENCES if INFERENCES[other].gives_top)
    spec = MemberSpec.model_validate(tree)
    if kind == "data set":
        counts = image_counts(MemberSpec.model_validate({**tree, "data": {"dataset": name}}).data)
        sizes = {"train_images": min(48, counts.train), "test_images": min(8, counts.test)}
        spec = spec.model_copy(update={"data": spec.data.model_copy(update=sizes)})
    specs = tuple(spec.model_copy(update={"seed": seed}) for seed in SEEDS)
    return Part(kind, name, specs, load_dataset(spec.data))


def _field(kind: str) -> tuple[FieldPath, Named | OneOf]:
    """The field that chooses a part of a kind."""
    for item in fields(MemberSpec):
        chosen = fact(item.infos[-1], Named) or fact(item.infos[-1], OneOf)
        if chosen is not None and chosen.registry.kind == kind and len(item.path) == 2:
            return item.path, chosen
    raise UserError(f"no field chooses a {kind}")


def _train(part: Part) -> None:
    """Training comes to its end with finite numbers, and changes every member."""
    trainer = part.trainer()
    before = trainer.optimizer.rows.clone()
    for _ in range(EPOCHS):
        trainer.train_epoch()
    for seed, divergence in zip(SEEDS, trainer.divergences, strict=True):
        if divergence is not None:
            raise BrokenPromiseError(f"seed {seed} diverged in epoch {divergence.epoch} ({divergence.quantity})")
    if bool((trainer.optimizer.rows == before).all(1).any()):
        raise BrokenPromiseError("training changes no parameter")


def _pack(part: Part) -> None:
    """A step of a pack of three is the steps of its members alone, but for rounding."""
    together = part.trainer()
    x, beta = _batch(part, len(SEEDS)), torch.tensor([0.3, 1.0, 0.7])
    together.optimizer.begin_epoch(1)
    together.streams.begin("training", 1)
    seen = together.step(x, beta, 1, 1)
    for m, seed in enumerate(SEEDS):
        alone = part.trainer([m])
        alone.optimizer.begin_epoch(1)
        alone.streams.begin("training", 1)
        single = alone.step(x[m : m + 1], beta[m : m + 1], 1, 1)
        pairs = (("what is measured", seen[m], single[0]),)
        moved = (together.optimizer.rows[m], alone.optimizer.rows[0])
        for what, ours, theirs in (*pairs, ("the parameters", *moved)):
            if not float((ours - theirs).norm()) <= ROUNDING * max(1.0, float(theirs.norm())):
                raise BrokenPromiseError(f"{what} of seed {seed} in a pack is not what it is alone")


def _stays(part: Part) -> None:
    """A member that is not a number changes no bit of its neighbors, and is the only one that diverges."""
    sound, ill = part.trainer(), part.trainer()
    ill.optimizer.rows[1] = float("nan")
    for trainer in (sound, ill):
        trainer.train_epoch()
        trainer.train_epoch()
    if [divergence is not None for divergence in ill.divergences] != [False, True, False]:
        raise BrokenPromiseError("not the member with NaN alone is found to have diverged")
    for m in (0, 2):
        if not torch.equal(sound.optimizer.rows[m], ill.optimizer.rows[m]):
            raise BrokenPromiseError("a member's NaN changes its neighbors")


def _resumes(part: Part) -> None:
    """A training that goes on from a checkpoint takes the steps of one that was not interrupted, bit for bit."""
    whole, first, second = part.trainer(), part.trainer(), part.trainer()
    trainings = [spec.digests.training for spec in part.specs]
    first.train_epoch()
    with tempfile.TemporaryDirectory(prefix="hvae-check-") as folder:
        path = Path(folder) / "checkpoint.safetensors"
        save_checkpoint(path, first, trainings, {}, [])
        load_checkpoint(path, second, trainings)
    whole.train_epoch()
    for _ in range(EPOCHS - 1):
        whole.train_epoch()
        second.train_epoch()
    ours, theirs = whole.optimizer.state(), second.optimizer.state()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name]):
            raise BrokenPromiseError(f"{name} is another one after a break: all state must be tensors by name")


class _OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def _captured(part: Part) -> None:
    """A step never waits for the device, nor mixes in what is not on it, so that it can become a CUDA graph: it is
    taken with tensors that have no values.
    """
    spec, pixels = part.specs[0], part.dataset.pixels
    with torch.device("meta"):
        model = compiler.hierarchy(spec, pixels, len(SEEDS)).train()
        x = torch.empty(len(SEEDS), 16, pixels)
        noise, beta = torch.empty(len(SEEDS), 16 * sum(model.units)), torch.empty(len(SEEDS))
    objective = compiler.objective([one.objective for one in part.specs], "meta")
    value, _ = watched(objective, model, x, noise, beta, 1)
    torch.autograd.grad(-value.sum(), list(model.parameters()))
    rows = [torch.zeros(4).as_subclass(_OnGpu) for _ in SEEDS]
    chosen = spec.training.optimizer
    groups = OPTIMIZERS[chosen.choice]([rows], [chosen.settings]).param_groups
    if not all(group.get("capturable", True) for group in groups):
        raise BrokenPromiseError("the optimizer waits for the device: give it capturable=groups[0][0].is_cuda")


def _counted(part: Part) -> None:
    """The parameters of a model are those that a plan counts."""
    spec, pixels = part.specs[0], part.dataset.pixels
    ours = sum(parameter.numel() for parameter in compiler.hierarchy(spec, pixels).parameters())
    if ours != (counted := parameters(spec, pixels)):
        raise BrokenPromiseError(f"a model has {ours:,} parameters, and its description says {counted:,}")


@torch.no_grad()
def _apart(part: Part) -> None:
    """The weight of an image's sample depends on no other image of the batch, and on no other sample."""
    x = _batch(part, len(SEEDS))
    model = part.trainer().model
    noise = [torch.randn(len(SEEDS), units, 2, x.shape[1]) for units in model.units]
    half = x.shape[1] // 2
    for some in (model.train(), model.eval()):
        whole = log_weight(some(x, noise))
        for what, images, samples in (("images", slice(half), slice(None)), ("samples", slice(None), slice(1))):
            ours = whole[:, samples, images]
            alone = log_weight(some(x[:, images], [one[:, :, samples, images] for one in noise]))
            if not float((ours - alone).norm()) <= ROUNDING * max(1.0, float(ours.norm())):
                raise BrokenPromiseError(f"what it gives for one of the {what} depends on the other ones")


@torch.no_grad()
def _folds(part: Part) -> None:
    """With recorded statistics, batch normalization can be folded into the linear maps before it."""
    tree = part.specs[0].model_dump(mode="json")
    tree["model"] |= {"norm": "batch", "batch_norm": None}
    model = compiler.initialized([MemberSpec.model_validate(tree)], part.dataset.pixels)
    x = _batch(part, 1)
    noise = [torch.randn(1, units, 1, x.shape[1]) for units in model.units]
    with recording(model):
        model.visit_norms(x, noise)
    ours, theirs = (log_weight(one(x, noise)) for one in (model.eval(), fuse_batch_norm(model)))
    if not float((ours - theirs).norm()) <= ROUNDING * max(1.0, float(ours.norm())):
        raise BrokenPromiseError("folding batch normalization changes it: a norm is to follow its linear map")


def _integrates(part: Part) -> None:
    """p(x|z_1) is 1 over all images of two pixels, and its mean is what `mean` says."""
    likelihood, z = _observation_model(part)
    words, x, mass = _masses(part, likelihood, z)
    total = mass.sum(1)
    if not bool(((total - 1).abs() < ERROR).all()):
        raise BrokenPromiseError(f"its integral is {float(total[(total - 1).abs().argmax()]):.4g} over {words}, not 1")
    with torch.no_grad():
        mean = likelihood.mean(z)[0, :, :, 0]
    if not bool(((mass @ x).T - mean).abs().max() < ERROR):
        raise BrokenPromiseError("`mean` is not the mean of the density")


@torch.no_grad()
def _samples(part: Part) -> None:
    """Samples of an observation model, or of a prior, are those of its density."""
    generator = torch.Generator().manual_seed(0)
    if part.kind == "prior":
        model = part.trainer([0]).model.double().eval()
        top, units = model.top(), model.units[-1]
        z, weight = _plane(units)
        mass = top.log_prob(z).sum(1)[0, 0].exp() * weight
        noise = torch.randn(
            1, units + model.generative.top.extra_noise, 1, DRAWS, dtype=torch.float64, generator=generator
        )
        _check_samples(top.sample(noise)[0, :, 0].T, z[0, :, 0].T, mass.nan_to_num())
        return
    likelihood, z = _observation_model(part)
    _, x, mass = _masses(part, likelihood, z)
    noise = torch.randn(1, 2, len(mass), DRAWS, dtype=torch.float64, generator=generator)
    drawn = likelihood.sample(z.expand(-1, -1, -1, DRAWS), noise)[0].to(torch.float64)
    for place, own in enumerate(mass):
        _check_samples(drawn[:, place].T, x, own)


def _check_samples(drawn: Tensor, points: Tensor, mass: Tensor) -> None:
    """Compare samples [N, D] with a density's masses [K] at points [K, D]: means of bounded functions of one number and
    of two, which no heavy tail spoils.
    """
    p = mass / mass.sum()
    mean = p @ points
    spread = (p @ (points - mean).square()).sqrt().nan_to_num(nan=1.0, posinf=1.0).clamp(min=1e-6)

    def functions(x: Tensor) -> Tensor:
        u = ((x - mean) / spread).tanh()
        pairs = [u[:, one] * u[:, two] for one in range(u.shape[1]) for two in range(one)]
        return torch.stack([*u.T, *u.square().T, *pairs], dim=1)

    exact = functions(points)
    expected = p @ exact
    error = (p @ (exact - expected).square() / len(drawn)).sqrt()
    if not bool(((functions(drawn).mean(0) - expected).abs() <= ERRORS * error + ERROR).all()):
        ours, theirs = (float(value) for value in (drawn.std(0).mean(), spread.mean()))
        raise BrokenPromiseError(
            f"samples are not those of the density: they deviate by {ours:.4g} from their mean, and by the density by "
            f"{theirs:.4g}"
        )


def _observation_model(part: Part) -> tuple[Likelihood, Tensor]:
    """p(x|z_1) of two pixels, in float64, and four z_1 [1, U, 4, 1]."""
    spec = part.specs[0]
    streams = Streams([0]).begin("initialization")
    model = compiler.initialized([spec], 2).double()
    return model.generative.likelihood, streams.noise(4, 1, [model.units[0]])[0].double()


@torch.no_grad()
def _masses(part: Part, likelihood: Likelihood, z: Tensor) -> tuple[str, Tensor, Tensor]:
    """What all images of two pixels are in words, points among them [K, 2], and p(x|z_1) there times the weight of each
    in a quadrature, for every z_1 [4, K].
    """
    words, (points, weights) = {
        X.BINARY: ("zeros and ones", _points(2)),
        X.GRAY: ("the gray levels", _points(part.dataset.levels)),
        X.UNIT: ("[0, 1]", _stretched(_unit_interval)),
        X.REAL: ("all numbers", _stretched(_line)),
    }[OBSERVATIONS[part.name].x]
    x = torch.cartesian_prod(points, points)
    weight = torch.outer(weights, weights).flatten()
    mass = likelihood(z.expand(-1, -1, -1, len(x)), units_first(x[None]))[0].exp() * weight
    return words, x, mass.nan_to_num()


@torch.no_grad()
def _prior_integrates(part: Part) -> None:
    """p(z_L) of two units integrates to 1, and `sample_and_log_prob` says its density."""
    model = part.trainer([0]).model.double().eval()
    top, units = model.top(), model.units[-1]
    z, weight = _plane(units)
    total = float((top.log_prob(z).sum(1)[0, 0].exp() * weight).nan_to_num().sum())
    if not abs(total - 1) < ERROR:
        raise BrokenPromiseError(f"its integral is {total:.4g}, not 1")
    noise = torch.randn(1, units + model.generative.top.extra_noise, 2, 8, dtype=torch.float64)
    drawn, log_density = top.sample_and_log_prob(noise)
    if drawn.shape != (1, units, 2, 8) or not torch.allclose(log_density, top.log_prob(drawn), atol=ROUNDING):
        raise BrokenPromiseError("`sample_and_log_prob` gives another density than `log_prob`")
    if not torch.equal(drawn, top.sample(noise)):
        raise BrokenPromiseError("`sample_and_log_prob` draws another sample than `sample`")


def _plane(units: int) -> tuple[Tensor, Tensor]:
    """Points of a quadrature over all z_L [1, units, 1, K], and their weights [K]."""
    points, weights = _stretched(_line)
    z = torch.cartesian_prod(*[points] * units).reshape(-1, units).T.view(1, units, 1, -1)
    return z, torch.cartesian_prod(*[weights] * units).reshape(-1, units).prod(1)


def _points(count: int) -> tuple[Tensor, Tensor]:
    """So many values in [0, 1], and weights of 1."""
    return torch.arange(count, dtype=torch.float64) / (count - 1), torch.ones(count, dtype=torch.float64)


def _unit_interval(t: Tensor) -> Tensor:
    return torch.sigmoid(torch.pi * t.sinh())


def _line(t: Tensor) -> Tensor:
    return (torch.pi / 2 * t.sinh()).sinh()


def _stretched(onto: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Points and weights of the double exponential quadrature (Takahasi & Mori, 1974)."""
    t = torch.linspace(-FARTHEST, FARTHEST, NODES, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        x = onto(t)
        (slope,) = torch.autograd.grad(x.sum(), t)
    return x.detach(), slope * (2 * FARTHEST / (NODES - 1))


@torch.no_grad()
def _same_posterior(part: Part) -> None:
    """`forward`, of given latents, is q as `sample` has it of the latents that it draws."""
    model = part.trainer([0]).model
    x = units_first(_batch(part, 1))
    noise = split_noise(torch.randn(1, x.shape[3] * sum(model.units)), 1, x.shape[3], model.units)
    encoding = model.inference.encode(x)
    draws = model.inference.sample(encoding, noise)
    for layer, (draw, q) in enumerate(zip(draws, model.inference(encoding, [one.z for one in draws]), strict=True), 1):
        ours, theirs = draw.posterior.log_prob(draw.z), q.log_prob(draw.z)
        if not bool(((ours - theirs).abs() <= ROUNDING * (1 + theirs.abs())).all()):
            raise BrokenPromiseError(f"`forward` gives another q(z_{layer}|...) than `sample`")


def _determinant(part: Part) -> None:
    """At the start a flow is the identity; and with any weights its inverse and its log determinant are those of what
    it computes.
    """
    spec = part.specs[0]
    model = compiler.initialized([spec], part.dataset.pixels).double()
    flow = next(module for module in model.modules() if isinstance(module, Flow))
    layer = spec.model.layers[0]
    z, d = (torch.randn(1, width, 1, 1, dtype=torch.float64) for width in (layer.units, layer.mlp[-1]))
    with torch.no_grad():
        if not torch.allclose(flow(z, flow.amortize(d))[0], z):
            raise BrokenPromiseError("it is not the identity at the start")
        for parameter in flow.parameters():
            parameter.normal_(std=0.3)
        parameters = flow.amortize(d)
        moved, log_det = flow(z, parameters)
        if not torch.allclose(flow.inverse(moved, parameters), z, rtol=ROUNDING, atol=ROUNDING):
            raise BrokenPromiseError("`inverse` does not give back what `forward` was given")
    jacobian = torch.autograd.functional.jacobian(lambda at: flow(at, parameters)[0].flatten(), z).flatten(1)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    if not torch.allclose(log_det.flatten(), expected, rtol=ROUNDING, atol=ROUNDING):
        raise BrokenPromiseError(f"log|det| is {float(log_det):.4g}, and by derivatives {float(expected):.4g}")


def _batch(part: Part, members: int) -> Tensor:
    """The first batch of every member's first epoch, [M, B, D]."""
    trainer = part.trainer(range(members))
    trainer.streams.begin("training", 1)
    return next(iter(trainer.batches.epoch(trainer.streams)))


@dataclass(frozen=True)
class Promise:
    """What is checked, and of parts of which kinds."""

    check: Callable[[Part], None]
    kinds: tuple[str, ...] = ()
    """None: all."""


_MAPPINGS_AND_DISTRIBUTIONS = (
    "nonlinearity",
    "mapping",
    "normalization",
    "observation",
    "inference model",
    "flow",
    "prior",
)
CHECKS = {
    "trains": Promise(_train),
    "pack = alone": Promise(_pack),
    "NaN stays": Promise(_stays),
    "resumes": Promise(_resumes),
    "capturable": Promise(_captured),
    "counted": Promise(_counted),
    "apart": Promise(_apart, _MAPPINGS_AND_DISTRIBUTIONS),
    "folds": Promise(_folds, ("mapping",)),
    "integral 1": Promise(_integrates, ("observation",)),
    "samples": Promise(_samples, ("observation", "prior")),
    "q at given z": Promise(_same_posterior, ("inference model",)),
    "invertible": Promise(_determinant, ("flow",)),
    "integral of p(z_L)": Promise(_prior_integrates, ("prior",)),
}
"""What the built-in parts promise, and the check of each, by the heading of its column."""


if __name__ == "__main__":
    sys.exit(main())
