"""The marginal over the classes of images (M2 of Kingma et al., 2014): each class with its bound. In nats.

Of an unlabeled image U = sum_y q(y|x) bound(x, y) + beta_L sum_y q(y|x) [log p(y) - log q(y|x)], of a labeled one
L = bound(x, y) + beta_L log p(y). In a batch the labeled images come last.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hvae_spec.nn.hierarchy import Hierarchy, units_first


@dataclass(frozen=True)
class Marginal:
    """How the images of a batch, and their classes, add up to an objective."""

    unlabeled_share: float
    """N_u / N: what the mean over unlabeled images counts, beside the mean over labeled ones."""
    classification: float
    """alpha, what the mean of log q(y|x) over labeled images counts; not a number where it alone is maximized."""

    def weights(self, log_q: Tensor, labels: Tensor | None) -> Tensor:
        """What each class of an image counts, [M, C, B]: q(y|x), and of a labeled image 1 for its own class.

        Args:
            log_q: log q(y|x), [M, C, B].
            labels: classes of the last images, [M, labeled]; None: no image has one.

        """
        if labels is None:
            return log_q.exp()
        known = torch.arange(log_q.shape[1], device=log_q.device)[:, None] == labels.unsqueeze(1)
        unknown = log_q.shape[2] - labels.shape[1]
        return torch.cat([log_q[:, :, :unknown].exp(), known.to(log_q.dtype)], dim=2)

    def over_images(self, values: Tensor, labels: Tensor | None) -> Tensor:
        """The mean of values [M, B] or [M, S, B] with the shares of unlabeled and of labeled images, [M]."""
        over = tuple(range(1, values.dim()))
        if labels is None:
            return values.mean(over)
        unknown = values.shape[-1] - labels.shape[1]
        of_labeled = values[..., unknown:].mean(over)
        if not unknown:
            return of_labeled
        return torch.lerp(of_labeled, values[..., :unknown].mean(over), self.unlabeled_share)

    def bounds(self, by_class: Tensor, log_q: Tensor, beta: Tensor | float, labels: Tensor | None) -> Tensor:
        """U of the unlabeled images and L of the labeled ones, [M, B].

        Args:
            by_class: the bound of every class of every image, [M, C, B].
            log_q: log q(y|x), [M, C, B].
            beta: the weight of the KL part of z_L, [M], or 1.
            labels: see `weights`.

        """
        weights = self.weights(log_q, labels)
        # Of a labeled image, whose class is known, log q(y|x) is no part of the bound.
        unknown = log_q.shape[2] - (0 if labels is None else labels.shape[1])
        entropy = -(weights * log_q)[:, :, :unknown].sum(1)
        of_classes = F.pad(entropy, (0, log_q.shape[2] - unknown)) - math.log(log_q.shape[1])
        beta = beta[:, None] if isinstance(beta, Tensor) else beta
        return (weights * by_class).sum(1) + beta * of_classes


def mean_log_classes(log_q: Tensor, labels: Tensor) -> Tensor:
    """The mean of log q(y|x) over the labeled images of a batch, [M].

    Args:
        log_q: log q(y|x), [M, C, B].
        labels: classes of the last images, [M, labeled].

    """
    of_labeled = log_q[:, :, log_q.shape[2] - labels.shape[1] :]
    return of_labeled.gather(1, labels.unsqueeze(1)).mean((1, 2))


def classification(model: Hierarchy, x: Tensor, labels: Tensor) -> Tensor:
    """The mean of log q(y|x) over images x [M, B, D] that are all labeled [M, B], [M]. Nothing else of the model is
    computed.
    """
    return mean_log_classes(model.log_classes(units_first(x)), labels)
