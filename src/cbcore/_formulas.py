"""The class-balanced losses, written once over `Ops` for every framework.

CB(z, y) = w * L(z, y) (eq. 6 of the paper): a row weight w times one of the three sample losses, then a reduction.
Axes count from the front here. `targets` are either integers, already inside [0, C), or floats of the logits' shape.
"""

from collections.abc import Callable
from typing import TypeAlias

from cbcore._ops import Array, Ops

SampleLoss: TypeAlias = Callable[[Ops, Array, Array, int, float], Array]

_ATANH = (0.1407888918, 0.1398257887, 0.2001229762, 0.3333316082, 1.000000004)  # atanh(sqrt(q)) / sqrt(q), q <= 1/9


def focal_term(ops: Ops, v: Array, gamma: float) -> Array:
    """Return f(v) = sigmoid(v)^gamma softplus(v): the loss of one class whose flipped logit is v = -z^t."""
    return _modulate(ops, ops.softplus(v), v, gamma)


def focal_term_derivative(ops: Ops, v: Array, gamma: float) -> Array:
    """Return f'(v) = sigmoid(v)^gamma (gamma (1 - sigmoid(v)) softplus(v) + sigmoid(v)), for custom gradients."""
    slope = rising = ops.sigmoid(v)
    if gamma:
        slope = slope + gamma * ops.sigmoid(-v) * ops.softplus(v)
    return _modulate(ops, slope, v, gamma, rising)


def twice_atanh(x: Array) -> Array:
    """Return 2 atanh(x) for 0 <= x <= 1/3, relative error 4e-9: log(1 + e) is 2 atanh(e / (2 + e)).

    For float32 where a compiler takes three times as long for a log1p as for this series, as XLA does on CPUs.
    """
    square, series = x * x, _ATANH[0]
    for coefficient in _ATANH[1:]:
        series = series * square + coefficient
    return 2 * x * series


def _modulate(ops: Ops, x: Array, v: Array, gamma: float, rising: Array | None = None) -> Array:
    """Return sigmoid(v)^gamma x; `rising` is sigmoid(v) where that is known.

    sigmoid(v) = 1 - p^t is taken from v itself, never from p^t. Its whole power is a product: exp(gamma log sigmoid)
    would turn a rounding of gamma * |v| into a relative error (6e-6 at gamma = 5 in float32). Its broken power is a
    root or an exp(log): the derivative of a power below 1 is infinite where sigmoid(v) underflows, and NaN after that.
    """
    whole, part = int(gamma), gamma - int(gamma)
    if whole or part == 0.5:
        rising = ops.sigmoid(v) if rising is None else rising
        x = x * _whole_power(rising, whole) if whole else x
        x = x * ops.sqrt(rising) if part == 0.5 else x
    if part not in (0, 0.5):
        x = x * ops.exp(-part * ops.softplus(-v))
    return x


def _whole_power(x: Array, n: int) -> Array:
    """Return x^n for n >= 1 by products: XLA and eager frameworks take longer for a power than for all of them."""
    if n == 1:
        return x
    rest = _whole_power(x * x, n // 2)
    return x * rest if n % 2 else rest


def row_weight(
    ops: Ops, targets: Array, class_weights: Array, axis: int, unlabelled_weight: float | None = None
) -> Array:
    """Return the weight of each sample: its class's, or the mean over its (soft) labels.

    A row without a label has `unlabelled_weight`; by default the mean of the class weights, so that it stays on their
    scale: 1 where they sum to C.
    """
    if not ops.is_floating(targets):
        return ops.take(class_weights, targets)
    along = class_weights
    for _ in range(axis + 1, len(targets.shape)):
        along = ops.expand_dims(along, -1)
    for _ in range(axis):  # the full rank: JAX can be told to refuse less
        along = ops.expand_dims(along, 0)
    mass = ops.sum(targets, axis)
    labelled = mass > 0
    if unlabelled_weight is None:
        unlabelled_weight = ops.sum(class_weights) / class_weights.shape[0]
    return ops.where(labelled, ops.sum(targets * along, axis) / ops.where(labelled, mass, 1.0), unlabelled_weight)


def class_balanced_loss(
    ops: Ops,
    sample_loss: SampleLoss,
    logits: Array,
    targets: Array,
    class_weights: Array | None,
    *,
    axis: int,
    valid: Array | None,
    sample_weight: Array | None,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None = None,
    in_range: bool = False,
) -> Array:
    """Return the weighted loss of each sample, reduced. Arguments are checked already; see `row_scale`.

    `valid` is False for samples that are ignored whatever their logits and targets hold, NaN included: both are
    replaced before the formula, so that no NaN reaches a gradient.
    """
    z = ops.upcast(logits)
    targets, scale = row_scale(
        ops, targets, class_weights, z, axis=axis, valid=valid, sample_weight=sample_weight, reduction=reduction,
        unlabelled_weight=unlabelled_weight, in_range=in_range,
    )  # fmt: skip
    if valid is not None:
        z = ops.where(ops.expand_dims(valid, axis), z, 0.0)
    loss = sample_loss(ops, z, targets, axis, label_smoothing)
    loss = loss if scale is None else loss * scale
    return loss if reduction == "none" else ops.sum(loss)


def row_scale(
    ops: Ops,
    targets: Array,
    class_weights: Array | None,
    z: Array,
    *,
    axis: int,
    valid: Array | None,
    sample_weight: Array | None,
    reduction: str,
    unlabelled_weight: float | None = None,
    in_range: bool = False,
) -> tuple[Array, Array | None]:
    """Return the targets, safe to index with, and what the loss of each sample is multiplied by; None for 1.

    Class weight (or the mean over soft labels) times sample weight, divided by what `reduction` asks for, in the dtype
    of the logits `z`. It is 0 where `valid` is False, and NaN where an index lies outside [0, C): never another class;
    `in_range` says that there is none, which saves a small batch on the host a fifth of its time.

    "mean" divides by the number of valid samples, as the authors' code does for all three losses: only so do gradient
    accumulation and data parallelism give the full-batch gradient. "weighted_mean" divides by their weights. A batch
    with nothing valid gives 0.
    """
    scale = None
    one_index = not ops.is_floating(targets)
    if not one_index:
        targets = ops.cast(targets, z)
    if valid is not None:
        targets = ops.where(valid if one_index else ops.expand_dims(valid, axis), targets, 0)
    if one_index and not in_range:
        is_class = (targets >= 0) & (targets < z.shape[axis])
        targets = ops.where(is_class, targets, 0)
        # By product: a choice would give such a sample the gradient 0, and training would go on without it. By 0 / 0:
        # no NaN is made where all is well, which a debugger of NaNs would stop at.
        one = ops.cast(is_class, z)
        scale = one / one
    is_weighted = class_weights is not None or sample_weight is not None
    if class_weights is not None:
        weight = row_weight(ops, targets, ops.cast(class_weights, z), axis, unlabelled_weight)
        scale = weight if scale is None else scale * weight
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, z)
        scale = sample_weight if scale is None else scale * sample_weight
    if valid is not None:
        counted = ops.cast(valid, z)
        scale = ops.where(valid, counted if scale is None else scale, 0.0)
    if reduction in ("none", "sum"):
        return targets, scale
    if reduction == "weighted_mean" and is_weighted:
        divisor = ops.sum(scale)
    elif valid is not None:
        divisor = ops.sum(counted)
    else:
        count = ops.size(z) / z.shape[axis]
        return targets, 1 / count if scale is None else scale / count
    return targets, scale / ops.where(divisor != 0, divisor, 1.0)
