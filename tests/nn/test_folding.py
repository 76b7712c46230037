import pytest
import torch

from hvae_spec import compiler
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from tests.members import member


@pytest.mark.parametrize(
    "shape",
    [
        {"model__inference": "vae"},
        {"model__inference": "ladder"},
        {"model__share_top_down": True},
        {"model__inference": "top_down", "model__skip": "both"},
        {"model__observation": "gaussian"},
        {"model__batch_norm": False},
        {"model__norm": {"batch": {"heads": False}}},
        {"model__norm": "layer"},
    ],
    ids=str,
)
def test_a_folded_model_computes_what_the_model_does_in_evaluation(shape):
    spec = member(**shape)
    model = compiler.initialized([spec, spec], 64)
    noise = Streams([0, 1]).begin("test").noise(3, 20, model.units)
    x = torch.rand(2, 20, 64).round()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        with recording(model):
            model(x, noise)
        model.eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        whole = fuse_batch_norm(model)
        assert not any(isinstance(module, BatchNorm) for module in whole.modules())
        torch.testing.assert_close(log_weight(whole(x, noise)), log_weight(model(x, noise)), rtol=1e-4, atol=1e-3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
