"""The losses and their gradients to 50 digits, written from the paper's equations; shares no code with `src`."""

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

mpmath.mp.dps = 50


@dataclass(frozen=True)
class Reference:
    """What a loss must give, and the sizes that errors are measured by."""

    value: np.ndarray
    gradient: np.ndarray  # of the sum of the values, with respect to the logits
    gradient_terms: np.ndarray  # the sum of the absolute terms of which the gradient is the sum
    unit: np.ndarray  # the value if every sample loss were 1


def loss(
    loss: str,
    logits: np.ndarray,
    targets: np.ndarray,
    class_weights: np.ndarray | None,
    *,
    gamma: float,
    axis: int,
    valid: np.ndarray | None,
    sample_weight: np.ndarray | None,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None = None,
) -> Reference:
    """Compute one of the losses; arguments as the public functions of the core take them."""
    z = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    shape, classes = z.shape[:-1], z.shape[-1]
    if np.issubdtype(targets.dtype, np.integer):
        index = np.where(True if valid is None else valid, targets, 0)
        t = np.eye(classes)[index]
    else:
        t = np.moveaxis(np.asarray(targets, np.float64), axis, -1)

    zero = mpf(0)
    losses, weights, gradients, terms, counted = [], [], [], [], 0
    for i in np.ndindex(shape):
        if valid is not None and not valid[i]:
            losses.append(zero)
            weights.append(zero)
            gradients.append([zero] * classes)
            terms.append([zero] * classes)
            continue
        counted += 1
        row_t = [mpf(float(x)) for x in t[i]]
        w = mpf(1)
        if class_weights is not None:
            w = _row_weight(row_t, [mpf(float(b)) for b in class_weights], unlabelled_weight)
        if sample_weight is not None:
            w *= mpf(float(sample_weight[i]))
        e = mpf(float(label_smoothing))
        smooth = [(1 - e) * a + e / classes for a in row_t]
        row_z = [mpf(float(x)) for x in z[i]]
        value, parts = _softmax(row_z, smooth) if loss == "softmax" else _one_vs_all(row_z, smooth, mpf(gamma))
        losses.append(w * value)
        weights.append(w)
        gradients.append([w * (up - down) for up, down in parts])
        terms.append([abs(w) * (up + down) for up, down in parts])

    divisor = mpf(1)
    if reduction == "mean":
        divisor = mpf(max(counted, 1))
    elif reduction == "weighted_mean":
        divisor = sum(weights, zero) or mpf(1)
    if reduction == "none":
        value, unit = _array(losses, shape), _array(weights, shape)
    else:
        value, unit = _array([sum(losses, zero) / divisor], ()), _array([sum(weights, zero) / divisor], ())
    gradient, size = (
        np.moveaxis(_array([x / divisor for row in rows for x in row], (*shape, classes)), -1, axis)
        for rows in (gradients, terms)
    )
    return Reference(value, gradient, size, unit)


def effective_number(n: int, *, beta: float | None = None, num_prototypes: float | None = None) -> Any:
    """Return E_n as a sum of the geometric series' closed form, eq. 2-4."""
    b = mpf(beta) if beta is not None else 1 - 1 / mpf(num_prototypes)
    if b == 1:
        return mpf(n)
    with mpmath.workdps(400):
        return +((1 - b**n) / (1 - b)) if n else mpf(0)


def _row_weight(t: list[Any], class_weights: list[Any], unlabelled_weight: float | None) -> Any:
    """Return the mean weight of the labels, or what a row without one is given."""
    if sum(t) > 0:
        return sum(a * b for a, b in zip(t, class_weights, strict=True)) / sum(t)
    return sum(class_weights) / len(class_weights) if unlabelled_weight is None else mpf(unlabelled_weight)


def _softmax(z: list[Any], t: list[Any]) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the loss, and for each class the two terms, >= 0, whose difference is the gradient."""
    top = max(z)
    total = sum(mpmath.exp(a - top) for a in z)
    log_p = [a - top - mpmath.log(total) for a in z]  # -inf where a class is ruled out
    value = -sum(a * b for a, b in zip(t, log_p, strict=True) if a)  # 0 log 0 = 0
    return value, [(mpmath.exp(b) * sum(t), a) for a, b in zip(t, log_p, strict=True)]


def _one_vs_all(z: list[Any], t: list[Any], gamma: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """As `_softmax`."""
    value, parts = mpf(0), []
    for a, b in zip(z, t, strict=True):
        missed, missed_slope = _term(-a, gamma) if b else (mpf(0), mpf(0))  # 0 log 0 = 0
        raised, raised_slope = _term(a, gamma) if b != 1 else (mpf(0), mpf(0))
        value += b * missed + (1 - b) * raised
        parts.append(((1 - b) * raised_slope, b * missed_slope))
    return value, parts


def _term(v: Any, gamma: Any) -> tuple[Any, Any]:
    """Return (1 - p)^gamma * -log(p) at p = sigmoid(-v), and its derivative in v."""
    if v == -mpmath.inf:
        return mpf(0), mpf(0)
    miss = 1 / (1 + mpmath.exp(-v))
    softplus = mpmath.log1p(mpmath.exp(v))
    power = miss**gamma if gamma else mpf(1)
    return power * softplus, power * (gamma * (1 - miss) * softplus + miss)


def _array(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.array([float(v) for v in values], dtype=np.float64).reshape(shape)
