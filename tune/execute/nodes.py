"""What every node of a cluster must have before anything is trained there: the results folder, and the images."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_spec.data.cache import search_folders
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.own import find_own
from hvae_spec.errors import UserError, refusal
from hvae_spec.pack_job import PackJob
from hvae_spec.records.extensions import with_code
from hvae_spec.spec.data import DataSpec
from hvae_spec.spec.experiment import MemberSpec
from tune.execute.cluster import first_line

SHARE = "choose a folder on storage that all nodes share, with --results"
Digests = tuple[str, str]
"""SHA-256 of the training and of the test images."""


@dataclass(frozen=True)
class Requirements:
    """What packs need of a node."""

    shared: Path
    """A folder in the results folder, which this run has made: its name is nowhere else."""
    specs: tuple[MemberSpec, ...]
    """Members, one for each data set."""
    folders: tuple[Path, ...]
    """Results folders that may have the code of extensions."""
    variables: Mapping[str, str]
    """What is to be known of the driver's environment."""

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.shared.parent


@dataclass(frozen=True)
class Findings:
    """What a node has of it."""

    sees_folder: bool
    """Whether the node sees what the driver has written."""
    refusal: str
    """Why the node cannot write there; empty if it can."""
    digests: Mapping[str, Digests | str]
    """Of every data set by its name, or why it cannot be read."""
    searched: Mapping[str, str]
    """Where each of them is looked for."""


def requirements(jobs: Sequence[PackJob], shared: Path) -> Requirements:
    """What these packs need of a node.

    Args:
        jobs: the packs.
        shared: a new folder in the results folder.

    """
    specs = {repr(_whole(job.members[0].spec.data)): job.members[0].spec for job in jobs}
    folders = tuple(folder.root for folder in jobs[0].folders)
    return Requirements(shared, tuple(specs.values()), folders, driver_variables())


def driver_variables() -> dict[str, str]:
    """What a worker must know of the driver's environment."""
    named = os.environ.get("HVAE_DATA_DIR")
    return {"HVAE_DATA_DIR": os.path.abspath(os.path.expanduser(named))} if named else {}


def unfit_nodes(needed: Requirements, answers: Iterable[tuple[dict[str, Any], Any]]) -> dict[str, str]:
    """Nodes of a cluster on which nothing can be trained, by Ray's ids, each with the reason in one line.

    Args:
        needed: what they must have.
        answers: of each node what Ray says of it, and its `look`, or an error in its place.

    """
    expected, unfit = digests(needed), {}
    for node, answer in answers:
        name = node["NodeID"]
        if isinstance(answer, Exception):
            why = f"it does not answer ({first_line(answer)})"
        else:
            why = fault(answer, needed, expected, name)
        if why:
            where = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            unfit[name] = f"Nothing is trained on node {where}: {why}"
    return unfit


def look(needed: Requirements, reply: str) -> Findings:
    """What this node has. Its reply is a file of this name in the shared folder.

    Data sets are loaded, so that files which are missing are downloaded here if that can be done.
    """
    os.environ.update(needed.variables)
    if not needed.shared.is_dir():
        return Findings(False, "", {}, {})
    try:
        (needed.shared / reply).touch()
    except OSError as error:
        return Findings(True, refusal(needed.shared, error), {}, {})
    searched = {spec.data.name: _searched(spec.data) for spec in needed.specs}
    return Findings(True, "", digests(needed), searched)


def digests(needed: Requirements) -> dict[str, Digests | str]:
    """The digests of the data sets as they are here, or what is wrong with them, by name."""
    found: dict[str, Digests | str] = {}
    for spec in with_code(needed.specs, needed.folders):
        try:
            dataset = load_dataset(_whole(spec.data))
            found[spec.data.name] = (dataset.train_sha256, dataset.test_sha256)
        except UserError as error:
            found[spec.data.name] = " ".join(str(error).split())
    return found


def fault(found: Findings, needed: Requirements, expected: Mapping[str, Digests | str], reply: str) -> str:
    """Why nothing can be trained on a node, and what fixes it, in one line; empty if it can.

    Args:
        found: what the node says.
        needed: what it must have.
        expected: the digests that the driver has.
        reply: the name of the file that the node was to write.

    """
    if not found.sees_folder:
        return unseen(needed.results)
    if found.refusal:
        return found.refusal
    if not (needed.shared / reply).exists():
        return f"{needed.results}: what the node writes there is not seen by the run; {SHARE}"
    for name, digest in found.digests.items():
        if isinstance(digest, str):
            return f"{digest} (HVAE_DATA_DIR can name a folder that all nodes share)"
        if digest != expected[name]:
            theirs, ours = (pair[digest[0] == expected[name][0]][:12] for pair in (digest, expected[name]))
            return (
                f"{name}: its images, looked for in {found.searched[name]}, are not those of the run (SHA-256 "
                f"{theirs}..., not {ours}...); put the same files there, or name a folder that all nodes share in "
                "HVAE_DATA_DIR"
            )
    return ""


def _searched(data: DataSpec) -> str:
    """Where a data set is looked for on this node."""
    if data.own is None:
        return " and ".join(map(str, search_folders())) or "no folder at all"
    try:
        return str(find_own(data.own.file))
    except UserError:
        return data.own.file


def unseen(results: Path) -> str:
    """What is said of a node that does not see the results folder."""
    return f"{results}: this folder, which the run writes to, is not seen there; {SHARE}"


def _whole(data: DataSpec) -> DataSpec:
    """The same data set, with all of its images."""
    return DataSpec(dataset=data.dataset, own=data.own)
