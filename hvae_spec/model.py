"""A single model: compile a spec or load a record, then train it yourself, look, sample, encode, evaluate and save."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel, Field
from torch import Tensor

from hvae_spec import compiler
from hvae_spec.arguments import number, settings
from hvae_spec.backend.precision import full_precision
from hvae_spec.data.batches import draw_once
from hvae_spec.data.counts import image_pixels
from hvae_spec.data.dataset import Dataset, load_dataset
from hvae_spec.errors import RecordError, UserError
from hvae_spec.evaluate.ais import AnnealedBounds, ais
from hvae_spec.evaluate.evaluation import Evaluation, evaluate, record_statistics
from hvae_spec.evaluate.gallery import gallery
from hvae_spec.evaluate.member import load_model
from hvae_spec.evaluate.refine import Refined, refine
from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.marginal import Marginal
from hvae_spec.nn.objective import Objective, log_weight
from hvae_spec.nn.random import Streams, split_noise
from hvae_spec.records.arrays import Arrays, load_arrays
from hvae_spec.records.extensions import folders_of, parts_of_the_model, with_code
from hvae_spec.records.layout import OWN_LOST, RESULT, STATISTICS, EvaluationRecord, Record
from hvae_spec.records.own_weights import write_own_weights
from hvae_spec.records.provenance import host, now, source_state, versions
from hvae_spec.records.result import DONE, EvaluationResult, Segment, TrainingResult
from hvae_spec.refinement import Descent
from hvae_spec.spec import equations
from hvae_spec.spec.base import Count, Natural, NonNegative, Seed
from hvae_spec.spec.choice import words
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.data import is_rescaled
from hvae_spec.spec.evaluation import AisSpec, ProbeSpec, RefineSpec
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.grid import Member, members
from hvae_spec.spec.labels import beside_inference


class Model:
    """One deep hierarchical VAE and its spec.

    Images are arrays or tensors of observations, [N, D] or [N, height, width]: zeros and ones for a `bernoulli`
    observation model, gray levels divided by the largest for a `discretized_logistic` one, gray values in [0, 1] for a
    `gaussian` or a `continuous_bernoulli` one (for a `gaussian` one, test images may be above 1 where the training
    maximum divides them, `data.rescaled_by`). Latents are lists over layers, z_1 first.

    Args:
        spec: the resolved spec.
        device: where to compute.

    Raises:
        UserError: it starts at training images, as a VampPrior does, and the data are missing.

    Attributes:
        spec: the resolved spec.
        module: the networks, an `nn.Module` whose parameters any optimizer of PyTorch can step. Every parameter has a
            leading member axis, here of size 1. It is in evaluation mode at first.
        epoch: epochs trained. It selects the noise of evaluations, and is what `save` records. A training loop of your
            own counts it up.
        trained_as: training digest of the record that the weights were loaded from; None if they are initial ones.
        device: where it computes.
        pixels: D.

    """

    def __init__(self, spec: MemberSpec, device: str = "cpu") -> None:
        self._begin(spec, device)
        start = compiler.batches(spec, self.dataset()) if spec.model.pseudo_inputs else None
        self.module: Hierarchy = compiler.initialized([spec], self.pixels, start).to(self.device).eval()

    def _begin(self, spec: MemberSpec, device: str) -> None:
        """Everything but the networks."""
        self.spec = spec
        self.device = compiler.pick_device(device)
        self.pixels = image_pixels(spec.data)
        self.epoch = 0
        self._began = now()
        self.trained_as: str | None = None
        self._image_shape = None if spec.data.own is None else spec.data.own.shape
        self._measured_weights: Tensor | None = None
        """The weights that the batch-norm statistics are of; None while there are none."""

    def __repr__(self) -> str:
        size = parameters(self.spec, self.pixels)
        return f"Model({self._label}, {self.spec.model.depth} layers, {size:,} parameters)"

    @property
    def _label(self) -> str:
        """The name of the spec's settings, with its flows and its prior."""
        return self.spec.label + beside_inference(self.spec.model)

    def summary(self) -> str:
        """The factorization of p and q, and every mapping with its widths and number of parameters."""
        spec, depth = self.spec, self.spec.model.depth
        p, q = equations.joint(spec.model)
        units = ", ".join(f"z_{place}: {layer.units}" for place, layer in enumerate(spec.model.layers, start=1))
        lines = [
            f"{self._label}, {depth} stochastic layer{'s' if depth > 1 else ''} ({units}), x: {self.pixels} "
            f"({words(spec.model.observation)})",
            f"  {p} = {equations.generative(spec.model)},  {equations.prior(spec.model)}",
            f"  {q:<{len(p)}} = {equations.inference(spec.model)}",
            *(f"  {line}" for line in equations.auxiliary_variable(spec.model)),
            *(f"  {line}" for line in equations.mapping(spec.model)),
            *(f"  {line}" for line in equations.iteration(spec.model)),
            *(f"  flow: {equation}" for equation in equations.flows(spec.model)),
            *(f"  {equation}" for equation in equations.classes(spec.model)),
            "",
        ]
        every = list(mappings(spec, self.pixels))
        wide = max(14, *(len(mapping.name) + 2 for mapping in every))
        lines.append(f"  {'mapping':<{wide}}{'widths':<34}{'parameters':>12}")
        for mapping in every:
            own = mapping.parameters(spec.model.normalization)
            lines.append(f"  {mapping.name:<{wide}}{mapping.text('->'):<34}{own:>12,}")
        return "\n".join([*lines, f"  {'total':<{wide + 34}}{parameters(spec, self.pixels):>12,}"])

    def dataset(self) -> Dataset:
        """The data set that the spec names. Raises UserError if it is missing."""
        return load_dataset(self.spec.data)

    def test_images(self) -> Tensor:
        """The test set as every evaluation sees it: drawn once, the same for all members, [N, D]."""
        return draw_once(self.dataset(), "test", self.spec.model.observation_name)

    def validation_images(self) -> Tensor:
        """The validation set as every evaluation sees it: drawn once, the same for all members, [V, D].

        Raises:
            UserError: the spec has none (`data.validation` is 0), or the data are missing.

        """
        if not self.spec.data.validation:
            raise UserError("this model's spec has no validation set: data.validation is 0")
        return draw_once(self.dataset(), "validation", self.spec.model.observation_name)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """E[x|z_1], with skip connections of p E[x|z_1 ... z_L], for `count` latents drawn from the prior, top down,
        [count, D]; y, where there are classes, from p(y), by a stream of its own.

        Raises:
            UserError: `count` is not above 0, or `seed` is none.

        """
        count, streams, module = number("count", count, Count), self._streams(seed), self.module
        with self._ready():
            noise = module.prior_noise(streams, "prior samples", 1, count)
            y = module.prior_classes(streams, "prior samples", 1, count)
            return self._expected(module.ancestral(noise, y=y), y)

    def inject(self, layer: int, count: int, seed: int = 0) -> Tensor:
        """E[x|z_1], with skip connections of p E[x|z_1 ... z_L], for `count` samples with z* ~ N(0, I) injected at a
        layer and p(z_i|z_{i+1}) below it (Fig. 6b), [count, D]. Injected at the top layer they are samples of the
        prior, whatever that is. The layers above, on which x depends by skip connections alone, come from the prior.

        Raises:
            UserError: the model has no such layer, `count` is not above 0, or `seed` is none.

        """
        depth = self.spec.model.depth
        of_model = f"a stochastic layer of this model, 1 (nearest x) to {depth}"
        layer = number("layer", layer, Annotated[Count, Field(le=depth)], of_model)
        count, streams = number("count", count, Count), self._streams(seed)
        with self._ready():
            noise = self.module.prior_noise(streams, "injected samples", 1, count)
            y = self.module.prior_classes(streams, "injected samples", 1, count)
            return self._expected(self.module.ancestral(noise, layer, y=y), y)

    def gallery(self) -> dict[str, Tensor]:
        """The latents, reconstructions and samples that a record keeps for its figures (see
        `hvae_spec.records.gallery_file`). Raises UserError if the data are missing.
        """
        labels = torch.from_numpy(self.dataset().test_labels)
        with self._ready():
            return gallery(self.module, self.test_images(), labels, self.spec.seed, self.epoch)

    def encode(self, images: ArrayLike | Tensor, samples: int = 1, seed: int = 0) -> list[Tensor]:
        """Samples z_i ~ q(z|x), [samples, N, U_i] for each layer; where there are classes, of q(z|x, y) with the
        likeliest class of every image (see `classify`). An auxiliary variable is drawn anew for each.

        Raises:
            UserError: images that are none of the model, or a number of samples that is not above 0.

        """
        latents, _ = self._drawn(images, number("samples", samples, Count), seed)
        return [z[0].movedim(0, -1).cpu().contiguous() for z in latents]

    def reconstruct(self, images: ArrayLike | Tensor, seed: int = 0) -> Tensor:
        """E[x|z_1], with skip connections of p E[x|z_1 ... z_L], for one sample of `encode` per image, [N, D]."""
        latents, y = self._drawn(images, 1, seed)
        with self._ready():
            return self._expected(latents, y)

    def classify(self, images: ArrayLike | Tensor) -> Tensor:
        """q(y|x) of every class, [N, C], in the order of the training images' labels. Raises UserError if the model has
        no classes.
        """
        if not self.module.classes:
            raise UserError("this model has no classes: model.classes of its spec is null")
        x = units_first(self._images(images)[None])
        with self._ready(to_classify=True):
            return self.module.log_classes(x)[0].exp().mT.cpu().contiguous()

    def _drawn(self, images: ArrayLike | Tensor, samples: int, seed: int) -> tuple[list[Tensor], Tensor | None]:
        """What `encode` draws, [1, U_i, samples, N] for each layer, and the one-hot classes that it is of."""
        x = units_first(self._images(images)[None])
        streams = self._streams(seed).begin("encoding")
        with self._ready():
            noise = self.module.noise(streams, samples, x.shape[3])
            drawn = self.module.draw(x, self.module.known(x), noise)
            return drawn.latents, drawn.y

    def evaluate(
        self, images: ArrayLike | Tensor, iw_samples: int | None = None, seed: int | None = None
    ) -> Evaluation:
        """Bounds, effective sample size and unit KLs, with K = `iw_samples` and noise from `seed`.

        The defaults are the spec's. Of a loaded record they give, on the test images, its latest evaluation's numbers.

        Raises:
            UserError: images or numbers that there is no bound of.

        """
        x = self._images(images)
        iw_samples, seed = self._iw_samples(iw_samples), self._seed(seed)
        with self._ready():
            return evaluate(
                self.module,
                x,
                iw_samples,
                seed=seed,
                epoch=self.epoch,
                memory_gib=self.spec.evaluation.memory_gib,
            )

    def ais(
        self,
        images: ArrayLike | Tensor | None = None,
        *,
        chains: int | None = None,
        steps: int | None = None,
        seed: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> AnnealedBounds:
        """How far a bound on log p(x) may be from it: annealed importance sampling on images, and bidirectional Monte
        Carlo on as many images simulated from the model (`hvae_spec.evaluate.ais`).

        Args:
            images: images [N, D] or [N, height, width]; None: the first test images.
            chains: chains per image.
            steps: temperatures from the prior to the posterior.
            seed: seed of the noise.
            progress: called with the fraction done.

        What is not given is as the spec's `evaluation.ais` says, or by default (100 images, 16 chains, 1,000 steps). Of
        a loaded record these are the numbers of its latest evaluation. It may take long: some minutes for small models.

        Raises:
            UserError: numbers that `evaluation.ais` would not take, or images that are none of the model.

        """
        self._check_no_classes("ais")
        own = settings(self.spec.evaluation.ais or AisSpec(), chains=chains, steps=steps)
        seed = self._seed(seed)
        x = self._images(self.test_images()[: own.images] if images is None else images)
        with self._ready():
            return ais(
                self.module,
                x,
                chains=own.chains,
                steps=own.steps,
                seed=seed,
                epoch=self.epoch,
                memory_gib=self.spec.evaluation.memory_gib,
                progress=progress,
            )

    def refine(
        self,
        images: ArrayLike | Tensor | None = None,
        *,
        steps: int | None = None,
        lr: float | None = None,
        iw_samples: int | None = None,
        seed: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> list[Refined]:
        """How much better the bounds are where q(z|x) is fitted to every image by itself (`hvae_spec.evaluate.refine`).

        Args:
            images: images [N, D] or [N, height, width]; None: the first test images.
            steps: steps of Adam.
            lr: its step size.
            iw_samples: K of the bounds after it.
            seed: seed of the noise.
            progress: called with the fraction done.

        What is not given is as the spec's `evaluation.refine` says, or by default (100 images, 20 steps of 0.05). Of a
        loaded record these are the numbers of its latest evaluation.

        Raises:
            UserError: q has an auxiliary variable, with which no distribution of a layer is of an image alone.

        Returns:
            The bounds after all layers whose distribution is of the image itself were refined jointly and, where there
            are several, after each was refined alone.

        Raises:
            UserError: numbers that `evaluation.refine` would not take, or images that are none of the model.

        """
        self._check_no_classes("refine")
        if self.spec.model.auxiliary is not None:
            raise UserError("with an auxiliary variable what inference knows is of a sample: refine has nothing to fit")
        own = settings(self.spec.evaluation.refine or RefineSpec(), steps=steps, lr=lr)
        iw_samples, seed = self._iw_samples(iw_samples), self._seed(seed)
        x = self._images(self.test_images()[: own.images] if images is None else images)
        with self._ready():
            return refine(
                self.module,
                x,
                Descent(own.steps, own.lr),
                iw_samples,
                seed=seed,
                epoch=self.epoch,
                memory_gib=self.spec.evaluation.memory_gib,
                progress=progress,
            )

    def bound(
        self,
        images: ArrayLike | Tensor,
        mc_samples: int = 1,
        iw_samples: int = 1,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What training maximizes, per image: the mean over Monte Carlo samples of log (1/K) sum_k w_k, where
        log w = log p(x|z_1) + beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)] (Eqs. 10-12 and 22), with the other
        terms of the spec's `objective`, if there are any. In nats, [N], and differentiable in the parameters of
        `module`; a training step descends `-model.bound(x).mean()`. Where there are classes, it is that of images
        without a label: sum_y q(y|x) (the bound given y + beta [log p(y) - log q(y|x)]).

        In training mode (`model.module.train()`) batch normalization uses the statistics of these images and samples,
        in evaluation mode the recorded ones. Matrix products have the precision that PyTorch is set to.

        Args:
            images: images [N, D] or [N, height, width].
            mc_samples: Monte Carlo samples of the bound.
            iw_samples: K, importance samples inside the logarithm; K = 1 is the ELBO.
            beta: weight of the KL.
            generator: where the noise comes from; None: PyTorch's own generator (`torch.manual_seed`).

        Raises:
            UserError: images or numbers that there can be no bound of; in evaluation mode, no batch-norm statistics of
                these weights.

        """
        mc_samples, iw_samples = number("mc_samples", mc_samples, Count), number("iw_samples", iw_samples, Count)
        beta = number("beta", beta, NonNegative)
        self._check_bound()
        x = self._images(images)
        if not self.module.training:
            self._check_statistics()
        elif len(x) == 1 and self.spec.model.normalization.of_batch:
            raise UserError("one image has no batch-norm statistics: expected two images or more in training mode")
        noise = torch.randn(
            (1, self.module.copies * mc_samples * iw_samples * len(x) * sum(self.module.noise_units)),
            generator=generator,
            device=self.device if generator is None else generator.device,
        ).to(self.device)
        samples = self.module.copies * mc_samples * iw_samples
        trace = self.module(x[None], split_noise(noise, samples, len(x), self.module.noise_units))
        # All images are without a label.
        objective = Objective(
            compiler.terms(self.spec.objective), marginal=Marginal(1.0, math.nan) if self.module.classes else None
        )
        return objective.bounds(trace, log_weight(trace, beta, objective.terms), beta, iw_samples)[0]

    def save(self, folder: str | Path) -> Path:
        """Write the model as a record, which `load_record` reads: the spec, the weights, and the batch-norm statistics
        if there are any of these weights. `evaluate` gives the same numbers then, bit for bit.

        The record says what it is: `own_weights` in its spec is the SHA-256 of the weights, `epochs` are `model.epoch`,
        and versions, machine and command are those of this process. What the spec says of training may not be what was
        done. Its digests are its own, so that no run takes it for a member of a grid. In RESULTS/members/ it is a row
        of `analysis.load(RESULTS).members`, not evaluated.

        Args:
            folder: a new or empty folder.

        Returns:
            The folder.

        Raises:
            UserError: the folder holds something, or has the name of another training; `module` or `epoch` is not what
                the spec and this method expect.
            MachineError: the folder cannot be written.

        """
        number("model.epoch", self.epoch, Natural, "the number of epochs trained")
        self._check_parameters()
        segment = Segment(
            first_epoch=min(1, self.epoch),
            last_epoch=self.epoch,
            command=list(sys.argv),
            versions=versions(),
            source=source_state(),
            host=host(),
            device=self.device.type,
            device_name=compiler.device_name(self.device),
            threads=torch.get_num_threads(),
            compiled=False,
            started_at=self._began,
            finished_at=now(),
        )
        return write_own_weights(
            Path(folder),
            self.spec,
            compiler.parameters_of(self.module),
            {} if self._fault_of_statistics() else compiler.statistics_of(self.module),
            segment,
            started_from=self.trained_as,
        )

    def _check_parameters(self) -> None:
        """Make sure that the module's parameters are those that the spec says, so that they can be loaded again."""
        with torch.device("meta"):
            expected = compiler.hierarchy(self.spec, self.pixels)
        there = {name: (value.shape, value.dtype) for name, value in self.module.named_parameters()}
        for name, value in expected.named_parameters():
            if there.pop(name, None) != (value.shape, torch.float32):
                raise UserError(f"model.module: {name} is not the float32 parameter {list(value.shape)} of the spec")
        for name in there:
            raise UserError(f"model.module: {name} is no parameter of the spec, so it cannot be saved")

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image. Raises UserError if only the images say it, and they are missing."""
        if self._image_shape is None:
            self._image_shape = self.dataset().shape
        return self._image_shape

    def record_statistics(self) -> None:
        """Compute the batch-norm statistics over the training set, as a model needs that was compiled, not loaded.
        Raises UserError if the data are missing.
        """
        batches = compiler.batches(self.spec, self.dataset(), self.device)
        record_statistics(self.module, batches, self.spec.seed, self.epoch, self.spec.evaluation.batch_norm_statistics)
        self._measured_weights = self._weights()

    def _check_bound(self) -> None:
        """Make sure that there is more than q(y|x)."""
        if self.spec.classifies_alone:
            raise UserError(
                "q(y|x) alone is trained of this model (objective.classification: only), so that it has nothing but "
                "model.classify"
            )

    def _check_no_classes(self, method: str) -> None:
        """Make sure that all latents are numbers, which `method` moves."""
        if self.module.classes:
            raise UserError(f"{method} moves numbers and no classes, and this model has classes")

    def _seed(self, seed: int | None) -> int:
        """The seed that is given, else the spec's."""
        return self.spec.seed if seed is None else int(number("seed", seed, Seed))

    def _streams(self, seed: int) -> Streams:
        """Streams of a seed that is given."""
        return Streams([number("seed", seed, Seed)], self.device)

    def _iw_samples(self, iw_samples: int | None) -> int:
        """The number of importance samples that is given, else the spec's."""
        own = self.spec.evaluation.iw_samples
        return own if iw_samples is None else int(number("iw_samples", iw_samples, Count))

    @contextmanager
    def _ready(self, *, to_classify: bool = False) -> Iterator[None]:
        """Inference mode in float32, once it is sure that there are batch-norm statistics of these weights. The module
        is left in the mode it was in.

        Args:
            to_classify: for q(y|x), which is there also where it alone was trained.

        Raises:
            UserError: there are none, or q(y|x) alone was trained, and something else is asked for.

        """
        if not to_classify:
            self._check_bound()
        self._check_statistics()
        was_training = self.module.training
        self.module.eval()
        try:
            with full_precision(), torch.inference_mode():
                yield
        finally:
            self.module.train(was_training)

    def _check_statistics(self) -> None:
        """Raise UserError unless there are batch-norm statistics of these weights, or none are needed."""
        if fault := self._fault_of_statistics():
            raise UserError(fault)

    def _fault_of_statistics(self) -> str | None:
        """Why the model cannot be measured as it stands; None if it can."""
        norms = [module for module in self.module.modules() if isinstance(module, BatchNorm)]
        unknown = [bool(norm.mean.isnan().any()) for norm in norms]
        # Where q(y|x) alone is trained, nothing else has any.
        if norms and (all(unknown) if self.spec.classifies_alone else any(unknown)):
            return "this model's batch-norm statistics were never computed: call model.record_statistics()"
        then, weights = self._measured_weights, self._weights()
        # Bit for bit, as weights of a model that diverged are not equal to themselves.
        if norms and then is not None and not torch.equal(then.view(torch.uint8), weights.view(torch.uint8)):
            return (
                "the weights have changed since this model's batch-norm statistics were computed: call "
                "model.record_statistics() again"
            )
        return None

    def _weights(self) -> Tensor:
        return torch.nn.utils.parameters_to_vector(self.module.parameters()).detach()

    def _restore(self, record: Record, training: TrainingResult) -> None:
        """Take the weights of a record."""
        self.module = load_model(record, training, self.pixels, self.device)
        self.epoch = training.epochs
        self.trained_as = training.digest
        if training.data is not None:
            self._image_shape = training.data.shape

    def _set_statistics(self, statistics: Arrays) -> None:
        """Take batch-norm statistics of the present weights."""
        compiler.set_statistics(self.module, statistics)
        self._measured_weights = self._weights()

    def _expected(self, latents: Sequence[Tensor], y: Tensor | None) -> Tensor:
        """E[x|z_1], with skip connections E[x|z_1 ... z_L], of one sample per image, [1, U_i, 1, N] -> [N, D], and its
        one-hot class where there are classes.
        """
        generative = self.module.generative
        return generative.likelihood.mean(generative.seen(latents, y))[0, :, 0].mT.cpu().contiguous()

    def _images(self, images: ArrayLike | Tensor) -> Tensor:
        x = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
        x = x.to(self.device, torch.float32).flatten(1) if x.ndim > 1 else x
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise UserError(f"images of shape {list(x.shape)}: expected [N, {self.pixels}] or [N, height, width]")
        if not len(x):
            raise UserError("no images: expected at least one")
        # Divided by the training maximum, a test image may be lighter than white.
        by_maximum = self.spec.data.rescaled_by == "training_maximum"
        is_open = by_maximum and is_rescaled(self.spec.data.dataset, self.spec.model.observation_name)
        highest = math.inf if is_open else 1
        if not (float(x.min()) >= 0 and float(x.max()) <= highest):
            raise UserError(
                "images must lie in [0, 1]: divide gray values by their maximum, then binarize them if need be"
            )
        if OBSERVATIONS[self.spec.model.observation_name].x is X.GRAY:
            self._check_levels(x)
        return x

    def _check_levels(self, x: Tensor) -> None:
        """Raise UserError unless images are on the gray levels that this model is of."""
        largest = (self.spec.data.levels or 2) - 1
        places = x * largest
        if not torch.allclose(places, places.round(), rtol=1e-6, atol=1e-3):
            raise UserError(
                f"images must be gray levels divided by the largest, {largest}, of which a "
                f"{self.spec.model.observation_name} observation is a model"
            )


def compile(spec: MemberSpec | Member | Experiment, device: str = "cpu") -> Model:
    """A freshly initialized model of a spec.

    Raises:
        UserError: an experiment with more than one member (pick one with `hvae_spec.members`).

    """
    if isinstance(spec, Experiment):
        every = members(spec)
        if len(every) != 1:
            raise UserError(f"{spec.name} has {len(every)} members: compile one of hvae_spec.members(experiment)")
        spec = every[0]
    return Model(spec.spec if isinstance(spec, Member) else spec, device)


def load_record(folder: str | Path, device: str = "cpu", *, extensions: bool = False) -> Model:
    """The trained model of a record's folder, with the batch-norm statistics and the settings (K, test images) of its
    latest finished evaluation, whose numbers `evaluate` gives again.

    Args:
        folder: the record's.
        device: where to compute.
        extensions: run the extensions that its spec uses parts of, from their copies beside the record: they are Python
            files, which may do anything. Without it, a record whose model needs any is refused; schedules, optimizers,
            estimators and terms of the objective are of the training alone.

    Raises:
        RecordError: there is no finished record there, or it is damaged, or needs extensions.
        SpecError: an extension does not run.

    """
    record = Record(Path(folder))
    if record.has_spec and (record.folder / RESULT).exists():
        raise RecordError(f"{record.folder}: a record of an earlier version (0.2 or before); load it with that version")
    spec, training = record.spec, record.training
    if training is None or training.status != "trained":
        raise RecordError(f"{record.folder}: the member has not finished training{_because(record.reason)}")
    if spec.parts:
        needed = parts_of_the_model(spec)
        if needed and not extensions:
            listed = ", ".join(f"{key} ({part.file})" for key, part in needed.items())
            raise RecordError(
                f"{record.folder}: uses parts of extensions, {listed}; load_record(..., extensions=True), or "
                "--extensions on the command line, runs the copies of these files, which may do anything"
            )
        if extensions:
            (spec,) = with_code([spec], folders_of(record))
    evaluation, result = _latest(record.evaluations)
    spec = spec.model_copy(update={"own_weights": None})
    model = Model.__new__(Model)  # what a fresh one starts with, training images say, need not be there
    model._begin(spec if result is None else _measured(spec, result), device)
    model._restore(record, training)
    if evaluation is not None and result is not None and STATISTICS in result.arrays_sha256:
        remedy = f"delete {evaluation.folder} to have the member evaluated again"
        sha256 = result.arrays_sha256[STATISTICS]
        model._set_statistics(load_arrays(evaluation.statistics, sha256, remedy))
    elif training.statistics_sha256 is not None:
        model._set_statistics(load_arrays(record.statistics, training.statistics_sha256, OWN_LOST))
    return model


def _latest(evaluations: Sequence[EvaluationRecord]) -> tuple[EvaluationRecord, EvaluationResult] | tuple[None, None]:
    """The latest evaluation that is finished, and its result; the latest that diverged where none is finished."""
    for status in DONE:
        for evaluation in reversed(evaluations):
            if (result := evaluation.result) is not None and result.status == status:
                return evaluation, result
    return None, None


def _measured(spec: MemberSpec, result: EvaluationResult) -> MemberSpec:
    """A record's spec with the settings of one of its evaluations, which may not be the first."""
    if spec.digests.evaluation == result.digest:
        return spec
    evaluation = {"iw_samples": result.iw_samples, "batch_norm_statistics": result.batch_norm_statistics}
    data = {"test_images": None if result.data is None else result.data.test_images}
    found, other, probed = result.ais, result.refine, result.probe
    ais = None if found is None else AisSpec(images=found.images, chains=found.chains, steps=found.steps)
    refine = None if other is None else RefineSpec(images=other.images, steps=other.steps, lr=other.lr or 0.0)
    probe = None if probed is None else ProbeSpec(labels=probed.asked)
    measured = {**_known(evaluation), "ais": ais, "refine": refine, "probe": probe}
    changes: dict[str, BaseModel] = {
        "evaluation": spec.evaluation.model_copy(update=measured),
        "data": spec.data.model_copy(update=_known(data)),
    }
    return spec.model_copy(update=changes)


def _known(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that a result tells: one that diverged has no number of samples, one without batch normalization no
    statistics.
    """
    return {name: value for name, value in settings.items() if value is not None}


def _because(reason: str | None) -> str:
    return "" if reason is None else f": it {reason}"
