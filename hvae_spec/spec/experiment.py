"""The whole file: an experiment, its grid, and the members that the grid resolves to."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Self, SupportsIndex, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ModelWrapValidatorHandler, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from hvae_spec.registry import Registry, kept_until_a_choice_joins
from hvae_spec.spec.base import FILE_NAME, Count, Seed, SpecModel
from hvae_spec.spec.choice import ChoiceSection, Either
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import is_binary
from hvae_spec.spec.choices.schedule import LearningRateDecay, StepSection
from hvae_spec.spec.data import DataSpec, is_drawn
from hvae_spec.spec.evaluation import EvaluationSpec, Redraws
from hvae_spec.spec.fields import (
    DecidesStopping,
    NoBearing,
    NoColumn,
    NoStepCost,
    NotInReport,
    Part,
    PerMember,
    ReadIf,
    fields,
    paths_affecting,
    paths_stating,
    short_forms,
)
from hvae_spec.spec.model import SKIP_LABELS, ModelSpec, effective_skip
from hvae_spec.spec.objective import OF_BOUND, ObjectiveSpec
from hvae_spec.spec.parts import Parts, choices, parts_in_use, read_without_code, those_in_use
from hvae_spec.spec.report import ReportSpec
from hvae_spec.spec.search import SearchSpec
from hvae_spec.spec.seeds import StagedSeeds
from hvae_spec.spec.training import TrainingSpec

EVALUATION_VERSION = 2
"""An evaluation that another version made is not the same evaluation; records call it `estimator`. Since 2, products
are in float32 whatever precision the training had."""
FLOW_PROBE_VERSION = 2
"""The same of a linear probe where q has a flow, of which the first version had other features."""
MAX_NAME = 100
"""Characters of an experiment's name."""
NO_BLANK_ENDS = r"^\S(.*\S)?$"
"""What names of variants and levels must match: in tables and figures blanks at the ends are not seen."""
AXIS_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,59}$"
"""What the name of an axis with named levels must match: it is a column's name, and no dotted path."""
Section = TypeVar("Section", bound=BaseModel)
Loc = tuple[str, ...]


def _or_none(empty: dict[str, Any] | tuple[()], schema: Any) -> BeforeValidator:
    """Nothing after a key (all commented out, say) is an empty mapping or list."""
    return BeforeValidator(lambda value: empty if value is None else value, json_schema_input_type=schema | None)


ExperimentName = Annotated[str, Field(pattern=FILE_NAME, max_length=MAX_NAME)]
VariantName = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_BLANK_ENDS)]
ProfileName = Annotated[str, Field(pattern=FILE_NAME, max_length=MAX_NAME)]
Settings = Annotated[dict[str, Any], _or_none({}, dict[str, Any])]
Variants = Annotated[dict[VariantName, Settings], _or_none({}, dict[VariantName, Settings])]
Profiles = Annotated[dict[ProfileName, Settings], _or_none({}, dict[ProfileName, Settings])]
SeedList = Annotated[tuple[Seed, ...], Field(min_length=1)]
Exclusions = Annotated[tuple[dict[str, Any], ...], _or_none((), tuple[dict[str, Any], ...])]


def _settings_of_level(value: Any) -> Any:
    """Nothing after a level's name is a level without settings; values alone are no level."""
    if value is None or isinstance(value, dict):
        return value or {}
    expected = (
        "a mapping of dotted paths and their values, {training.batch_size: 64}; an axis over the values of one field "
        "is its dotted path with a list, training.batch_size: [64, 128]"
    )
    raise PydanticCustomError("no_level", "{expected}", {"expected": expected})


def _some_levels(value: Any) -> Any:
    """The levels of an axis, if there are any."""
    if value == {}:
        raise PydanticCustomError("no_levels", "named levels, each with its settings, or a list of values")
    return value


Values = Annotated[list[Any], Field(min_length=1)]
LevelSettings = Annotated[
    dict[str, Any], BeforeValidator(_settings_of_level, json_schema_input_type=dict[str, Any] | None)
]
SomeLevels = Annotated[dict[VariantName, LevelSettings], Field(min_length=1)]
Levels = Annotated[SomeLevels, BeforeValidator(_some_levels, json_schema_input_type=SomeLevels)]


SeedsForm = Either((dict, SpecModel), TypeAdapter(StagedSeeds), TypeAdapter(SeedList))
AxisForm = Either((dict, SpecModel), TypeAdapter(Levels), TypeAdapter(Values))
Axis = Annotated[list[Any] | dict[str, dict[str, Any]], AxisForm]
Axes = Annotated[dict[str, Axis], _or_none({}, dict[str, Axis])]


class Grid(SpecModel):
    """The ablation: depths x variants x axes x seeds, less what is excluded."""

    depth: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Depths L; each keeps the lowest L layers of the model. Null: the model as it is."""
    variants: Variants = Field(default_factory=dict)
    """Named settings: dotted paths into the spec and their values. Empty: one variant, named after what it uses."""
    axes: Axes = Field(default_factory=dict)
    """Further factors: a dotted path into the spec and the list of its values, or a name and named levels, each with
    settings as a variant has them. A level applies before the variant, which may override it."""
    exclude: Exclusions = ()
    """Cells to leave out: each entry names a `variant`, a `depth`, a value or level of an axis, or several of them."""
    seeds: Annotated[tuple[Seed, ...] | StagedSeeds, SeedsForm] = (0,)
    """Seeds: the replicates of every cell. A list of them, or two stages, `{from: 5, half_width: 0.1, at_most: 12}`."""

    @property
    def value_axes(self) -> dict[str, list[Any]]:
        """The axes over the values of one field, by its dotted path."""
        return {axis: places for axis, places in self.axes.items() if isinstance(places, list)}

    @property
    def level_axes(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The axes with named levels: the settings of each level, by the names of the axis and the level."""
        return {axis: places for axis, places in self.axes.items() if isinstance(places, dict)}

    @property
    def stages(self) -> StagedSeeds | None:
        """The two stages of the seeds; None where they are a list."""
        return self.seeds if isinstance(self.seeds, StagedSeeds) else None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that are there from the start: all of a list, those of the first stage where there are two."""
        return tuple(range(self.seeds.first)) if isinstance(self.seeds, StagedSeeds) else self.seeds

    @property
    def most_seeds(self) -> int:
        """How many seeds a cell has at most."""
        return self.seeds.at_most if isinstance(self.seeds, StagedSeeds) else len(self.seeds)


class MemberSpec(SpecModel):
    """One (cell, seed) of a grid, fully resolved: all that is needed to train and evaluate it."""

    data: DataSpec
    """Data set and random draw."""
    model: ModelSpec
    """Architecture."""
    objective: ObjectiveSpec = ObjectiveSpec()
    """Training bound."""
    training: TrainingSpec
    """Optimization."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Measurement."""
    seed: Annotated[
        Seed,
        PerMember(),
        NoStepCost("noise is drawn whatever its seed"),
        NoColumn("the label `seed`"),
        NoBearing("a replicate"),
    ] = 0
    """Seed of initialization, shuffling, binarization and noise."""
    parts: Annotated[
        Parts,
        NoColumn("the fields that choose the parts are columns"),
        NotInReport("the fields that choose the parts are listed"),
        NoBearing("the fields that choose the parts are compared"),
    ] = Field(default_factory=dict)
    """The parts of extensions that are chosen, with the SHA-256 of their files: found when a grid is read, and then
    what a record says of them."""
    own_weights: str | None = None
    """SHA-256 of weights that were saved as they are (`Model.save`): how they were trained is not said. Null: they were
    trained as the rest says, as are those of all members of a grid."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Settings of extensions go to another process as plain values: it may not have the classes."""
        if self.parts:
            return type(self).model_validate, (self.model_dump(mode="json"),)
        return super().__reduce_ex__(protocol)

    @model_validator(mode="wrap")
    @classmethod
    def _with_parts(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """The member with the parts of extensions that it uses. Where these are stated, their code is not needed."""
        if isinstance(value, dict) and value.get("parts"):
            with read_without_code(value["parts"]):
                return handler(value)
        member = handler(value)
        parts = {} if member.parts else parts_in_use(member)
        return member.model_copy(update={"parts": parts}) if parts else member

    @property
    def digests(self) -> "Digests":
        """What the member is, in three digests; see `Digests`."""
        return content_hashes(self).digests(self.seed)

    @property
    def content(self) -> dict[str, Any]:
        """What the member is, but for its seed: the resolved values that differ from their defaults, less what has no
        effect. Names, comments, order, spelling and the grid around a member change nothing, and neither does a field
        that a later version adds with its default.
        """
        return _content(self, frozenset())

    @property
    def stated(self) -> dict[str, Any]:
        """All that differs from defaults, as a tree that can be read again, also without the code of extensions."""
        tree = self.model_dump(mode="json", exclude_defaults=True)
        _spell_out_parts(self, tree)
        return tree

    @property
    def content_of_results(self) -> dict[str, Any]:
        """The part of `content` that numbers of a result depend on."""
        return _content(self, _affecting("nothing"))

    @property
    def measured(self) -> dict[str, Any]:
        """How the trained member is measured: values of the fields that affect its evaluation alone, by dotted path."""
        tree = self.model_dump(mode="json")
        return {".".join(path): reduce(getitem, path, tree) for path in sorted(_outermost("evaluation"))}

    @property
    def probes_a_flow(self) -> bool:
        """Whether it has a linear probe of a layer whose q has a flow."""
        return self.evaluation.probe is not None and any(flow is not None for flow in self.model.flows)

    @property
    def redraws(self) -> Redraws | None:
        """How the binarization of the test set is redrawn; None where x is not drawn as zeros and ones, or nothing asks
        for it.
        """
        dataset, observation = self.data.dataset, self.model.observation_name
        is_binarized = is_binary(dataset, observation) and is_drawn(dataset, observation)
        return self.evaluation.redraws if is_binarized and not self.classifies_alone else None

    @property
    def classes(self) -> int:
        """C, the classes that y is one of; 0 of a model without y, or of images of which nothing says it."""
        own = self.model.classes
        return 0 if own is None else own.count or DATASETS[self.data.dataset].classes or 0

    @property
    def classifies_alone(self) -> bool:
        """Whether q(y|x) alone is trained, so that there is no bound of the images."""
        return self.model.classes is not None and self.objective.classifies_alone

    @property
    def first_phase(self) -> "MemberSpec | None":
        """The member that this one's training continues from (Table 1); None if it starts from initial weights."""
        first = self.training.first_phase
        if first is None:
            return None
        # Its values are valid already, also where the code of an extension has not run.
        objective = ObjectiveSpec.model_construct(**{name: getattr(first, name) for name in ObjectiveSpec.model_fields})
        training = {"epochs": first.epochs, "lr_decay": None, "schedule": None, "first_phase": None}
        changes = {"objective": objective, "training": self.training.model_copy(update=training)}
        member = self.model_copy(update=changes)
        return member.model_copy(update={"parts": those_in_use(self.parts, member)}) if self.parts else member

    @property
    def label(self) -> str:
        """The paper's name for the model's settings: `VAE`, `VAE+BN`, `VAE+BN+WU`, `Prob. ladder+BN+WU`, ..."""
        return self.label_at(self.model.depth)

    def label_at(self, depth: int) -> str:
        """`label` with so many layers: with few of them, skip connections are fewer, or there are none."""
        warm = "+WU" if self.objective.warm_up else ""
        model = self.model
        skip = SKIP_LABELS[effective_skip(model.skip, depth)]
        return INFERENCES[model.inference].label + skip + model.normalization.label + warm


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of three parts of what a member is, in hexadecimal, each with the seed.

    A member is trained once for every `training` and measured once for every `evaluation`. Two members of one
    `trajectory` take the same steps as long as their schedules agree.
    """

    trajectory: str
    """Of what a training step reads. Neither the number of epochs, nor the schedule (whose values are compared epoch by
    epoch, see `hvae_spec.training.schedules`), nor anything of the evaluation."""
    training: str
    """Of the trajectory, the schedule and the number of epochs: of all that decides what the weights are."""
    evaluation: str
    """Of the training, the test set, K, the batch-norm statistics, `EVALUATION_VERSION` and `FLOW_PROBE_VERSION`: of
    all that decides a result."""


@dataclass(frozen=True)
class ContentHashes:
    """What members of one cell have in common, hashed so that a seed is quickly added."""

    trajectory: Any
    training: Any
    evaluation: Any

    def digests(self, seed: int) -> Digests:
        """The digests of the member with this seed."""
        return Digests(*(_with_seed(part, seed) for part in (self.trajectory, self.training, self.evaluation)))


def content_hashes(member: MemberSpec) -> ContentHashes:
    """The hashes of a member's content but for its seed."""
    stopping = frozenset() if member.training.early_stopping is None else paths_stating(MemberSpec, DecidesStopping)
    training = _content(member, _affecting("evaluation", "nothing") - stopping)
    trajectory = _content(member, _affecting("schedule", "length", "evaluation", "nothing"))
    evaluation = {**_content(member, _affecting("nothing") - stopping), "estimator": EVALUATION_VERSION}
    if member.probes_a_flow:
        evaluation["flow_probe"] = FLOW_PROBE_VERSION
    return ContentHashes(*(_hash(part) for part in (trajectory, training, evaluation)))


def _hash(content: dict[str, Any]) -> Any:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode())


def _with_seed(common: Any, seed: int) -> str:
    whole = common.copy()
    whole.update(f" seed {seed}".encode())
    return str(whole.hexdigest())


@kept_until_a_choice_joins
def _outermost(part: Part) -> frozenset[Loc]:
    """Paths of the fields that affect a part, less those within a section that does as a whole."""
    paths = paths_affecting(MemberSpec, part)
    return frozenset(path for path in paths if not any(path[:length] in paths for length in range(1, len(path))))


@kept_until_a_choice_joins
def _affecting(*parts: Part) -> frozenset[Loc]:
    return frozenset().union(*(paths_affecting(MemberSpec, part) for part in parts))


def _content(member: MemberSpec, without: frozenset[Loc]) -> dict[str, Any]:
    """What `MemberSpec.content` describes, with the fields at some paths as if they had their defaults."""
    member = _with_short_schedule(member)
    without = without | _idle_settings(member, without)
    if member.training.schedule is not None and not member.training.schedule.multiplies:
        # Nothing but a first phase reads the optimizer's learning rate, and all that follows depends on the phase.
        rate = {("training", "optimizer", member.training.optimizer.choice, "lr")}
        without = without | rate if member.training.first_phase is None else without - rate
    neutral = _neutral(member, without, ())
    content = neutral.model_dump(mode="json", exclude_defaults=True, exclude={"seed", "parts"})
    if neutral.parts and (parts := _parts_that_count(neutral)):
        content["extensions"] = {key: part.sha256 for key, part in parts.items()}
        _spell_out_parts(neutral, content)
    for path in without:
        # A field without a default cannot be neutral: it is left out.
        _pop(content, path)
    _drop_idle(neutral, content)
    return content


def _with_short_schedule(member: MemberSpec) -> MemberSpec:
    """The member with `lr_decay` in place of the schedule that it is short for."""
    chosen = member.training.schedule
    if not isinstance(chosen, StepSection) or chosen.step.ramp > 1:  # a ramp of one epoch is none
        return member
    short = LearningRateDecay(factor=chosen.step.factor, every=chosen.step.every)
    training = member.training.model_copy(update={"lr_decay": short, "schedule": None})
    return member.model_copy(update={"training": training})


def _idle_settings(member: MemberSpec, without: frozenset[Loc]) -> frozenset[Loc]:
    """The settings of parts of extensions that affect nothing but what fields at some paths affect."""
    if not member.parts:
        return frozenset()
    idle = {which for which in get_args(Part) if paths_affecting(MemberSpec, which) <= without}
    return frozenset(
        (*path, name, key)
        for path, registry, name, _ in choices(member)
        for key, affected in _part(member, registry, name).items()
        if affected in idle
    )


def _part(member: MemberSpec, registry: Registry[Any], name: str) -> dict[str, str]:
    """What the settings of a choice affect, as its part says; nothing if it is no part of an extension."""
    part = member.parts.get(f"{registry.kind} {name}")
    return {} if part is None else part.affects


def _parts_that_count(member: MemberSpec) -> Parts:
    """The parts of extensions that a member uses, less an inference model that is a simpler one with a single layer."""
    model, idle = member.model, set[str]()
    if model.effective_inference != model.inference:
        idle.add(f"{INFERENCES.kind} {model.inference}")
    return {key: part for key, part in those_in_use(member.parts, member).items() if key not in idle}


def _spell_out_parts(member: MemberSpec, content: dict[str, Any]) -> None:
    """Put all settings of the parts of extensions that a member uses into its content: without their code, defaults
    are not known.
    """
    for path, registry, name, value in choices(member) if member.parts else ():
        if f"{registry.kind} {name}" in member.parts and isinstance(value, ChoiceSection):
            _at(content, path[:-1])[path[-1]] = value.model_dump(mode="json")


def _at(tree: dict[str, Any], path: Loc) -> dict[str, Any]:
    node: Any = tree
    for key in path:
        node = node[int(key)] if isinstance(node, list | tuple) else node.setdefault(key, {})
    found: dict[str, Any] = node
    return found


def _neutral(section: Section, without: frozenset[Loc], above: Loc) -> Section:
    """A section with the fields at some paths set to their defaults."""
    changes: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        path, value = (*above, name), getattr(section, name)
        if path in without:
            if not info.is_required():
                changes[name] = info.get_default(call_default_factory=True)
        elif isinstance(value, BaseModel) and any(path == longer[: len(path)] for longer in without):
            changes[name] = _neutral(value, without, path)
    return section.model_copy(update=changes) if changes else section


def _pop(tree: dict[str, Any], path: Loc) -> None:
    for key in path[:-1]:
        tree = tree.get(key, {})
    tree.pop(path[-1], None)


def _drop_idle(member: MemberSpec, content: dict[str, Any]) -> None:
    """Drop from a member's content what says the same as its absence, or what nothing in this member reads."""
    model, objective = member.model, member.objective
    for layer, stated in zip(model.layers, content["model"]["layers"], strict=True):
        if layer.down == layer.mlp:
            stated.pop("mlp_down", None)
        if not model.inference_model.top_down or layer.top_down == layer.down:
            stated.pop("mlp_top_down", None)
    idle: list[Loc] = [] if model.inference_model.top_down else [("model", "share_top_down")]
    content["model"]["inference"] = model.effective_inference
    content["model"]["skip"] = model.effective_skip
    idle += [("model", "inference_steps")] * (model.sweeps == 1)
    idle += [("model", "skip")] * (model.effective_skip == ModelSpec.model_fields["skip"].default)
    idle += [("model", "inference")] * (model.effective_inference == ModelSpec.model_fields["inference"].default)
    idle += [("objective", "sample_ramp")] if objective.mc_samples == objective.iw_samples == 1 else []
    idle += [("objective", "elbo_share")] if objective.iw_samples == 1 else []
    no_classes: list[Loc] = [("objective", "classification"), ("training", "first_phase", "classification")]
    idle += no_classes * (model.classes is None)
    idle += [("model", "classes", "count")] * (member.classes == DATASETS[member.data.dataset].classes)
    if member.classifies_alone:
        # Then in the first phase, too.
        idle += [(*phase, name) for phase in (("objective",), ("training", "first_phase")) for name in OF_BOUND]
        idle += [("evaluation", name) for name in ("iw_samples", "curve_iw_samples", "curve_images")]
    idle += [("data", "labeled_batch")] * (not member.data.adds_labeled)
    first = member.training.first_phase
    idle += [("training", "first_phase", "elbo_share")] if first is not None and first.iw_samples == 1 else []
    _unify_layer_weights(member, content)
    idle += [] if model.normalization.hidden else [("model", "batch_norm_eps")]
    idle += [] if model.normalization.of_batch else [("evaluation", "batch_norm_statistics")]
    # Of a field in two forms the one without a value.
    idle += [path for path in short_forms(MemberSpec) if reduce(getattr, path, member) is None]
    if member.evaluation.every is None:
        idle += [("evaluation", "curve_iw_samples"), ("evaluation", "curve_images")]
    if member.redraws is None:
        idle.append(("evaluation", "redraws"))
    data = member.data
    idle += [path for path, is_read in _conditions() if not is_read(data.dataset, model.observation_name)]
    if data.is_own and data.own:
        # Where the images lie on this machine is nothing of the member.
        content["data"]["own"]["file"] = os.path.basename(data.own.file)
        if data.validation:
            # Once the last images validated; the training set has been another one since.
            content["data"]["validation_is_spread"] = True
    else:
        idle.append(("data", "own"))
        # The published sizes: what is on this machine is nothing of the member either.
        published = data.offered(DATASETS[data.dataset].counts or ImageCounts(0, 0, 0))
        idle += [("data", "train_images")] * (data.train_images == published.train)
        idle += [("data", "test_images")] * (data.test_images == published.test)
    for path in idle:
        _pop(content, path)
    # A section that holds nothing else is the same as none.
    for section in ("objective", "evaluation"):
        if not content.get(section, True):
            del content[section]


def _unify_layer_weights(member: MemberSpec, content: dict[str, Any]) -> None:
    """Layers of which all have the same weight of their KL are those of one number."""
    first = content.get("training", {}).get("first_phase")
    for objective, stated in ((member.objective, content.get("objective")), (member.training.first_phase, first)):
        if objective is not None and stated is not None and "beta" in stated:
            weights = objective.layer_weights
            stated["beta"] = list(weights) if isinstance(weights, tuple) else weights
            if weights == ObjectiveSpec.model_fields["beta"].default:
                del stated["beta"]


@kept_until_a_choice_joins
def _conditions() -> tuple[tuple[Loc, Callable[[str, str], bool]], ...]:
    """The fields that are read only if something is true of the data set and the observation model, and what."""
    stated = ((item.path, item.fact(ReadIf)) for item in fields(MemberSpec))
    return tuple((path, read.condition) for path, read in stated if read is not None)


class Experiment(SpecModel):
    """A spec file."""

    name: ExperimentName
    """Names the results folder `results/<name>`: letters, digits, `.`, `_` and `-`."""
    data: DataSpec
    """Data set and random draw."""
    model: ModelSpec
    """Architecture."""
    objective: ObjectiveSpec = ObjectiveSpec()
    """Training bound."""
    training: TrainingSpec
    """Optimization."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Measurement."""
    report: ReportSpec = ReportSpec()
    """What the report is to answer, how it lays out the results and how it judges ours beside the published values:
    `{layout: {x: depth}, tolerance: 0.3}`. It changes no member."""
    extensions: Annotated[tuple[str, ...], _or_none((), tuple[str, ...])] = ()
    """Python files of your own, relative to this file, whose parts are in the language of this file then. They run
    when it is read."""
    grid: Grid = Grid()
    """The ablation. Without it, the file is a grid of one."""
    search: SearchSpec | None = None
    """Points of a space in the place of an ablation, of which the best on validation images is found: `{space:
    {training.optimizer.adam.lr: {loguniform: [1e-4, 1e-2]}}, trials: 40, halving: {factor: 3, from: 50}}`. Every depth,
    variant and place of the grid has a search of its own. Null: none."""
    profiles: Profiles = Field(default_factory=dict)
    """Named sets of overrides, chosen by `--profile`: dotted paths into the spec and their values. A profile's results
    go to `results/<name>-<profile>`."""


BESIDE_MEMBERS = Experiment.model_fields.keys() - MemberSpec.model_fields.keys()
"""Sections of a spec file that are none of a member's."""
