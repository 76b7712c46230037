"""How a shape's compiled step compares with its plain one on this machine, and when that makes compiling worth it. No
torch here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hvae_spec.spec.experiment import MemberSpec
from tune.measure.cache import NOT_COMPILED, ShapeMeasurement, keep, kept, machine_key

WORTH_TRYING = 600.0
"""Seconds of training from which it pays to find out whether the compiled step is faster, which takes up to a minute or
two."""
LEAST_GAIN = 0.05
"""Share of a step that compiling must save: what medians of one and the same step, taken in turn, may differ by."""
COMPARISON = "comparison"
"""What comparisons are kept as."""


@dataclass(frozen=True)
class StepComparison:
    """A pack's step, compiled and not, taken in turn."""

    members: int
    """M."""
    plain_ms: float
    """Milliseconds of a step that is not compiled, divided by M."""
    compiled_ms: float
    """Milliseconds of a compiled step, divided by M."""
    compile_seconds: float
    """What a pack pays before its first compiled step."""

    @property
    def times(self) -> float:
        """How many times as long the compiled step takes."""
        return self.compiled_ms / self.plain_ms

    @property
    def is_faster(self) -> bool:
        """Whether the compiled step is faster by more than what may be noise."""
        return self.times <= 1 - LEAST_GAIN

    def pays(self, steps: int) -> bool:
        """Whether so many steps of the pack save more than compiling takes."""
        return self.is_faster and steps * self.members * (self.plain_ms - self.compiled_ms) / 1e3 > self.compile_seconds

    def ms(self, *, compiled: bool) -> float:
        """Milliseconds per member-step."""
        return self.compiled_ms if compiled else self.plain_ms


def comparisons(measured: ShapeMeasurement, beside: Mapping[int, Mapping[str, float]]) -> list[StepComparison]:
    """What `measure_beside` found of compiled packs, and in turn with them of the same ones that are not."""
    return [
        StepComparison(
            step.members,
            1e3 * beside[step.members][NOT_COMPILED] / step.members,
            step.ms_per_member_step,
            measured.compile_seconds,
        )
        for step in measured.steps
        if NOT_COMPILED in beside[step.members]
    ]


def load_comparison(member: MemberSpec, device: str, threads: int, members: int) -> StepComparison | None:
    """What was found of packs of so many members of a shape on this machine, with this version; None if nothing was."""
    content = kept(machine_key(member, device, threads, COMPARISON))
    try:
        return _parse(content[str(members)], members)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def save_comparisons(member: MemberSpec, device: str, threads: int, found: Iterable[StepComparison]) -> None:
    """Keep what was found of packs of some sizes, beside what is kept of other sizes. Where nothing can be written, it
    is not kept.
    """
    if new := {str(each.members): asdict(each) for each in found}:
        key = machine_key(member, device, threads, COMPARISON)
        before = kept(key)
        keep(key, {**(before if isinstance(before, dict) else {}), **new})


def _parse(content: Any, members: int) -> StepComparison:
    """A comparison from JSON. Raises KeyError, TypeError, ValueError or OverflowError: it is none."""
    names = ("plain_ms", "compiled_ms", "compile_seconds")
    found = StepComparison(members, *(float(content[name]) for name in names))
    if not (
        0 < found.plain_ms < math.inf and 0 < found.compiled_ms < math.inf and 0 <= found.compile_seconds < math.inf
    ):
        raise ValueError(f"no comparison: {content}")
    return found
