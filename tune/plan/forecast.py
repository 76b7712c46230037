"""How long a pack will take and how much memory, from a measurement of its shape, or from its multiply-adds where none
has been made. Neither torch nor Ray here.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from hvae_spec.data.counts import image_counts
from hvae_spec.pack_job import PackJob
from hvae_spec.spec.choices.dataset import ImageCounts
from hvae_spec.spec.cost import (
    bound_macs,
    curve_samples,
    evaluated_images,
    evaluation_macs,
    further_samples,
    images_of_step,
    mappings,
    parameters,
    samples_in_training,
    steps_per_epoch,
    training_macs,
    watched_images,
)
from hvae_spec.spec.experiment import MemberSpec
from tune.measure.cache import ShapeMeasurement, load_measurement, step_shape
from tune.measure.comparison import WORTH_TRYING, StepComparison, load_comparison
from tune.plan import devices
from tune.plan.grouping import shape

NOMINAL = (
    "What has not been measured goes by nominal speed, which may be off by a factor of two or three: "
    "python -m tune.run SPEC --plan --measure measures it."
)
UPPER_BOUND = "An upper bound: every epoch is counted, and early stopping may end members before."
"""What is said of a forecast with early stopping."""
START_UP = 2.0
"""Seconds from a pack's turn to its first step."""
NOMINAL_FLOPS = {"cpu": 50e9, "cuda": 20e12}
"""Floating-point operations a second of a core, and of a GPU, where nothing is measured."""
NOMINAL_OVERHEAD = {"cpu": 0.8e-3, "cuda": 0.2e-3}
"""Seconds that each mapping adds to a pack's step, however many members share it, where nothing is measured."""
TRIAL_SECONDS = 60.0
"""What a pack takes to compile its step and to measure it both ways, where that is not known."""
Way = Literal["plain", "compiled", "trial"]
"""How the steps of a pack are made; `trial`: the faster way, which the pack finds out."""
CROWDING = 0.13
"""How much longer, as a share, a pack takes for every other one on its GPU: fourteen took 2.7 times as long as one."""
COEFFICIENTS = 7
"""Numbers in float64 that a step keeps of every unit of a component of a mixture (measured)."""


class Measurable(NamedTuple):
    """What a measurement is made of."""

    member: MemberSpec
    threads: int
    compiled: bool
    sizes: tuple[int, ...] | None = None
    """Members of the packs to measure; None: the usual ones."""

    @property
    def key(self) -> str:
        """The same for all members that are equally fast."""
        return json.dumps([step_shape(self.member), self.threads, self.compiled])


@dataclass(frozen=True)
class Forecast:
    """What a pack will take."""

    training: float
    """Seconds of training, compilation not counted."""
    curve: float
    """Seconds of the points of the test curve."""
    final: float
    """Seconds of the final evaluation."""
    overhead: float
    """Seconds of starting and compiling."""
    ms_per_member_step: float
    bytes: int
    """Largest amount of memory."""
    measured: bool
    """Whether all of this comes from measurements."""
    measured_steps: bool
    """Whether the speed of training does. What a pack finds out of compiled steps says nothing of evaluation and
    memory."""

    @property
    def evaluation(self) -> float:
        """Seconds of all evaluations."""
        return self.curve + self.final

    @property
    def seconds(self) -> float:
        """From the pack's turn to its last result."""
        return self.overhead + self.training + self.evaluation


class Forecaster:
    """Forecasts of packs on one kind of device.

    Args:
        device: `cpu` or `cuda`.
        flops: floating-point operations a second of a core or a GPU, where nothing is measured.
        ms_per_member_step: in place of all measurements of training.

    """

    def __init__(self, device: str, flops: float | None = None, ms_per_member_step: float | None = None) -> None:
        self.device, self.flops, self.ms_per_member_step = device, flops or NOMINAL_FLOPS[device], ms_per_member_step
        self.measurements: dict[str, ShapeMeasurement | None] = {}
        self.comparisons: dict[tuple[str, int], StepComparison | None] = {}
        self.asked: set[tuple[str, int]] = set()
        """Sizes that were to be measured compiled. One that takes too much memory or time is not."""
        self.forecasts: dict[tuple[str, int, int, bool], Forecast] = {}
        self.packs: dict[str, Forecast] = {}

    def measurement(self, member: MemberSpec, threads: int, compiled: bool) -> ShapeMeasurement | None:
        """The measurement of a member's shape on this machine, if there is one."""
        key = Measurable(member, threads, compiled).key
        if key not in self.measurements:
            is_here = self._is_here
            self.measurements[key] = load_measurement(member, self.device, threads, compiled) if is_here else None
        return self.measurements[key]

    def comparison(self, member: MemberSpec, threads: int, members: int) -> StepComparison | None:
        """How the compiled step of so many members of a shape compares with the plain one on this machine, if that is
        known.
        """
        key = Measurable(member, threads, compiled=True).key, members
        if key not in self.comparisons:
            is_here = self._is_here
            self.comparisons[key] = load_comparison(member, self.device, threads, members) if is_here else None
        return self.comparisons[key]

    @property
    def _is_here(self) -> bool:
        """Whether this machine has such a device."""
        return self.device == "cpu" or devices.gpus("cuda") > 0

    def unmeasured(self, jobs: Iterable[PackJob]) -> list[Measurable]:
        """What is to be measured next for these packs, less what has been: their shapes not compiled, which shows how
        large packs should be and whether compiling may pay; then, where it may, packs of their sizes both ways.
        """
        plain: dict[str, Measurable] = {}
        compiled: dict[str, Measurable] = {}
        for job in jobs:
            spec, threads, members = job.members[0].spec, job.threads, len(job.members)
            what = Measurable(spec, threads, compiled=False)
            if self.measurement(spec, threads, compiled=False) is None:
                plain.setdefault(what.key, what)
            may_be = job.compiled or job.tries_compiling
            what = what._replace(compiled=True)
            if not may_be or job.kind != "train" or (what.key, members) in self.asked:
                continue
            if self.comparison(spec, threads, members) is None:
                sizes = compiled[what.key].sizes or () if what.key in compiled else ()
                compiled[what.key] = what._replace(sizes=tuple(sorted({*sizes, members})))
        return list((plain or compiled).values())

    def learn(
        self, what: Measurable, measurement: ShapeMeasurement, comparisons: Iterable[StepComparison] = ()
    ) -> None:
        """Use what was measured from now on."""
        self.measurements[what.key] = measurement
        self.asked |= {(what.key, members) for members in what.sizes or ()}
        self.comparisons |= {(what.key, found.members): found for found in comparisons}
        self.forecasts.clear()
        self.packs.clear()

    def of(self, job: PackJob) -> Forecast:
        """The forecast of a pack from its start, or from the epoch of the shorter trainings that it goes on from."""
        if job.pack_id not in self.packs:
            spec = job.members[0].spec
            whole = self.pack(spec, len(job.members), job.threads, job.compiled)
            epochs = spec.training.epochs
            share = 0.0 if job.kind == "evaluate" else (epochs - job.start_epoch) / epochs
            self.packs[job.pack_id] = replace(
                whole,
                training=share * whole.training,
                curve=share * whole.curve,
                overhead=whole.overhead + TRIAL_SECONDS * job.tries_compiling,
            )
        return self.packs[job.pack_id]

    def pack(self, member: MemberSpec, members: int, threads: int, compiled: bool) -> Forecast:
        """The forecast of so many members of one shape in one pack."""
        key = (shape(member), members, threads, compiled)
        if key not in self.forecasts:
            self.forecasts[key] = self._pack(member, members, threads, compiled)
        return self.forecasts[key]

    def _pack(self, member: MemberSpec, members: int, threads: int, compiled: bool) -> Forecast:
        measured = self.measurement(member, threads, compiled) or self.measurement(member, threads, not compiled)
        flops = self.flops * (threads if self.device == "cpu" else 1)
        counts = image_counts(member.data)
        epochs, steps = member.training.epochs, steps_per_epoch(member, counts.train)
        compared = self.comparison(member, threads, members)
        if self.ms_per_member_step is not None:
            ms = self.ms_per_member_step
        elif compared is not None:
            ms = compared.ms(compiled=compiled)
        elif measured is not None:
            ms = measured.at(members)
        else:
            shared = NOMINAL_OVERHEAD[self.device] * sum(1 for _ in mappings(member, counts.pixels)) / members
            ms = 1e3 * (shared + 2 * training_macs(member, counts) / (epochs * max(1, steps)) / flops)
        training = epochs * steps * members * ms / 1e3
        known = compared or measured
        overhead = START_UP + (known.compile_seconds if compiled and known is not None else 0.0)
        if measured is None:
            bound = members * 2 * bound_macs(member, counts) / flops
            curve = bound * _curve_share(member, counts)
            final = members * 2 * evaluation_macs(member, counts) / flops
            memory = _nominal_bytes(member, counts, members)
            steps_alone = compared is not None and self.ms_per_member_step is None
            return Forecast(training, curve, final, overhead, ms, memory, measured=False, measured_steps=steps_alone)
        training += epochs * members * measured.epoch_seconds_per_member
        # Where q(y|x) alone is trained there are no bounds.
        samples = 0 if member.classifies_alone else member.evaluation.iw_samples
        bound = members * evaluated_images(member, counts) * samples / measured.samples_per_second
        curve = bound * _curve_share(member, counts)
        final = bound + members * further_samples(member, counts) / measured.samples_per_second
        memory = _bytes(measured, members)
        return Forecast(training, curve, final, overhead, ms, memory, measured=True, measured_steps=True)

    def way(
        self,
        member: MemberSpec,
        members: int,
        threads: int,
        *,
        start_epoch: int = 0,
        sharing: int = 1,
        here: bool = True,
    ) -> Way:
        """How the steps of a pack are best made: compiled where by measurement that saves more than it takes; by trial
        where it has not been measured, and training is long enough to pay for finding out.

        Args:
            member: one of its members.
            members: how many it has.
            threads: its threads.
            start_epoch: the epoch that it goes on from.
            sharing: up to so many packs share its GPU.
            here: whether it runs on this machine. What was measured here says nothing of others.

        """
        if member.classifies_alone:  # what is trained then is not compiled
            return "plain"
        epochs = member.training.epochs
        left = (epochs - start_epoch) / epochs
        found = self.comparison(member, threads, members) if here else None
        if found is None:
            alone = left * self.pack(member, members, threads, compiled=False).training
            return "trial" if alone * (1 + CROWDING * (sharing - 1)) > WORTH_TRYING else "plain"
        steps = (epochs - start_epoch) * steps_per_epoch(member, image_counts(member.data).train)
        return "compiled" if found.pays(steps) else "plain"

    def best_size(self, member: MemberSpec, threads: int, compiled: bool, memory: float | None) -> int | None:
        """How many members a pack should have, by measurement: as many as make a member-step cheapest, of those that
        fit into `memory` bytes. None where nothing has been measured.
        """
        measured = self.measurement(member, threads, compiled) or self.measurement(member, threads, not compiled)
        if measured is None:
            return None
        best = measured.best()
        if memory is None or best.bytes <= memory:
            return best.members
        fitting = [step for step in measured.steps if step.bytes <= memory]
        return min(fitting, key=lambda step: step.ms_per_member_step).members if fitting else 1


def _curve_share(member: MemberSpec, counts: ImageCounts) -> float:
    """Samples of all points of the curve, as a share of those of the final bounds."""
    every, final = member.evaluation.every, evaluated_images(member, counts) * member.evaluation.iw_samples
    points = member.training.epochs // every if every else 0
    return points * curve_samples(member, watched_images(member, counts)) / final if final else 0.0


def _nominal_bytes(member: MemberSpec, counts: ImageCounts, members: int) -> int:
    """Memory of a pack in training, where nothing is measured: the images, and for each member its parameters as
    often as training holds a number for each, the activations that a step keeps for its backward pass, three of every
    width, and what the density of a mixture takes.
    """
    images, pseudo_inputs = images_of_step(member), member.model.pseudo_inputs
    rows = images * max(1, samples_in_training(member))
    # Pseudo-inputs pass through what is done once per image.
    passing = (
        (mapping, rows + pseudo_inputs * mapping.passes(0) + images * mapping.earlier)
        for mapping in mappings(member, counts.pixels)
    )
    activations = 3 * sum(passed * sum(mapping.widths[1:]) for mapping, passed in passing)
    numbers = member.training.numbers_per_parameter * parameters(member, counts.pixels)
    return counts.train * counts.pixels + members * (4 * (numbers + activations) + _mixture_bytes(member, rows))


def _mixture_bytes(member: MemberSpec, rows: int) -> int:
    """Memory of the density of p(z_L) of so many samples, if it is a mixture: for every component the coefficients of
    each unit, in float64, and the terms of all samples, in float64 and rounded to float32.
    """
    coefficients = 8 * COEFFICIENTS * member.model.layers[-1].units
    return member.model.prior_components * (coefficients + (8 + 4) * rows)


def _bytes(measured: ShapeMeasurement, members: int) -> int:
    """Memory of a pack: that of the next larger one measured, or more in proportion."""
    larger = [step for step in measured.steps if step.members >= members]
    if larger:
        return min(larger, key=lambda step: step.members).bytes
    largest = max(measured.steps, key=lambda step: step.members)
    return round(largest.bytes * members / largest.members)
