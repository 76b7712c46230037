"""What the draw of the test set's zeros and ones adds to the error of a bound, against redraws of the whole set."""

import math

import numpy as np
import pytest
import torch

from hvae_spec.data.batches import draw_once, redraw
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.evaluate.redraws import redraw_variance
from hvae_spec.pack import run_pack
from hvae_spec.spec.cost import evaluated_images, evaluation_macs
from hvae_spec.spec.experiment import MemberSpec
from tests.evaluate.test_evaluation import trained
from tests.members import member
from tests.test_pack import grid_member, job

REDRAWS = {"draws": 3, "images": 20}


def test_it_is_the_unbiased_variance_of_an_image_averaged_over_images():
    bounds = torch.tensor([[-80.0, -90.0], [-82.0, -90.0], [-84.0, -93.0]])
    variance, se = redraw_variance(bounds)
    assert variance == pytest.approx((4 + 3) / 2)
    assert se == pytest.approx(math.sqrt(0.5 / 2))  # of 4 and 3, whose variance is 0.5
    assert math.isnan(redraw_variance(bounds[:, :1])[1])


def test_it_foretells_how_far_the_mean_over_a_whole_test_set_moves_when_the_set_is_drawn_again():
    spec = member(data__test_images=60, model__inference="vae", model__batch_norm=False)
    model, _ = trained(spec)
    dataset = load_dataset(spec.data)
    bounds = torch.stack(
        [evaluate(model, redraw(dataset, 60, "bernoulli", number), 5).log_likelihood for number in range(400)]
    )
    variance, se = redraw_variance(bounds)
    brute = float(bounds.mean(1).var())
    # The variance of 400 means is within 3 * sqrt(2 / 399) of theirs in 99.7 % of all cases.
    assert variance / 60 == pytest.approx(brute, rel=3 * math.sqrt(2 / 399))
    few = [redraw_variance(bounds[start : start + 4])[0] for start in range(0, 400, 4)]
    assert sum(few) / 100 == pytest.approx(variance, rel=0.1)  # unbiased however few draws there are
    assert se < variance / 3


def test_redraws_differ_from_one_another_and_from_the_test_set_and_are_the_same_for_all():
    dataset = load_dataset(member(data__test_images=24).data)
    first, again, second = (redraw(dataset, 10, "bernoulli", number) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape == (10, 64)
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw_once(dataset, "test", "bernoulli")[:10])


def results_of(job):
    return [job.record(one).evaluation(one.digests.evaluation).result for one in job.members]


def test_a_finished_evaluation_gets_redraws_from_the_stored_weights_and_all_else_is_the_same(tmp_path):
    specs = [member(seed=seed) for seed in (0, 1)]
    first = job(tmp_path, specs)
    run_pack(first)
    more = [member(seed=seed, evaluation__redraws=REDRAWS) for seed in (0, 1)]
    assert [one.digests.training for one in more] == [one.digests.training for one in specs]
    second = job(tmp_path, more, kind="evaluate")
    run_pack(second)
    for before, after, spec in zip(results_of(first), results_of(second), more, strict=True):
        assert before.test_log_likelihood_redraw_variance is None
        assert after.test_log_likelihood_redraw_variance > after.test_log_likelihood_redraw_variance_se > 0
        assert after.test_log_likelihood == before.test_log_likelihood
        assert after.arrays_sha256 == before.arrays_sha256
        assert grid_member(spec).digests.evaluation != before.digest


def test_images_that_are_zeros_and_ones_have_no_variance(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "bits.npz", train=rng.integers(0, 2, (64, 16)), test=rng.integers(0, 2, (24, 16)))
    own = {"name": "bits", "file": str(tmp_path / "bits.npz"), "range": [0, 1]}
    data = {"dataset": "own", "own": own}
    tree = {**member(evaluation__redraws=REDRAWS).model_dump(mode="json"), "data": data}
    spec = MemberSpec.model_validate(tree)
    one = job(tmp_path / "results", [spec])
    run_pack(one)
    (result,) = results_of(one)
    assert result.status == "finished"
    assert (result.test_log_likelihood_redraw_variance, result.test_log_likelihood_redraw_variance_se) == (0, 0)


def test_it_is_idle_where_x_is_not_drawn_as_zeros_and_ones():
    gaussian = {"model__observation": "gaussian"}
    with_, without = member(evaluation__redraws=REDRAWS, **gaussian), member(**gaussian)
    assert with_.redraws is None
    assert with_.digests == without.digests
    one = member(evaluation__redraws=REDRAWS)
    assert one.digests.training == member().digests.training
    assert one.digests.evaluation != member().digests.evaluation
    assert one.measured["evaluation.redraws"] == REDRAWS
    assert "evaluation.redraws.draws" not in one.measured


def test_a_plan_counts_what_is_drawn_again():
    counts = load_dataset(member().data).counts  # 24 test images
    one = member(evaluation__redraws={"draws": 3, "images": 20})
    assert evaluated_images(member(), counts) == 24
    assert evaluated_images(one, counts) == 24 + 3 * 20
    assert evaluated_images(member(evaluation__redraws={"draws": 3, "images": 1000}), counts) == 4 * 24
    assert evaluation_macs(one, counts) == evaluation_macs(member(), counts) * 84 / 24
