"""`report.reference` and `report.contrasts`: they name levels and variants that the grid has, and are in no digest."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import read

SPEC = """\
name: asked
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}], nonlinearity: {leaky_relu: 0.1}}
training: {epochs: 4, batch_size: 32}
grid:
  variants: {plain: {}, normal: {model.batch_norm: true}}
  axes: {training.optimizer.adam.lr: [0.001, 0.0003]}
  seeds: [0, 1]
"""


def read_with(tmp_path, report, spec=SPEC):
    path = tmp_path / "asked.yaml"
    path.write_text(spec + f"report: {report}\n")
    return read(path)


def test_levels_and_variants_of_the_grid_may_be_named(tmp_path):
    report = (
        "{reference: {training.optimizer.adam.lr: 0.0003, model.nonlinearity: leaky_relu, model.batch_norm: true}, "
        "contrasts: {norm: [plain, normal], training.optimizer.adam.lr: [0.0003, 0.001]}}"
    )
    asked = read_with(tmp_path, report)
    assert asked.experiment.report.contrasts["norm"] == ["plain", "normal"]
    assert asked.experiment.report.reference["training.optimizer.adam.lr"] == 0.0003
    plain = read_with(tmp_path, "{}")
    assert [member.digests for member in asked.members] == [member.digests for member in plain.members]


def test_a_field_in_two_forms_may_be_named_by_either(tmp_path):
    contrasts = "{model.norm: [none, batch], model.batch_norm: [false, true]}"
    asked = read_with(tmp_path, f"{{reference: {{model.norm: batch}}, contrasts: {contrasts}}}").experiment.report
    assert (asked.reference["model.norm"], list(asked.contrasts)) == ("batch", ["model.norm", "model.batch_norm"])


@pytest.mark.parametrize(
    ("report", "message", "expected"),
    [
        (
            "{reference: {model.norm: layer}}",
            "no cell whose model.norm is the text 'layer'",
            "expected one of none, batch",
        ),
        ("{contrasts: {norm: [plain, norml]}}", "the grid has no variant 'norml'", "expected one of plain, normal"),
        ("{contrasts: {norm: [plain, plain]}}", "'norm' compares plain with itself", "expected two that differ"),
        ("{contrasts: {norm: [plain]}}", "a list of 1 is not valid", "expected a list of at least 2"),
        (
            "{contrasts: {training.optimizer.adam.lr: [0.001, 0.01]}}",
            "the grid has no cell whose training.optimizer.adam.lr is 0.01",
            "expected one of 0.001, 0.0003",
        ),
        (
            "{reference: {training.optimiser.adam.lr: 0.001}}",
            "'training.optimiser.adam.lr' is not a field of the spec",
            "did you mean training.optimizer.adam.lr?",
        ),
        (
            "{reference: {model.batch_norm: 1}}",
            "the grid has no cell whose model.batch_norm is 1",
            "expected one of false, true",
        ),
        (
            "{reference: {model.norm: {batch: {heads: false}}}}",
            "the grid has no cell whose model.norm is {batch: {heads: false}}",
            "expected one of none, batch",
        ),
        ("{reference: {width: narrow}}", "'width' is not a field of the spec", "expected one of data, model"),
    ],
)
def test_what_the_grid_does_not_have_is_refused_where_it_stands(tmp_path, report, message, expected):
    with pytest.raises(SpecError) as error:
        read_with(tmp_path, report)
    text = " ".join(str(error.value).split())
    assert "asked.yaml:9:" in text
    assert message in text
    assert expected in text


def test_a_contrast_of_a_base_is_not_held_against_other_variants(tmp_path):
    read_with(tmp_path, "{contrasts: {norm: [plain, normal]}}")
    child = tmp_path / "child.yaml"
    child.write_text("base: asked.yaml\nname: child\ngrid: {variants: {one: {}, two: {model.batch_norm: true}}}\n")
    assert read(child).experiment.report.contrasts == {"norm": ["plain", "normal"]}
