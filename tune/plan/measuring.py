"""Measures what a plan rests on, before it runs."""

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rich.console import Console

from hvae_spec import extensions
from hvae_spec.registry import Extension
from hvae_spec.spec.grid import Cell
from tune.measure.cache import SECONDS, measure_beside, save_measurement, shape_name
from tune.measure.comparison import comparisons, save_comparisons
from tune.plan.forecast import Forecaster, Measurable
from tune.plan.shapes import key_of, shapes

COMPARING = 10.0
"""Time for a size of pack both ways, its set-up apart: whether it is compiled rests on it."""


def measure_all(missing: Sequence[Measurable], forecaster: Forecaster, cells: Sequence[Cell], console: Console) -> None:
    """Measure shapes one after another, keep the measurements, and have the forecaster learn them. They are called as
    they are among all the cells of a grid.

    In a process of its own, so that this one takes no memory on a GPU and its thread settings stay as they are.
    """
    spawn = multiprocessing.get_context("spawn")
    needed = extensions.of({part.sha256 for what in missing for part in what.member.parts.values()})
    names = shapes(cells)
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(needed,)) as process:
        for place, what in enumerate(missing, start=1):
            sizes = f" in packs of {', '.join(map(str, what.sizes))}" if what.sizes else ""
            how = f"{what.threads} threads" + (f", compiled{sizes}" if what.compiled else "")
            shape = names.get(key_of(what.member))
            name = shape.name if shape else shape_name(what.member)
            console.print(f"Measuring {name} ({how}), {place} of {len(missing)}", highlight=False, markup=False)
            task = partial(measure_beside, device=forecaster.device, threads=what.threads, compiled=what.compiled)
            seconds = COMPARING * len(what.sizes) if what.sizes else SECONDS
            measurement, beside, _ = process.submit(task, what.member, sizes=what.sizes, seconds=seconds).result()
            found = comparisons(measurement, beside)
            if what.compiled:
                # Every size is compiled separately, so that each is measured when there are packs of it.
                earlier = forecaster.measurement(what.member, what.threads, compiled=True)
                measurement = measurement.joined(earlier)
            save_measurement(what.member, forecaster.device, what.threads, what.compiled, measurement)
            save_comparisons(what.member, forecaster.device, what.threads, found)
            forecaster.learn(what, measurement, found)


def _begin(needed: Sequence[Extension]) -> None:
    """Run the extensions that are measured. Ctrl-C is for the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    extensions.run(needed)
