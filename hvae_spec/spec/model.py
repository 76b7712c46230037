"""The architecture: stochastic layers, their MLPs, the inference style and the observation model (paper, Sec. 2)."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, Strict, model_validator

from hvae_spec.spec.auxiliary import AuxiliarySpec
from hvae_spec.spec.base import Count, Flag, InFloat64, NonNegative, Positive, Real, SpecModel
from hvae_spec.spec.choice import ChoiceSection, Named, OneOf, name_and_settings
from hvae_spec.spec.choices.flow import FLOWS, without_absent
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel
from hvae_spec.spec.choices.initialization import INITIALIZATIONS
from hvae_spec.spec.choices.mapping import MAPPINGS
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, LeakyReLU
from hvae_spec.spec.choices.norm import NORMS, Normalization, is_absent, normalization
from hvae_spec.spec.choices.observation import OBSERVATIONS, is_binary, name_of
from hvae_spec.spec.choices.prior import PRIORS, PriorModel
from hvae_spec.spec.fields import (
    AuthorsCode,
    Column,
    Factor,
    IdleWhere,
    NoStepCost,
    NotInReport,
    Paper,
    PerMember,
    ReadIf,
    SameAs,
    ShortFor,
)
from hvae_spec.spec.forms import SpecInForms

Widths = tuple[Count, ...]
Inference = Annotated[str, Named(INFERENCES)]
Steps = Annotated[int, Strict(), Field(ge=1, le=20)]
Skip = Literal["none", "generative", "both"]
Observation = Annotated[str | ChoiceSection, OneOf(OBSERVATIONS, by_name=True, kept_by_name=True)]
Initialization = Annotated[str, Named(INITIALIZATIONS)]
Mapping = Annotated[str | ChoiceSection, OneOf(MAPPINGS, by_name=True)]
Nonlinearity = Annotated[str | ChoiceSection, OneOf(NONLINEARITIES, by_name=True)]
Flow = Annotated[str | ChoiceSection | None, OneOf(FLOWS, by_name=True, or_null=True)]
Prior = Annotated[str | ChoiceSection, OneOf(PRIORS, by_name=True)]
Norm = Annotated[str | ChoiceSection | None, OneOf(NORMS, by_name=True, or_null=True)]


WIDTHS = ((512, 512), (256, 256), (128, 128), (64, 64), (32, 32))
"""The paper's hidden widths, z_1 first; the same "for all connections"."""
BURDAS_WIDTHS = [[200, 200], [100, 100]]
"""Burda et al.'s."""
NO_FLOW = "Sec. 2"
DRAWN = NotInReport("the drawings of the architectures show it, and it differs with depth")


class StochasticLayer(SpecModel):
    """One layer z_i of latent variables and the MLPs that touch it."""

    units: Annotated[Count, Column("units"), DRAWN, Paper(by_layer=(64, 32, 16, 8, 4), where="Sec. 3", iwae=[100, 50])]
    """Number of latent units of z_i."""
    mlp: Annotated[
        Widths, Column("widths", "hidden widths"), DRAWN, Paper(by_layer=WIDTHS, where="Sec. 3", iwae=BURDAS_WIDTHS)
    ]
    """Hidden widths of the mapping up into z_i, and of the mapping down out of z_i (to z_{i-1}, or to x for i = 1).
    An empty list makes the mapping linear."""
    mlp_down: Annotated[
        Widths | None,
        Column(
            "widths_down",
            "hidden widths of the generative mappings",
            of_one="hidden widths of the generative mapping",
        ),
        DRAWN,
        SameAs("mlp"),
        Paper(by_layer=WIDTHS, where="Sec. 3", iwae=BURDAS_WIDTHS),
        AuthorsCode("the ladder's p(z_i|z_{i+1}) has the widths of layer i"),
    ] = None
    """Hidden widths of the generative mapping down out of z_i, where they differ from `mlp`."""
    mlp_top_down: Annotated[
        Widths | None,
        Column(
            "widths_top_down",
            "hidden widths of the top-down mappings",
            lowest_layer=2,
            of_one="hidden widths of the top-down mapping",
        ),
        DRAWN,
        SameAs("mlp_down"),
        Paper(by_layer=WIDTHS, where="Sec. 3"),
    ] = None
    """Hidden widths of the inference mapping t_{i-1} out of z_i, where they differ from those of the generative
    mapping. Only `ladder` and `top_down` have this mapping, and only out of z_2 and above."""
    flow: Annotated[
        Flow, Column("layer_flows", "flows of single layers", of_one="flow"), Paper(None, NO_FLOW, iwae=None)
    ] = None
    """The normalizing flow of this layer of q, where it is not that of all layers: see `model.flow`. `none`: this layer
    has none. Null: as `model.flow` says."""

    @property
    def down(self) -> Widths:
        """Hidden widths of the generative mapping out of this layer."""
        return self.mlp if self.mlp_down is None else self.mlp_down

    @property
    def top_down(self) -> Widths:
        """Hidden widths of the top-down inference mapping out of this layer."""
        return self.down if self.mlp_top_down is None else self.mlp_top_down


NUMBER = NoStepCost("a number within a step that is done whatever it is")
START = NoStepCost("where training starts changes no step")
SKIP_LABELS: dict[Skip, str] = {"none": "", "generative": "+skip p", "both": "+skip pq"}
"""What names of variants with skip connections contain."""
BATCH_NORM = ShortFor("norm", {False: "none", True: "batch"})
NORMALIZATION = Column("norm", "normalization")


def effective_skip(skip: Skip, depth: int) -> Skip:
    """The skip connections that there are: between two layers q has none, and with a single one p has none."""
    if depth == 1:
        return "none"
    return "generative" if depth == 2 and skip == "both" else skip


class ClassesSpec(SpecModel):
    """The class y of an image as a latent beside z_L, with a uniform p(y), and q(y|x) = softmax(Linear(MLP(h)))."""

    mlp: Widths
    """Hidden widths of q(y|x). An empty list makes it linear."""
    count: Count | None = None
    """How many classes there are. Null: as many as the data set has, if its name tells."""


class ModelSpec(SpecInForms):
    """A deep hierarchical VAE. The paper's advances (ladder, batch normalization, warm-up) are off unless asked for."""

    layers: Annotated[tuple[StochasticLayer, ...], Field(min_length=1, max_length=10)]
    """Stochastic layers, z_1 (nearest the data) first."""
    inference: Annotated[Inference, Factor(), Paper(is_varied=True, where="Sec. 3")] = "vae"
    """`vae`: bottom-up q(z_i|z_{i-1}), Eqs. 5-6. `ladder`: the probabilistic ladder network, Eqs. 13-21. `top_down`:
    the ladder without its precision-weighted merge, Eq. 21, in place of which q(z_i|z_{i+1}, x) has the heads of
    t_i = MLP([mu_d,i, sigma2_d,i, z_{i+1}]). With a single layer they are all the same model."""
    share_top_down: Annotated[Flag, Paper(is_varied=True, where="Sec. 4")] = False
    """Ladder only: the top-down inference mappings t_i are the generative mappings themselves (Sec. 4)."""
    inference_steps: Annotated[
        Steps,
        Column("inference_steps", "inference steps"),
        IdleWhere({"depth": 1}),
        Paper(1, "Sec. 2.1", iwae=1),
    ] = 1
    """Ladder only: k sweeps of inference, up and down, with the same weights (Raiko et al., 2014; Sec. 4 and 5). All
    but the last pass means down in the place of samples and draw nothing. A sweep after the first has the evidence
    d_i = MLP(mean of q(z_{i-1}) in the sweep before), d_1 = MLP(x). The last is the ladder's sampling pass, and q(z|x)
    is what it draws from. Batch normalization has statistics of each sweep. 1: Eqs. 13-21. With a single layer all are
    the same model."""
    skip: Annotated[
        Skip, Column("skip", "skip connections"), IdleWhere({"depth": 1}), Paper("none", "Sec. 2.1", iwae="none")
    ] = "none"
    """Skip connections, by concatenation. `none`: a mapping takes the nearest latents alone (Eqs. 1-6). `generative`:
    p(x|z_1, ..., z_L) and p(z_i|z_{i+1}, ..., z_L). `both`: q too, `vae` has q(z_i|z_1, ..., z_{i-1}), and t_i of
    `ladder` and `top_down` takes z_{i+1}, ..., z_L. With two layers `both` is `generative`, and with one both are
    `none`."""
    flow: Annotated[
        Flow, AfterValidator(without_absent), Column("flow", "normalizing flow"), Paper(None, NO_FLOW, iwae=None)
    ] = None
    """The normalizing flow that follows the Gaussian of every layer of q, with parameters of every image from the last
    hidden layer of the mapping into z_i. `{planar: 10}` (Rezende & Mohamed, 2015): so many planar steps.
    `{iaf: {steps: 2, mlp: [320]}}` (Kingma et al., 2016): inverse autoregressive steps, each a masked network of these
    hidden widths. `planar` and `iaf` alone are these. A flow is the identity at the start, and never normalized. In the
    ladder it follows the merged Gaussian (Eq. 21). The KL of a layer with a flow is one number, not one per unit.
    `layers[].flow` overrides it. Null or `none`: none."""
    auxiliary: Annotated[
        AuxiliarySpec | None, Column("auxiliary", "auxiliary variable"), Paper(None, "Sec. 2", iwae=None)
    ] = None
    """An auxiliary variable a of q: `{units: 64, mlp: [128]}` (Maaloe et al., 2016). Inference takes a ~ q(a|x) beside
    x wherever it takes x, so that q(z|x) is the mixture of q(z|x, a) over q(a|x), and an auxiliary model
    r(a|x, z_1, ..., z_L) stands for q(a|x, z): log w has log r(a|x, z) - log q(a|x) beside the terms of the latents,
    with their weight. Bounds stay bounds. All that inference makes of x is computed for every sample then. Null:
    none."""
    prior: Annotated[
        Prior, Column("prior", "prior of z_L"), Paper("standard_normal", "Eq. 4", iwae="standard_normal")
    ] = "standard_normal"
    """p(z_L). `standard_normal`: N(0, I), Eq. 4. All others are learned. `{vamp: 500}`: the VampPrior, the mixture of
    q(z_L|u_k) of 500 pseudo-inputs u_k in [0, 1], which start at training images (Tomczak & Welling, 2018); it needs
    q(z_L|x), which is known from x alone in `ladder` and `top_down`, or with a single layer. Batch normalization takes
    its statistics from the images of the batch alone. `{mixture: 50}`: as many diagonal Gaussians. `{realnvp: {blocks:
    4, mlp: [64]}}`: N(0, I) through coupling layers (Dinh et al., 2017; Bauer & Mnih, 2019)."""
    classes: Annotated[ClassesSpec | None, Column("classes", "classes"), Paper(None, "Sec. 2", iwae=None)] = None
    """The class y of an image as a latent (M2 of Kingma et al., 2014), for images of which some have a label
    (`data.labeled`): `{mlp: [64]}` are the hidden widths of q(y|x). p(y) is uniform; y, one-hot, joins z_L wherever p
    reads it, and q(z_L|..., y) takes it. q(y|x) = softmax(Linear(MLP(h))), h what q(z_L|..., y) takes of x without a
    draw: x itself for `vae` and with a single layer, and mu_d,L-1 for `ladder` and `top_down`. Its output layer is
    never normalized. Images of your own need `count`, the number of their classes. Null: no y."""
    norm: Annotated[Norm, NORMALIZATION, Factor("+BN"), Paper("batch", "Sec. 2.3")] = None
    """What is normalized. `none`: nothing. `batch`: every hidden layer and the mu and sigma2 heads of the latents, over
    the samples and images of a batch (Sec. 2.3; Ioffe & Szegedy, 2015); `{batch: {heads: false}}`: hidden layers alone.
    `layer`: hidden layers alone, over the units of each sample and image by itself (Ba et al., 2016). The heads of
    p(x|z_1) are never normalized. Null: what `batch_norm` says, which is short for `none` and `batch`."""
    batch_norm: Annotated[
        Flag | None,
        BATCH_NORM,
        NORMALIZATION,
        Factor("+BN"),
        Paper(True, "Sec. 2.3"),
    ] = False
    """The short form of `norm: batch` and, if false, of `norm: none`. Null: what `norm` says."""
    batch_norm_eps: Annotated[Positive, NUMBER, IdleWhere({"norm": is_absent}), AuthorsCode("`1e-10`", 1e-10)] = 1e-5
    """Added to the variance inside batch normalization, and inside layer normalization too (the authors' code has 1e-10
    in batch normalization)."""
    nonlinearity: Annotated[
        Nonlinearity,
        Column("nonlinearity"),
        Paper({"leaky_relu": 0.1}, "Sec. 3", by_dataset={"norb": "tanh"}, iwae="tanh"),
        AuthorsCode("`{leaky_relu: 0.01}`"),
    ] = LeakyReLU(leaky_relu=0.1)
    """Nonlinearity of the MLPs: a name, or `{leaky_relu: slope}` or `{elu: alpha}`.
    The paper: `{leaky_relu: 0.1}` for binary images, `tanh` for NORB (the authors' code has slope 0.01)."""
    mapping: Annotated[Mapping, Column("mapping"), Paper("mlp", "Eq. 7", iwae="mlp")] = "mlp"
    """d(y), the hidden layers before the heads of every distribution. `mlp`: an MLP (Eq. 7). Others are registered by
    extensions, by their name, or with settings, `{name: {...}}`; their weights are those of an MLP of these widths."""
    observation: Annotated[
        Observation,
        Column("observation"),
        Paper("bernoulli", "Sec. 3", by_dataset={"norb": "gaussian"}, iwae="bernoulli"),
    ] = "bernoulli"
    """p(x|z_1), and with it what x is. `bernoulli` (Eq. 2): zeros and ones, drawn with the gray values as
    probabilities. `gaussian` with predicted mean and variance (Eq. 1), `{gaussian: {variance: learned}}` with one
    learned variance, or `{gaussian: {variance: 0.1}}` with a fixed one: dequantized gray, (v + u) / levels (see
    `data.rescaled_by`), a density. `continuous_bernoulli` (Loaiza-Ganem & Cunningham, 2019): (v + u) / levels, a
    density on [0, 1]. `discretized_logistic` (Kingma et al., 2016): the gray level v itself, a mass, which intensities
    without levels have not. Log-likelihoods of different x do not compare; bits per dimension of all but `bernoulli`
    do (`bits_per_dim` in results)."""
    mean_clip: Annotated[
        float,
        Strict(),
        Field(ge=0, lt=0.5, allow_inf_nan=False),
        InFloat64("the largest logit that it leads to is what must count"),
        ReadIf(is_binary),
        AuthorsCode("`1e-5`", 1e-5),
    ] = 0.0
    """Clip the means of a `bernoulli` observation to [mean_clip, 1 - mean_clip], in training and evaluation, as the
    authors' code does with 1e-5. 0: no clipping."""
    initialization: Annotated[
        Initialization, PerMember(), START, Paper(iwae="glorot_uniform"), AuthorsCode("`lasagne`", "lasagne")
    ] = "torch"
    """Initial weights: `torch` is PyTorch's default for nn.Linear, uniform on +-1/sqrt(fan_in). `lasagne` is as in the
    authors' code: Glorot's normal with a gain of sqrt(2) in hidden layers and of 1 in heads, and Glorot's uniform in
    the heads of a ladder's latents. (Its variance heads begin with a bias of 1: `variance_bias`.)"""
    variance_bias: Annotated[
        Real, PerMember(), START, AuthorsCode("`1` (without effect where the head has batch normalization)", 1.0)
    ] = 0.0
    """Initial bias of the heads that give variances, before the softplus (the authors' code: 1).
    It has no effect on a head with batch normalization."""
    variance_floor: Annotated[NonNegative, NUMBER, AuthorsCode("`1e-5`, in the densities only", 1e-5)] = 1e-6
    """Added to every variance after the softplus, in densities and sampling alike, so that each bound stays a bound.
    (The authors' code adds 1e-5 in the densities only.)"""

    @model_validator(mode="after")
    def _one_way_to_say_a_flow(self) -> Self:
        """The flows in the one form of all that say the same: by `flow` where all layers have the same one, and else by
        those of the layers alone.
        """
        flows = self.flows
        same = flows[0] if all(flow == flows[0] for flow in flows) else None
        own = [None if flow == same else flow for flow in flows]
        # Frozen for everyone else; this is a part of making it.
        self.__dict__["flow"] = same
        if any(layer.flow != flow for layer, flow in zip(self.layers, own, strict=True)):
            pairs = zip(self.layers, own, strict=True)
            self.__dict__["layers"] = tuple(layer.model_copy(update={"flow": flow}) for layer, flow in pairs)
        return self

    @property
    def flows(self) -> tuple[str | ChoiceSection | None, ...]:
        """The flow of every layer of q, z_1 first; None where there is none."""
        return tuple(self.flow if layer.flow is None else without_absent(layer.flow) for layer in self.layers)

    @property
    def normalization(self) -> Normalization:
        """What is normalized, and how."""
        return normalization(BATCH_NORM.values[self.batch_norm] if self.norm is None else self.norm)

    @property
    def depth(self) -> int:
        """Number of stochastic layers L."""
        return len(self.layers)

    @property
    def effective_inference(self) -> str:
        """The inference model's name; with a single layer, that of the simpler one which it then is the same as."""
        simpler = INFERENCES[self.inference].with_one_layer
        return simpler if self.depth == 1 and simpler is not None else self.inference

    @property
    def inference_model(self) -> InferenceModel:
        """The description of q(z|x) (see `effective_inference`), with its skip connections and sweeps."""
        described = INFERENCES[self.effective_inference]
        described = (described.with_skip() or described) if self.effective_skip == "both" else described
        return (described.in_sweeps(self.sweeps) or described) if self.sweeps > 1 else described

    @property
    def sweeps(self) -> int:
        """The sweeps of inference that there are: with a single layer one, as there is nothing to pass down."""
        return 1 if self.depth == 1 else self.inference_steps

    @property
    def effective_skip(self) -> Skip:
        """The skip connections that there are (see the function of this name)."""
        return effective_skip(self.skip, self.depth)

    @property
    def generative_skips(self) -> bool:
        """Whether p takes the latents of all layers above."""
        return self.effective_skip != "none"

    @property
    def prior_model(self) -> PriorModel:
        """The description of p(z_L)."""
        return PRIORS[name_and_settings(self.prior)[0]]

    @property
    def has_standard_normal_prior(self) -> bool:
        """Whether p(z_L) is N(0, I), as that of the paper."""
        return name_and_settings(self.prior)[0] == ModelSpec.model_fields["prior"].default

    @property
    def prior_settings(self) -> Any:
        """What stands under the name of p(z_L); None if it has no settings."""
        return None if isinstance(self.prior, str) else self.prior.settings

    @property
    def prior_label(self) -> str:
        """What the names of shapes have of p(z_L): `+vamp 500`, `+realnvp`; nothing of N(0, I)."""
        name, settings = name_and_settings(self.prior)[0], self.prior_settings
        if self.has_standard_normal_prior:
            return ""
        return f"+{name} {settings}" if isinstance(settings, int) else f"+{name}"

    @property
    def auxiliary_label(self) -> str:
        """What the names of shapes have of the auxiliary variable: `+aux 64`; nothing without one."""
        return "" if self.auxiliary is None else f"+aux {self.auxiliary.units}"

    @property
    def pseudo_inputs(self) -> int:
        """Training images that p(z_L) starts at, and that pass through the inference model with every batch."""
        return self.prior_model.pseudo_inputs(self.prior_settings)

    @property
    def prior_components(self) -> int:
        """Terms that a density of p(z_L) adds up for one sample; 0 where it adds up none."""
        return self.prior_model.components(self.prior_settings)

    @property
    def factorizes(self) -> list[bool]:
        """Whether p and q of each layer, z_1 first, are products over its units, so that every unit has a KL."""
        of_p = [*(True for _ in self.layers[1:]), self.prior_model.factorizes]
        return [product and flow is None for product, flow in zip(of_p, self.flows, strict=True)]

    @property
    def observation_name(self) -> str:
        """The name of the observation model, without its settings."""
        return name_of(self.observation)

    @property
    def shares_top_down(self) -> bool:
        """Whether there is a top-down path, and it is that of the generative model."""
        return self.share_top_down and self.inference_model.top_down
