"""A pack with a validation set: what it watches while it trains, and that the test set is used once, at the end."""

import pytest
import torch

import hvae_spec
from hvae_spec.data.batches import draw_once
from hvae_spec.evaluate import curve
from hvae_spec.evaluate import member as member_evaluation
from hvae_spec.nn.random import stream_seed
from hvae_spec.pack import run_pack
from hvae_spec.records.layout import Results
from tests.members import member
from tests.test_pack import job, result_of

CURVE = {"data__validation": 40, "evaluation__every": 2, "evaluation__curve_iw_samples": 9}


def test_the_curve_and_the_units_are_of_the_validation_set_and_the_end_is_of_both(tmp_path):
    run_pack(job(tmp_path, [member(seed=seed, training__epochs=4, **CURVE) for seed in (0, 1)]))
    for record in Results(tmp_path).records:
        model, result = hvae_spec.load_record(record.folder), result_of(record)
        x = model.validation_images()
        assert x.shape == (40, 64)
        points = [row for row in record.epochs if "active_units" in row]
        assert [row["epoch"] for row in points] == [2, 4]
        assert [row["epoch"] for row in record.units] == [2, 4]
        for row in points:
            assert (row["validation_iw_samples"], row["validation_images"]) == (9, 40)
            assert row["validation_elbo"] < row["validation_log_likelihood"]
            assert not {"test_elbo", "test_log_likelihood", "test_images"} & row.keys()
        # The final evaluation has K of the spec on both sets, and the test set's noise is what it was.
        final = model.evaluate(x, 20, seed=stream_seed(model.spec.seed, "validation", 4))
        assert result.validation_log_likelihood == float(final.log_likelihood.mean())
        assert result.validation_log_likelihood_se == final.log_likelihood_se
        assert result.validation_elbo == float(final.elbo.mean())
        test = model.evaluate(model.test_images())
        assert result.test_log_likelihood == float(test.log_likelihood.mean())
        assert (result.data.train_images, result.data.validation_images, result.data.test_images) == (320, 40, 24)
        assert result.curve_validation_images is None


@pytest.mark.parametrize("batch_norm", [False, True])
def test_points_of_one_model_on_the_validation_set_are_one_number(tmp_path, batch_norm):
    # Updates of this size are lost in float32.
    still = {"training__optimizer": {"adam": {"lr": 1e-30}}, "model__batch_norm": batch_norm}
    run_pack(job(tmp_path, [member(training__epochs=4, **CURVE, **still)]))
    (record,) = Results(tmp_path).records
    first, second = (row for row in record.epochs if "active_units" in row)
    assert first["validation_log_likelihood"] == second["validation_log_likelihood"]
    assert record.units[0]["kl"] == record.units[1]["kl"]
    model = hvae_spec.load_record(record.folder)
    if not batch_norm:  # with it, the final statistics are of another draw
        model.epoch = 0
        bounds = model.evaluate(model.validation_images(), 9, seed=stream_seed(0, "validation"))
        assert first["validation_log_likelihood"] == float(bounds.log_likelihood.mean())


def test_the_test_set_is_not_drawn_before_the_training_has_ended(tmp_path, monkeypatch):
    drawn = []

    def noting(where):
        def draw(dataset, part, observation):
            drawn.append((where, part, bool(Results(tmp_path).records[0].training)))
            return draw_once(dataset, part, observation)

        return draw

    for module in (curve, member_evaluation):
        monkeypatch.setattr(module, "draw_once", noting(module.__name__))
    run_pack(job(tmp_path, [member(training__epochs=4, **CURVE)]))
    assert [(part, trained) for _, part, trained in drawn] == [
        ("validation", False),
        ("test", True),
        ("validation", True),
    ]


def test_bounds_of_the_curve_are_of_the_first_validation_images_and_its_units_of_all(tmp_path):
    run_pack(job(tmp_path, [member(training__epochs=2, **CURVE, evaluation__curve_images=7)]))
    (record,) = Results(tmp_path).records
    assert record.epochs[-1]["validation_images"] == 7
    model, result = hvae_spec.load_record(record.folder), result_of(record)
    final = model.evaluate(model.validation_images(), 20, seed=stream_seed(0, "validation", 2))
    assert result.curve_validation_images == 7
    assert result.curve_validation_log_likelihood == float(final.log_likelihood[:7].mean())
    assert result.curve_test_log_likelihood is None


def test_a_model_without_a_validation_set_says_so():
    with pytest.raises(hvae_spec.UserError, match=r"no validation set: data\.validation is 0"):
        hvae_spec.compile(member()).validation_images()


def test_the_number_of_test_images_is_nothing_to_a_curve_on_the_validation_set(tmp_path):
    run_pack(job(tmp_path / "a", [member(training__epochs=2, **CURVE)]))
    run_pack(job(tmp_path / "b", [member(training__epochs=2, **CURVE, data__test_images=9)]))
    (one,), (two,) = Results(tmp_path / "a").records, Results(tmp_path / "b").records
    assert one.units == two.units
    assert torch.equal(*(hvae_spec.load_record(record.folder).validation_images() for record in (one, two)))
