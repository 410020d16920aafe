"""Losses and class weights as several packages compute them, the inputs that tell them apart, and the exact results."""

import math
import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # one framework in this process; Keras does the same arithmetic in each

import balanced_loss
import cbloss.loss
import keras
import kornia.losses
import mpmath
import numpy as np
import torch
from balanced_loss.losses import focal_loss as balanced_focal_loss
from mpmath import mpf
from torch import Tensor
from torch.nn import functional

import cbcore
import cbcore_torch

mpmath.mp.dps = 50
Loss = Callable[..., Tensor]
Exact = tuple[float, list[float]]  # the loss and its gradient
Weights = Callable[[float, list[int]], Any]

# ---------------------------------------------------------------- one positive logit under the focal loss


def torchvision_formula(z: Tensor, gamma: float) -> Any:
    """Compute what torchvision.ops.sigmoid_focal_loss(alpha=-1) computes, line by line."""
    t = torch.ones_like(z)
    p = torch.sigmoid(z)
    ce = functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    return ce * ((1 - p_t) ** gamma)


def keras_focal(z: Tensor, gamma: float) -> Any:
    """Compute the focal loss of Keras from logits."""
    return keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True)(torch.ones_like(z), z)


FOCAL: dict[str, Loss] = {
    "cbcore": lambda z, gamma: cbcore_torch.sigmoid_focal_loss(z, torch.zeros(1, dtype=torch.int64), gamma=gamma),
    "kornia": lambda z, gamma: kornia.losses.binary_focal_loss_with_logits(z, z.new_ones(1, 1), None, gamma),
    "torchvision's formula": torchvision_formula,
    "balanced-loss": lambda z, gamma: balanced_focal_loss(z, torch.ones_like(z), gamma=gamma),
    "cbloss": lambda z, gamma: cbloss.loss.FocalLoss(2, gamma=gamma)(z[0], torch.ones(1)),
    "Keras": keras_focal,
}
FOCAL_ROWS = [
    (0.5, "float32", 5),
    (0.5, "float32", 17),
    (0.5, "bfloat16", 7),
    (2.0, "float32", 15),
    (2.0, "bfloat16", 6),
    (2.0, "float32", -20),
    (2.0, "float32", -100),
]


def exact_focal(z: float, gamma: float) -> Exact:
    """Return the focal loss of a positive logit; gamma = 0 is sigmoid cross-entropy."""
    miss, softplus = 1 / (1 + mpmath.exp(mpf(z))), mpmath.log1p(mpmath.exp(-mpf(z)))
    slope = miss**gamma * (gamma * (1 - miss) * softplus + miss)
    return float(miss**gamma * softplus), [-float(slope)]


# ---------------------------------------------------------------- cross-entropy

ZERO = torch.zeros(1, dtype=torch.int64)
MANY = 10**6
SOFTMAX: dict[str, Loss] = {
    "cbcore": lambda z: cbcore_torch.softmax_cross_entropy(z, ZERO),
    "PyTorch": lambda z: functional.cross_entropy(z, ZERO),
    "probability, then log": lambda z: -torch.log(torch.softmax(z, 1))[0, 0],
}
SIGMOID: dict[str, Loss] = {
    "cbcore": lambda z: cbcore_torch.sigmoid_cross_entropy(z, ZERO),
    "PyTorch": lambda z: functional.binary_cross_entropy_with_logits(z, torch.ones_like(z)),
    "probability, then log": lambda z: -torch.log(clipped(torch.sigmoid(z))).sum(),
}
ABSENT: dict[str, Loss] = {
    "cbcore": lambda z: cbcore_torch.sigmoid_cross_entropy(z, torch.zeros_like(z)),
    "PyTorch": lambda z: functional.binary_cross_entropy_with_logits(z, torch.zeros_like(z), reduction="sum"),
    "probability, then log": lambda z: -torch.log(1 - clipped(torch.sigmoid(z))).sum(),
}


def clipped(p: Tensor) -> Tensor:
    """Keep probabilities away from 0 and 1, as libraries do that take their logarithm."""
    return p.clamp(1e-7, 1 - 1e-7)


def exact_softmax(*z: float) -> Exact:
    """Return the softmax cross-entropy of the first class."""
    terms = [mpmath.exp(mpf(a) - max(z)) for a in z]
    p = [a / sum(terms) for a in terms]
    return float(-mpmath.log(p[0])), [float(a - (i == 0)) for i, a in enumerate(p)]


def exact_absent(z: float, classes: int) -> Exact:
    """Return the sigmoid cross-entropy of classes that are all absent and have the same logit."""
    return float(classes * mpmath.log1p(mpmath.exp(mpf(z)))), [float(1 / (1 + mpmath.exp(-mpf(z))))] * classes


CROSS_ENTROPY_ROWS: dict[str, tuple[dict[str, Loss], list[float], str, Exact]] = {
    "softmax, bfloat16, $z = (7, 0, 0)$": (SOFTMAX, [7, 0, 0], "bfloat16", exact_softmax(7, 0, 0)),
    "softmax, float32, $z = (0, 120)$": (SOFTMAX, [0, 120], "float32", exact_softmax(0, 120)),
    "sigmoid, bfloat16, positive, $z = 7$": (SIGMOID, [7], "bfloat16", exact_focal(7, 0)),
    "sigmoid, float32, positive, $z = -40$": (SIGMOID, [-40], "float32", exact_focal(-40, 0)),
    "sigmoid, float32, $10^6$ negatives, $z = -17.5$": (ABSENT, [-17.5] * MANY, "float32", exact_absent(-17.5, MANY)),
}


# ---------------------------------------------------------------- class weights


def float32_weights(beta: float, counts: list[int]) -> Any:
    """Compute the weights as the paper writes them, in float32."""
    one, b = np.float32(1), np.float32(beta)
    raw = (one - b) / (one - b ** np.array(counts, np.float32))
    return raw / raw.sum() * len(counts)


def balanced_loss_weights(beta: float, counts: list[int]) -> Any:
    """Read the weights of balanced-loss off its losses."""
    loss = balanced_loss.Loss("binary_cross_entropy", beta, samples_per_class=counts, class_balanced=True)
    size = len(counts)  # at logits of 0 every sample loses its weight times log 2
    return [loss(torch.zeros(1, size), torch.tensor([i])).item() / math.log(2) for i in range(size)]


def cbloss_weights(beta: float, counts: list[int]) -> Any:
    """Return the weights of cbloss."""
    return cbloss.loss.ClassBalancedLoss(counts, beta, len(counts), None).weights.numpy()


WEIGHTS: dict[str, Weights] = {
    "cbcore": lambda beta, counts: cbcore.class_weights(counts, beta),
    "balanced-loss": balanced_loss_weights,
    "cbloss": cbloss_weights,
    "the formula in float32": float32_weights,
}
WEIGHT_ROWS: dict[str, tuple[float, list[int]]] = {
    r"$\beta = 0.999$, counts 100, 10, 1": (0.999, [100, 10, 1]),
    r"$\beta = 1 - 10^{-6}$, counts $10^9$, $10^5$, 10": (1 - 1e-6, [10**9, 10**5, 10]),
    r"$\beta = 1 - 10^{-8}$, counts 100, 10, 1": (1 - 1e-8, [100, 10, 1]),
    r"$\beta = 1$, counts 100, 10, 1": (1.0, [100, 10, 1]),
    r"$\beta = 0.999$, counts 100, 10, 0": (0.999, [100, 10, 0]),
}


def exact_weights(beta: float, counts: list[int]) -> list[float]:
    """Return the weights; a class without samples has none."""
    with mpmath.workdps(60):
        numbers = [n if beta == 1 else (1 - mpf(beta) ** n) / (1 - mpf(beta)) for n in counts]
        raw = [1 / number if number else mpmath.nan for number in numbers]
        return [float(a / sum(raw) * len(raw)) for a in raw]
