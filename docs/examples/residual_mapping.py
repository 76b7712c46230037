"""Residual mappings (He et al., 2016): a hidden layer as wide as what comes into it is added to that, times `scale`."""

from hvae_spec import extend
from hvae_spec.nn.gaussian import MLP


class Residual(extend.Settings):
    """Hidden layers beside a way around them."""

    scale: extend.Positive = 1.0
    """The factor of a hidden layer that is added."""


@extend.mapping("residual", "each hidden layer is h + scale f(N(W h)), or f(N(W h)) where the width changes", Residual)
class ResidualMapping(MLP):
    def __init__(self, style, inputs, widths, scale):
        super().__init__(style, inputs, widths)
        self.scale = scale

    def forward(self, y):
        for linear, norm in zip(self.linears, self.norms, strict=True):
            hidden = self.nonlinearity(norm(linear(y)))
            y = y + self.scale * hidden if hidden.shape[1] == y.shape[1] else hidden
        return y
