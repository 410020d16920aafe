"""What TensorFlow does to a loss after it is written: vectorised maps, Jacobians, and numerics that are watched."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import cbcore_tf
from tests.support.losses import functions

LOSSES = [*functions(cbcore_tf).values(), partial(cbcore_tf.sigmoid_focal_loss, gamma=2.0)]
R = np.random.default_rng(0)
Z = R.normal(size=(4, 3)).astype(np.float32)
Y = np.array([0, 2, 1, 2])
SOFT = R.dirichlet(np.ones(3), 4).astype(np.float32)
W = np.array([0.5, 1.0, 1.5], np.float32)
STACK = R.normal(size=(5, 4, 3)).astype(np.float32)

losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
targets = pytest.mark.parametrize("y", [Y, SOFT], ids=["index", "soft"])


def gradient(loss: Any, y: Any, z: Any, **options: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(y, z, W, **options)
    return tape.gradient(value, z)


@targets
@losses
def test_a_vectorized_map_of_values_and_gradients(loss: Any, y: np.ndarray) -> None:
    y, stack = tf.constant(y), tf.constant(STACK)
    for f in (lambda z: loss(y, z, W), partial(gradient, loss, y)):
        expected = np.stack([f(z) for z in stack])
        np.testing.assert_allclose(tf.vectorized_map(f, stack), expected, rtol=1e-5, atol=1e-7)
        graph = tf.function(lambda stack, f=f: tf.vectorized_map(f, stack))
        np.testing.assert_allclose(graph(stack), expected, rtol=1e-5, atol=1e-7)


@losses
@pytest.mark.parametrize("dense", [False, True])
def test_a_vectorized_map_over_labels_too(loss: Any, dense: bool) -> None:
    y = R.dirichlet(np.ones(3), (5, 4)).astype(np.float32) if dense else R.integers(0, 3, (5, 4))
    for z in (tf.constant(STACK), None):
        elements = (tf.constant(y),) if z is None else (tf.constant(y), z)
        f = lambda args: gradient(loss, args[0], args[1] if len(args) > 1 else tf.constant(Z))  # noqa: E731
        expected = np.stack([f([x[i] for x in elements]) for i in range(5)])
        np.testing.assert_allclose(tf.vectorized_map(f, elements), expected, rtol=1e-5, atol=1e-7)


@targets
@losses
@pytest.mark.parametrize("use_pfor", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_jacobian_of_the_losses_of_samples(loss: Any, y: np.ndarray, use_pfor: bool, axis: int) -> None:
    z = tf.constant(np.moveaxis(Z, -1, axis))
    y = y if y.ndim == 1 else np.moveaxis(y, -1, axis)

    def jacobian(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(y, z, W, axis=axis, reduction="none")
        return tape.jacobian(value, z, experimental_use_pfor=use_pfor)

    own = np.moveaxis(gradient(loss, y, z, axis=axis, reduction="sum").numpy(), axis, -1)
    expected = np.moveaxis(own[:, None] * np.eye(4)[:, :, None], -1, 1 + axis)
    for step in [tf.function(jacobian)] if not use_pfor else [jacobian, tf.function(jacobian)]:
        np.testing.assert_allclose(step(z), expected, rtol=1e-5, atol=1e-7)


@targets
@losses
def test_a_hessian_by_jacobian(loss: Any, y: np.ndarray) -> None:
    z = tf.constant(Z, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(z)
        slope = gradient(loss, y, z)
    hessian = np.asarray(tape.jacobian(slope, z)).reshape(12, 12)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)


@pytest.fixture
def watched() -> Iterator[None]:
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@targets
@losses
@pytest.mark.usefixtures("watched")
def test_healthy_calls_make_no_nan_on_the_way(loss: Any, y: np.ndarray) -> None:
    options: dict[str, Any] = {} if y.ndim == 2 else {"ignore_class": 1}
    for step in (gradient, tf.function(gradient)):
        assert np.isfinite(step(loss, tf.constant(y), tf.constant(Z), **options)).all()


@losses
def test_a_saved_step_for_xla_keeps_its_gradient(loss: Any, tmp_path: Path) -> None:
    """TensorFlow saves closed gradients too, and refuses those that hold on to tensors of their own."""
    signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 3])]

    class Step(tf.Module):  # type: ignore[misc]  # untyped
        @tf.function(jit_compile=True, input_signature=signature)  # type: ignore[untyped-decorator]
        def __call__(self, y: Any, z: Any) -> Any:
            return loss(y, z, W)

    y, z = tf.constant(Y), tf.constant(Z)
    tf.saved_model.save(Step(), tmp_path)
    step = tf.saved_model.load(tmp_path)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = step(y, z)
    np.testing.assert_allclose(value, loss(y, z, W), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, z), gradient(loss, y, z), rtol=1e-6, atol=1e-8)
