"""What a contradiction in a spec is."""

from collections.abc import Sequence
from dataclasses import dataclass

from hvae_spec.spec.base import Loc
from hvae_spec.spec.grid import parse_path


@dataclass(frozen=True)
class Inconsistency:
    """A contradiction in a spec: where it stands, what is wrong, and what would fix it."""

    path: Loc
    message: str
    remedy: str
    reads: tuple[str, ...] = ()
    """Dotted paths of the fields that contradict each other: if one is faulty in itself, nothing can be said."""
    stops: bool = False
    """Whether it leaves unsaid which cells the grid has, so that they cannot be looked at."""


def may_follow_from(inconsistency: Inconsistency, faulty: Sequence[Loc]) -> bool:
    """Whether a contradiction may come only of fields that are faulty in themselves."""
    return any(one[: len(two)] == two[: len(one)] for one in map(parse_path, inconsistency.reads) for two in faulty)
