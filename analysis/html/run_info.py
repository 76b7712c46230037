"""What was run, on which data and machines, and what did not finish: as rows of text for the report."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.caveats import left_out
from analysis.columns import setting_fields
from analysis.frames import Frames
from analysis.reader import Origin
from analysis.tables.table import ABSENT
from hvae_spec.records.layout import Record
from hvae_spec.records.result import Segment
from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.fields import NotInReport, SpecField
from hvae_spec.spec.labels import level_text

Rows = list[tuple[str, ...]]
"""Rows of text; the first is the heading."""
OWNERS = {True: "the distributor's", False: "not the distributor's"}
NONE = "none"
"""Stands for a setting that a spec leaves null."""
LOST_SHOWN = 100
"""Members that are listed one by one at most."""


@kept_until_a_choice_joins
def listed() -> dict[str, SpecField]:
    """Columns of the settings that a report lists, and their fields."""
    return {name: item for name, item in setting_fields().items() if item.fact(NotInReport) is None}


def common_settings(frames: Frames) -> Rows:
    """Settings that all planned members share, as far as they have begun. What all leave null is left out."""
    members = frames.planned.members
    values = {item.words: _values(members, name) for name, item in listed().items()}
    own = [(words, found[0]) for words, found in values.items() if len(found) == 1 and found != [NONE]]
    return [("setting", "value"), *own]


def variant_settings(frames: Frames) -> Rows:
    """Settings in which the variants differ, or in which members of one variant do (along a further axis)."""
    members = frames.planned.members
    unlike = {name: item.words for name, item in listed().items() if len(_values(members, name)) > 1}
    rows = [
        (str(name), *(" / ".join(_values(own, column)) or "not begun" for column in unlike))
        for name, own in members.groupby("variant", observed=True)
    ]
    return [("variant", *unlike.values()), *rows]


def axes(frames: Frames) -> Rows:
    """What the grid varies, and when its members were done."""
    members = frames.planned.members
    names = [str(name) for name in members["variant"].cat.categories if (members["variant"] == name).any()]
    found = [
        ("data", ", ".join(dict.fromkeys(members["dataset"]))),
        ("depths L", ", ".join(map(str, sorted(members["depth"].unique())))),
        ("variants", "; ".join(names)),
        *((factor, " / ".join(map(level_text, dict.fromkeys(members[factor])))) for factor in frames.factors),
        ("seeds", _seeds(frames)),
    ]
    times = finished_between(frames)
    if times:
        found.append(("finished between", " and ".join(dict.fromkeys(times))))
    return [("axis", "values"), *found]


def _seeds(frames: Frames) -> str:
    """`0, 1, 2`, or of seeds that come in two stages `0, 1, 2 (L = 5: up to 4)` where some depths have more."""
    members = frames.planned.members
    seeds = sorted(members["seed"].unique())
    if frames.stages is None:
        return ", ".join(map(str, seeds))
    common = [seed for seed in seeds if seed < frames.stages.first]
    most = members.groupby("depth")["seed"].max()
    further = [f"L = {depth}: up to {seed}" for depth, seed in most.items() if seed >= frames.stages.first]
    return ", ".join(map(str, common)) + (f" ({'; '.join(further)})" if further else "")


def by_seed(frames: Frames) -> Rows:
    """The test log-likelihood of every planned member, a column per seed; of one that has not finished, its status."""
    members = frames.planned.members
    keys = ["dataset", "depth", "variant", *frames.factors]
    seeds = sorted(members["seed"].unique())
    rows = []
    for _, own in members.groupby(keys, sort=False, observed=True, dropna=False):
        by = {row["seed"]: _outcome(row) for row in own.to_dict("records")}
        first = own.iloc[0].to_dict()
        rows.append((_cell(frames, first), *(by.get(seed, ABSENT) for seed in seeds)))
    return [("cell", *(f"seed {seed}" for seed in seeds)), *rows]


def specs(frames: Frames) -> Iterator[tuple[str, str]]:
    """The resolved spec of the first seed of every variant at its greatest depth, as YAML, with what it is of.

    Raises:
        UserError: a spec cannot be read.

    """
    members = _whole(frames)
    members = members[[Record(Path(folder)).has_spec for folder in members["folder"]]]
    cells = members.sort_values(["depth", "seed"], ascending=[False, True], kind="stable")
    for row in cells.drop_duplicates(["dataset", "variant", *frames.factors]).to_dict("records"):
        tree = Record(Path(row["folder"])).spec.model_dump(mode="json")
        yield f"Resolved spec: {_place(frames, row)}", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def commands(frames: Frames) -> Rows:
    """The command lines that trained and evaluated the planned members, and how many members each had a part in."""
    counts = Counter(
        command
        for origin in _origins(frames)
        for command in dict.fromkeys(shlex.join(segment.command) for segment in origin.segments if segment.command)
    )
    return [(command, f"{count:,}") for command, count in counts.most_common()]


def lost(frames: Frames) -> Rows:
    """Every planned member that has not finished, and what is known of it."""
    members = frames.planned.members.assign(left_out=left_out(frames.planned))
    members = members[members["status"] != "finished"]
    shown = members.head(LOST_SHOWN).to_dict("records")
    rows = [(_place(frames, row), str(row["status"]), _fate(row)) for row in shown]
    more = len(members) - len(rows)
    tail = [(f"and {more} more", "", "")] if more > 0 else []
    return [("member", "status", "what is known"), *rows, *tail]


def data(frames: Frames) -> Rows:
    """Every data set in use: whose files, how many images, their checksums; validation images if there are any."""
    members = frames.planned.members.dropna(subset=["data_sha256"])
    counts = ["train_images", "validation_images", "test_images"]
    counts = [name for name in counts if name != "validation_images" or (members[name] > 0).any()]
    checksums = ["data_sha256", "test_sha256"]
    rows = [
        (
            str(row["dataset"]),
            OWNERS.get(row["data_canonical"], "the user's own"),
            *(f"{row[name]:,.0f}" for name in counts),
            *(str(row[name]) for name in checksums),
        )
        for row in members[["dataset", "data_canonical", *counts, *checksums]].drop_duplicates().to_dict("records")
    ]
    headings = [name.replace("train_", "training_").replace("_", " ") for name in counts]
    return [("data set", "files", *headings, "SHA-256 of training data", "SHA-256 of test data"), *rows]


def machines(frames: Frames) -> Rows:
    """Machines, versions and source revisions, and of how many of the planned members each combination has trained some
    epochs or made the evaluation. A member that two of them had a part in counts in both.
    """
    counts = Counter(
        machine for origin in _origins(frames) for machine in dict.fromkeys(map(_machine, origin.segments))
    )
    rows = [(*machine, f"{count:,}") for machine, count in counts.most_common()]
    return [("machine", "device", "versions", "source revision", "members"), *rows]


def finished_between(frames: Frames) -> tuple[str, str] | None:
    """When the first and the last planned member was done, ISO 8601; None if none is."""
    times = sorted(origin.finished_at for origin in _origins(frames) if origin.finished_at is not None)
    return (times[0], times[-1]) if times else None


def _whole(frames: Frames) -> pd.DataFrame:
    """The planned members whose records can be read."""
    members = frames.planned.members
    return members[members["status"] != "damaged"]


def _origins(frames: Frames) -> list[Origin]:
    """What the planned members were made with."""
    return [frames.origins[digest] for digest in _whole(frames)["digest"]]


def _machine(segment: Segment) -> tuple[str, str, str, str]:
    names = dict.fromkeys(name for name in (segment.device_name, segment.device) if name)
    source = segment.source
    commit = "unknown" if source is None else source.commit[:12]
    return (
        segment.host,
        ", ".join(names) or "unknown",
        ", ".join(f"{name} {version}" for name, version in segment.versions.items()) or "unknown",
        f"{commit}, with uncommitted changes" if source is not None and source.dirty else commit,
    )


def _place(frames: Frames, row: dict[Any, Any]) -> str:
    return f"{_cell(frames, row)}, seed {row['seed']}"


def _cell(frames: Frames, row: Mapping[Any, Any]) -> str:
    factors = (frames.label(factor, row[factor]) for factor in frames.factors)
    return ", ".join([str(row["dataset"]), f"L = {row['depth']}", str(row["variant"]), *factors])


def _outcome(row: Mapping[Any, Any]) -> str:
    """`-82.14`, `diverged`, `running`."""
    value = row["test_log_likelihood"]
    return f"{value:.2f}" if row["status"] == "finished" and not pd.isna(value) else str(row["status"])


def _fate(row: dict[Any, Any]) -> str:
    """`in epoch 3: log p(x|z_1)`; the last line of a failure, or what is damaged; how far a running member has come;
    that it was left out.
    """
    if row["left_out"]:
        return f"left out: files of {row['dataset']} are missing"
    if row["status"] == "diverged":
        return f"in epoch {row['divergence_epoch']:.0f}: {row['divergence_quantity']}"
    if row["status"] in ("failed", "damaged"):
        return (str(row["failure"] or "").strip().splitlines() or [""])[-1]
    if row["status"] == "running":
        planned = row["planned_epochs"]
        return f"epoch {row['epochs']:.0f}" + ("" if pd.isna(planned) else f" of {planned:.0f}")
    return ""


def _values(members: pd.DataFrame, setting: str) -> list[str]:
    """The different values of a setting among the members whose spec is known."""
    known = members.loc[members["background"].notna(), setting]
    return list(dict.fromkeys(_text(value) for value in known))


def _text(value: Any) -> str:
    if pd.isna(value):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,g}" if isinstance(value, int | float) else str(value)
