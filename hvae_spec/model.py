"""A single model, for notebooks: compile a spec or load a record, then look, sample, encode and evaluate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel
from torch import Tensor

from hvae_spec import compiler
from hvae_spec.backend.precision import full_precision
from hvae_spec.data.batches import draw_once
from hvae_spec.data.counts import image_pixels
from hvae_spec.data.dataset import Dataset, load_dataset
from hvae_spec.errors import RecordError, UserError
from hvae_spec.evaluate.ais import AnnealedBounds, ais
from hvae_spec.evaluate.evaluation import Evaluation, evaluate, record_statistics
from hvae_spec.evaluate.gallery import gallery
from hvae_spec.evaluate.member import load_model
from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.random import Streams
from hvae_spec.records.arrays import load_arrays
from hvae_spec.records.layout import RESULT, STATISTICS, EvaluationRecord, Record
from hvae_spec.records.result import DONE, EvaluationResult
from hvae_spec.spec import equations
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.evaluation import AisSpec
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.grid import Member, members


class Model:
    """One deep hierarchical VAE and its spec.

    Images are arrays or tensors of observations, [N, D] or [N, height, width]: zeros and ones for a `bernoulli`
    observation model, gray values in [0, 1] for a `gaussian` one. Latents are lists over layers, z_1 first.

    Args:
        spec: the resolved spec.
        device: where to compute.

    """

    def __init__(self, spec: MemberSpec, device: str = "cpu") -> None:
        self.spec = spec
        self.device = compiler.pick_device(device)
        self.pixels = image_pixels(spec.data)
        self.epoch = 0
        """Epochs trained."""
        self.hierarchy = compiler.initialized([spec], self.pixels).to(self.device).eval()

    def __repr__(self) -> str:
        size = parameters(self.spec, self.pixels)
        return f"Model({self.spec.label}, {self.spec.model.depth} layers, {size:,} parameters)"

    def summary(self) -> str:
        """The factorization of p and q, and every mapping with its widths and number of parameters."""
        spec, depth = self.spec, self.spec.model.depth
        units = ", ".join(f"z_{place}: {layer.units}" for place, layer in enumerate(spec.model.layers, start=1))
        lines = [
            f"{spec.label}, {depth} stochastic layer{'s' if depth > 1 else ''} ({units}), x: {self.pixels} "
            f"({spec.model.observation})",
            f"  p(x, z) = {equations.generative(spec.model)},  p(z_{depth}) = N(0, I)",
            f"  q(z|x)  = {equations.inference(spec.model)}",
            "",
            f"  {'mapping':<14}{'widths':<34}{'parameters':>12}",
        ]
        for mapping in mappings(spec, self.pixels):
            widths = " -> ".join(map(str, mapping.widths))
            lines.append(f"  {mapping.name:<14}{widths:<34}{mapping.parameters(spec.model.batch_norm):>12,}")
        return "\n".join([*lines, f"  {'total':<48}{parameters(spec, self.pixels):>12,}"])

    def dataset(self) -> Dataset:
        """The data set that the spec names. Raises UserError if it is missing."""
        return load_dataset(self.spec.data)

    def test_images(self) -> Tensor:
        """The test set as every evaluation sees it: drawn once, the same for all members, [N, D]."""
        return draw_once(self.dataset(), "test", self.spec.model.observation)

    def validation_images(self) -> Tensor:
        """The validation set as every evaluation sees it: drawn once, the same for all members, [V, D].

        Raises:
            UserError: the spec has none (`data.validation` is 0), or the data are missing.

        """
        if not self.spec.data.validation:
            raise UserError("this model's spec has no validation set: data.validation is 0")
        return draw_once(self.dataset(), "validation", self.spec.model.observation)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """E[x|z_1] for `count` latents drawn from the prior, top down, [count, D]."""
        streams = Streams([seed], self.device).begin("prior samples")
        with self._ready():
            latents = self.hierarchy.ancestral(streams.noise(1, count, self.hierarchy.units))
            return self._expected(latents[0])

    def inject(self, layer: int, count: int, seed: int = 0) -> Tensor:
        """E[x|z_1] for `count` samples with z* ~ N(0, I) injected at a layer and p(z_i|z_{i+1}) below it (Fig. 6b),
        [count, D]. Injected at the top layer they are samples of the prior.
        """
        depth = self.spec.model.depth
        if not 1 <= layer <= depth:
            raise UserError(f"layer {layer}: expected a stochastic layer of this model, 1 (nearest x) to {depth}")
        streams = Streams([seed], self.device).begin("injected samples")
        with self._ready():
            latents = self.hierarchy.ancestral(streams.noise(1, count, self.hierarchy.units)[:layer])
            return self._expected(latents[0])

    def gallery(self) -> dict[str, Tensor]:
        """The latents, reconstructions and samples that a record keeps for its figures (see
        `hvae_spec.records.gallery_file`). Raises UserError if the data are missing.
        """
        labels = torch.from_numpy(self.dataset().test_labels)
        with self._ready():
            return gallery(self.hierarchy, self.test_images(), labels, self.spec.seed, self.epoch)

    def encode(self, images: ArrayLike | Tensor, samples: int = 1, seed: int = 0) -> list[Tensor]:
        """Samples z_i ~ q(z|x), [samples, N, U_i] for each layer."""
        x = self._images(images)
        streams = Streams([seed], self.device).begin("encoding")
        with self._ready():
            encoding = self.hierarchy.inference.encode(units_first(x[None]))
            draws = self.hierarchy.inference.sample(encoding, streams.noise(samples, len(x), self.hierarchy.units))
            return [draw.z[0].movedim(0, -1).cpu().contiguous() for draw in draws]

    def reconstruct(self, images: ArrayLike | Tensor, seed: int = 0) -> Tensor:
        """E[x|z_1] for one sample z ~ q(z|x) per image, [N, D]."""
        z = self.encode(images, seed=seed)[0].to(self.device)
        with self._ready():
            return self._expected(z.movedim(-1, 0)[None])

    def evaluate(
        self, images: ArrayLike | Tensor, iw_samples: int | None = None, seed: int | None = None
    ) -> Evaluation:
        """Bounds, effective sample size and unit KLs, with K = `iw_samples` and noise from `seed`.

        The defaults are the spec's. Of a loaded record they give, on the test images, its latest evaluation's numbers.
        """
        x = self._images(images)
        settings = self.spec.evaluation
        with self._ready():
            return evaluate(
                self.hierarchy,
                x,
                iw_samples or settings.iw_samples,
                seed=self.spec.seed if seed is None else seed,
                epoch=self.epoch,
                memory_gib=settings.memory_gib,
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

        """
        settings = self.spec.evaluation.ais or AisSpec()
        x = self._images(self.test_images()[: settings.images] if images is None else images)
        with self._ready():
            return ais(
                self.hierarchy,
                x,
                chains=chains or settings.chains,
                steps=steps or settings.steps,
                seed=self.spec.seed if seed is None else seed,
                epoch=self.epoch,
                memory_gib=self.spec.evaluation.memory_gib,
                progress=progress,
            )

    def record_statistics(self) -> None:
        """Compute the batch-norm statistics over the training set, as a model needs that was compiled, not loaded.
        Raises UserError if the data are missing.
        """
        batches = compiler.batches(self.spec, self.dataset(), self.device)
        record_statistics(self.hierarchy, batches, self.spec.seed, 0, self.spec.evaluation.batch_norm_statistics)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Inference mode in float32, once it is sure that batch-norm statistics are there."""
        norms = (module for module in self.hierarchy.modules() if isinstance(module, BatchNorm))
        if any(bool(norm.mean.isnan().any()) for norm in norms):
            raise UserError("this model's batch-norm statistics were never computed: call model.record_statistics()")
        self.hierarchy.eval()
        with full_precision(), torch.inference_mode():
            yield

    def _expected(self, z: Tensor) -> Tensor:
        """E[x|z_1] of one sample per image, z [1, U, 1, N] -> [N, D]."""
        return self.hierarchy.generative.likelihood.mean(z)[0, :, 0].mT.cpu().contiguous()

    def _images(self, images: ArrayLike | Tensor) -> Tensor:
        x = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
        x = x.to(self.device, torch.float32).flatten(1) if x.ndim > 1 else x
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise UserError(f"images of shape {list(x.shape)}: expected [N, {self.pixels}] or [N, height, width]")
        if float(x.min()) < 0 or float(x.max()) > 1:
            raise UserError(
                "images must lie in [0, 1]: divide gray values by their maximum, then binarize them if need be"
            )
        return x


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


def load_record(folder: str | Path, device: str = "cpu") -> Model:
    """The trained model of a record's folder, with the batch-norm statistics and the settings (K, test images) of its
    latest finished evaluation, whose numbers `evaluate` gives again.

    Raises:
        RecordError: there is no finished record there, or it is damaged.

    """
    record = Record(Path(folder))
    if record.has_spec and (record.folder / RESULT).exists():
        raise RecordError(f"{record.folder}: a record of an earlier version (0.2 or before); load it with that version")
    spec, training = record.spec, record.training
    if training is None or training.status != "trained":
        raise RecordError(f"{record.folder}: the member has not finished training{_because(record.reason)}")
    evaluation, result = _latest(record.evaluations)
    model = Model(spec if result is None else _measured(spec, result), device)
    model.hierarchy = load_model(record, training, model.pixels, model.device)
    model.epoch = training.epochs
    if evaluation is not None and result is not None and STATISTICS in result.arrays_sha256:
        remedy = f"delete {evaluation.folder} to have the member evaluated again"
        sha256 = result.arrays_sha256[STATISTICS]
        compiler.set_statistics(model.hierarchy, load_arrays(evaluation.statistics, sha256, remedy))
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
    found = result.ais
    ais = None if found is None else AisSpec(images=found.images, chains=found.chains, steps=found.steps)
    changes: dict[str, BaseModel] = {
        "evaluation": spec.evaluation.model_copy(update={**_known(evaluation), "ais": ais}),
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
