"""The three losses as pure functions. They read shapes and dtypes, which are static, but never an array's values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from cbcore import _checks as checks
from cbcore import _formulas as formulas
from cbcore._arrays import aligned, to_host, unmasked
from cbcore._kinds import Kind, OneVsAll, Softmax
from cbcore_jax import _ops as ops
from cbcore_jax._closed import closed


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    class_weights: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Array:
    """Class-balanced softmax cross-entropy (eq. 8 of the paper): w * -sum_c t_c log softmax(z)_c.

    Parameters
    ----------
    logits : array of floats, shape (..., C, ...)
        z, classes on `axis`. float16 and bfloat16 are computed in float32.
    targets : array
        Class indices: integers in [0, C), the shape of `logits` without `axis`. Or probabilities: floats in [0, 1],
        the shape of `logits` (soft, mixup or multi-hot; their range is not read). A sample whose index lies outside
        [0, C) gets NaN, unless `where` masks it.
    class_weights : array of floats, shape (C,), optional
        From `cbcore.class_weights`, or a dict from class index to weight; cast to the dtype of computation. Values
        that come from the host are checked. A sample is weighted by class_weights[targets], or by the mean over its
        labels, from the targets as given.
    axis : int
        The class axis; static under `jax.jit`, like all options below but `where`.
    where : array of bool, optional
        The shape of `logits` without `axis`. Samples where it is False give 0 and no gradient, and are not counted.
    reduction : {"mean", "sum", "none", "weighted_mean"}
        "mean" divides by the number of samples that count, "weighted_mean" by their summed weights. With no such
        sample both give 0.
    label_smoothing : float
        In [0, 1].
    unlabelled_weight : float, optional
        >= 0, the weight of a sample whose float targets are all 0; by default the mean of the class weights.

    Returns
    -------
    jax.Array
        float32, or float64 for float64 logits. The gradient has the dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        If kinds or static shapes do not fit, or an option is unknown or out of range.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> round(float(softmax_cross_entropy(logits, jnp.array([0, 1]), jnp.array([0.5, 2.5, 2.5]))), 4)
    2.7548
    """
    return _loss(
        Softmax(), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight
    )  # fmt: skip


def sigmoid_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    class_weights: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Array:
    """Class-balanced sigmoid cross-entropy, summed over classes (eq. 11): w * -sum_c log sigmoid(z_c^t).

    Parameters, returns and errors as in `softmax_cross_entropy`; with float targets each class contributes
    -t log sigmoid(z) - (1 - t) log sigmoid(-z).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> round(float(sigmoid_cross_entropy(logits, jnp.array([[1.0, 0, 0], [0, 1, 1]]))), 4)
    1.0942
    """
    return _loss(
        OneVsAll(), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight
    )  # fmt: skip


def sigmoid_focal_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    class_weights: ArrayLike | None = None,
    *,
    gamma: float = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Array:
    """Class-balanced focal loss, summed over classes (eq. 13): w * -sum_c (1 - p_c^t)^gamma log p_c^t.

    `gamma` >= 0 is the focusing parameter, static under `jax.jit`; 0 gives `sigmoid_cross_entropy`; everything else as
    there.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> round(float(sigmoid_focal_loss(logits, jnp.array([0, 1]), gamma=2.0)), 4)
    1.58
    """
    _check_static(gamma, "gamma")
    return _loss(
        OneVsAll(checks.gamma(gamma)), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight
    )  # fmt: skip


def _loss(
    kind: Kind,
    logits: ArrayLike,
    targets: ArrayLike,
    class_weights: ArrayLike | None,
    axis: int,
    where: ArrayLike | None,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None,
) -> Array:
    static = {"axis": axis, "label_smoothing": label_smoothing, "unlabelled_weight": unlabelled_weight}
    for name, option in static.items():
        _check_static(option, name)
    label_smoothing = checks.loss_options(reduction, label_smoothing)
    unlabelled_weight = checks.unlabelled_weight(unlabelled_weight)
    logits = jnp.asarray(unmasked(logits, "logits"))
    targets = jnp.asarray(_narrowed(unmasked(targets, "targets")))
    valid = None if where is None else jnp.asarray(unmasked(where, "where"))
    axis = _check_arrays(logits, targets, axis, valid)
    weights = None if class_weights is None else _weights(class_weights, logits.shape[axis])
    if not ops.is_floating(targets):
        targets = targets.astype(int)  # the default integer: narrow ones cannot hold C
    loss: Array = formulas.class_balanced_loss(
        ops, closed(kind).sample_loss, logits, targets, weights,
        axis=axis, valid=valid, sample_weight=None, reduction=reduction, label_smoothing=label_smoothing,
        unlabelled_weight=unlabelled_weight,
    )  # fmt: skip
    return loss


def _narrowed(targets: ArrayLike) -> ArrayLike:
    """Return targets of 64 bits so that JAX, which keeps the lower 32, makes no class of an index that is none."""
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iu" or targets.dtype.itemsize < 8:
        return targets
    return np.clip(targets, 0 if targets.dtype.kind == "u" else -1, np.iinfo(np.int32).max)


def _weights(class_weights: Any, size: int) -> Array:
    """Check class weights; those that come from the host by value too, which costs no wait for a device."""
    class_weights = aligned(class_weights, "class_weights", size, fill=False)
    if any(isinstance(leaf, Array) for leaf in jax.tree.leaves(class_weights)):
        array: Array = jnp.asarray(class_weights)
        checks.weights(_about(array, "class_weights"), size)
        return array
    host = to_host(class_weights, "class_weights")[0]
    checks.weights(checks.weights_on_host(host), size)
    return jnp.asarray(host)


def _check_arrays(logits: Array, targets: Array, axis: int, where: Array | None) -> int:
    """Check kinds and shapes; return the class axis."""
    of_where = None if where is None else _about(where, "where")
    return checks.loss_arrays(_about(logits, "logits"), _about(targets, "targets"), axis=axis, where=of_where)


def _about(x: Array, name: str) -> checks.About:
    kinds = (("f", jnp.floating), ("i", jnp.integer), ("b", jnp.bool_))
    return checks.About(name, x.shape, x.dtype, next((k for k, kind in kinds if jnp.issubdtype(x.dtype, kind)), ""))


def _check_static(value: Any, name: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be static, got a traced value; name it in static_argnames of jax.jit, or bind it before with "
            "functools.partial"
        )
