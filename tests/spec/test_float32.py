"""Numbers that float32 would take for 0, 1 or infinite are refused with the bound that counts, wherever they stand."""

from typing import Annotated

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from hvae_spec.errors import SpecError
from hvae_spec.json_schema import json_schema
from hvae_spec.reading import load, loads
from hvae_spec.spec.base import BELOW_ONE, LARGEST, SMALLEST, InFloat64, SpecModel
from hvae_spec.spec.yaml import parse
from tests.spec.small_spec import SMALL, edited, problems

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIELDS = {
    "training.optimizer.adam.lr": 1e-3,
    "training.optimizer.adam.eps": 1e-8,
    "training.optimizer.adam.beta1": 0.9,
    "training.optimizer.adam.beta2": 0.999,
    "training.optimizer.adamw.lr": 1e-3,
    "training.optimizer.adamw.eps": 1e-8,
    "training.optimizer.adamw.beta1": 0.9,
    "training.optimizer.adamw.beta2": 0.999,
    "training.optimizer.adamw.weight_decay": 0.01,
    "training.optimizer.sgd.lr": 1e-3,
    "training.optimizer.sgd.momentum": 0.9,
    "training.optimizer.sgd.weight_decay": 0.01,
    "training.ema": 0.999,
    "training.clip_norm": 4.0,
    "training.clip_value": 0.9,
    "model.batch_norm_eps": 1e-5,
    "model.variance_floor": 1e-6,
    "model.variance_bias": 1.0,
    "model.nonlinearity.elu": 1.0,
    "model.nonlinearity.leaky_relu": 0.1,
    "model.observation.gaussian.variance": 0.1,
    "evaluation.memory_gib": 1.0,
    "objective.beta": 4.0,
    "objective.elbo_share": 0.1,
    "objective.classification": 0.1,
}
"""Every field whose numbers end up in float32, and a value that does."""
IN_NO_SECTION = ("objective.free_bits.nats", "evaluation.refine.lr")
"""Others, which no axis can vary where their section is null."""
BELOW_1 = ("beta1", "beta2", "momentum", "ema", "elbo_share")


def schema_numbers(node, path="", seen=()):
    """Dotted paths of the numbers of a JSON Schema, those of references among them."""
    if node is False:  # nothing is valid there
        return
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        yield from () if name in seen else schema_numbers(SCHEMA["$defs"][name], path, (*seen, name))
    if node.get("type") == "number":
        yield path
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("prefixItems", ())):
        yield from schema_numbers(option, path, seen)
    for key, child in node.get("properties", {}).items():
        yield from schema_numbers(child, f"{path}.{key}" if path else key, seen)


def test_every_number_of_a_spec_is_tried_here():
    in_float64 = {
        *("training.lr_decay.factor", "data.own.range", "model.mean_clip", "grid.seeds.half_width"),
        *("report.tolerance", "report.active_units_tolerance", "training.schedule.step.factor"),
        *("training.schedule.cosine.to", "training.schedule.linear.to", "objective.warm_up.ramp"),
    }
    tried = {*FIELDS, *in_float64, *IN_NO_SECTION}
    of_first_phases = {path.replace("objective.", "training.first_phase.") for path in tried}
    assert set(schema_numbers(SCHEMA)) == tried | of_first_phases


@pytest.mark.parametrize("path", IN_NO_SECTION)
def test_a_number_in_a_section_that_is_given_is_tried_too(tmp_path, path):
    file = tmp_path / "a.yaml"
    file.write_text(SMALL)
    with pytest.raises(SpecError) as error:
        load(file, [f"{path}=1e-50"])
    assert f"at least {SMALLEST}" in error.value.problems[0].expected


def test_the_bounds_are_those_of_float32():
    assert np.float32(SMALLEST) == np.finfo(np.float32).smallest_normal
    assert np.float32(LARGEST) == np.finfo(np.float32).max
    assert np.float32(BELOW_ONE) == np.nextafter(np.float32(1), np.float32(0))
    assert (np.float32(1 - 1e-8), np.float32(1e-50)) == (1, 0)


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize(("value", "bound"), [("1e-50", f"at least {SMALLEST}"), ("1.1e-38", f"at least {SMALLEST}")])
def test_a_number_that_vanishes_is_refused_with_the_smallest_that_counts(tmp_path, path, value, bound):
    file = tmp_path / "a.yaml"
    file.write_text(SMALL)
    for override in (
        f"{path}={value}",
        f"grid.axes.{path}=[{FIELDS[path]}, {value}]",
        f"grid.variants.A.{path}={value}",
    ):
        with pytest.raises(SpecError) as error:
            load(file, [override])
        (problem,) = error.value.problems
        assert problem.place.source.startswith("--set")
        assert f"{path}: {value} is not valid" in problem.message
        assert bound in problem.expected
    allowed = load(file, [f"{path}={SMALLEST}"]).model_dump(mode="json")
    for key in path.split("."):
        allowed = allowed[key]
    assert allowed == SMALLEST


@pytest.mark.parametrize("path", [path for path in FIELDS if not path.endswith(BELOW_1)])
def test_a_number_that_overflows_is_refused_with_the_largest(tmp_path, path):
    file = tmp_path / "a.yaml"
    file.write_text(SMALL)
    with pytest.raises(SpecError) as error:
        load(file, [f"{path}=1e39"])
    assert "a number of at most 3.4028235e+38" in error.value.problems[0].expected
    load(file, [f"{path}={LARGEST}"])


def test_negative_numbers_have_the_same_bounds():
    (problem,) = problems(edited(("model:", "model:\n  variance_bias: -1e-50")))
    assert "at most -1.1754944e-38" in problem.expected
    (problem,) = problems(edited(("model:", "model:\n  variance_bias: -1e39")))
    assert "at least -3.4028235e+38" in problem.expected


@pytest.mark.parametrize("beta", ["beta1", "beta2"])
def test_a_decay_rate_that_float32_takes_for_1_is_refused_with_the_largest(beta):
    def text(value):
        return edited(("epochs: 20", f"epochs: 20, optimizer: {{adam: {{{beta}: {value}}}}}"))

    (problem,) = problems(text(0.99999999))
    assert problem.expected == "a number of at most 0.99999994"
    assert problems(text(0.99999994)) == []
    assert problems(text(0)) == []


def test_the_schema_for_editors_has_the_same_bounds():
    def accepts(line):
        text = edited(("epochs: 20", f"epochs: 20, {line}"))
        is_accepted = VALIDATOR.is_valid(parse(text, "f")[0].plain())
        assert is_accepted == (problems(text) == []), line
        return is_accepted

    adam = "optimizer: {{adam: {{{}: {}}}}}"
    assert accepts(adam.format("eps", "1e-37"))
    assert not accepts(adam.format("eps", "1e-38"))
    assert not accepts(adam.format("eps", "1e39"))
    assert not accepts(adam.format("beta1", "0.99999999"))
    assert not accepts(adam.format("beta1", "1e-39"))
    assert accepts(adam.format("beta1", "0"))
    assert accepts("clip_norm: null")
    assert not accepts("clip_norm: 1e-39")
    assert accepts("lr_decay: {factor: 1e-39, every: 20}")


def test_a_field_is_checked_without_saying_so():
    class Section(SpecModel):
        plain: float = 1.0
        pair: tuple[float, float] = (0.0, 1.0)
        own: Annotated[float, InFloat64("a test")] = 1.0

    with pytest.raises(ValidationError, match=r"at least 1\.1754944e-38"):
        Section(plain=1e-40)
    with pytest.raises(ValidationError, match=r"at most 3\.4028235e\+38"):
        Section(pair=(0.0, 1e39))
    assert Section(own=1e-300).own == 1e-300
    properties = Section.model_json_schema()["properties"]
    assert properties["plain"]["maximum"] == LARGEST
    assert "maximum" not in properties["own"]


def decaying(epochs, factor, every):
    return edited(("epochs: 20", f"epochs: {epochs}, lr_decay: {{factor: {factor}, every: {every}}}"))


def test_a_learning_rate_that_is_annealed_to_nothing_is_refused():
    """1e-3 * 1e-5^7 is 1e-38, in epochs 8; the last that counts, 1e-33, are those of epoch 7."""
    assert problems(decaying(7, "1e-5", 1)) == []
    (problem,) = problems(decaying(8, "1e-5", 1))
    assert (problem.kind, problem.place.line) == ("inconsistent", 7)
    assert "below 1.1754944e-38 after epoch 7" in problem.message
    assert "at most 7 epochs" in problem.expected
    assert problems(decaying(70, "1e-5", 10)) == []
    assert len(problems(decaying(71, "1e-5", 10))) == 1
    assert len(problems(decaying(10**9, 0.75, 200))) == 1
    assert problems(decaying(10**9, 1, 1)) == []
    assert loads(decaying(20, "1e-300", 20)).training.lr_decay.factor == 1e-300
