from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import cbcore_tf
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_of_a_large_batch(mode: str, smoothing: float) -> None:
    """The gradient is softmax(z) - t, with TensorFlow's own softmax outside XLA."""
    r = np.random.default_rng(0)
    z, t = r.normal(size=(40, 500)) * 3, r.dirichlet(np.ones(500), 40)

    def step(z: Any, t: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = cbcore_tf.softmax_cross_entropy(t, z, label_smoothing=smoothing)
        return value, tape.gradient(value, z)

    value, gradient = MODES[mode](step)(tf.constant(z), tf.constant(t))
    p, t = np.exp(z) / np.exp(z).sum(1, keepdims=True), (1 - smoothing) * t + smoothing / 500
    np.testing.assert_allclose(value, -(t * np.log(p)).sum(1).mean(), rtol=1e-12)
    np.testing.assert_allclose(gradient, (p - t) / 40, rtol=1e-10, atol=1e-16)
