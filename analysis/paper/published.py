"""The paper's published numbers and the settings that they were obtained with, and which members answer which of them.

Numbers stand in `published.csv`. Members are matched by their resolved settings (data set, depth, inference style,
batch normalisation, warm-up, samples, fine-tuning), whatever their variants are called. A member of which no setting is
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

VARIANTS = ("VAE", "VAE+BN", "VAE+BN+WU", "Prob. ladder+BN+WU")
"""The columns of the paper's Tables 2 and 3."""
IWAE = "IWAE"
UNITS, IWAE_UNITS = (64, 32, 16, 8, 4), "100-50"
WIDTHS = ("512,512", "256,256", "128,128", "64,64", "32,32")
IWAE_SAMPLES = 50


@dataclass(frozen=True)
class Experiment:
    """How the paper trained on one data set (Sec. 3)."""

    epochs: int
    warm_up: int
    learning_rate: float
    nonlinearity: str
    observation: str
    train_images: int
    test_images: int


EXPERIMENTS = {
    "mnist": Experiment(2000, 200, 1e-3, '{"leaky_relu": 0.1}', "bernoulli", 60_000, 10_000),
    "omniglot": Experiment(1500, 200, 1e-3, '{"leaky_relu": 0.1}', "bernoulli", 24_345, 8_070),
    "norb": Experiment(4000, 1000, 2e-3, "tanh", "gaussian", 24_300, 24_300),
}
BATCH_SIZE, IW_SAMPLES = 256, 5000
FINE_TUNING_EPOCHS, DECAY = 2000, (0.75, 200)
OPEN = {
    "sample_ramp": False,
    "last_batch": "drop",
    "clip_norm": None,
    "clip_value": None,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_eps": 1e-8,
    "initialization": "torch",
    "batch_norm_eps": 1e-5,
    "variance_bias": 0.0,
    "variance_floor": 1e-6,
}
"""Settings that the paper leaves open (columns of `analysis.columns`), and what they are unless a spec says more."""


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
    ladder = row["inference"] == "ladder" and row["depth"] > 1
    warm_up = row["warm_up"] if pd.isna(row["first_phase_warm_up"]) else row["first_phase_warm_up"]
    samples = row["training_mc_samples"], row["training_iw_samples"]
    if row["units"] == IWAE_UNITS:
        return IWAE if samples == (1, IWAE_SAMPLES) and not ladder and not row["batch_norm"] else None
    if (samples != (1, 1) and not tuned) or (ladder and row["share_top_down"]):
        return None
    name = ("Prob. ladder" if ladder else "VAE") + "+BN" * bool(row["batch_norm"]) + "+WU" * (warm_up > 0)
    return name if name in VARIANTS else None


def _bare(name: Any) -> str:
    return "".join(character for character in str(name).lower() if character.isalnum() or character == "+")


def unlike(members: pd.DataFrame, variant: str, quantity: str = "test_log_likelihood") -> tuple[str, ...]:
    """In what the data, the budget and the model of one cell's members differ from the published number's.

    Args:
        members: rows of `Frames.members` of one cell.
        variant: what `variants` calls them.
        quantity: what is compared; the number of importance samples has no bearing on active units.

    Returns:
        One phrase a difference, `epochs 100 (2,000)`: ours, and the paper's in brackets. What is not known yet is not
        told.

    """
    if (members["status"] == "finished").any():
        members = members[members["status"] == "finished"]
    paper, depth = EXPERIMENTS[str(members["dataset"].iloc[0])], int(members["depth"].iloc[0])
    fine_tuned = bool(is_fine_tuned(members).any())
    wanted: list[tuple[str, str, Any]] = [
        ("training images", "train_images", paper.train_images),
        ("test images", "test_images", paper.test_images),
    ]
    if quantity == "test_log_likelihood":
        wanted.append(("importance samples", "iw_samples", IW_SAMPLES))
    if variant != IWAE:  # whose schedule and widths are those of Burda et al., which the paper does not repeat
        wanted += [
            ("epochs", "planned_epochs", FINE_TUNING_EPOCHS if fine_tuned else paper.epochs),
            ("learning rate", "learning_rate", paper.learning_rate),
            ("batch size", "batch_size", BATCH_SIZE),
            ("units", "units", "-".join(map(str, UNITS[:depth]))),
            ("hidden widths", "widths", "-".join(WIDTHS[:depth])),
            ("hidden widths of the generative mappings", "widths_down", "-".join(WIDTHS[:depth])),
            ("hidden widths of the top-down mappings", "widths_top_down", "-".join(WIDTHS[1:depth])),
            ("nonlinearity", "nonlinearity", paper.nonlinearity),
            ("observation", "observation", paper.observation),
        ]
    if fine_tuned:
        wanted += [
            ("epochs before fine-tuning", "first_phase_epochs", paper.epochs),
            ("warm-up", "first_phase_warm_up", paper.warm_up),
            ("learning rate times", "lr_decay_factor", DECAY[0]),
            ("learning rate lowered every", "lr_decay_every", DECAY[1]),
        ]
    elif variant.endswith("+WU"):
        wanted.append(("warm-up", "warm_up", paper.warm_up))
    found = []
    if not_canonical(members):
        found.append("not the distributor's data files")
    for name, column, value in wanted:
        ours = _others(members[column], value)
        if ours:
            found.append(f"{name} {ours} ({_shown(value)})")
    annealed = bool(members["lr_decay_factor"].notna().any())
    if fine_tuned and not annealed:
        found.append("learning rate not annealed")
    if variant != IWAE:
        found += _unlike_in_training(members, annealed and not fine_tuned, paper.observation)
    return tuple(found)


def _unlike_in_training(members: pd.DataFrame, annealed: bool, observation: str) -> Iterator[str]:
    """Annealing that the paper has not, images drawn once, and other values of the settings that it leaves open."""
    if annealed:
        factor, every = (_others(members[f"lr_decay_{name}"]) for name in ("factor", "every"))
        yield f"learning rate times {factor} every {every} epochs (constant)"
    # The paper tells of binarisation only; how the grey levels of NORB are dequantised it leaves open.
    left_open: dict[str, Any] = {**OPEN, **({"redraw": "every_epoch"} if observation == "gaussian" else {})}
    if "redraw" not in left_open and (members["redraw"] == "once").any():
        yield "training images binarised once (in every epoch)"
    others = {column: _others(members[column], value) for column, value in left_open.items()}
    if any(others.values()):
        told = ", ".join(f"{name.replace('_', ' ')} {ours}" for name, ours in others.items() if ours)
        yield f"settings that the paper leaves open: {told}"


def _others(column: "pd.Series[Any]", value: Any = None) -> str:
    """The values of a column as text, `4 and 5`; empty if none is known or all are `value`."""
    ours = list(dict.fromkeys(column.dropna()))
    return "" if ours == [value] else " and ".join(map(_shown, ours))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return "".join(character for character in value if character not in '{}":')
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
