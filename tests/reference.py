"""The slow, obvious version of the model: one member, one image, one sample at a time, each equation as it is printed.

It shares nothing with `hvae_spec.nn` but the names of the parameters, and computes in float64.
"""

import math

import scipy.stats
import torch
from torch.nn import functional as F


class Reference:
    """Member `member` of a compiled hierarchy, whose batch-norm statistics are recorded if it has any."""

    def __init__(self, model, spec, member=0):
        self.weights = {name: value[member].double() for name, value in model.state_dict().items()}
        self.spec = spec.model
        self.depth = self.spec.depth
        self.sweep = None
        """The place of the sweep of inference that is computed; None in the last."""
        self.starts = {}
        """By layer, where a sample came from before its flow, and the log determinant of that."""

    def nonlinearity(self, a):
        slope = self.spec.nonlinearity.leaky_relu
        return torch.where(a > 0, a, slope * a)

    def linear(self, name, y):
        out = self.weights[f"{name}.weight"] @ y
        return out + self.weights[f"{name}.bias"][:, 0] if f"{name}.bias" in self.weights else out

    def norm(self, name, a):
        if f"{name}.weight" not in self.weights:
            return a
        if f"{name}.mean" in self.weights:
            own = f"{name}.earlier.{self.sweep}"
            own = own if f"{own}.mean" in self.weights else name
            mean, variance = self.weights[f"{own}.mean"], self.weights[f"{own}.variance"]
        else:
            mean = sum(a) / len(a)
            variance = sum((a - mean) ** 2) / len(a)
        scale, shift = self.weights[f"{name}.weight"][:, 0], self.weights[f"{name}.bias"][:, 0]
        return scale * (a - mean) / torch.sqrt(variance + self.spec.batch_norm_eps) + shift

    def mlp(self, name, widths, y):
        for index in range(len(widths)):
            y = self.nonlinearity(self.norm(f"{name}.norms.{index}", self.linear(f"{name}.linears.{index}", y)))
        return y

    def gaussian(self, name, widths, y):
        """mu and sigma2 of one mapping, Eqs. 7-9."""
        heads = self.norm(f"{name}.head.norm", self.linear(f"{name}.head.linear", self.mlp(f"{name}.mlp", widths, y)))
        mu, a = heads[: len(heads) // 2], heads[len(heads) // 2 :]
        return mu, F.softplus(a) + self.spec.variance_floor

    def drawn(self, index, mu, sigma2, noise, y):
        """z_i from the Gaussian of the mapping that y went into, and through its flow if it has one."""
        start = mu + torch.sqrt(sigma2) * noise
        chosen = self.spec.flows[index]
        if chosen is None:
            self.starts[index] = (start, 0.0)
            return start
        name, up = f"inference.up.{index}.flow", self.spec.layers[index].mlp
        d = self.mlp(f"inference.up.{index}.mlp", up, y)
        z, log_det = {"planar": self.planar, "iaf": self.iaf}[chosen.choice](name, chosen.settings, d, start.tolist())
        self.starts[index] = (start, log_det)
        return torch.tensor(z, dtype=torch.float64)

    def planar(self, name, steps, d, z):
        """z and the sum of log|1 + v.w tanh'|, step by step (Rezende & Mohamed, 2015)."""
        numbers, units, total = self.linear(f"{name}.head", d).tolist(), len(z), 0.0
        rounds = math.ceil(steps / units)
        for step in range(steps):
            own = [number / steps for number in numbers[step * (2 * units + 1) : (step + 1) * (2 * units + 1)]]
            u, w, b = own[:units], own[units : 2 * units], own[-1]
            w[step % units] += 1
            b += (2 * (step // units) + 1) / rounds - 1
            a = sum(one * other for one, other in zip(u, w, strict=True))
            v = [2 * one / (1 + math.sqrt(1 + a * a) - a) for one in u]
            bend = math.tanh(sum(one * other for one, other in zip(w, z, strict=True)) + b)
            along = sum(one * other for one, other in zip(v, w, strict=True))
            z = [one + other * bend for one, other in zip(z, v, strict=True)]
            total += math.log(1 + along * (1 - bend**2))
        return z, total

    def iaf(self, name, settings, d, z):
        """z and the sum of log 2 sigmoid(s), unit by unit (Kingma et al., 2016)."""
        units, total, widths = len(z), 0.0, list(settings.mlp)
        contexts = self.linear(f"{name}.context", d).chunk(settings.steps)
        for step, context in enumerate(contexts):
            order = list(range(units)) if step % 2 == 0 else list(range(units))[::-1]
            rank = {unit: place for place, unit in enumerate(order)}
            sees = [[rank[unit] + 1 for unit in range(units)]]  # the last place that a unit knows
            sees += [[units - 1 - place * units // width for place in range(width)] for width in widths]
            y = z
            for layer in range(len(widths)):
                w = self.weights[f"{name}.mades.{step}.linears.{layer}.weight"].tolist()
                bias = context if layer == 0 else self.weights[f"{name}.mades.{step}.linears.{layer}.bias"][:, 0]
                pairs = list(zip(w, bias.tolist(), sees[layer + 1], strict=True))
                a = [
                    sum(k * x for k, x, at in zip(row, y, sees[layer], strict=True) if at <= own) + b
                    for row, b, own in pairs
                ]
                y = self.nonlinearity(torch.tensor(a, dtype=torch.float64)).tolist()
            w = self.weights[f"{name}.mades.{step}.head.weight"].tolist()
            bias = (self.weights[f"{name}.mades.{step}.head.bias"][:, 0] if widths else context).tolist()
            ms = [
                sum(k * x for k, x, at in zip(row, y, sees[-1], strict=True) if at < sees[0][place % units])
                + bias[place]
                for place, row in enumerate(w)
            ]
            scale = [2 / (1 + math.exp(-s)) for s in ms[units:]]
            z = [s * one + m for s, one, m in zip(scale, z, ms[:units], strict=True)]
            total += sum(map(math.log, scale))
        return z, total

    def log_normal(self, z, mu, sigma2):
        return sum(
            -0.5 * math.log(2 * math.pi) - 0.5 * math.log(s) - (a - m) ** 2 / (2 * s)
            for a, m, s in zip(z.tolist(), mu.tolist(), sigma2.tolist(), strict=True)
        )

    def posterior(self, x, noise):
        """Latents and their q parameters, z_1 first."""
        return self.bottom_up(x, noise) if self.spec.inference == "vae" else self.up_then_down(x, noise)

    def given(self, latents, of_q=False):
        """What a mapping takes of latents, the nearest first."""
        skips = self.spec.skip == "both" if of_q else self.spec.skip != "none"
        return torch.cat(latents) if skips else latents[0]

    def bottom_up(self, x, noise):
        z, q, y = [], [], x
        for index, layer in enumerate(self.spec.layers):
            mu, sigma2 = self.gaussian(f"inference.up.{index}", layer.mlp, y)
            z.append(self.drawn(index, mu, sigma2, noise[index], y))
            q.append((mu, sigma2))
            y = self.given(z[::-1], of_q=True)
        return z, q

    def up_then_down(self, x, noise):
        layers, means = self.spec.layers, None
        for sweep in range(self.spec.inference_steps - 1):
            self.sweep = sweep
            d, _ = self.evidence(x, means)
            means = self.means(d)
        self.sweep = None
        d, into = self.evidence(x, means)
        z, q = [None] * self.depth, [None] * self.depth
        q[-1] = d[-1]
        z[-1] = self.drawn(self.depth - 1, *d[-1], noise[-1], into[-1])
        for index in range(self.depth - 2, -1, -1):
            name, widths, y = (
                f"inference.down.{index}",
                layers[index + 1].top_down,
                self.given(z[index + 1 :], of_q=True),
            )
            merge = self.ladder if self.spec.inference == "ladder" else self.top_down
            q[index] = merge(name, widths, y, *d[index])
            z[index] = self.drawn(index, *q[index], noise[index], into[index])
        return z, q

    def evidence(self, x, means):
        """The Gaussians of a sweep up, and what each came from: means of q in the sweep before, if there was one."""
        d, y, into = [], x, []
        for index, layer in enumerate(self.spec.layers):
            into.append(y)
            d.append(self.gaussian(f"inference.up.{index}", layer.mlp, y))
            y = d[-1][0] if means is None else means[index]
        return d, into

    def means(self, d):
        """The means of q with means in the place of samples."""
        means = [None] * (self.depth - 1) + [d[-1][0]]
        for index in range(self.depth - 2, -1, -1):
            widths, y = self.spec.layers[index + 1].top_down, self.given(means[index + 1 :], of_q=True)
            means[index], _ = self.ladder(f"inference.down.{index}", widths, y, *d[index])
        return means

    def ladder(self, name, widths, y, mu_d, sigma2_d):
        mu_t, sigma2_t = self.gaussian(name, widths, y)
        precision = 1 / sigma2_t + 1 / sigma2_d
        return (mu_t / sigma2_t + mu_d / sigma2_d) / precision, 1 / precision

    def top_down(self, name, widths, y, mu_d, sigma2_d):
        return self.gaussian(name, widths, torch.cat([mu_d, sigma2_d, y]))

    def prior(self, index, above):
        """mu and sigma2 of p(z_i|...), given z_{i+1} ... z_L."""
        widths = self.spec.layers[index + 1].down
        return self.gaussian(f"generative.conditionals.{index}", widths, self.given(above))

    def log_weight(self, x, noise, beta=1.0):
        """log p(x|z_1) + beta sum_i [log p(z_i|z_{i+1}) - log q(z_i|...)] of one image and one sample."""
        x, noise = x.double(), [eps.double() for eps in noise]
        z, q = self.posterior(x, noise)
        ratio = 0.0
        for index in range(self.depth):
            if index == self.depth - 1:
                p = (torch.zeros_like(z[index]), torch.ones_like(z[index]))
            else:
                p = self.prior(index, z[index + 1 :])
            start, log_det = self.starts[index]
            ratio += self.log_normal(z[index], *p) - (self.log_normal(start, *q[index]) - log_det)
        return self.log_likelihood(x, self.given(z)) + beta * ratio

    def log_likelihood(self, x, z):
        d = self.mlp("generative.likelihood.mlp", self.spec.layers[0].down, z)
        likelihoods = {
            "bernoulli": self.bernoulli,
            "gaussian": self.gaussian_pixels,
            "continuous_bernoulli": self.continuous_bernoulli,
            "discretized_logistic": self.discretized_logistic,
        }
        return likelihoods[self.spec.observation_name](x, d)

    def bernoulli(self, x, d):
        mu = torch.sigmoid(self.linear("generative.likelihood.logits", d)).tolist()
        return sum(math.log(m) if a else math.log1p(-m) for a, m in zip(x.tolist(), mu, strict=True))

    def gaussian_pixels(self, x, d):
        return self.log_normal(x, *self.mean_and_variance(d))

    def mean_and_variance(self, d):
        heads, variance = self.linear("generative.likelihood.head.linear", d), "predicted"
        if self.spec.observation_name == "gaussian" and self.spec.observation != "gaussian":
            variance = self.spec.observation.gaussian.variance
        if variance == "predicted":
            mu, a = heads[: len(heads) // 2], heads[len(heads) // 2 :]
            return mu, F.softplus(a) + self.spec.variance_floor
        if variance == "learned":
            a = self.weights["generative.likelihood.head.before_softplus"].item()
            variance = math.log1p(math.exp(a)) + self.spec.variance_floor
        return heads, torch.full_like(heads, variance)

    def continuous_bernoulli(self, x, d):
        logits = self.linear("generative.likelihood.logits", d)
        return torch.distributions.ContinuousBernoulli(logits=logits).log_prob(x).sum().item()

    def discretized_logistic(self, x, d, levels=17):
        """Differences of scipy's distribution function half a level to each side, all that is beyond at the ends."""
        total = 0.0
        for a, m, s2 in zip(x.tolist(), *(part.tolist() for part in self.mean_and_variance(d)), strict=True):
            level, law = round(a * (levels - 1)), scipy.stats.logistic(m, math.sqrt(3 * s2) / math.pi)
            low = 0.0 if level == 0 else law.cdf((level - 0.5) / (levels - 1))
            high = 1.0 if level == levels - 1 else law.cdf((level + 0.5) / (levels - 1))
            total += math.log(high - low)
        return total
