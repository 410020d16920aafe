import jax
import numpy as np
import pytest

from cbcore._kinds import Kind
from cbcore_jax import _losses
from tests.support.unknown import GRADIENT, TRUTH, UNKNOWN, Y, Z


@pytest.mark.parametrize("kind", UNKNOWN, ids=["new", "derived"])
def test_a_kind_without_a_closed_form_is_computed_by_its_formula(kind: Kind) -> None:
    def loss(z: jax.Array) -> jax.Array:
        return _losses._loss(kind, z, Y, None, -1, None, "mean", 0.0, None)

    for step in (jax.value_and_grad(loss), jax.jit(jax.value_and_grad(loss))):
        value, gradient = step(Z)
        np.testing.assert_allclose(value, TRUTH, rtol=1e-6)
        np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-5, atol=1e-7)
