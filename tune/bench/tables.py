"""What a benchmark found, as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(found: dict[str, Any], console: Console) -> None:
    """Print the report for people."""
    machine = found["machine"]
    console.print(
        f"{machine['device_name']} ({machine['device']}), {machine['threads']} threads, "
        f"PyTorch {machine['versions']['torch']}, products in {machine['precision']} precision",
        highlight=False,
    )
    sizes = sorted({row["members"] for row in found["shapes"]})
    table = Table(title="Training: ms per member-step, by members of the pack")
    for heading in ("shape", *map(str, sizes), "plain loop", "floor", "plain / best", "best / floor"):
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    for name, compiled in dict.fromkeys((row["name"], row["compiled"]) for row in found["shapes"]):
        rows = [row for row in found["shapes"] if (row["name"], row["compiled"]) == (name, compiled)]
        times = {row["members"]: row["ms_per_member_step"] for row in rows}
        best, floor = min(times.values()), rows[0]["floor_ms_per_member_step"]
        plain = next(row["plain_ms_per_step"] for row in rows if row["ms_per_member_step"] == best)
        cells = [f"{times[size]:.3g}" if size in times else "" for size in sizes]
        numbers = (f"{plain:.3g}", f"{floor:.3g}", f"{plain / best:.2f}", f"{best / floor:.2f}")
        table.add_row(f"{name}{', compiled' if compiled else ''}", *cells, *numbers)
    console.print(table)
    if found.get("rivals"):
        console.print(rival_table(found["rivals"], sizes))
    table = Table(title="Evaluation, set-up of an epoch, and rounding of log weights (median, nats)")
    for heading in ("shape", "K", "samples/s", "/ plain", "/ floor", "epoch", "plain", "rounding", "plain's"):
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    epochs, errors = ({row["name"]: row for row in found[part]} for part in ("epoch_setup", "numerics"))
    for rate in found["evaluation"]:
        epoch, error = epochs[rate["name"]], errors[rate["name"]]
        ours, plain, floor = (rate[f"{who}samples_per_second"] for who in ("", "plain_", "floor_"))
        table.add_row(
            rate["name"] + (", compiled" if rate["compiled"] else ""),
            *(f"{rate['iw_samples']:,}", f"{ours:,.0f}", f"{ours / plain:.2f}", f"{ours / floor:.2f}"),
            *(f"{epoch['seconds_per_member']:.3f} s", f"{epoch['plain_seconds']:.3f} s"),
            *(f"{error['median_error_nats']:.1e}", f"{error['plain_median_error_nats']:.1e}"),
        )
    console.print(table)
    for name, seconds in found["startup"].items():
        what = name.removesuffix("_seconds").replace("_", " ")
        console.print(f"{what}: {'failed' if seconds is None else f'{seconds:.2f} s'}", highlight=False)


def rival_table(rows: list[dict[str, Any]], sizes: list[int]) -> Table:
    """Rivals beside packs of all sizes, compiled or not."""
    from tune.bench.rivals import RIVALS

    table = Table(title="Rivals: ms per member-step, beside a pack of so many members, and in brackets ours / theirs")
    for heading in ("shape", "rival", *map(str, sizes), "best / best"):
        table.add_column(heading, justify="left" if heading in ("shape", "rival") else "right")
    for name, compiled, rival in dict.fromkeys((row["name"], row["compiled"], row["rival"]) for row in rows):
        own = [row for row in rows if (row["name"], row["compiled"], row["rival"]) == (name, compiled, rival)]
        cells = {r["members"]: f"{r['rival_ms_per_member_step']:.3g} ({r['ours_over_rival']:.2f})" for r in own}
        best, their_best = (min(row[key] for row in own) for key in ("ms_per_member_step", "rival_ms_per_member_step"))
        shape = f"{name}{', compiled' if compiled else ''}"
        table.add_row(shape, RIVALS[rival].words, *(cells.get(m, "") for m in sizes), f"{best / their_best:.2f}")
    return table
