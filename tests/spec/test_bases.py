"""A spec that builds on another: merging, chains, loops, and faults located in the file that holds them."""

import os

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import load
from tests.spec.small_spec import SMALL


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def fault(path, overrides=()):
    with pytest.raises(SpecError) as error:
        load(path, overrides)
    (problem,) = error.value.problems
    return problem


def test_a_chain_of_three_in_other_folders(write):
    write("deep/a.yaml", SMALL)
    write("b.yaml", "base: deep/a.yaml\ntraining: {batch_size: 64}\nname: b\n")
    spec = load(write("other/c.yaml", "base: ../b.yaml\nname: c\nmodel: {inference: ladder}\n"))
    assert (spec.name, spec.training.epochs, spec.training.batch_size, spec.model.inference) == ("c", 20, 64, "ladder")
    assert spec.model.depth == 2


def test_factors_are_replaced_whole_and_lists_too(write):
    grid = "grid: {depth: [1, 2], variants: {A: {}, B: {model.inference: ladder}}, axes: {training.epochs: [9, 8]}}\n"
    write("a.yaml", SMALL.replace("model:", "model:\n  nonlinearity: {elu: 2}") + grid)
    child = "base: a.yaml\nmodel: {nonlinearity: {leaky_relu: 0.2}}\n"
    child += "grid: {depth: [2], variants: {C: {}}, axes: {training.epochs: [7]}}\n"
    spec = load(write("b.yaml", child))
    assert spec.model.model_dump()["nonlinearity"] == {"leaky_relu": 0.2}
    assert spec.grid.model_dump() == {
        "depth": (2,),
        "variants": {"C": {}},
        "axes": {"training.epochs": [7]},
        "exclude": (),
        "seeds": (0,),
    }


def test_a_null_drops_what_the_base_says(write):
    write("a.yaml", SMALL + "grid: {depth: [1, 2]}\nobjective: {warm_up: 3}\n")
    spec = load(write("b.yaml", "base: a.yaml\ngrid: null\n"))
    assert (spec.grid.depth, spec.objective.warm_up) == (None, 3)


def test_faults_stand_in_the_file_that_holds_them(write):
    base = write("a.yaml", SMALL.replace("epochs: 20", "epocs: 20"))
    problem = fault(write("b.yaml", "base: a.yaml\nname: b\n"))
    assert (problem.place.source, problem.place.line, problem.place.column) == (str(base), 7, 12)
    write("a.yaml", "name: [\n")
    assert fault(write("b.yaml", "base: a.yaml\nname: b\n")).place.source == str(base)
    write("a.yaml", SMALL)
    child = write("b.yaml", "base: a.yaml\nobjective: {warm_up: 21}\n")
    assert str(fault(child).place) == f"{child}:2:22"


def test_a_contradiction_across_files_stands_where_its_field_does(write):
    base = write("a.yaml", SMALL + "objective: {warm_up: 20}\n")
    problem = fault(write("b.yaml", "base: a.yaml\ntraining: {epochs: 19}\n"))
    assert str(problem.place) == f"{base}:8:22"


def test_a_slip_of_the_base_is_told_with_the_faults_of_the_child(write):
    write("a.yaml", SMALL + "name: twice\n")
    with pytest.raises(SpecError) as error:
        load(write("b.yaml", "base: a.yaml\nfoo: 1\n"))
    assert [problem.kind for problem in error.value.problems] == ["unreadable", "invalid"]


@pytest.mark.parametrize("base", ["5", "[a.yaml]", "", "null", "{a: b}", "''"])
def test_a_base_is_a_file_name(write, base):
    problem = fault(write("b.yaml", f"base: {base}\n" + SMALL))
    assert (problem.kind, problem.place.line) == ("invalid", 1)
    assert "must be a file name" in problem.message


@pytest.mark.parametrize("base", ["nowhere.yaml", "x" * 5000, "b.yaml/c.yaml"])
def test_a_base_must_exist(write, base):
    problem = fault(write("b.yaml", f"base: {base}\n" + SMALL))
    assert (problem.kind, problem.place.line, problem.place.column) == ("invalid", 1, 7)
    assert "no such file" in problem.message


def test_a_base_that_is_a_folder_or_an_empty_pipe_is_called_one(write, tmp_path):
    (tmp_path / "a").mkdir()
    problem = fault(write("b.yaml", "base: a\n"))
    assert (problem.message, problem.place.column) == (f"a folder, not a file: {tmp_path / 'a'}", 7)
    os.mkfifo(tmp_path / "pipe")
    assert fault(write("b.yaml", "base: pipe\n")).message == "a pipe that nothing is written into"


def test_of_a_base_with_a_no_break_space_nothing_else_is_said(write):
    assert "U+00A0" in fault(write("b.yaml", 'base: "a\u00a0.yaml"\n')).message


def test_loops_are_found(write):
    assert "builds on itself" in fault(write("a.yaml", "base: a.yaml\n")).message
    write("a.yaml", "base: b.yaml\n")
    write("b.yaml", "base: ./sub/../c.yaml\n")
    write("sub/d.yaml", SMALL)
    problem = fault(write("c.yaml", "base: a.yaml\n"))
    assert (problem.kind, problem.place.column) == ("inconsistent", 7)
    assert "builds on itself" in problem.message


def test_endless_chains_are_found(write):
    for index in range(30):
        write(f"{index}.yaml", f"base: {index + 1}.yaml\n")
    path = write("30.yaml", SMALL).with_name("0.yaml")
    assert "too many others" in fault(path).message
    assert load(path.with_name("20.yaml")).name == "small"


def test_exclusions_are_held_against_lists_of_their_file_and_of_bases_below(write):
    write("a.yaml", SMALL + "grid: {depth: [1, 2], exclude: [{depth: 1}]}\n")
    assert load(write("b.yaml", "base: a.yaml\ngrid: {depth: [2]}\n")).grid.depth == (2,)
    problem = fault(write("c.yaml", "base: a.yaml\ngrid: {exclude: [{depth: 3}]}\n"))
    assert "no depth is 3" in problem.message
    assert problem.place.source.endswith("c.yaml")
