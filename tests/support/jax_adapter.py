"""JAX in the conformance table, with 64 bits for float64 alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cbcore_jax
from tests.support.losses import functions
from tests.support.spec import Call

try:
    from jax import enable_x64
except ImportError:  # its place before JAX 0.8
    from jax.experimental import enable_x64  # type: ignore[attr-defined, no-redef]

__all__ = ["LOSSES", "JaxAdapter", "enable_x64"]

LOSSES = functions(cbcore_jax)


class JaxAdapter:
    name = "jax"
    dtypes = ("float64", "float32", "float16", "bfloat16")
    modes = ("eager", "compiled")

    def __init__(self, *, gradients: bool = True) -> None:
        self.gradients = gradients

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:

        def loss(logits: jax.Array, targets: Any, class_weights: Any, where: Any) -> tuple[jax.Array, jax.Array]:
            value = LOSSES[call.loss](
                logits,
                targets,
                class_weights,
                axis=call.axis,
                where=where,
                **call.options,
            )
            return value.sum(), value

        step = jax.value_and_grad(loss, has_aux=True) if self.gradients else lambda *args: (loss(*args), None)
        with enable_x64(call.logits.dtype == np.float64):
            arguments = jnp.asarray(call.logits), call.targets, call.class_weights, call.valid
            (_, value), gradient = (jax.jit(step) if mode == "compiled" else step)(*arguments)
        return np.asarray(value), None if gradient is None else np.asarray(gradient)
