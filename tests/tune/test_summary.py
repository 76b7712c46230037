"""How a run ends: what its records say, member by member."""

import io
import re

from rich.console import Console

from hvae_spec.errors import MachineError
from hvae_spec.records.layout import Record
from tests.tune.planned import GRID, plan_of, train
from tune.measure.comparison import StepComparison, save_comparisons
from tune.plan.forecast import NOMINAL
from tune.show.summary import _checked, print_plan


def test_a_member_that_cannot_be_read_is_damaged_and_stops_nothing(tmp_path, monkeypatch):
    member = plan_of(GRID, tmp_path).reading.members[0]
    train(tmp_path, member, "trained")
    record = Record(tmp_path / "members" / member.folder)
    assert _checked(record, member)[0] == "trained"

    def fail(self, training, result):
        raise MachineError(f"{self.weights}: cannot be read (Input/output error)")

    monkeypatch.setattr(Record, "damaged_arrays", fail)
    assert _checked(record, member) == ("damaged", [f"{record.weights}: cannot be read (Input/output error)"])


AXES = """\
  axes:
    width: {narrow: {training.batch_size: 8}, wide: {}}
    model.layers: [[{units: 3, mlp: []}], [{units: 5, mlp: []}]]
    training.optimizer.adam.lr: [3.0e-4]
    model.batch_norm: [true]
"""


def test_a_plan_and_its_packs_show_levels_in_words(tmp_path):
    plan = plan_of(GRID.split("grid:")[0] + "grid:\n" + AXES, tmp_path)
    assert sorted(job.name for job in plan.jobs) == [
        f"digits L1 Prob. ladder+BN+WU {width} layers {units} lr 3e-4 batch norm on x 1"
        for width in ("narrow", "wide")
        for units in ("3", "5")
    ]
    console = Console(width=160, file=io.StringIO())
    print_plan(plan, console)
    text = console.file.getvalue()
    assert re.search(r"data set\W+depth\W+variant\W+width\W+layers\W+lr\W+batch norm\W+parameters", text)
    assert re.search(r"digits\W+1\W+Prob\. ladder\+BN\+WU\W+wide\W+5\W+3e-4\W+on\b", text)


ESTIMATORS = """\
  variants:
    plain: {}
    stl: {objective.estimator: stl}
    K 5: {objective.iw_samples: 5}
    faster: {training.optimizer.adam.lr: 0.01}
  seeds: [0, 1]
"""


def test_a_forecast_has_a_row_for_every_shape_named_by_what_differs(tmp_path):
    plan = plan_of(GRID.split("grid:")[0] + "grid:\n" + ESTIMATORS, tmp_path)
    console = Console(width=200, file=io.StringIO())
    print_plan(plan, console)
    forecast = console.file.getvalue().partition("Forecast")[2]
    rows = {name: float(ms) for name, ms in re.findall(r"digits L2 \S+ \(([^)]*)\).*?nominal.*?(\d+\.\d+)", forecast)}
    assert list(rows) == ["K 5", "plain / faster", "stl"]
    assert rows["K 5"] > rows["stl"] > rows["plain / faster"]
    assert re.search(r"plain / faster\)\W+nominal\W+4\b", forecast)


def test_a_forecast_says_that_steps_are_measured_where_a_pack_has_found_out_of_compiled_ones(tmp_path):
    text = GRID.split("grid:")[0] + "grid: {seeds: [0, 1, 2]}\n"
    (job,) = plan_of(text, tmp_path, cores=1).jobs
    spec = job.members[0].spec

    def row():
        console = Console(width=200, file=io.StringIO())
        print_plan(plan_of(text, tmp_path, cores=1), console)
        forecast = console.file.getvalue().partition("Forecast")[2]
        assert NOMINAL in forecast  # evaluation and memory are
        return [cell.strip() for cell in re.search(r"digits L2 ladder.*", forecast)[0].split("│")]

    save_comparisons(spec, "cpu", job.threads, [StepComparison(2, 7.0, 8.0, 30.0)])
    assert row()[1] == "nominal"
    save_comparisons(spec, "cpu", job.threads, [StepComparison(3, 7.25, 8.0, 30.0)])
    _, speed, _, _, _, ms, *_ = row()
    assert (speed, ms) == ("steps measured", "7.25")


def test_packs_of_one_name_are_told_apart_by_their_seeds(tmp_path):
    plan = plan_of(GRID.split("grid:")[0] + "grid: {seeds: [0, 7]}\n", tmp_path)
    assert [job.seeds for job in plan.jobs] == [(0,), (7,)]
    console = Console(width=200, file=io.StringIO())
    print_plan(plan, console)
    assert re.search(r"x 1 \(seed 0\).*x 1 \(seed 7\)", console.file.getvalue(), re.DOTALL)
