"""How a run ends: what its records say, member by member."""

import io
import re

from rich.console import Console

from hvae_spec.errors import MachineError
from hvae_spec.records.layout import Record
from tests.tune.planned import GRID, plan_of, train
from tune.show.summary import _checked, print_plan


def test_a_member_that_cannot_be_read_is_damaged_and_stops_nothing(tmp_path, monkeypatch):
    member = plan_of(GRID, tmp_path).reading.members[0]
    train(tmp_path, member, "trained")
    record = Record(tmp_path / "members" / member.folder)
    assert _checked(record, member)[0] == "trained"

    def fail(self, evaluation):
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
