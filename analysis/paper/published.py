"""The paper's published numbers and the settings that they were obtained with, and which members answer which of them.

Numbers stand in `published.csv`. Members are matched by their resolved settings (data set, depth, inference style,
batch normalization, warm-up, samples, fine-tuning), whatever their variants are called. A member of which no setting is
known yet, because its cell has not begun, is matched by its variant's name.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.caveats import not_canonical
from analysis.columns import chosen_name, default_value, expected, inference_model, setting_fields
from hvae_spec.spec.choice import OneOf
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.choices.norm import in_column
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import (
    OPEN,
    AuthorsCode,
    BeforeFineTuning,
    Factor,
    Hindrance,
    IdleBeside,
    IdleWhere,
    Measured,
    NoBearing,
    Paper,
    ReadIf,
    SameAs,
    SpecField,
    fact,
    paths_affecting,
)
from hvae_spec.spec.model import SKIP_LABELS, effective_skip

VARIANTS = ("VAE", "VAE+BN", "VAE+BN+WU", "Prob. ladder+BN+WU")
"""The columns of the paper's Tables 2 and 3."""
IWAE = "IWAE"
ANY = object()
"""Stands for whatever a field is set to."""
# Normalizing flows (Rezende & Mohamed, 2015), which the paper names too, have no row in `published.csv`: their number
# is of another binarization of MNIST, and waits for runs on the same one.
IWAE_UNITS, IWAE_SAMPLES = "100-50", 50
PAPERS_OWN = ("model", "objective", "training")
"""Sections whose values in the paper are those of its own models. Those of the IWAE are Burda et al.'s (`Paper.iwae`).
"""
IMPLIED = "; the paper is silent, and the authors' code implies it"
IN_BURDAS_CODE = (
    "Adam's second moments start at 1",
    "its eps is added to the uncorrected root",
    "standard deviations are an exp",
    "the output bias starts at the logit of the training means",
    "batches are never shuffled",
    "test images are drawn anew in every pass",
)
"""What Burda et al.'s code does and no field of a spec can say."""
IN_THE_AUTHORS_CODE = (
    "Adam's eps is added to the uncorrected root",
    "the floor of variances is in densities only",
    "beta of epoch e is (e - 1) / N_t",
    "batch-norm statistics are of one fixed draw of the training set",
)
"""The same of the authors' code."""


@cache
def _read() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("published.csv"), dtype={"layer": "string"})


def values() -> pd.DataFrame:
    """Every published number: `source`, `dataset`, `depth`, `variant`, `fine_tuning` (see `fine_tuning`), `quantity`,
    `layer` (of active units: `1`, nearest the data, to `5`, and `total`), `value`. Likelihoods are in nats per image.
    """
    return _read().copy()


def log_likelihoods(dataset: str) -> pd.DataFrame:
    """Published test log-likelihoods of the paper's grid on a data set: `depth`, `variant`, `value`, `source`.

    Fig. 3 is published as a drawing; of MNIST only the two values at L = 5 that Table 1 repeats are numbers.
    """
    table = _read()
    mask = (table["dataset"] == dataset) & (table["quantity"] == "test_log_likelihood")
    mask &= (table["fine_tuning"] == "none") & table["variant"].isin(VARIANTS)
    return table[mask][["depth", "variant", "value", "source"]].reset_index(drop=True)


def value(row: Mapping[Any, Any], quantity: str = "test_log_likelihood") -> float:
    """The published number for a row with `dataset`, `depth`, `paper` (see `variants`), `fine_tuning`, and of active
    units `layer`; NaN if there is none.
    """
    table = _read()
    mask = table["quantity"] == quantity
    for column, key in (("dataset",) * 2, ("depth",) * 2, ("fine_tuning",) * 2, ("variant", "paper")):
        mask &= table[column] == row[key]
    if "layer" in row:
        mask &= table["layer"] == row["layer"]
    found = table.loc[mask, "value"]
    return float(found.iloc[0]) if len(found) else math.nan


def variants(members: pd.DataFrame) -> "pd.Series[str]":
    """What the paper calls each member (one of `VARIANTS`, or `IWAE`), by its settings; None if it has no such model.

    A fine-tuned member is called what its first phase is called.
    """
    return pd.Series([_variant(row) for row in members.to_dict("records")], index=members.index, dtype=object)


def is_fine_tuned(members: pd.DataFrame) -> "pd.Series[bool]":
    """Which members go on from another's record."""
    return members["first_phase_epochs"].notna() | members["continues"].notna()


def fine_tuning(members: pd.DataFrame) -> "pd.Series[str]":
    """`M=10 K=1` for fine-tuned members (the columns of Table 1), by their samples; else `none`."""
    samples = [
        f"M={mc_samples:.0f} K={iw_samples:.0f}" if is_tuned else "none"
        for mc_samples, iw_samples, is_tuned in zip(
            members["training_mc_samples"], members["training_iw_samples"], is_fine_tuned(members), strict=True
        )
    ]
    return pd.Series(samples, index=members.index, dtype=object)


def _variant(row: Mapping[Any, Any]) -> str | None:
    if pd.isna(row["inference"]):
        return next((name for name in VARIANTS if _bare(name) == _bare(row["variant"])), None)
    tuned = not (pd.isna(row["first_phase_epochs"]) and pd.isna(row["continues"]))
    # An inference model, skip connections or a norm that the paper does not have have another label, and with it none
    # of its names.
    inference = inference_model(row["inference"], row["depth"])
    skip = SKIP_LABELS[effective_skip(row["skip"], row["depth"])]
    normalization = in_column(row["norm"])
    norm = "" if normalization is None else normalization.label
    warm_up = row["warm_up"] if pd.isna(row["first_phase_warm_up"]) else row["first_phase_warm_up"]
    samples = row["training_mc_samples"], row["training_iw_samples"]
    if row["units"] == IWAE_UNITS:
        is_plain = inference.label + skip + norm == VARIANTS[0]
        return IWAE if samples == (1, IWAE_SAMPLES) and is_plain else None
    if (samples != (1, 1) and not tuned) or (inference.top_down and row["share_top_down"]):
        return None
    name = inference.label + skip + norm + "+WU" * (warm_up != 0)
    return name if name in VARIANTS else None


def _bare(name: Any) -> str:
    return "".join(character for character in str(name).lower() if character.isalnum() or character == "+")


@dataclass(frozen=True)
class Difference:
    """One thing in which a cell's members differ from the published number's."""

    text: str
    """`epochs 100 (2,000)`: ours, and the paper's in brackets."""
    hinders: Hindrance | None
    """What is another one; None if a verdict can be given all the same."""


def differences(members: pd.DataFrame, variant: str, quantity: str = "test_log_likelihood") -> tuple[Difference, ...]:
    """In what the data and the settings of one cell's members differ from the published number's.

    Every field of a spec is compared with what the paper sets it to, or with its default where the paper leaves it
    open, but for those that declare that they have no bearing on the quantity (`NoBearing`), or that no number of a
    result depends on them. What is not known yet is left out.

    Other data, budgets and settings than the paper states hinder a verdict, and than the authors' code implies where
    the paper is silent, but for what the paper may mean as well. What it leaves open does not.

    Args:
        members: rows of `Frames.members` of one cell.
        variant: what `variants` calls them.
        quantity: what is compared.

    """
    if (members["status"] == "finished").any():
        members = members[members["status"] == "finished"]
    found = [Difference("not the distributor's data files", "data")] if not_canonical(members) else []
    left_open = []
    cell = _Cell(members)
    for item in setting_fields().values():
        if _has_no_bearing(item, quantity) or _is_idle(item, cell):
            continue
        wanted, is_open = _wanted(item, cell, variant)
        ours = _ours(item, cell)
        if wanted is ANY or all(value == wanted for value in ours):
            continue
        text = f"{item.words} {' and '.join(map(_shown, ours))}"
        if is_open:
            left_open.append(text)
        else:
            paper = item.fact(Paper)
            hinders: Hindrance | None = "settings" if paper is None else paper.hinders
            admitted = _admitted(paper, cell, variant)
            if admitted is not None and all(value in (wanted, *admitted) for value in ours):
                hinders = None
            implied = "" if admitted is None else IMPLIED
            found.append(Difference(f"{text} ({_shown(wanted)}{implied})", hinders))
    if left_open:
        whose = "Burda et al. do not have" if variant == IWAE else "the paper leaves open"
        found.append(Difference(f"settings that {whose}: {', '.join(left_open)}", None))
    if variant == IWAE:
        found.append(Difference(f"not as in Burda et al.'s code, where {', '.join(IN_BURDAS_CODE)}", None))
    elif others := tuple(_unlike_authors_code(cell, quantity)):
        found.append(Difference(f"where the paper is silent, the authors' code has: {', '.join(others)}", None))
    elif any(cell.is_known):
        found.append(Difference(f"not as in the authors' code, where {', '.join(IN_THE_AUTHORS_CODE)}", None))
    return tuple(found)


class _Cell:
    """One cell's members, with what is asked of them for every field worked out once."""

    def __init__(self, members: pd.DataFrame) -> None:
        self.members = members
        self.dataset, self.depth = str(members["dataset"].iloc[0]), int(members["depth"].iloc[0])
        self.is_tuned = bool(is_fine_tuned(members).any())
        self.is_known: list[bool] = members["background"].notna().tolist()
        names = members[["dataset", "observation"]].dropna().drop_duplicates()
        pairs = zip(names["dataset"].map(str), names["observation"].map(chosen_name), strict=True)
        self.datasets_and_observations = [pair for pair in pairs if pair[0] in DATASETS]

    def column(self, name: str) -> list[Any]:
        """The entries of a column, with None where nothing is known; of one that is not there, all are None."""
        if name not in self.members:
            return [None] * len(self.members)
        return [None if pd.isna(value) else value for value in self.members[name].tolist()]

    def known(self, name: str) -> list[Any]:
        """The same of the members whose settings are known."""
        return [value for value, is_known in zip(self.column(name), self.is_known, strict=True) if is_known]


def _unlike_authors_code(cell: _Cell, quantity: str) -> Iterator[str]:
    """What the authors' code sets where the paper is silent and the members of one cell have something else: `clip
    norm 4`. Where there is none of it, what still differs from that code is what no field can say.
    """
    for item in setting_fields().values():
        code = item.fact(AuthorsCode)
        if code is None or code.value is OPEN or not is_left_open(item):
            continue
        if _has_no_bearing(item, quantity) or _is_idle(item, cell):
            continue
        theirs = expected(code.value, item)
        if any(value != theirs for value in _ours(item, cell)):
            yield f"{item.words} {_shown(theirs)}"


def is_left_open(item: SpecField) -> bool:
    """Whether the paper says nothing of a field on any data set. A first phase is the paper's plain training."""
    paper = item.fact(Paper)
    if item.fact(BeforeFineTuning) is not None:
        return False
    return paper is None or (paper.value is OPEN and not (paper.by_dataset or paper.by_layer or paper.is_varied))


def inactive_layers(row: Mapping[Any, Any]) -> tuple[int, ...] | None:
    """The layers in which the paper counts no active unit, for a row as in `value`; None where it gives no counts."""
    depth = int(row["depth"])
    counts = {layer: value({**row, "layer": str(layer)}, "active_units") for layer in range(1, depth + 1)}
    return None if any(map(math.isnan, counts.values())) else tuple(layer for layer in counts if not counts[layer])


def others(dataset: str) -> pd.DataFrame:
    """Published test log-likelihoods of models that are not the paper's, with which it compares itself on a data set:
    `variant`, `value`, `source`.
    """
    table = _read()
    mask = (table["dataset"] == dataset) & (table["quantity"] == "test_log_likelihood")
    return table[mask & ~table["variant"].isin(VARIANTS)][["variant", "value", "source"]].reset_index(drop=True)


def _has_no_bearing(item: SpecField, quantity: str) -> bool:
    exempt = item.fact(NoBearing)
    if exempt is not None and quantity in (exempt.quantities or (quantity,)):
        return True
    return item.path in paths_affecting(MemberSpec, "nothing")


def _is_idle(item: SpecField, cell: _Cell) -> bool:
    """Whether the field makes no difference to one cell's members."""
    other, read, where = item.fact(IdleBeside), item.fact(ReadIf), item.fact(IdleWhere)
    # The columns are none of a first phase's.
    is_own = where is not None and item.fact(BeforeFineTuning) is None
    if where and is_own and _are_all(cell, where.values):
        return True
    if other is not None and not cell.is_tuned:
        beside = {value for value in cell.column(other.column) if value is not None}
        if any(map(other.condition, beside)):
            return True
    if any(fact(info, OneOf) for info in item.infos[:-1]) and not any(
        value is not None for value in cell.column(item.column)
    ):
        # A setting of another choice than the members', which has a column of its own.
        return True
    return read is not None and not any(read.condition(*pair) for pair in cell.datasets_and_observations)


def _are_all(cell: _Cell, values: Mapping[str, Any]) -> bool:
    """Whether all columns have the values that `IdleWhere` asks for."""
    return all(
        wanted(value) if callable(wanted) else value == wanted
        for name, wanted in values.items()
        for value in cell.column(name)
    )


def _wanted(item: SpecField, cell: _Cell, variant: str) -> tuple[Any, bool]:
    """What a field's column holds for the published number, `ANY` if that is found by it or the paper does not say; and
    whether that is the default, as the paper leaves the field open.
    """
    is_tuned = cell.is_tuned
    is_first_phase = item.fact(BeforeFineTuning) is not None
    if is_first_phase and not is_tuned:
        return None, True
    default = item.own_default if is_first_phase else default_value(item)
    if item.is_in_list and default is not None:
        default = [default] * cell.depth
    default = expected(default, item)
    paper, factor = item.fact(Paper), item.fact(Factor)
    is_tuned &= not is_first_phase
    burdas = OPEN if variant != IWAE or paper is None else paper.iwae_by_dataset.get(cell.dataset, paper.iwae)
    if burdas is not OPEN:
        return expected(burdas, item), False
    setting = OPEN if paper is None else paper.setting(cell.dataset, cell.depth, fine_tuned=is_tuned)
    if paper is None or (setting is OPEN and not paper.is_varied):
        return default, True
    if paper.is_answered(fine_tuned=is_tuned) or (variant == IWAE and item.path[0] in PAPERS_OWN):
        return ANY, False
    has_factor = factor is None or factor.suffix in variant
    return expected(setting, item) if has_factor else default, False


def _admitted(paper: Paper | None, cell: _Cell, variant: str) -> tuple[Any, ...] | None:
    """The other values that the paper may mean where the authors' code implies its value; None if the paper states it,
    or leaves it open.
    """
    return None if paper is None or variant == IWAE else paper.implied.get(cell.dataset)


def _ours(item: SpecField, cell: _Cell) -> list[Any]:
    """The different values of a field among the members of which it is known; null is None."""
    measured = item.fact(Measured)
    found = cell.known(item.column) if measured is None else cell.column(measured.column)
    if measured is not None or item.fact(SameAs) is not None:
        # Null is not known yet, or as the other field, which is compared by itself.
        found = [value for value in found if value is not None]
    return list(dict.fromkeys(found))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return "".join(character for character in value if character not in '{}":')
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
