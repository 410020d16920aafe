"""The formulas that PyTorch's users run, line by line, where the library itself need not be there."""

import torch
from torch import Tensor
from torch.nn import functional


def one_hot(labels: Tensor, logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return dense targets, smoothed if asked, in the fastest way there is.

    Not F.one_hot(...).float(), which most write: its int64 detour would make the peers slower.
    """
    if not smoothing:
        return torch.zeros_like(logits).scatter_(1, labels[:, None], 1)
    missed = smoothing / logits.shape[1]
    return torch.full_like(logits, missed).scatter_(1, labels[:, None], 1 - smoothing + missed)


def bce(z: Tensor, targets: Tensor) -> Tensor:
    """Return sigmoid cross-entropy of each class."""
    return functional.binary_cross_entropy_with_logits(z, targets, reduction="none")


def torchvision_focal(z: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return torchvision.ops.sigmoid_focal_loss with alpha=-1 of each class: torchvision itself has no CPU wheel."""
    p = torch.sigmoid(z)
    terms = bce(z, targets)
    p_t = p * targets + (1 - p) * (1 - targets)
    return terms * ((1 - p_t) ** gamma)


def kornia_focal(z: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return kornia 0.9's binary_focal_loss_with_logits with alpha=None of each class, without its look for pixels."""
    log_p, log_q = functional.logsigmoid(z), functional.logsigmoid(-z)
    positive = -(gamma * log_q).exp() * targets * log_p
    negative = -(gamma * log_p).exp() * (1.0 - targets) * log_q
    return positive + negative


def iota(z: Tensor, labels: Tensor, weights: Tensor, loss: str, gamma: float = 0.0) -> Tensor:
    """Return the weighted mean of a loss, "softmax" or one-vs-all, as a compiler fuses it best: labels are compared."""
    z = z.float()
    hot = torch.arange(z.shape[1], device=z.device) == labels[:, None]
    if loss == "softmax":
        rows = torch.logsumexp(z, 1) - torch.where(hot, z, 0).sum(1)
    else:
        v = torch.where(hot, -z, z)
        terms = functional.softplus(v)
        rows = (terms * torch.sigmoid(v) ** gamma if gamma else terms).sum(1)
    return (rows * weights[labels]).mean()
