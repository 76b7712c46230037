"""The normalizations of hidden layers and of the heads of the latents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Flag, SpecModel
from hvae_spec.spec.choice import ChoiceSection, name_and_settings


class BatchNormSettings(SpecModel):
    """Batch normalization (Ioffe & Szegedy, 2015)."""

    heads: Flag = True
    """Whether the mu and sigma2 heads of the latents are normalized too, as in the paper (Sec. 2.3). False: hidden
    layers alone, as `layer` has it, which makes the two comparable."""


class BatchNormSection(ChoiceSection):
    """Batch normalization, by name."""

    batch: BatchNormSettings
    """Batch normalization and what it normalizes; a plain `batch` has the heads too."""


@dataclass(frozen=True)
class Norm:
    """One normalization."""

    words: str
    """What it is called at the start of a sentence."""
    label: str
    """What the names of variants that have it end in or contain, `+BN` say."""
    equation: str
    """N(a_j), what becomes of what unit j gives for one sample of one image: γ_j and β_j are its scale and shift, and ε
    is `model.batch_norm_eps`. Empty: nothing is normalized.
    """
    heads: bool = False
    """Whether it normalizes the heads of the latents too, where it has no setting `heads` that says otherwise."""
    of_batch: bool = False
    """Whether its statistics are over the images of a batch. It then needs two of them at least, and for evaluation
    statistics that are recorded over the training set.
    """
    of_units: bool = False
    """Whether its statistics are over the units of a layer, of which there must be two at least."""
    numbers_per_unit: int = 2
    """Trained numbers per unit: its scale and its shift, which takes the place of the bias before it."""
    default: ChoiceSection | None = None
    """It with its default settings; None if it has none."""


NORMS: Registry[Norm] = Registry("normalization")
NORMS.add("none", Norm("No normalization", "", ""))
NORMS.add(
    "batch",
    Norm(
        "Batch normalization",
        "+BN",
        "N(a_j) = γ_j (a_j − mean(a_j)) / √(var(a_j) + ε) + β_j, over the samples and images of the batch",
        heads=True,
        of_batch=True,
        default=BatchNormSection(batch=BatchNormSettings()),
    ),
)
NORMS.add(
    "layer",
    Norm(
        "Layer normalization",
        "+LN",
        "N(a_j) = γ_j (a_j − mean(a)) / √(var(a) + ε) + β_j, over the units of the layer",
        of_units=True,
    ),
)


@dataclass(frozen=True)
class Normalization:
    """What a model normalizes, and how."""

    name: str
    """The norm's name in a spec."""
    norm: Norm
    """Its description."""
    heads: bool
    """Whether the heads of the latents are normalized."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Its settings, less `heads`."""

    @property
    def hidden(self) -> bool:
        """Whether hidden layers are normalized."""
        return bool(self.norm.equation)

    @property
    def of_batch(self) -> bool:
        """Whether its statistics are over a batch; see `Norm.of_batch`."""
        return self.norm.of_batch

    @property
    def label(self) -> str:
        """What the names of variants have of it: `+BN`, `+LN`; `+BN(hidden)` if it leaves out heads that it has."""
        return self.norm.label + "(hidden)" * (self.norm.heads and not self.heads)

    @property
    def words(self) -> str:
        """What is normalized, as a sentence."""
        if not self.hidden:
            return f"{self.norm.words}."
        if self.heads:
            return (
                f"{self.norm.words} of every hidden layer and of the heads of the latents, before the softplus; never "
                "of the heads of x."
            )
        return f"{self.norm.words} of every hidden layer; never of the heads."


def normalization(value: Any) -> Normalization:
    """What a chosen norm normalizes.

    Args:
        value: as `ModelSpec.norm` holds it, or as it stands in the YAML. It is valid already, also where the code of
            an extension has not run.

    """
    if isinstance(value, dict):
        name, settings = next(iter(value.items()))
    else:
        name, settings = name_and_settings(value)
    norm = NORMS[name]
    others = {key: setting for key, setting in settings.items() if key != "heads"}
    return Normalization(name, norm, settings.get("heads", norm.heads), others)


def in_column(entry: Any) -> Normalization | None:
    """What a norm normalizes that is an entry of the column `norm` of `frames.members`; None if it is not known."""
    if not isinstance(entry, str):
        return None
    return normalization(json.loads(entry) if entry.startswith("{") else entry)


def is_absent(entry: Any) -> bool:
    """Whether nothing is normalized, of an entry as `in_column` has it."""
    found = in_column(entry)
    return found is not None and not found.hidden


def is_not_of_batch(entry: Any) -> bool:
    """Whether no statistics are over a batch, of an entry as `in_column` has it."""
    found = in_column(entry)
    return found is not None and not found.of_batch
