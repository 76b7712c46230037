"""The sinh-arcsinh flow of every unit (Jones & Pewsey, 2009), which gives q skewness and heavier or lighter tails:

f(z) = sinh(e^t asinh(z) + s), with s of any size and t in (-1, 1), both of every image; s = t = 0 is the identity.
"""

import math

import torch

from hvae_spec import extend
from hvae_spec.nn.flow import Flow
from hvae_spec.nn.linear import Linear


class SinhArcsinhModel(extend.FlowModel):
    def equation(self, settings):
        return "z_i = sinh(e^t asinh(z_0) + s),  s = Linear(d),  t = tanh(Linear(d))"

    def mappings(self, hidden, units, settings):
        yield extend.Mapping("", (hidden, 2 * units), normalized_head=False, per_sample=False)


@extend.flow("sinh_arcsinh", SinhArcsinhModel())
class SinhArcsinh(Flow):
    def __init__(self, style, inputs, units):
        super().__init__()
        self.head = Linear(style.members, inputs, 2 * units)
        self.heads = [self.head]  # they begin at 0

    def amortize(self, d):
        return self.head(d)

    def forward(self, z, parameters):
        s, t = self._of(parameters)
        u = t.exp() * z.asinh() + s
        log_cosh = torch.logaddexp(u, -u) - math.log(2)
        return u.sinh(), (t + log_cosh - 0.5 * z.square().log1p()).sum(1, keepdim=True)

    def inverse(self, z, parameters):
        s, t = self._of(parameters)
        return ((z.asinh() - s) * (-t).exp()).sinh()

    def _of(self, parameters):
        s, t = parameters.chunk(2, dim=1)
        return s, t.tanh()
