"""What a user would write without this project: the 5-layer probabilistic ladder with batch normalisation as a plain
PyTorch module and training loop, for comparison of learning (and not sharing a line with `hvae_spec`)."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def mlp(inputs, width):
    return nn.Sequential(
        nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.1),
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.1),
    )  # fmt: skip


class GaussianLayer(nn.Module):
    def __init__(self, inputs, width, units):
        super().__init__()
        self.mlp = mlp(inputs, width)
        self.mu = nn.Sequential(nn.Linear(width, units), nn.BatchNorm1d(units))
        self.sigma2 = nn.Sequential(nn.Linear(width, units), nn.BatchNorm1d(units))

    def forward(self, y):
        d = self.mlp(y)
        return self.mu(d), F.softplus(self.sigma2(d)) + 1e-6


def log_normal(z, mu, sigma2):
    return (-0.5 * (math.log(2 * math.pi) + sigma2.log() + (z - mu) ** 2 / sigma2)).sum(-1)


class PlainLadder(nn.Module):
    def __init__(self, units=(64, 32, 16, 8, 4), widths=(512, 256, 128, 64, 32), pixels=784):
        super().__init__()
        pairs = list(zip(units[1:], widths[1:], units, strict=False))
        self.up = nn.ModuleList(map(GaussianLayer, [pixels, *units[:-1]], widths, units))
        self.down = nn.ModuleList(GaussianLayer(above, width, below) for above, width, below in pairs)
        self.prior = nn.ModuleList(GaussianLayer(above, width, below) for above, width, below in pairs)
        self.decoder = nn.Sequential(mlp(units[0], widths[0]), nn.Linear(widths[0], pixels))

    def log_weight(self, x, beta=1.0, samples=1):
        """[samples, B]."""
        evidence, y = [], x
        for layer in self.up:
            evidence.append(layer(y))
            y = evidence[-1][0]
        evidence = [(mu.repeat(samples, 1), sigma2.repeat(samples, 1)) for mu, sigma2 in evidence]
        mu, sigma2 = evidence[-1]
        z = mu + sigma2.sqrt() * torch.randn_like(mu)
        kl = log_normal(z, mu, sigma2) - log_normal(z, torch.zeros_like(z), torch.ones_like(z))
        for index in reversed(range(len(self.down))):
            (mu_d, sigma2_d), (mu_t, sigma2_t) = evidence[index], self.down[index](z)
            mu_p, sigma2_p = self.prior[index](z)
            sigma2 = 1 / (1 / sigma2_d + 1 / sigma2_t)
            mu = (mu_d / sigma2_d + mu_t / sigma2_t) * sigma2
            z = mu + sigma2.sqrt() * torch.randn_like(mu)
            kl = kl + log_normal(z, mu, sigma2) - log_normal(z, mu_p, sigma2_p)
        logits = self.decoder(z)
        likelihood = -F.binary_cross_entropy_with_logits(logits, x.repeat(samples, 1), reduction="none").sum(-1)
        return (likelihood - beta * kl).view(samples, len(x))


def train_plain(grey, epochs, warm_up, seed):
    """Train on grey values in [0, 1], [N, 784], with Adam at 1e-3 and batches of 256; ready for evaluation."""
    torch.manual_seed(seed)
    model = PlainLadder()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(grey))
        for step in range(len(grey) // 256):
            x = torch.bernoulli(grey[order[step * 256 : (step + 1) * 256]])
            adam.zero_grad()
            (-model.log_weight(x, min(1.0, epoch / warm_up)).mean()).backward()
            adam.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # the plain average over what follows
    with torch.no_grad():
        for images in grey.split(5000):
            model.log_weight(torch.bernoulli(images))
    return model.eval()


@torch.no_grad()
def plain_log_likelihood(model, x, samples):
    """The importance-weighted bound of every image."""
    parts = [model.log_weight(images, samples=samples).logsumexp(0) - math.log(samples) for images in x.split(25)]
    return torch.cat(parts)
