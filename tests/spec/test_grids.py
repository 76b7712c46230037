"""A file that names grids: the union of their members, what applies to all, and every fault at its place."""

import pytest

from hvae_spec.errors import SpecError, UserError
from hvae_spec.reading import load, loads, read
from tests.spec.small_spec import SMALL

ONE = SMALL.replace("name: small", "name: one") + (
    "grid: {depth: [1, 2], variants: {A: {}, B: {model.inference: ladder}}, "
    "exclude: [{variant: B, depth: 1}], seeds: [0, 1]}\n"
    "profiles: {quick: {training.epochs: 2}, brief: {training.epochs: 3}}\n"
)
TWO = (
    "base: one.yaml\nname: two\n"
    "grid: {depth: [2], variants: {C: {model.inference: ladder}, D: {training.batch_size: 8}}, exclude: []}\n"
    "profiles: {brief: null}\n"
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="all.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    write(ONE, "one.yaml")
    write(TWO, "two.yaml")
    return write


def fault(path, *options):
    """The only problem: its line and column, its message and what was expected."""
    with pytest.raises(SpecError) as error:
        read(path, *options)
    (problem,) = error.value.problems
    assert problem.place.source == str(path)
    return (problem.place.line, problem.place.column), problem.message, problem.expected


def test_a_member_of_several_grids_is_one_with_the_labels_of_each(write):
    reading = read(write("name: all\ngrids: [one.yaml, two.yaml]\n"))
    one, two = reading.grids
    assert (reading.name, one.name, two.name) == ("all", "one", "two")
    assert (len(one.members), len(two.members), len(reading.members)) == (6, 4, 8)
    ladders = {member.digests.evaluation: member.labels for member in one.members if member.labels["variant"] == "B"}
    same = {member.digests.evaluation: member.labels for member in two.members if member.labels["variant"] == "C"}
    assert ladders.keys() == same.keys()
    assert [labels["variant"] for labels in same.values()] == ["C", "C"]
    union = {member.digests.evaluation: member.labels["variant"] for member in reading.members}
    assert [union[digest] for digest in ladders] == ["B", "B"]
    assert reading.members[:6] == one.members
    assert [grid.members for grid in reading.grids] == [
        read(write(text, name)).members for text, name in ((ONE, "one.yaml"), (TWO, "two.yaml"))
    ]


def test_overrides_and_profiles_apply_to_every_grid_but_the_name_to_the_whole(write):
    path = write("name: all\ngrids: [one.yaml, two.yaml]\n")
    reading = read(path, ["grid.seeds=[4]", "name=mine"], "quick")
    assert (reading.name, [grid.name for grid in reading.grids]) == ("mine-quick", ["one-quick", "two-quick"])
    specs = [member.spec for member in reading.members]
    assert {(spec.seed, spec.training.epochs) for spec in specs} == {(4, 2)}


def test_a_profile_that_one_of_the_grids_lacks(write):
    assert fault(write("name: all\ngrids:\n  - one.yaml\n  - two.yaml\n"), (), "brief") == (
        (4, 5),
        "--profile brief applies to every grid, and is no profile of two.yaml, which has quick",
        "a profile of that name in two.yaml, a file without this grid, or no --profile",
    )


def test_an_override_that_is_wrong_is_told_once(write):
    path = write("name: all\ngrids: [one.yaml, two.yaml]\n")
    for override, message in (
        ("training.epoch=3", "unknown key 'epoch' in training"),
        ("grids.0=two.yaml", "`grids` cannot be overridden"),
        ("base=two.yaml", "`base` cannot be overridden"),
    ):
        with pytest.raises(SpecError) as error:
            read(path, [override])
        (problem,) = error.value.problems
        assert (problem.place.source, problem.message) == (f"--set '{override}'", message)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("name: all\ngrids: [one.yaml, no.yaml]\n", (2, 19), "no such file: "),
        ("name: all\ngrids: [.]\n", (2, 9), "a folder, not a file: "),
        ("name: all\ngrids: [all.yaml]\n", (2, 9), "all.yaml names itself as one of its grids"),
        ("name: all\ngrids: [circle.yaml]\n", (2, 9), "circle.yaml is no grid, but names grids itself"),
        ("name: all\ngrids: [one.yaml, one.yaml]\n", (2, 19), "one.yaml is named twice"),
        ("name: all\ngrids: [one.yaml, same.yaml]\n", (2, 19), "one.yaml and same.yaml are both named one"),
        (
            "name: all\ngrids: [one.yaml, capital.yaml]\n",
            (2, 19),
            "one.yaml and capital.yaml are named one and One, which would share a folder where case does not count",
        ),
        ("name: all\ngrids: []\n", (2, 8), "grids: a list of 0 is not valid"),
        ("name: all\ngrids: one.yaml\n", (2, 8), "grids: the text 'one.yaml' is not valid"),
        ("grids: [one.yaml]\n", (1, 1), "name is missing"),
        ("name: a/b\ngrids: [one.yaml]\n", (1, 7), "name: the text 'a/b' is not valid"),
        (
            "name: all\ntraining: {epochs: 2}\ngrids: [one.yaml]\ngrid: {seeds: [1]}\n",
            (2, 1),
            "`training`, `grid` beside `grids`, which names the files of whole grids",
        ),
        ("base: one.yaml\ngrids: [two.yaml]\nname: all\n", (1, 1), "`base` beside `grids`, which names"),
    ],
)
def test_a_file_of_grids_that_is_wrong_is_told_in_one_place(write, text, place, message):
    write("name: circle\ngrids: [all.yaml]\n", "circle.yaml")
    write("base: one.yaml\ntraining: {epochs: 9}\n", "same.yaml")
    write("base: one.yaml\nname: One\n", "capital.yaml")
    where, found, _ = fault(write(text))
    assert (where, found[: len(message)]) == (place, message)


def test_grids_that_would_run_common_members_otherwise(write):
    write("base: two.yaml\nname: other\nevaluation: {every: 5}\n", "other.yaml")
    path = write("name: all\ngrids: [one.yaml, other.yaml]\n")
    where, message, expected = fault(path)
    assert where == (2, 19)
    assert "one.yaml and other.yaml have members in common (digits-L2-c-s0-" in message
    assert message.endswith("which they run with evaluation.every null and 5")
    assert "--set gives it to all grids" in expected
    assert len(read(path, ["evaluation.every=5"]).members) == 8
    # Another K is another evaluation of the same training.
    write("base: two.yaml\nname: other\nevaluation: {iw_samples: 7}\n", "other.yaml")
    reading = read(path)
    assert len(reading.members) == 10
    assert len({member.digests.training for member in reading.members}) == 8


def test_faults_of_all_grids_stand_in_their_files(write):
    write(ONE.replace("epochs: 20", "epochs: x"), "one.yaml")
    write(TWO.replace("base: one.yaml", "base: no.yaml"), "two.yaml")
    with pytest.raises(SpecError) as error:
        read(write("name: all\ngrids: [one.yaml, two.yaml]\n"))
    places = [(problem.place.source.rpartition("/")[2], problem.place.line) for problem in error.value.problems]
    assert places == [("one.yaml", 7), ("two.yaml", 1)]


def test_where_one_grid_is_wanted_several_are_refused(write):
    path = write("name: all\ngrids: [one.yaml, two.yaml]\n")
    where, message, _ = fault(write("base: all.yaml\nname: b\n", "b.yaml"))
    assert (where, message) == ((1, 7), "all.yaml names several grids, and none of its own")
    with pytest.raises(UserError, match=r"all: names several grids \(one, two\), each with a spec of its own"):
        load(path)
    with pytest.raises(SpecError) as error:
        loads("name: all\ngrids: [one.yaml]\n")
    assert [problem.message for problem in error.value.problems] == ["`grids` works in a file only"]
    with pytest.raises(UserError):
        load(write("name: all\ngrids: [no.yaml]\n"))
    assert load(write("name: all\ngrids: [two.yaml]\n")).name == "two"


@pytest.mark.parametrize("listed", ["[one.yaml, two.yml]", "one.yaml"])
def test_files_that_are_listed_under_grid_are_suggested_for_grids(tmp_path, listed):
    path = tmp_path / "all.yaml"
    path.write_text(f"name: all\ngrid: {listed}\n")
    with pytest.raises(SpecError) as error:
        read(path)
    (problem,) = error.value.problems
    assert (problem.place.line, problem.place.column) == (2, 1)
    assert (problem.message, problem.suggestion) == ("grid: a list of files", "grids")
