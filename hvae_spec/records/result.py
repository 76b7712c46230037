"""The files of a results folder: every one is one pydantic model here, which is its only definition.

All carry `format`. A file of another format is refused in one line, never guessed at. Numbers that JSON has no word for
(not a number, infinity) are null in a file. Results, which cannot be made again without training or evaluating, and the
index, from which numbers of the report are taken, have a `checksum` beside the fields of their models: the SHA-256 of
all others, so that damage which leaves a file readable is found as well.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NotRequired, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from typing_extensions import TypedDict

from hvae_spec.errors import RecordError, as_machine_error
from hvae_spec.records.files import finite, sha256_of, write_json
from hvae_spec.spec.seeds import StagedSeeds

Format = Literal[1]
FORMAT: Format = 1
CHECKSUM = "checksum"
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

Number = Annotated[float, Strict()] | None
Tolerance = Annotated[float, Strict(), Field(gt=0)] | None
Whole = Annotated[int, Strict()]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]


class FileModel(BaseModel):
    """A file, or a part of one. Fields that a later version adds are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
    has_checksum: ClassVar[bool] = False


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
        if not _alike(self.unit_kl or [], self.unit_kl_se or []):
            raise ValueError("unit_kl and unit_kl_se are not of the same units")
        return self


class EpochRow(TypedDict):
    """A line of epochs.jsonl: means over the steps of an epoch, and where it was evaluated the validation curve, or
    without a validation set the test curve.
    """

    format: Format
    epoch: Whole
    beta: Number
    train_bound: Number
    """The objective, whose KL has the weight beta."""
    train_bound_beta_1: NotRequired[Number]
    """The same bound with beta = 1, as it is on the test set. Missing in rows that were made before this was kept."""
    train_reconstruction: Number
    """log p(x|z_1)."""
    kl_per_layer: list[Number]
    auxiliary_nats: NotRequired[Number]
    """What the auxiliary variable of q takes from the bound beside the KLs; missing where q has none."""
    train_log_classes: NotRequired[Number]
    """The mean of log q(y|x) over the labeled images of the batches; with classes alone."""
    gradient_norm: Number
    seconds: Number
    ms_per_step: Number
    test_error: NotRequired[Number]
    """With classes: percent of the images whose likeliest class by q(y|x) is not theirs."""
    validation_error: NotRequired[Number]
    test_elbo: NotRequired[Number]
    test_log_likelihood: NotRequired[Number]
    test_iw_samples: NotRequired[Whole]
    test_images: NotRequired[Whole | None]
    """The first so many of the test images are those of the two bounds. Missing in rows that were made before this was
    kept, when it was all of them."""
    validation_elbo: NotRequired[Number]
    """With the noise that all points of the curve have, as the next."""
    validation_log_likelihood: NotRequired[Number]
    validation_iw_samples: NotRequired[Whole]
    validation_images: NotRequired[Whole]
    """The first so many of the validation images are those of the two bounds."""
    active_units: NotRequired[Whole]


class UnitsRow(TypedDict):
    """A line of units.jsonl: KL(q||p) of every unit at a point of the curve, and its standard error; of a layer whose
    units have no KL of their own, its KL alone.
    """

    format: Format
    epoch: Whole
    kl: list[list[Number]]
    kl_se: list[list[Number]]


class PlannedMember(FileModel):
    """A member as grid.json names it."""

    digest: Text
    """The evaluation digest."""
    training: Text
    folder: Text
    labels: dict[str, Any]
    measured: dict[str, Any] = {}
    """How it is measured (`hvae_spec.spec.experiment.MemberSpec.measured`). Its record's spec may differ in this: it is
    that of the member that was trained."""


class LayoutSettings(FileModel):
    """`report.layout` of a spec."""

    x: Text | None = None
    color: Text | None = None
    facet: Text | None = None


class ReportSettings(FileModel):
    """`report` of a spec. Null: as by default, as in files of before there was this."""

    question: Text | None = None
    layout: LayoutSettings = LayoutSettings()
    tolerance: Tolerance = None
    active_units_tolerance: Tolerance = None
    reference: dict[str, Any] = {}
    contrasts: dict[Text, list[Any]] = {}


class SearchSettings(FileModel):
    """What reports need of a search: what its points are of, and which seeds they were ranked on."""

    space: list[Text]
    """Dotted paths of the settings that points have values of."""
    points: dict[Text, list[Any]]
    """The values of every point, by its name."""
    seeds: list[Whole]
    """Seeds of the search; those of its best point beside these are new ones."""


class PlannedGrid(FileModel):
    """What reports need of a grid beside its members."""

    name: Text
    variants: list[Text]
    """Their names in the order of the spec."""
    stages: StagedSeeds | None = None
    """How many seeds there are, where they come in two stages."""
    report: ReportSettings = ReportSettings()
    """How the report judges."""
    foretold: dict[Text, list[Any]] = {}
    """Those of the report's contrasts that were planned before the grid had a result."""
    search: SearchSettings | None = None
    """Null where it is an ablation."""


class NamedGrid(PlannedGrid):
    """One of several grids in grid.json, and what it calls the members that it has."""

    labels: dict[Text, dict[str, Any]]
    """By evaluation digest."""


class GridFile(PlannedGrid):
    """`grid.json`: the grid as last planned, or several grids as one."""

    format: Format = FORMAT
    members: list[PlannedMember]
    """Each once; one that several grids have, with the labels of the first of them."""
    grids: list[NamedGrid] = []
    """The grids of a file that names several, in its order; else empty."""
    absent: dict[Text, Text] = {}
    """Data sets whose files were missing, so that members were left out, each with what is missing and how it is had.
    """


class PackMemberState(FileModel):
    """A member as a pack's file holds it."""

    folder: Text
    labels: dict[str, Any]
    spec: dict[str, Any]


class PackFile(FileModel):
    """`pack.json`: what lets a later run go on with a pack as it is."""

    format: Format = FORMAT
    threads: Whole
    compiled: Flag
    tries_compiling: Flag = False
    """Whether it is yet to be decided, before the first epoch, if steps are compiled."""
    members: list[PackMemberState]
    extends: list[Text] = []
    """Folders of the records that the members' training goes on from, in their order; empty if it starts from
    nothing. Those in the results folder are named relative to it, so that it can be moved.
    """


class PlannedPack(FileModel):
    """A pack that was planned and has perhaps not begun."""

    id: Text
    kind: Literal["train", "evaluate"]
    threads: Whole
    compiled: Flag
    tries_compiling: Flag = False
    members: list[Text]
    """Evaluation digests."""


class PlannedFile(FileModel):
    """`packs/planned.json`: which members go together, also in packs that an interruption comes before."""

    format: Format = FORMAT
    packs: list[PlannedPack]


class IndexedRecord(FileModel):
    """What plans read of a record's spec."""

    trajectory: Text
    training: Text
    spec: dict[str, Any]
    """The resolved spec less defaults."""


class IndexFile(FileModel):
    """`members/index.json`: every record's spec in one file, so that a plan need not open thousands. It can be deleted:
    what is missing in it is read from the records.
    """

    has_checksum = True
    format: Format = FORMAT
    records: dict[str, IndexedRecord]
    """By the name of the record's folder."""


class CurveDigests(FileModel):
    """SHA-256 of every row of a member's curves (`hvae_spec.records.curves.digests_of_rows`), by its epoch."""

    epochs: dict[int, Text]
    units: dict[int, Text]


class Stopping(FileModel):
    """How far a member is from being stopped early."""

    best_epoch: Whole | None = None
    """The counted evaluation with the best bound; null before the first that counts."""
    best_bound: Number = None
    """Null as well if it is not a number."""
    waited: Whole = 0
    """Counted evaluations since then."""
    stopped_epoch: Whole | None = None
    """The epoch in which it has stopped; null while it goes on."""

    def after(self, epoch: int, bound: float, patience: int) -> "Stopping":
        """The state after a counted evaluation, in which a bound was measured."""
        value = bound if math.isfinite(bound) else None
        best = -math.inf if self.best_bound is None else self.best_bound
        if self.best_epoch is None or (value is not None and value > best):
            return Stopping(best_epoch=epoch, best_bound=value)
        waited = self.waited + 1
        stopped = epoch if waited >= patience else None
        return self.model_copy(update={"waited": waited, "stopped_epoch": stopped})


class CheckpointHeader(FileModel):
    """What a pack's checkpoint says beside its tensors."""

    format: Format = FORMAT
    epoch: Whole
    trainings: list[Text]
    """Training digests of the pack's members, in their order."""
    shapes: list[list[Whole]]
    """Of a member's parameters, which the optimizer keeps as one row."""
    divergences: list[Divergence | None]
    stopping: list[Stopping] = []
    """One per member; empty without early stopping."""
    in_step: list[Whole] | None = None
    """The members that are still trained, by their index, whose parameters the checkpoint holds in this order; null:
    all."""
    seconds: dict[str, float]
    segments: list[Segment]
    extended: list[TrainingResult] = []
    """The shorter trainings that the members go on from, one per member; none if they started anew."""
    curves: list[CurveDigests | None] = []
    """Of the curves that lead up to the checkpoint, one per member, null for members that were done. Empty in
    checkpoints that were made before this was kept."""


EPOCH_ROWS: TypeAdapter[list[EpochRow]] = TypeAdapter(list[EpochRow])


def _alike(kl: list[list[Number]], kl_se: list[list[Number]]) -> bool:
    """Whether there is one error for each unit of each layer."""
    return [len(layer) for layer in kl] == [len(layer) for layer in kl_se]


def _same_units(row: UnitsRow) -> UnitsRow:
    if not _alike(row["kl"], row["kl_se"]):
        raise ValueError("kl and kl_se are not of the same units")
    return row


UNITS_ROWS: TypeAdapter[list[UnitsRow]] = TypeAdapter(list[Annotated[UnitsRow, AfterValidator(_same_units)]])

AnyFile = TypeVar("AnyFile", bound=FileModel)


def read_file(path: Path, kind: type[AnyFile], remedy: str) -> AnyFile | None:
    """The content of a JSON file; None if there is no such file.

    Args:
        path: the file.
        kind: what it must be.
        remedy: what would fix it if it is damaged, for the message.

    Raises:
        RecordError: the file is damaged, or of another format.
        MachineError: the system does not let it be read.

    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        fault = RecordError(f"{path}: cannot be read ({error.strerror}); {remedy}")
        raise as_machine_error(path, error) or fault from None
    try:
        found = kind.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {fault_of(error)}; {remedy}") from None
    if "format" not in found.model_fields_set:
        raise RecordError(f"{path}: written by an earlier version (it has no format); {remedy}")
    if kind.has_checksum and not _is_as_written(content):
        raise RecordError(f"{path}: damaged (its content is not that of its checksum); {remedy}")
    return found


def write_file(path: Path, content: FileModel) -> None:
    """Write a JSON file atomically."""
    tree = finite(content.model_dump())
    write_json(path, {**tree, CHECKSUM: _checksum(tree)} if content.has_checksum else tree)


def _checksum(tree: dict[str, Any]) -> str:
    return sha256_of(json.dumps(tree, sort_keys=True).encode())


def _is_as_written(content: bytes) -> bool:
    """Whether the content of a JSON file agrees with its checksum. Files of before there was one have none."""
    try:
        tree = json.loads(content)
        return CHECKSUM not in tree or tree.pop(CHECKSUM) == _checksum(tree)
    except (ValueError, RecursionError):  # in fields that the model passes over
        return False


KINDS = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "typed_dict_type"), "a mapping"),
    "string_type": "text",
    "bool_type": "true or false",
}
"""What pydantic's kinds of errors miss, in words."""


def fault_of(error: ValidationError) -> str:
    """The first thing that is wrong with a file, in words: `damaged (steps: 'a' is not a whole number)`."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid" or (first["type"] == "model_type" and not place):
        return "damaged (not a JSON object)"
    if first["type"] == "value_error":
        return f"damaged ({first['ctx']['error']})"
    if place == "format":
        return f"written by another version (format {first['input']!r}, not {FORMAT})"
    return f"damaged ({in_words(first, place)})"


def in_words(details: Any, place: str) -> str:
    """One of pydantic's errors as `place: 'x' is not a number`, or `place is missing`."""
    if details["type"] == "missing":
        return f"{place} is missing"
    value = str(details["input"])[:60]
    shown = repr(value) if isinstance(details["input"], str) else value
    if details["type"] == "literal_error":
        return f"{place}: {shown} is not {details['ctx']['expected']}"
    kind = KINDS.get(details["type"])
    message = str(details["msg"])
    return f"{place}: {shown}: {message[0].lower()}{message[1:]}" if kind is None else f"{place}: {shown} is not {kind}"
