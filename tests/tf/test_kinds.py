from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cbcore._kinds import Kind
from cbcore_tf import _functional
from tests.support.unknown import GRADIENT, TRUTH, UNKNOWN, Y, Z

MODES: dict[str, Callable[..., Any]] = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


@pytest.mark.parametrize("kind", UNKNOWN, ids=["new", "derived"])
@pytest.mark.parametrize("mode", MODES)
def test_a_kind_without_a_closed_form_is_computed_by_its_formula(kind: Kind, mode: str) -> None:
    def step(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = _functional.loss(kind, Y, z, None, -1, None, None, "mean", 0.0, None)
        return value, tape.gradient(value, z)

    value, gradient = MODES[mode](step)(tf.constant(Z))
    np.testing.assert_allclose(value, TRUTH, rtol=1e-6)
    np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-5, atol=1e-7)
