"""`--profile NAME`: overrides that a spec itself holds."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import load, read
from tests.spec.small_spec import SMALL

PROFILES = """
profiles:
  quick: {training.epochs: 7, grid.seeds: [3], objective.warm_up: 2}
  broken: {training.epoch: 7}
  silly: {objective.warm_up: 1000}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL + PROFILES)
    return path


def test_a_profile_overrides_and_renames(path):
    plain, quick = load(path), load(path, profile="quick")
    assert (quick.training.epochs, quick.grid.seeds, quick.objective.warm_up) == (7, (3,), 2)
    assert quick.name == f"{plain.name}-quick"
    assert plain.training.epochs != 7
    assert load(path, ["training.epochs=9"], "quick").training.epochs == 9


def test_a_profile_makes_the_members_that_the_same_overrides_make(path):
    overridden = read(path, ["training.epochs=7", "grid.seeds=[3]", "objective.warm_up=2"])
    assert [m.digests for m in read(path, (), "quick").members] == [m.digests for m in overridden.members]


def test_a_mapping_takes_the_place_of_the_whole_at_its_path_and_a_longer_path_sets_one_field(tmp_path):
    path = tmp_path / "small.yaml"
    whole, one = "profiles:\n  a: {evaluation: {every: 5}}\n", "  b: {evaluation.every: 5}\n"
    path.write_text(SMALL + "evaluation: {iw_samples: 7}\n" + whole + one)
    plain, replaced, merged = (load(path, profile=name).evaluation for name in (None, "a", "b"))
    default = type(plain)().iw_samples
    assert plain.iw_samples == 7 != default
    assert (replaced.every, replaced.iw_samples) == (5, default)
    assert (merged.every, merged.iw_samples) == (5, 7)
    assert load(path, ["evaluation={every: 5}"]).evaluation == replaced


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("slow", ["has no profile 'slow'", "one of quick, broken, silly"]),
        ("broken", ["small.yaml:", "unknown key 'epoch' in training", "did you mean training.epochs?"]),
        ("silly", ["small.yaml:", "warm-up of 1000 epochs is longer than training"]),
    ],
)
def test_mistakes_are_told_where_they_stand(path, profile, words):
    with pytest.raises(SpecError) as error:
        load(path, profile=profile)
    for word in words:
        assert word in str(error.value)


def test_a_spec_without_profiles_says_so(tmp_path):
    plain = tmp_path / "plain.yaml"
    plain.write_text(SMALL)
    with pytest.raises(SpecError, match="the spec has none"):
        load(plain, profile="quick")
