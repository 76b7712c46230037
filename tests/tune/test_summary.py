"""How a run ends: what its records say, member by member."""

from hvae_spec.errors import MachineError
from hvae_spec.records.layout import Record
from tests.tune.planned import GRID, plan_of, train
from tune.show.summary import _checked


def test_a_member_that_cannot_be_read_is_damaged_and_stops_nothing(tmp_path, monkeypatch):
    member = plan_of(GRID, tmp_path).reading.members[0]
    train(tmp_path, member, "trained")
    record = Record(tmp_path / "members" / member.folder)
    assert _checked(record, member)[0] == "trained"

    def fail(self, evaluation):
        raise MachineError(f"{self.weights}: cannot be read (Input/output error)")

    monkeypatch.setattr(Record, "damaged_arrays", fail)
    assert _checked(record, member) == ("damaged", [f"{record.weights}: cannot be read (Input/output error)"])
