"""What a spec says of its observation model, and what is said of a faulty one."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import loads
from hvae_spec.spec.equations import equations
from tests.members import member
from tests.spec.small_spec import edited


def message(observation, *edits):
    with pytest.raises(SpecError) as error:
        loads(edited(("model:", f"model:\n  observation: {observation}"), *edits))
    return str(error.value)


@pytest.mark.parametrize(
    ("observation", "parts"),
    [
        (
            "{gaussian: {variance: lerned}}",
            (
                "model.observation.gaussian.variance: the text 'lerned' is not a choice",
                "expected one of predicted, learned, a number greater than 0",
                "did you mean learned?",
            ),
        ),
        (
            "{gaussian: {variance: -0.1}}",
            ("model.observation.gaussian.variance: -0.1 is not valid", "expected a number greater than 0"),
        ),
        ("{gaussian: {variance: true}}", ("gaussian.variance: true is not valid", "expected a number")),
        (
            "{gaussian: {varance: 0.1}}",
            ("unknown key 'varance' in model.observation.gaussian", "did you mean variance"),
        ),
        (
            "discretised_logistic",
            (
                "expected one of bernoulli, gaussian, continuous_bernoulli, discretized_logistic, "
                "{gaussian: {variance: predicted}}",
                "did you mean discretized_logistic?",
            ),
        ),
    ],
)
def test_a_faulty_one_is_one_message(observation, parts):
    text = message(observation)
    assert "1 problem" in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("dataset", "observation", "fault", "others"),
    [
        (
            "omniglot",
            "discretized_logistic",
            "intensities without levels",
            "bernoulli or gaussian or continuous_bernoulli",
        ),
        ("mnist_static", "discretized_logistic", "zeros and ones", "bernoulli"),
        ("mnist_static", "continuous_bernoulli", "zeros and ones", "bernoulli"),
        ("mnist_static", "{gaussian: {variance: 0.1}}", "zeros and ones", "bernoulli"),
    ],
)
def test_images_that_it_is_no_model_of(dataset, observation, fault, others):
    text = message(observation, ("digits", dataset))
    name = "gaussian" if "{" in observation else observation
    assert f"{dataset} holds {fault}, of which a {name} observation is no model" in text
    assert f"expected observation: {others}, or another data set" in text


@pytest.mark.parametrize(
    ("observation", "equation"),
    [
        ({"gaussian": {"variance": "learned"}}, "p(x|z_1) = N(μ(z_1), σ²),  σ² learned"),
        ({"gaussian": {"variance": 0.25}}, "p(x|z_1) = N(μ(z_1), 0.25)"),
        ("continuous_bernoulli", "p(x|z_1) = C(λ) λ^x (1 - λ)^(1 - x),  λ = sigmoid(Linear(d(z_1)))"),
    ],
)
def test_equations_are_of_its_settings(observation, equation):
    # Clipping is of probabilities.
    assert equation in equations(member(model__observation=observation, model__mean_clip=0.1).model)
