"""The JSON Schema that editors use agrees with what is read."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from hvae_spec.json_schema import json_schema
from hvae_spec.spec.yaml import parse
from tests.spec.small_spec import SMALL, edited

SPECS = sorted(Path("specs").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def accepts(text: str) -> bool:
    return VALIDATOR.is_valid(parse(text, "f")[0].plain())


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_committed_schema_is_current():
    """Else: python -m hvae_spec.json_schema > specs/spec.schema.json."""
    printed = subprocess.run(
        [sys.executable, "-m", "hvae_spec.json_schema"], capture_output=True, text=True, check=True
    ).stdout
    assert Path("specs/spec.schema.json").read_text() == printed
    assert json.loads(printed) == json_schema()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_shipped_specs_are_accepted(path):
    VALIDATOR.validate(parse(path.read_text(), str(path))[0].plain())
    assert path.read_text().startswith("# yaml-language-server: $schema=")


def test_there_are_shipped_specs():
    assert len(SPECS) >= 2


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        "base: a.yaml",
        "base: a.yaml\nname: b\ntraining: {batch_size: 8}\nmodel: {inference: ladder}\ndata: {redraw: once}",
        SMALL + "grid: {variants: {A: , B: {}}, axes: , exclude: }",
        edited(("model:", "model:\n  nonlinearity: leaky_relu")),
        edited(("model:", "model:\n  nonlinearity: {elu: 1}")),
        "name: all\ngrids: [a.yaml, ../b.yaml]",
        SMALL + "grid: {axes: {width: {narrow: {model.layers.0.units: 3}, wide: }, training.batch_size: [8, 9]}}",
    ],
)
def test_sound_files_are_accepted(text):
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "name: b",
        "foo: 1\n" + SMALL,
        "base: 5\n" + SMALL,
        edited(("epochs: 20, ", "")),
        edited(("dataset: digits", "")),
        edited(("epochs: 20", "epochs: x")),
        edited(("epochs: 20", "epochs: 0")),
        edited(("units: 8, ", "")),
        edited(("units: 8", "unit: 8")),
        edited(("model:", "model:\n  nonlinearity: leaky")),
        "base: a.yaml\nmodel: {layers: [{units: 3}]}",
        SMALL + "objective: {iw_samples: 0}",
        SMALL + "grid: {seeds: 3}",
        SMALL + "grid: {variants: {' A': {}}}",
        SMALL + "grid: {variants: {A: 3}}",
        SMALL + "profiles: {a b: {}}",
        SMALL + "grids: [a.yaml]",
        "base: a.yaml\ngrids: [a.yaml]",
        "grids: [a.yaml]",
        "name: all\ngrids: []",
        "name: all\ngrids: a.yaml",
        "name: all\ngrids: [a.yaml]\nprofiles: {}",
    ],
)
def test_faulty_files_are_not(text):
    assert not accepts(text)


def descriptions(node, path=""):
    if isinstance(node, dict):
        for key, child in node.get("properties", {}).items():
            yield f"{path}.{key}", child
        for name, child in node.get("$defs", {}).items():
            yield from descriptions(child, name)


def test_every_field_has_a_description_to_hover_over():
    fields = dict(descriptions(json_schema()))
    assert len(fields) > 40
    assert [name for name, child in fields.items() if not child.get("description")] == []
