"""What a run has planned, as its results folder keeps it: grid.json, and of packs pack.json and planned.json."""

from typing import Any, Literal

from hvae_spec.records.json_file import FORMAT, FileModel, Flag, Format, Text, Tolerance, Whole
from hvae_spec.spec.seeds import StagedSeeds


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
