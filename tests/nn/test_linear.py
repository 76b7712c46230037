"""The linear map of every member."""

import pytest
import torch

from hvae_spec.nn.linear import Linear


@pytest.mark.parametrize(("samples", "images"), [(3, 5), (0, 5), (3, 0)])
def test_every_member_has_its_own_map_of_however_many_samples_and_images(samples, images):
    linear = Linear(2, 4, 6)
    for parameter in linear.parameters():
        torch.nn.init.uniform_(parameter)
    x = torch.rand(2, 4, samples, images)
    torch.testing.assert_close(linear(x), torch.einsum("moi,misb->mosb", linear.weight, x) + linear.bias[..., None])
