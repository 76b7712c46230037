"""Contradictions within a model, of its prior, layers, flows, auxiliary variable, inference and skip connections; and
of it with the data.
"""

from collections.abc import Iterator

from hvae_spec.spec.base import Loc
from hvae_spec.spec.choice import name_and_settings
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.consistency.phases import objectives
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.model import ModelSpec


def observation_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """An observation model of other numbers than a data set holds."""
    data, observation = member.data, member.model.observation_name
    if data.is_own and data.own is None:
        return
    x = OBSERVATIONS[observation].x
    if DATASETS[data.dataset].binary and x is not X.BINARY:
        fault, fit = "zeros and ones", {X.BINARY}
    elif data.levels is None and x is X.GRAY:
        fault, fit = "intensities without levels", {*X} - {X.GRAY}
    else:
        return
    others = " or ".join(name for name in OBSERVATIONS if OBSERVATIONS[name].x in fit)
    yield Inconsistency(
        ("model", "observation"),
        f"{data.name} holds {fault}, of which a {observation} observation is no model",
        f"observation: {others}, or another data set",
        ("data.dataset", "data.own", "model.observation"),
    )


def prior_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """A prior of z_L that the rest of the model gives no room for."""
    prior, name = model.prior_model, name_and_settings(model.prior)[0]
    if prior.needs_encoder and model.depth > 1 and not model.inference_model.gives_top:
        others = " or ".join(other for other in INFERENCES if INFERENCES[other].gives_top)
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} is made of q(z_{model.depth}|x), which {model.inference} inference does not have: its "
            f"q(z_{model.depth}|...) depends on a sample of the layers below",
            f"inference: {others}, a single layer, or another prior",
            ("model.prior", "model.inference", "model.layers"),
        )
    if prior.needs_encoder and model.flows[-1] is not None:
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} takes the density of q(z_{model.depth}|x) at any z_{model.depth}: with a flow of it, "
            "that is the flow's inverse for every component",
            f"no flow of z_{model.depth}, or another prior",
            ("model.prior", "model.flow", "model.layers"),
        )
    units = model.layers[-1].units
    if units < prior.least_units:
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} of {units} unit{'s' * (units > 1)}: it is one of {prior.least_units} or more",
            f"units: {prior.least_units} or more in z_{model.depth}, or another prior",
            ("model.prior", "model.layers"),
        )


def pseudo_input_problems(model: ModelSpec, there: int) -> Iterator[Inconsistency]:
    """More pseudo-inputs than there are different training images that they start at."""
    if model.pseudo_inputs > there:
        yield Inconsistency(
            ("model", "prior"),
            f"{model.pseudo_inputs} pseudo-inputs start at different training images, of which there are {there}",
            f"at most {there}, or more training images",
            ("model.prior", "data.dataset", "data.own", "data.train_images", "data.validation"),
        )


def single_unit_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """Hidden layers of one unit, of which a normalization over units leaves nothing."""
    if not model.normalization.norm.of_units:
        return
    for index, layer in enumerate(model.layers):
        widths = {"mlp": layer.mlp, "mlp_down": layer.mlp_down, "mlp_top_down": layer.mlp_top_down}
        for field, each in widths.items():
            if each is not None and 1 in each:
                yield Inconsistency(
                    ("model", "layers", index, field),
                    f"{model.normalization.norm.words.lower()} of a hidden layer of one unit, which is constant then",
                    "widths of 2 or more, or another model.norm",
                    ("model.layers", "model.norm"),
                )


def auxiliary_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """What takes q(z|x), or what inference knows of an image, to be of no sample, where q has an auxiliary variable."""
    model = member.model
    if model.auxiliary is None:
        return

    def problem(loc: Loc, message: str, remedy: str, *others: str) -> Inconsistency:
        return Inconsistency(loc, message, f"{remedy}, or model.auxiliary: null", ("model.auxiliary", *others))

    if model.prior_model.needs_encoder:
        name = name_and_settings(model.prior)[0]
        yield problem(
            ("model", "prior"),
            f"the prior {name} is made of q(z_{model.depth}|x), which is an integral over an auxiliary variable",
            "another prior",
            "model.prior",
        )
    if member.evaluation.refine is not None:
        yield problem(
            ("evaluation", "refine"),
            "a refinement with an auxiliary variable: it fits what inference knows of an image, and all that it knows "
            "is of a sample then",
            "refine: null",
            "evaluation.refine",
        )
    if model.sweeps > 1:
        yield problem(
            ("model", "inference_steps"),
            "several sweeps of inference with an auxiliary variable: all but the last are of an image alone, and would "
            "be of a sample then",
            "inference_steps: 1",
            "model.inference_steps",
        )
    if model.normalization.norm.of_units and 1 in model.auxiliary.mlp:
        yield problem(
            ("model", "auxiliary", "mlp"),
            f"{model.normalization.norm.words.lower()} of a hidden layer of one unit, which is constant then",
            "widths of 2 or more, another model.norm",
            "model.norm",
        )
    for section, objective in objectives(member):
        path = ".".join(map(str, section))
        if ESTIMATORS[objective.estimator].is_path:
            plain = " or ".join(name for name in ESTIMATORS if not ESTIMATORS[name].is_path)
            yield problem(
                (*section, "estimator"),
                f"the estimator {objective.estimator} with an auxiliary variable: it leaves out the score of the "
                "latents alone, and the auxiliary variable has one too",
                f"estimator: {plain}",
                f"{path}.estimator",
            )
        if isinstance(objective.layer_weights, tuple):
            yield problem(
                (*section, "beta"),
                "a weight for every layer with an auxiliary variable, which is of no layer",
                "one number",
                f"{path}.beta",
            )


def flow_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """What needs log q of a sample whatever it came from, where a layer of q has a flow."""
    flowed = [place for place, flow in enumerate(member.model.flows, start=1) if flow is not None]
    if not flowed:
        return
    which, flows = f"z_{flowed[0]}", ("model.flow", "model.layers")
    if not member.model.inference_model.takes_flows:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].takes_flows)
        yield Inconsistency(
            ("model", "inference"),
            f"{member.model.inference} inference takes no flows, and {which} has one",
            f"inference: {others}, or model.flow: none",
            ("model.inference", *flows),
        )
    for section, objective in objectives(member):
        path = ".".join(map(str, section))
        if ESTIMATORS[objective.estimator].is_path:
            plain = " or ".join(name for name in ESTIMATORS if not ESTIMATORS[name].is_path)
            yield Inconsistency(
                (*section, "estimator"),
                f"the estimator {objective.estimator} with a flow of {which}: it takes log q once more with constant "
                "weights, and with them the inverse of the flow",
                f"estimator: {plain}, or model.flow: none",
                (f"{path}.estimator", *flows),
            )


def top_down_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """Top-down mappings that inference does not have, or that cannot be those of the generative model."""
    model = member.model
    described = INFERENCES[model.inference]
    has_path = described.top_down and described.can_share
    if model.share_top_down and not has_path:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].top_down and INFERENCES[name].can_share)
        yield Inconsistency(
            ("model", "share_top_down"),
            f"{model.inference} inference has no top-down path to share with the generative model"
            if not described.top_down
            else f"the top-down mappings of {model.inference} inference take the evidence of x too, so that they are "
            "none of the generative model's",
            f"inference: {others}, or share_top_down: false",
            ("model.inference", "model.share_top_down"),
        )
    if model.layers[0].mlp_top_down is not None:
        yield Inconsistency(
            ("model", "layers", 0, "mlp_top_down"),
            "there is no top-down inference mapping out of z_1",
            "mlp_top_down on layers above the first only; mlp_down sets the widths of p(x|z_1)",
            ("model.layers",),
        )
    for index, layer in enumerate(model.layers[1:], start=1):
        if has_path and model.share_top_down and layer.top_down != layer.down:
            yield Inconsistency(
                ("model", "layers", index, "mlp_top_down"),
                f"a shared top-down path has the generative mapping's widths {list(layer.down)}, "
                f"not {list(layer.top_down)}",
                f"mlp_top_down: {list(layer.down)}, or leave it out, or share_top_down: false",
                ("model.layers", "model.inference", "model.share_top_down"),
            )


def skip_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """Skip connections that inference has not, or has where the mapping that it shares has none."""
    described = INFERENCES[model.inference]
    if model.skip == "both" and described.with_skip() is None:
        yield Inconsistency(
            ("model", "skip"),
            f"{model.inference} inference has no skip connections",
            "skip: generative or none, or another inference",
            ("model.skip", "model.inference"),
        )
    if model.skip == "generative" and model.share_top_down and described.top_down and model.depth > 2:
        yield Inconsistency(
            ("model", "skip"),
            "a shared top-down path with skip connections of the generative model alone: its mappings would take other "
            "latents in inference",
            "skip: both, or share_top_down: false",
            ("model.skip", "model.inference", "model.share_top_down"),
        )


def step_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """Several sweeps of an inference that has a single one."""
    if model.inference_steps > 1 and INFERENCES[model.inference].in_sweeps(model.inference_steps) is None:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].in_sweeps(model.inference_steps))
        yield Inconsistency(
            ("model", "inference_steps"),
            f"{model.inference} inference has a single sweep, not {model.inference_steps}",
            f"inference: {others}, or inference_steps: 1",
            ("model.inference_steps", "model.inference"),
        )
