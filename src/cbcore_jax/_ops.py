"""The primitives of `cbcore._ops.Ops` in JAX.

Gradients compare labels with an iota on the class axis, and so do values where types tell that arrays are sharded (a
mesh of explicit axes): the code stays local to each shard, where a gather or its transpose, a scatter, may first
collect class-sharded logits on every device.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cbcore import _formulas as formulas

exp = jnp.exp
log = jnp.log


def upcast(x: Array, /) -> Array:
    return x if x.dtype in (jnp.float32, jnp.float64) else x.astype(jnp.float32)


def cast(x: Array, like: Array, /) -> Array:
    return x.astype(like.dtype)


def is_floating(x: Array, /) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def sqrt(x: Array, /) -> Array:
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))  # type: ignore[no-untyped-call]


@jax.custom_jvp
def sigmoid(x: Array, /) -> Array:
    return jax.nn.sigmoid(x)


@sigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return sigmoid(x), sigmoid(x) * sigmoid(-x) * tangent


@jax.custom_jvp
def softplus(x: Array, /) -> Array:
    spread: Array = _log1p_exp(-jnp.abs(x))
    return jnp.maximum(x, 0) + spread


@softplus.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return softplus(x), sigmoid(x) * tangent


@partial(jax.jit, inline=True)
def _log1p_exp(x: Array, /) -> Array:
    """Return log(1 + e^x) for x <= 0."""
    if x.dtype != jnp.float32:
        return jnp.log1p(jnp.exp(x))
    logarithm: Array = formulas.twice_atanh(1 / (1 + 2 * jnp.exp(-x)))
    return logarithm


def log_softmax(x: Array, axis: int, /) -> Array:
    return jax.nn.log_softmax(x, axis)


def where(condition: Array, x: Array | float, y: Array | float, /) -> Array:
    if isinstance(y, Array) and _sharded(y):  # two arrays of one sharding, which the condition must take on
        condition = condition & jnp.ones_like(y, bool)
    return jnp.where(condition, x, y)


def sum(x: Array, axis: int | None = None, /) -> Array:  # noqa: A001
    return jnp.sum(x, axis)


def max(x: Array, axis: int, /) -> Array:  # noqa: A001
    return lax.stop_gradient(jnp.max(x, axis))


def size(x: Array, /) -> int:
    return x.size or 1


def expand_dims(x: Array, axis: int, /) -> Array:
    return jnp.expand_dims(x, axis)


def one_hot(index: Array, size: int, axis: int, /) -> Array:
    shape = (*index.shape[:axis], size, *index.shape[axis:])
    return lax.broadcasted_iota(index.dtype, shape, axis) == jnp.expand_dims(index, axis)


def flip(x: Array, index: Array, axis: int, /) -> Array:
    return where(one_hot(index, x.shape[axis], axis), -x, x)


def take(values: Array, index: Array, /) -> Array:
    sharding = jax.typeof(index).sharding if _sharded(index) or _sharded(values) else None
    return values.at[index].get(mode="promise_in_bounds", out_sharding=sharding)


def pick(x: Array, index: Array, axis: int, /) -> Array:
    return _compare(x, index, axis) if _sharded(x) else _gather(x, index, axis)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _gather(x: Array, index: Array, axis: int) -> Array:
    along = jnp.expand_dims(index, axis)
    return jnp.squeeze(jnp.take_along_axis(x, along, axis, mode="promise_in_bounds"), axis)


@_gather.defjvp
def _(axis: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, index), (tangent, _) = primals, tangents
    return _gather(x, index, axis), _compare(tangent, index, axis)


def _compare(x: Array, index: Array, axis: int) -> Array:
    return jnp.sum(jnp.where(one_hot(index, x.shape[axis], axis), x, 0), axis)


def _sharded(x: Array) -> bool:
    """Tell whether the type of `x` names mesh axes, as it does for explicit ones alone."""
    return any(jax.typeof(x).sharding.spec)
