"""Who is told of members while they run: the base class of every listener, and what it is told in plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MemberInfo:
    """A member, as a listener is told of it."""

    name: str
    """The name of its record's folder, which no other training has."""
    labels: dict[str, Any]
    """What tables call it: `dataset`, `depth`, `variant`, `seed`, and its place on further axes by their dotted paths.
    """
    folder: Path
    """Its record's folder."""
    epochs: int
    """How many it trains."""
    settings: dict[str, Any]
    """Its resolved spec as a tree of plain values."""


class Listener:
    """Is told of members while they run. Subclass it, and define what you want to be told; the rest does nothing.

    Its methods are called in the process that was started by the user, in a thread of their own, one at a time. What
    they are given is read from the members' records, which they cannot change. A method that raises is reported once,
    and its listener is told nothing more; one that is slow is told later; the run goes on in any case.

    Numbers are floats or whole numbers, and NaN where they are not finite. Bounds are in nats per image.
    """

    def start(self, member: MemberInfo) -> None:
        """A member is taken up by this run: from the beginning, from a checkpoint, or to be evaluated again."""

    def epoch(self, member: MemberInfo, epoch: int, values: Mapping[str, float]) -> None:
        """A member has trained an epoch. Each is told once per run, in order, soon after it is on disk; a member that
        goes on from a checkpoint is told of from its first epoch, so that its curves are whole.

        Args:
            member: which.
            epoch: counted from 1.
            values: `beta`, `learning_rate`, `train_bound`, `train_bound_beta_1`, `train_reconstruction`, `kl_1`, ...
                (per layer), with an auxiliary variable `auxiliary_nats`, `gradient_norm`, `seconds`, `ms_per_step`,
                with classes `train_log_classes`: those of `epochs` in `analysis.load`, means over the steps of the
                epoch, and the learning rate.

        """

    def evaluation(
        self, member: MemberInfo, epoch: int, values: Mapping[str, float], unit_kl: Sequence[Sequence[float]]
    ) -> None:
        """A member was evaluated: at a point of its test curve (`evaluation.every`), and at the end.

        Args:
            member: which.
            epoch: after which.
            values: of the test curve `test_elbo`, `test_log_likelihood`, `test_iw_samples`, `test_images` and
                `active_units`. Those of the final evaluation, which has other importance samples, begin with `final_`:
                `final_test_log_likelihood`, `final_test_log_likelihood_se`, `final_active_units`, `final_kl_1`, ...
                With classes there are `test_error` and `final_test_error`.
            unit_kl: KL(q||p) of every unit, layer by layer, z_1 first; empty if it was lost, and of a layer whose
                units have no KL of their own, as q or p does not factorize over them.

        """

    def finish(self, member: MemberInfo, status: str, reason: str) -> None:
        """Nothing more comes of a member in this run.

        Args:
            member: which.
            status: `finished`, `diverged`, `failed`, `damaged`, or `interrupted`: the run ends before the member does.
            reason: why it is not finished, in words, as far as that is known; else empty.

        """
