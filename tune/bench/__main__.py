"""`python -m tune.bench SPEC`: how fast this machine runs a spec, beside a plain PyTorch loop and the floor of both."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from hvae_spec.output import code_of_output
from hvae_spec.reading import read
from hvae_spec.records import provenance
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.load import Reading
from tune.bench.startup import startup
from tune.bench.tables import print_tables
from tune.cli import (
    add_device,
    check_device,
    console,
    positive_integer,
    positive_integers,
    positive_number,
    run_interruptible,
    spec_parser,
)
from tune.execute.signals import Interruption
from tune.measure.cache import (
    SIZES,
    Others,
    ShapeMeasurement,
    device_name,
    measure_beside,
    save_measurement,
)
from tune.measure.comparison import comparisons, save_comparisons
from tune.plan.devices import can_compile, cores
from tune.plan.shapes import shapes

SECONDS = 5.0
COMPILED = {"cpu": (1, 8, 16), "cuda": (1, 8, 32)}
"""Pack sizes that are measured with compiled steps, of those asked for: each takes a minute to compile."""
PRODUCTS = 30
"""A shape of product is measured for this fraction of the time for a shape of model."""
EPILOG = """\
Every distinct shape of the grid is measured once, on images of noise: packs of several sizes, the plain loop and the
floor (the matrix products alone), in turn, in one process, and rivals in processes of their own; every time is a
median. What is measured without rivals is kept, and plans of later runs are made with it, where their packs have as
many threads (--cpus 1 where every core has a pack). Nothing is downloaded. Let nothing else run meanwhile.

exit codes: 0 measured; 1 the system failed; 2 bad input; 130, 143 interrupted.
"""


@dataclass(frozen=True)
class BenchOptions:
    """What the command was asked for; `parse` says what each option means."""

    spec: str
    overrides: Sequence[str]
    profile: str | None
    json: bool
    device: str
    cpus: int | None
    members: Sequence[int] | None
    seconds: float
    shapes: str
    compile: str
    rivals: bool
    no_ray: bool


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tune.bench") -> int:
    """The command. Returns the exit code."""

    def run(_: Interruption) -> int:
        options = parse(arguments, prog)
        found = bench(options)
        if options.json:
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            print_tables(found, console())
        return code_of_output()

    return run_interruptible(run)


def parse(arguments: Sequence[str] | None, prog: str) -> BenchOptions:
    """The options that a command line gives."""
    parser = spec_parser(prog, "Measure training and evaluation of every shape in a spec's grid.", EPILOG)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    add_device(parser)
    parser.add_argument(
        "--cpus",
        "--threads",
        type=positive_integer,
        metavar="N",
        help="CPU cores to use, a thread on each (default: all)",
    )
    parser.add_argument(
        "--members",
        type=positive_integers,
        metavar="M,...",
        help="pack sizes to measure (default: 1,2,4,8,16, and on a GPU 32,64)",
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=SECONDS, metavar="S", help=f"time per shape (default: {SECONDS:g})"
    )
    parser.add_argument(
        "--shapes", choices=("all", "largest"), default="all", help="all of the grid's, or the costliest"
    )
    parser.add_argument(
        "--compile",
        choices=("largest", "always", "never"),
        default="largest",
        help="which shapes to measure with compiled steps too, a minute for each size (default: the costliest)",
    )
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="beside them the plain loop compiled, with fused Adam, and JAX where it is installed; minutes to compile",
    )
    parser.add_argument("--no-ray", action="store_true", help="leave out the cost of Ray")
    return BenchOptions(**vars(parser.parse_args(arguments)))


def bench(options: BenchOptions) -> dict[str, Any]:
    """Measure everything. Returns what `--json` prints.

    Raises:
        UserError: the spec or a flag is not valid.

    """
    check_device(options.device)
    reading = read(options.spec, options.overrides, options.profile)
    from hvae_spec.compiler import pick_device
    from tune.bench import rivals
    from tune.bench.floor import Floor, step_matmuls

    device = str(pick_device(options.device))
    threads = options.cpus or cores()
    shapes = grid_shapes(reading)
    largest = max(shapes, key=lambda shape: sum(product.macs for product in step_matmuls(shape[1])))
    if options.shapes == "largest":
        shapes = [largest]
    compiled = {"largest": {largest[0]}, "always": {name for name, _ in shapes}, "never": set[str]()}[options.compile]
    if compiled and not can_compile(device.partition(":")[0]):
        note("what torch.compile needs is not there: measured without it")
        compiled = set()
    precisions = sorted({member.training.matmul_precision for _, member in shapes})
    found: dict[str, Any] = {
        "machine": {
            "device": device,
            "device_name": device_name(device),
            "threads": threads,
            "versions": provenance.versions() | (rivals.versions() if options.rivals else {}),
            "precision": ", ".join(precisions),
        },
        **{part: [] for part in ("shapes", "evaluation", "epoch_setup", "numerics")},
        **({"rivals": [], "rivals_left_out": []} if options.rivals else {}),
    }
    floor = Floor(device, threads, options.seconds / PRODUCTS)
    for place, (name, member) in enumerate(shapes, start=1):
        note(f"[{place}/{len(shapes)}] {name}")
        settings: dict[str, Any] = {"device": device, "threads": threads, "floor": floor, "compiled": name in compiled}
        rows = shape_rows(name, member, options, **settings)
        for part in rows.keys() & found.keys():
            found[part] += rows[part]
    note("start-up")
    found["startup"], failures = startup(options.spec, options.overrides, options.profile, with_ray=not options.no_ray)
    for failure in failures:
        note(f"  {failure}")
    return found


def note(text: str) -> None:
    """Show how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def grid_shapes(reading: Reading) -> list[tuple[str, MemberSpec]]:
    """The distinct shapes of a grid, each with a name of its own and one of its members."""
    return [(shape.name, shape.member) for shape in shapes(reading.cells).values()]


def shape_rows(
    name: str,
    member: MemberSpec,
    options: BenchOptions,
    *,
    device: str,
    threads: int,
    floor: Any,
    compiled: bool,
) -> dict[str, list[dict[str, Any]]]:
    """What is measured of one shape, by the part of the report that it belongs to."""
    from tune.bench import comparison
    from tune.bench.rivals import Competition
    from tune.measure import timing

    settings: dict[str, Any] = {"device": device, "threads": threads, "seconds": options.seconds}
    kind = device.partition(":")[0]
    sizes = tuple(sorted(set(options.members or SIZES[kind])))
    plain = comparison.step(member, device)
    evaluations = {"plain": comparison.evaluation(member, device)}
    # The best rate of products is the better one of before and after.
    floors = [(floor.step_ms(member), floor.samples_per_second(member))]
    rivals = Competition(member, device, threads, note)
    with rivals if options.rivals else nullcontext():
        if rivals.running:
            note("  rivals: up to a minute to compile each, and each size of JAX")
        settings["others"] = Others(
            lambda members: {"plain": plain, **rivals.steps(members)}, evaluations, awake=bool(rivals.running)
        )
        measured = [(False, sizes, *measure_beside(member, sizes=sizes, **settings))]
        if compiled:
            note("  compiled: up to a minute for each size")
            some = tuple(size for size in sizes if size in COMPILED[kind]) or sizes[:1]
            measured.append((True, some, *measure_beside(member, sizes=some, compiled=True, **settings)))
    floor.forget()
    floors.append((floor.step_ms(member), floor.samples_per_second(member)))
    floor_ms, floor_rate = min(ms for ms, _ in floors), max(rate for _, rate in floors)
    rows, against = list[dict[str, Any]](), list[dict[str, Any]]()
    for is_compiled, asked, each, beside, _ in measured:
        # Beside rivals our threads wait awake, which those of a run do only where nothing else wants their cores.
        if not rivals.running:
            save_measurement(member, device, threads, is_compiled, each)
            save_comparisons(member, device, threads, comparisons(each, beside))
        left_out = sorted(set(asked) - {step.members for step in each.steps})
        if left_out:
            note(f"  packs of {', '.join(map(str, left_out))} left out: they take too much memory or time")
        rows += step_rows(name, each, beside, is_compiled, floor_ms)
        against += rival_rows(name, each, beside, is_compiled)
    images, samples = timing.evaluation_size(member, device)
    ours, theirs = comparison.rounding(member, device)
    return {
        "shapes": rows,
        "evaluation": [
            {
                "name": name,
                "samples_per_second": each.samples_per_second,
                "plain_samples_per_second": images * samples / times["plain"],
                "floor_samples_per_second": floor_rate,
                "compiled": is_compiled,
                "images": images,
                "iw_samples": samples,
            }
            for is_compiled, _, each, _, times in measured
        ],
        "epoch_setup": [
            {
                "name": name,
                "seconds_per_member": measured[0][2].epoch_seconds_per_member,
                "plain_seconds": comparison.epoch_seconds(member, device, threads),
            }
        ],
        "numerics": [{"name": name, "median_error_nats": ours, "plain_median_error_nats": theirs}],
        "rivals": against,
        "rivals_left_out": [{"name": name, **row} for row in rivals.left_out],
    }


def step_rows(
    name: str, shape: ShapeMeasurement, beside: dict[int, dict[str, float]], compiled: bool, floor_ms: float
) -> list[dict[str, Any]]:
    """One row per pack size."""
    return [
        {
            "name": name,
            "members": step.members,
            "ms_per_member_step": step.ms_per_member_step,
            "plain_ms_per_step": 1e3 * beside[step.members]["plain"],
            "floor_ms_per_member_step": floor_ms,
            "compiled": compiled,
            "bytes": step.bytes,
            "compile_seconds": shape.compile_seconds,
        }
        for step in shape.steps
    ]


def rival_rows(
    name: str, shape: ShapeMeasurement, beside: dict[int, dict[str, float]], compiled: bool
) -> list[dict[str, Any]]:
    """One row per pack size and rival beside it."""
    from tune.bench.rivals import RIVALS

    rows = []
    for step in shape.steps:
        for rival in [name for name in beside[step.members] if name in RIVALS]:
            members = step.members if RIVALS[rival].packs else 1
            theirs = 1e3 * beside[step.members][rival] / members
            rows.append(
                {
                    "name": name,
                    "rival": rival,
                    "members": step.members,
                    "rival_members": members,
                    "compiled": compiled,
                    "ms_per_member_step": step.ms_per_member_step,
                    "rival_ms_per_member_step": theirs,
                    "ours_over_rival": step.ms_per_member_step / theirs,
                }
            )
    return rows


if __name__ == "__main__":
    sys.exit(main())
