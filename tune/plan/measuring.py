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
from tune.measure.cache import measure, save_measurement, shape_name
from tune.plan.forecast import Forecaster, Measurable
from tune.plan.shapes import key_of, shapes


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
            how = f"{what.threads} threads" + (", compiled" if what.compiled else "")
            shape = names.get(key_of(what.member))
            name = shape.name if shape else shape_name(what.member)
            console.print(f"Measuring {name} ({how}), {place} of {len(missing)}", highlight=False, markup=False)
            task = partial(measure, device=forecaster.device, threads=what.threads, compiled=what.compiled)
            plain = forecaster.measurement(what.member, what.threads, compiled=False)
            if what.compiled and plain is not None:
                # Every size is compiled separately, for half a minute or more: one will do.
                task = partial(task, sizes=(plain.best().members,))
            measurement = process.submit(task, what.member).result()
            save_measurement(what.member, forecaster.device, what.threads, what.compiled, measurement)
            forecaster.learn(what, measurement)


def _begin(needed: Sequence[Extension]) -> None:
    """Run the extensions that are measured. Ctrl-C is for the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    extensions.run(needed)
