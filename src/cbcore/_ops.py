"""The few primitives that the formulas are written over.

Each adapter has a module of the same functions in its framework; the module itself is what is passed as `ops`. Here
they are for any Array-API namespace. Beside these, formulas use only operators: ``+ - * / **``, comparisons and ``&``.
"""

import math
from typing import Any, Protocol, TypeAlias

import numpy as np
from array_api_compat import numpy as numpy_namespace

from cbcore._arrays import namespace_of, place

Array: TypeAlias = Any


class Ops(Protocol):
    """What a framework must supply."""

    def upcast(self, x: Array, /) -> Array:
        """Return `x` in the dtype of computation: half precision in float32, others as they are."""

    def cast(self, x: Array, like: Array, /) -> Array:
        """Return `x` in the dtype of `like`."""

    def is_floating(self, x: Array, /) -> bool:
        """Tell real floating dtypes from the others."""

    def exp(self, x: Array, /) -> Array:
        """Return e**x."""

    def log(self, x: Array, /) -> Array:
        """Return the natural logarithm of x > 0."""

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x)), to full relative precision, and so that its derivative has it too.

        Frameworks differentiate their own as s * (1 - s), which cancels: 38 float32 spacings off in the gradient of
        the focal loss at gamma = 5. Where that is what autodiff would use, write it out, every branch being the one
        for x >= 0 at x = 0.
        """

    def sqrt(self, x: Array, /) -> Array:
        """Return the square root of x >= 0, with a derivative that is finite at 0, where the root may be tiny."""

    def softplus(self, x: Array, /) -> Array:
        """Return -log(1 - sigmoid(x)) = max(x, 0) + log1p(exp(-|x|)), to full relative precision."""

    def log_softmax(self, x: Array, axis: int, /) -> Array:
        """Return x - log(sum(exp(x))) along `axis`."""

    def where(self, condition: Array, x: Array, y: Array, /) -> Array:
        """Choose elementwise; `x` or `y` may be a Python number, which takes the dtype of the other."""

    def sum(self, x: Array, axis: int | None = None, /) -> Array:
        """Add up, over all elements or along `axis`."""

    def max(self, x: Array, axis: int, /) -> Array:
        """Return the largest along `axis`, which goes away, as a constant: derivatives do not pass through it."""

    def size(self, x: Array, /) -> Any:
        """Return the number of elements, but at least 1, as a Python number or in the dtype of `x`."""

    def expand_dims(self, x: Array, axis: int, /) -> Array:
        """Return `x` with a new axis of length 1 at `axis`."""

    def one_hot(self, index: Array, size: int, axis: int, /) -> Array:
        """Return booleans with a new axis of `size` at `axis`, True at `index`, nowhere if that is out of range."""

    def flip(self, x: Array, index: Array, axis: int, /) -> Array:
        """Change the sign of x at `index` along `axis`, nowhere if that is out of range."""

    def take(self, values: Array, index: Array, /) -> Array:
        """Return values[index] for a vector of values and indices of any shape, all in range."""

    def pick(self, x: Array, index: Array, axis: int, /) -> Array:
        """Return x at `index` along `axis`, which goes away; all in range."""


def upcast(x: Array, /) -> Array:
    xp = namespace_of(x)
    return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float32)


def cast(x: Array, like: Array, /) -> Array:
    return x if x.dtype == like.dtype else namespace_of(like).astype(x, like.dtype, copy=False)


def is_floating(x: Array, /) -> bool:
    if isinstance(x, np.ndarray):
        return bool(x.dtype.kind == "f")
    return bool(namespace_of(x).isdtype(x.dtype, "real floating"))


def exp(x: Array, /) -> Array:
    return namespace_of(x).exp(x)


def log(x: Array, /) -> Array:
    return namespace_of(x).log(x)


def sqrt(x: Array, /) -> Array:
    return namespace_of(x).sqrt(x)


def sigmoid(x: Array, /) -> Array:
    xp = namespace_of(x)
    small = xp.exp(-xp.abs(x))
    above = np.exp(np.minimum(x, 0)) if xp is numpy_namespace else xp.where(x < 0, small, 1.0)
    return above / (1.0 + small)


def softplus(x: Array, /) -> Array:
    xp = namespace_of(x)
    above = np.maximum(x, 0) if xp is numpy_namespace else xp.where(x > 0, x, 0.0)
    return above + xp.log1p(xp.exp(-xp.abs(x)))


def log_softmax(x: Array, axis: int, /) -> Array:
    if isinstance(x, np.ndarray):
        shifted = x - x.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    xp = namespace_of(x)
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def where(condition: Array, x: Array, y: Array, /) -> Array:
    return namespace_of(condition).where(condition, x, y)


def sum(x: Array, axis: int | None = None, /) -> Array:  # noqa: A001
    return x.sum(axis) if isinstance(x, np.ndarray) else namespace_of(x).sum(x, axis=axis)


def max(x: Array, axis: int, /) -> Array:  # noqa: A001
    return x.max(axis) if isinstance(x, np.ndarray) else namespace_of(x).max(x, axis=axis)


def size(x: Array, /) -> Any:
    return math.prod(x.shape) or 1


def expand_dims(x: Array, axis: int, /) -> Array:
    return namespace_of(x).expand_dims(x, axis=axis)


def one_hot(index: Array, size: int, axis: int, /) -> Array:
    if isinstance(index, np.ndarray) and axis == index.ndim:  # a fourth of the time of what follows
        return index[..., None] == np.arange(size)
    xp = namespace_of(index)
    classes = xp.arange(size, dtype=index.dtype, device=place(index))
    shape = (*(1,) * axis, size, *(1,) * (index.ndim - axis))  # the full rank, which JAX can be told to ask for
    return xp.expand_dims(index, axis=axis) == xp.reshape(classes, shape)


def flip(x: Array, index: Array, axis: int, /) -> Array:
    return where(one_hot(index, x.shape[axis], axis), -x, x)


def take(values: Array, index: Array, /) -> Array:
    if isinstance(values, np.ndarray):
        return values[index]
    xp = namespace_of(values)
    return xp.reshape(xp.take(values, xp.reshape(index, (-1,)), axis=0), index.shape)


def pick(x: Array, index: Array, axis: int, /) -> Array:
    if isinstance(x, np.ndarray) and axis == x.ndim - 1:  # a fourth of the time of take_along_axis
        return x.reshape(-1, x.shape[-1])[np.arange(index.size), index.reshape(-1)].reshape(index.shape)
    xp = namespace_of(x)
    return xp.squeeze(xp.take_along_axis(x, xp.expand_dims(index, axis=axis), axis=axis), axis=axis)
