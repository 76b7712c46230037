"""What became of a member's training and of its evaluations: training.json and result.json."""

from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from hvae_spec.records.json_file import FORMAT, FileModel, Flag, Format, Number, Text, Whole
from hvae_spec.records.rows import are_of_same_units

TrainingStatus = Literal["trained", "diverged", "failed"]
EvaluationStatus = Literal["finished", "diverged", "failed"]
Status = Literal["finished", "diverged", "failed", "damaged", "trained", "running", "pending"]
"""What has become of a member: the outcome of its evaluation, or, if it has none, that of its training. `damaged` has a
file that cannot be read or is not what was written; `running` has begun and not ended (it may have been interrupted);
`pending` has not begun."""
STATUSES: tuple[Status, ...] = get_args(Status)
DONE: tuple[Status, ...] = ("finished", "diverged")
"""Statuses of members that are done. A rerun of the grid leaves them alone, and those that are damaged; a `failed`
member is tried again."""


class Divergence(FileModel):
    """When a quantity stopped being finite, and which one did first."""

    epoch: Whole
    step: Whole
    quantity: Text


class DataState(FileModel):
    """The images that a member has seen."""

    dataset: Text
    train_sha256: Text
    """Of all training images and their classes, before `copies` and `train_images`."""
    test_sha256: Text
    """Of all test images and their classes, before `test_images`."""
    canonical: Flag | None
    """Whether the files are those of their distributor; null where there is nothing to compare with."""
    shape: tuple[Whole, Whole]
    train_images: Whole
    test_images: Whole
    validation_images: Whole = 0
    """None of the training images in use."""
    training_maximum: Whole | None = None
    """The largest gray value of the training images in use; null of intensities, and in older records."""
    levels: Whole | None = None
    """Gray levels of the images; null of intensities, and in older records."""
    classes: dict[Text, Text] = {}
    """Names of classes by label; empty where labels are their own names, and in older records."""


class Source(FileModel):
    """The state of the source tree."""

    commit: Text
    dirty: Flag
    """Whether it had uncommitted changes."""
    diff: Text | None = None
    """These changes: a file in the results folder, by its path below it."""


class Segment(FileModel):
    """Epochs that one process trained without a break, or one evaluation, and with what."""

    first_epoch: Whole
    last_epoch: Whole
    command: list[Text]
    versions: dict[str, Text]
    source: Source | None
    host: Text
    device: Text
    device_name: Text
    threads: Whole
    compiled: Flag
    started_at: Text
    finished_at: Text


class PackState(FileModel):
    """The pack that a member was trained in."""

    id: Text
    trainings: list[Text]
    """Training digests of all of its members, in their order."""
    threads: Whole
    compiled: Flag


class TrainingResult(FileModel):
    """`training.json`: what became of a training. Written last: its presence means that the training is done."""

    has_checksum = True
    format: Format = FORMAT
    digest: Text
    """The training digest."""
    trajectory: Text
    status: TrainingStatus
    divergence: Divergence | None = None
    failure: Text | None = None
    """The last line of the traceback, which is in failure.txt."""
    parameters: Whole | None = None
    epochs: Whole = 0
    """Epochs trained, those of the record that it was extended from included."""
    best_epoch: Whole | None = None
    """With early stopping, the epoch whose weights are kept, as the validation bound was best there; else null."""
    stopped_epoch: Whole | None = None
    """The epoch in which early stopping ended the training; null if it came to its end."""
    steps: Whole | None = 0
    """Null where the weights are a user's own (`MemberSpec.own_weights`)."""
    training_seconds: Number = None
    curve_seconds: Number = None
    """Time for the points of the curve."""
    ms_per_step: Number = None
    """Per member-step, on average over epochs."""
    matmul_precision: Text | None = None
    pack: PackState | None = None
    data: DataState | None = None
    continues: Text | None = None
    """Training digest of the first phase whose weights this one started from; of a user's own weights, of the record
    that they were loaded from."""
    extended_from: Text | None = None
    """Training digest of the shorter training of the same trajectory that this one goes on from."""
    weights_sha256: Text | None = None
    optimizer_sha256: Text | None = None
    statistics_sha256: Text | None = None
    """Of the batch-norm statistics that a user's own weights were saved with; those of all others are with their
    evaluations."""
    epochs_sha256: Text | None = None
    """Of epochs.jsonl less its times (`hvae_spec.records.curves.digest_of`). Null in records that were made before
    this was kept, as the next."""
    units_sha256: Text | None = None
    """Of units.jsonl."""
    segments: list[Segment] = []
    finished_at: Text | None = None


class AisResult(FileModel):
    """Annealed importance sampling on the first test images, and bidirectional Monte Carlo on as many images simulated
    from the model, in nats per image (`hvae_spec.evaluate.ais`).
    """

    images: Whole
    chains: Whole
    steps: Whole
    log_likelihood: Number
    """Forward AIS on the test images: in expectation a lower bound on their mean log-likelihood."""
    log_likelihood_se: Number
    """Its standard error over images."""
    log_likelihood_mc_se: Number
    """Its Monte Carlo error; null with one chain."""
    bound: Number
    """The importance-weighted bound on the same images."""
    difference_se: Number
    """Standard error over images of AIS less the bound."""
    gap: Number
    """Reverse less forward AIS on simulated images."""
    gap_se: Number
    """Its standard error over simulated images."""
    acceptance: Number
    """Mean probability of acceptance; null with one step."""


class RefinedBounds(FileModel):
    """The bounds of one refinement, in nats per image (`hvae_spec.evaluate.refine`)."""

    layers: list[Whole]
    """Layers whose parameters were optimized, 1 for z_1."""
    log_likelihood: Number
    """The importance-weighted bound after it, with noise that the optimization has not seen."""
    difference_se: Number
    """Standard error over images of that less the amortized bound."""
    elbo: Number
    """The ELBO after it."""
    elbo_difference_se: Number
    """Standard error over images of that less the amortized ELBO."""


class RefineResult(FileModel):
    """The bounds of the first test images where q(z|x) is fitted to each of them, beside those of the encoder."""

    images: Whole
    steps: Whole
    lr: Number
    bound: Number
    """The amortized bound on the same images, with the noise of the refined ones."""
    elbo: Number
    """The amortized ELBO on the same images, with that noise."""
    runs: list[RefinedBounds]
    """All layers jointly first, then, where there are several, each by itself with the others as the encoder says."""


class ProbeAccuracy(FileModel):
    """Linear probes with one number of labels, of every layer, z_1 first (`hvae_spec.evaluate.probe`)."""

    labels: Whole
    is_all: Flag
    """Whether that is all training images, as `all` asks for."""
    accuracy: list[Number]
    """The share of test images whose class the probe names."""
    accuracy_se: list[Number]
    """Its standard error over test images."""
    regularization: list[Number]
    """scikit-learn's C, as it was chosen on the training labels."""


class ProbeResult(FileModel):
    """What each layer knows of the classes of the images, by linear probes."""

    classes: Whole
    """Of the training images."""
    largest_class: Number
    """The share of test images that are of the most frequent class of the training images: what can be had without
    looking at an image."""
    flow_draws: Whole | None = None
    """Draws, for each of the samples of what it depends on, that the mean of a layer with a flow is estimated with.
    Null: no layer has one, or the features are means of samples, as those of earlier versions were."""
    probes: list[ProbeAccuracy]

    @property
    def asked(self) -> tuple[int | Literal["all"], ...]:
        """The numbers of labels as `evaluation.probe.labels` has them."""
        return tuple("all" if probe.is_all else probe.labels for probe in self.probes)


class ClassificationResult(FileModel):
    """How well q(y|x) names the classes of the test images."""

    classes: Whole
    """C, those of the training images."""
    images: Whole
    wrong: Whole
    """How many of the images have another class than the likeliest."""
    error: Number
    """The same in percent of the images."""
    interval: tuple[Number, Number]
    """Wilson's 95% interval of the error, in percent."""
    kl: Number = None
    """The mean of KL(q(y|x) || p(y)) over the images, in nats: what y adds to the KLs of the layers."""
    validation_images: Whole = 0
    """The same on the validation set; 0 and null without one."""
    validation_wrong: Whole | None = None
    validation_error: Number = None


class EvaluationResult(FileModel):
    """`result.json` of an evaluation: the bound and all else that is measured on the test set, in nats per image."""

    has_checksum = True
    format: Format = FORMAT
    digest: Text
    """The evaluation digest."""
    training: Text
    """The training digest."""
    estimator: Whole = 1
    """Version of the evaluation (`hvae_spec.spec.experiment.EVALUATION_VERSION`). Results that do not say are of the
    first."""
    labels: dict[str, Any]
    status: EvaluationStatus
    divergence: Divergence | None = None
    failure: Text | None = None
    test_log_likelihood: Number = None
    test_log_likelihood_se: Number = None
    test_log_likelihood_mc_se: Number = None
    test_log_likelihood_redraw_variance: Number = None
    """Variance of an image's bound over draws of its zeros and ones from its gray values, on average over images, in
    nats^2 (`evaluation.redraws`). Null if it was not measured."""
    test_log_likelihood_redraw_variance_se: Number = None
    """Its standard error over images."""
    test_elbo: Number = None
    test_elbo_se: Number = None
    validation_log_likelihood: Number = None
    """The same on the validation set, as the next four; null without one."""
    validation_log_likelihood_se: Number = None
    validation_log_likelihood_mc_se: Number = None
    validation_elbo: Number = None
    validation_elbo_se: Number = None
    curve_test_log_likelihood: Number = None
    """`test_log_likelihood` on the images of the training's test curve, where these are fewer."""
    curve_test_images: Whole | None = None
    """How many they are: the first ones of the test set."""
    curve_validation_log_likelihood: Number = None
    """`validation_log_likelihood` on the images of the training's validation curve, where these are fewer."""
    curve_validation_images: Whole | None = None
    """How many they are: the first ones of the validation set."""
    iw_samples: Whole | None = None
    effective_sample_size: Number = None
    active_units: Whole | None = None
    """Units whose KL is above 0.01 nats; null where those of a layer have no KL of their own, as q or p does not
    factorize over them."""
    active_units_per_layer: list[Whole | None] | None = None
    active_units_by_variance: Whole | None = None
    """Units for which the variance over test images of E_q[z_u|x] is above 0.01 (Burda et al., 2016). Null with one
    importance sample, and in older records, as the next."""
    active_units_by_variance_per_layer: list[Whole] | None = None
    kl_per_layer: list[Number] | None = None
    kl_standard_normal_per_layer: list[Number] | None = None
    bound_by_samples: dict[int, tuple[Number, Number]] | None = None
    """By number of importance samples: the bound and its Monte Carlo error."""
    unit_kl: list[list[Number]] | None = None
    """KL of every unit, layer by layer; of a layer whose units have no KL of their own, its KL alone."""
    unit_kl_se: list[list[Number]] | None = None
    auxiliary_nats: Number = None
    """What the auxiliary variable a of q takes from the ELBO beside the KL of the layers, E_q[log q(a|x) - log r(a|x,
    z)] in nats; null where q has none, and in older records."""
    ais: AisResult | None = None
    """Null where it was not asked for, as the next two."""
    refine: RefineResult | None = None
    probe: ProbeResult | None = None
    classification: ClassificationResult | None = None
    """Null of a model without classes. Where q(y|x) alone was trained, there is nothing else: bounds, KLs and units are
    null."""
    batch_norm_statistics: Text | None = None
    """How they were recorded; null without batch normalization."""
    evaluation_seconds: Number = None
    data: DataState | None = None
    arrays_sha256: dict[str, Text] = {}
    """Digests of the array files beside this one, by name."""
    segment: Segment | None = None
    finished_at: Text | None = None

    @model_validator(mode="after")
    def _same_units(self) -> Self:
        if not are_of_same_units(self.unit_kl or [], self.unit_kl_se or []):
            raise ValueError("unit_kl and unit_kl_se are not of the same units")
        return self
