"""The grid that a job was submitted for: a later start of the job runs no other one."""

import hashlib
import json
import os
from collections.abc import Sequence

from hvae_spec.errors import UserError
from hvae_spec.reading import read
from hvae_spec.records.layout import SHORT
from hvae_spec.spec.load import Reading
from tune.options import parse


def check_can_be_read_again(spec: str) -> None:
    """Refuse a spec that is no file and can be read once only, as each start of a job reads it.

    Raises:
        UserError: it is a pipe or a terminal.

    """
    # Whatever else is wrong with it is said where it is read.
    if os.path.exists(spec) and not (os.path.isfile(spec) or os.path.isdir(spec)):
        raise UserError(
            f"{spec}: not a file, and a job reads its spec whenever it starts; write the spec to a file that every "
            "node sees"
        )


def grid_digest(reading: Reading) -> str:
    """The digest of what a spec has run: its members, and how more of them are chosen from results. Comments, and what
    the report shows, are not in it.
    """
    grids = []
    for grid in reading.grids:
        chosen = [part and part.model_dump(mode="json") for part in (grid.experiment.grid, grid.experiment.search)]
        grids.append((chosen, [member.digests.evaluation for member in grid.members]))
    return hashlib.sha256(json.dumps(grids, sort_keys=True).encode()).hexdigest()[:SHORT]


def check_unchanged(arguments: Sequence[str], digest: str) -> None:
    """Refuse to run another grid than the one that a job's script was written for.

    Args:
        arguments: those of the run, the spec among them.
        digest: that of the grid; where it is empty, any grid is run.

    Raises:
        UserError: the spec is not valid, or its grid is another one.

    """
    if not digest:
        return
    options = parse(arguments, "tune.run")
    if grid_digest(read(options.spec, options.overrides, options.profile)) != digest:
        raise UserError(
            f"{options.spec}: its grid is not the one that this job's script was written for, as the spec, a file that "
            "it names or an option has changed since; change it back, write the script anew (hvae slurm), or, to run "
            "the grid as it is now, empty `grid=` in the script"
        )
