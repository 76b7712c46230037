"""Tables of posterior collapse: how many members have lost a layer, and by which epoch."""

import pandas as pd

from analysis.caveats import NO_UNIT_KL
from analysis.frames import Frames
from analysis.statistics import layer_activity
from analysis.tables.building import AtDepth, by_depth, variants_present
from analysis.tables.footnotes import grid_footnotes
from analysis.tables.table import PlainCell, Table, TableSet
from hvae_spec.records.layout import ACTIVE


def collapse(frames: Frames) -> TableSet:
    """How many finished members of every cell have lost a layer, and since which epoch: one table per depth, the
    greatest depth first.

    The tidy frame holds the rows of `analysis.statistics.layer_activity`.
    """
    tidy = layer_activity(frames.planned)
    tables = []
    for own in by_depth(frames):
        known = tidy[tidy["digest"].isin(own.members["digest"]) & (tidy["status"] == "finished")]
        if known.empty:
            continue
        rows = own.placed(known.assign(row=[f"z_{layer}" for layer in known["layer"]]))
        cells = {
            (str(row), str(variant)): PlainCell(_text(part))
            for (row, variant), part in rows.groupby(["row", "variant"], sort=False, observed=True)
        }
        title = ("Dead layers", own.subject)
        footnotes = (
            f"Finished members in which the layer has no active unit (KL above {ACTIVE} nats) at the end, of how many.",
            "'since': the evaluated epoch from which it has had none, of the first such member and of the last.",
            *_left_out(own),
            *grid_footnotes(frames, own.group.frames, has_errors=False),
        )
        labels = tuple(dict.fromkeys(row for row, _ in cells))
        tables.append(Table(*title, own.places.row_heading("layer"), labels, variants_present(rows), cells, footnotes))
    return TableSet("collapse", tuple(tables), tidy)


def _left_out(own: AtDepth) -> tuple[str, ...]:
    """Which layers of which columns nothing is said of, if there are any."""
    units = own.group.frames.units
    without = units[(units["unit"] == 0) & units["digest"].isin(own.members["digest"])]
    left_out = own.layers_in_words(without.drop_duplicates(["digest", "layer"]))
    return (f"{NO_UNIT_KL} Left out: {left_out}.",) if left_out else ()


def _text(layers: pd.DataFrame) -> str:
    """`0/3`; `2/3 since 40`; `3/3 since 40–60`: from the rows of one cell at one layer."""
    died = layers.loc[layers["dead"], "died"]
    text = f"{len(died)}/{len(layers)}"
    if died.empty:
        return text
    first, last = int(died.min()), int(died.max())
    return f"{text} since {first}" + (f"–{last}" if last > first else "")
