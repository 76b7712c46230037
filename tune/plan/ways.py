"""Which packs make compiled steps, which plain ones, and which find out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from hvae_spec.pack_job import PackJob
from hvae_spec.spec.experiment import MemberSpec
from tune.measure.comparison import StepComparison
from tune.plan.forecast import Forecaster, Way

Compiling = Literal["auto", "always", "never"]
COMPILING: tuple[Compiling, ...] = get_args(Compiling)
"""Whether training steps are compiled; `auto` is where it pays."""


@dataclass(frozen=True)
class Ways:
    """How the packs of a plan make their steps."""

    forecaster: Forecaster
    compiling: Compiling
    sharing: int = 1
    """Up to so many packs share a GPU."""
    here: bool = True
    """Whether packs run on this machine. On others, each goes by what was measured there."""

    def of(self, member: MemberSpec, members: int, threads: int, start_epoch: int = 0) -> Way:
        """How a pack of so many members makes its steps from an epoch on."""
        if self.compiling != "auto":
            return "compiled" if self.compiling == "always" else "plain"
        return self.forecaster.way(
            member, members, threads, start_epoch=start_epoch, sharing=self.sharing, here=self.here
        )

    def decided(self, job: PackJob) -> PackJob:
        """A pack with its way to make steps, so far as that can be said before it begins."""
        member, members = job.members[0].spec, len(job.members)
        way = self.of(member, members, job.threads, job.start_epoch)
        if job.kind == "evaluate" and self.compiling == "auto":
            # Evaluations are compiled where steps are, and have no steps to try that with.
            known = self.forecaster.comparison(member, job.threads, members) if self.here else None
            way = "compiled" if known is not None and known.is_faster else "plain"
        return replace(job, compiled=way == "compiled", tries_compiling=way == "trial")

    def slower(self, jobs: Iterable[PackJob]) -> dict[str, StepComparison]:
        """What was measured of packs that are not compiled as that would make them no faster, by their ids."""
        found: dict[str, StepComparison] = {}
        for job in jobs if self.compiling == "auto" and self.here else ():
            known = self.forecaster.comparison(job.members[0].spec, job.threads, len(job.members))
            if job.kind == "train" and not job.compiled and known is not None and not known.is_faster:
                found[job.pack_id] = known
        return found
