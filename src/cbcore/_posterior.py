"""After training: from the logits of a model to probabilities, and from one class prior to another."""

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from cbcore import _checks as checks
from cbcore import _ops as ops
from cbcore._arrays import Host, aligned, beside, namespace_of, to_host, unmasked
from cbcore._checks import About

_SURE = 1e-30  # exp(-|z|) below it is 0 beside 1 in every dtype, and may be flushed to it


def posterior(
    logits: Any,
    class_weights: Any,
    *,
    loss: str = "softmax",
    gamma: float | None = None,
    axis: int = -1,
) -> Any:
    """Return P(y | x) of the training data from the logits of a model that was trained with class weights.

    A model that is trained with weights w has in it Q(y | x), proportional to w_y P(y | x). Each loss hides Q in its
    logits in another way: softmax(z), sigmoid(z), or for the focal loss f'(z) / (f'(z) + f'(-z)). This takes it out,
    divides by w and normalises, all in logarithms.

    Parameters
    ----------
    logits : array of floats, shape (..., C, ...)
        z, raw scores, classes on `axis`. float16 and bfloat16 are computed in float32.
    class_weights : array of floats, shape (C,), or None
        What the model was trained with, on any scale. None: no weights. A class of weight 0 gets probability 0; the
        others get the probabilities among themselves.
    loss : {"softmax", "sigmoid", "focal"}
        What the model was trained with, on one label a sample. With multi-label targets weights cannot be undone.
    gamma : float, optional
        >= 0, of the focal loss: 0.5 if not given, as there. Not for the others.
    axis : int
        The class axis.

    Returns
    -------
    array
        The shape and kind of `logits`, >= 0, summing to 1 over `axis`: float32, or float64 for float64 logits.

    Raises
    ------
    TypeError
        If logits or class weights are not floating point.
    ValueError
        If shapes do not fit, weights are negative, not finite or all 0, or an option is unknown or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.array([0.5, 1.0, 1.5])
    >>> trained = np.log(weights * [0.7, 0.2, 0.1])  # the optimum where P(y | x) is 0.7, 0.2, 0.1
    >>> posterior(trained, weights).round(3)
    array([0.7, 0.2, 0.1])
    """
    checks.choice(loss, "loss", ("softmax", "sigmoid", "focal"))
    if gamma is not None and loss != "focal":
        raise ValueError(
            f"gamma must be left out where loss is not 'focal', got gamma={gamma!r} with loss={loss!r}; is it the "
            "focal loss that the model was trained with?"
        )
    power = checks.gamma(0.5 if gamma is None else gamma) if loss == "focal" else 0.0
    class_weights = aligned(class_weights, "class_weights", fill=False)
    weights = None if class_weights is None else checks.weights_on_host(to_host(class_weights, "class_weights")[0])
    logits, axis = _logits(logits, weights, axis)
    scores = ops.upcast(logits)
    if loss != "softmax":
        scores = -ops.softplus(-(_log_odds(scores, power) if power else scores))
    if weights is not None:
        checks.weights(weights, logits.shape[axis])
        scores = _added(scores, -_logs(np.asarray(weights.values), "class_weights"), axis, centre=True)
    return ops.exp(ops.log_softmax(scores, axis))


def adjust_logits(logits: Any, *, source: Any = None, target: Any = None, axis: int = -1) -> Any:
    """Return logits for another class prior: z + log target - log source.

    Softmax of the result is that of `logits` times target / source, normalised. Only this quotient acts, so that either
    vector may be class counts or shares, class weights, effective numbers, or exp of a shift; its scale is free.

    Parameters
    ----------
    logits : array of floats, shape (..., C, ...)
        z, of a model trained with softmax, classes on `axis`. Of another loss: the log of its `posterior`.
    source : array, shape (C,), optional
        >= 0, what the probabilities of the classes are proportional to now. All alike if not given.
    target : array, shape (C,), optional
        >= 0, what they shall be proportional to. All alike if not given.
    axis : int
        The class axis.

    Returns
    -------
    array
        The shape and kind of `logits`; float32, or float64 for float64 logits. -inf for a class that is 0 in `source`
        or `target`: the model says nothing of a class that its training left out.

    Raises
    ------
    TypeError
        If logits are not floating point, or `source` or `target` not numbers.
    ValueError
        If shapes do not fit, or `source` or `target` is negative, not finite or all 0.

    Notes
    -----
    ==============================  =================================  ==========================================
    from                            to                                 call
    ==============================  =================================  ==========================================
    plain training                  all classes alike                  ``source=class_counts``
    plain training                  shares r at deployment             ``source=class_counts, target=r``
    plain training                  a prior beta, tau                  ``source=effective_number(n, beta) ** tau``
    trained with class weights      the training data                  ``source=class_weights``
    trained with class weights      shares r at deployment             ``source=class_weights * n, target=r``
    trained with a shift            the training data                  ``target=np.exp(shift)``
    ==============================  =================================  ==========================================

    Examples
    --------
    >>> import numpy as np
    >>> plain = np.log([0.7, 0.2, 0.1])
    >>> balanced = np.exp(adjust_logits(plain, source=[5000, 500, 50]))
    >>> (balanced / balanced.sum()).round(3)
    array([0.055, 0.157, 0.787])
    """
    logits, axis = _logits(logits, None, axis)
    size = logits.shape[axis]
    change = _prior_logs(target, "target", size) - _prior_logs(source, "source", size)
    return _added(ops.upcast(logits), change, axis)


def _logits(logits: Any, weights: About | None, axis: int) -> tuple[Any, int]:
    """Return the logits as an array of their kind, and the class axis counted from the front."""
    logits = unmasked(logits, "logits") if is_array_api_obj(logits) else to_host(logits, "logits")[0]
    about = About("logits", logits.shape, logits.dtype, "f" if ops.is_floating(logits) else "")
    checks.floating(about, about if weights is None else weights)
    return logits, checks.class_axis(about, axis, "axis")


def _prior_logs(values: Any, name: str, size: int) -> Host:
    """Return the log of a class prior that is given on any scale; NaN where it is 0."""
    if values is None:
        return np.zeros(size)
    host = to_host(aligned(values, name, size), name)[0]
    if not (host.dtype.kind in "iuf" or host.dtype.name == "bfloat16"):
        raise TypeError(f"{name} must be numbers, got dtype {host.dtype}; pass class counts, shares or weights")
    if host.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), one for each class of the logits, got {host.shape}")
    host = host.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(host) & (host >= 0)))
    if bad.size:
        raise ValueError(
            f"{name} must be finite and not negative, got {host[bad[0]]} for class {bad[0]}; of a shift of the logits, "
            "which is a logarithm, pass np.exp(shift)"
        )
    return _logs(host, name)


def _logs(host: Host, name: str) -> Host:
    """Return the log of each entry, NaN for 0: a sum of such logs says where something was 0."""
    if not host.any():
        raise ValueError(f"{name} must be above 0 for at least one class, got 0 for all {host.size}")
    return np.log(host, where=host > 0, out=np.full(host.shape, np.nan))


def _added(scores: Any, change: Host, axis: int, *, centre: bool = False) -> Any:
    """Return scores plus what changes each class, -inf where that is NaN.

    With `centre` the largest of the others is put at 0 before: it costs no digits, which a sum at 10,000 would.
    """
    xp = namespace_of(scores)
    shape = (
        *(1,) * axis,
        change.size,
        *(1,) * (scores.ndim - axis - 1),
    )  # the full rank, for JAX
    kept = xp.reshape(beside(~np.isnan(change), scores), shape)
    change = ops.cast(xp.reshape(beside(np.nan_to_num(change), scores), shape), scores)
    if centre:
        scores = ops.where(kept, scores, -np.inf)
        scores = scores - xp.max(scores, axis=axis, keepdims=True)
    return ops.where(kept, scores + change, -np.inf)


def _log_odds(z: Any, gamma: float) -> Any:
    """Return log(f'(z) / f'(-z)) of the focal loss, an odd function of z, from both sides of which e^|z| is taken.

    With a = |z|, e = exp(-a) and L = log(1 + e) it is (1 + gamma) a + log(1 + gamma e (a + L)) - log(1 + gamma L / e).
    """
    xp = namespace_of(z)
    a = xp.abs(z)
    e = xp.exp(-a)
    seen = e > _SURE
    e = ops.where(seen, e, 1.0)
    rest = xp.log1p(e)
    wrong = ops.where(seen, gamma * e * (ops.where(seen, a, 0.0) + rest), 0.0)
    right = gamma * ops.where(seen, rest / e, 1.0)
    odds = (1 + gamma) * a + (xp.log1p(wrong) - xp.log1p(right))
    return ops.where(z < 0, -odds, odds)
