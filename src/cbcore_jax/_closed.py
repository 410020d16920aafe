"""Where plain autodiff leaves XLA more to compute and to store than the gradient needs."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cbcore import _formulas as formulas
from cbcore import _kinds as kinds
from cbcore._kinds import Kind
from cbcore._ops import Ops


def closed(kind: Kind) -> Kind:
    """Return the same loss with what is written here; a kind that is not known here as it is."""
    if type(kind) is kinds.OneVsAll:
        return OneVsAll(kind.gamma)
    return Softmax() if type(kind) is kinds.Softmax else kind


class Softmax(kinds.Softmax):
    """For class indices by its parts, without a pass over log softmax(z) to pick z_y."""

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """As `Kind`."""
        by = super().sample_loss if ops.is_floating(targets) or label_smoothing else partial(kinds.in_one_block, self)
        loss: Array = by(ops, logits, targets, axis, label_smoothing)
        return loss


class OneVsAll(kinds.OneVsAll):
    """With the derivative of each term in closed form."""

    def term(self, ops: Ops, v: Array, /) -> Array:
        """As there."""
        return focal_term(ops, v, self.gamma)


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
