"""Where plain autodiff leaves XLA more to compute and to store than the gradient needs."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cbcore import _formulas as formulas
from cbcore._ops import Ops


@partial(jax.custom_jvp, nondiff_argnums=(0, 2))
def focal_term(ops: Ops, v: Array, gamma: float) -> Array:
    """As `cbcore._formulas.focal_term`, with its closed derivative.

    The outer `where` changes nothing, f(-1000) is 0: it keeps XLA:CPU from moving the whole term into its kernel for
    sums, which is several times slower at it.
    """
    return jnp.where(v < -1000, 0, formulas.focal_term(ops, v, gamma))


@focal_term.defjvp
def _(ops: Ops, gamma: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (v,), (tangent,) = primals, tangents
    # Behind the barrier exp(v) is computed again: to share it between value and gradient is to store it.
    behind: Array = lax.optimization_barrier(v)  # type: ignore[no-untyped-call]
    slope = formulas.focal_term_derivative(ops, behind, gamma)
    return focal_term(ops, v, gamma), slope * tangent


def softmax_cross_entropy(ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float) -> Array:
    """As `cbcore._formulas.softmax_cross_entropy`; for class indices without a pass over log softmax(z) to pick z_y."""
    if ops.is_floating(targets) or label_smoothing:
        soft: Array = formulas.softmax_cross_entropy(ops, logits, targets, axis, label_smoothing)
        return soft
    top = lax.stop_gradient(jnp.max(logits, axis, keepdims=True))
    log_sum = jnp.log(jnp.sum(jnp.exp(logits - top), axis))
    picked: Array = ops.pick(logits, targets, axis)
    return log_sum - (picked - jnp.squeeze(top, axis))
