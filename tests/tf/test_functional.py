"""What the conformance table does not hold: forms of labels, sizes that a graph leaves open, labels out of range."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import cbcore_tf
from cbcore._kinds import Kind, OneVsAll, Softmax
from cbcore_tf import _ops as ops
from cbcore_tf._closed import closed
from tests.support.losses import functions

LOSSES = [*functions(cbcore_tf).values()]
MODES: dict[str, Callable[..., Any]] = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
Z = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
Y = np.array([0, 2, 1, 2])
W = np.array([0.5, 1.0, 1.5], np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[Y]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_out_of_range_gives_nan_for_its_sample_alone(loss: Any, mode: str) -> None:
    y = tf.constant([0, 3, -1, 2**40])

    def step(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(y, z, W, reduction="none")
        return value, tape.gradient(value, z)

    value, gradient = MODES[mode](step)(tf.constant(Z))
    np.testing.assert_array_equal(np.isnan(value), [False, True, True, True])
    np.testing.assert_allclose(value[0], loss(Y, Z, W, reduction="none")[0], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(gradient), np.isnan(value)[:, None].repeat(3, 1))


def test_the_arithmetic_for_xla_is_taken_there_alone() -> None:
    seen: list[bool] = []

    def step(x: Any) -> Any:
        seen.append(ops.under_xla())
        return x

    for call in (step, tf.function(step), tf.function(step, jit_compile=True)):
        call(tf.constant(0.0))
    tf.function(lambda x: tf.function(step)(x), jit_compile=True)(tf.constant(0.0))  # a function called in another
    tf.function(lambda x: tf.function(step, jit_compile=True)(x))(tf.constant(0.0))  # as Keras does in `fit`
    assert seen == [False, False, True, True, True]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_class_indices_of_any_integer_dtype(loss: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    value = loss(Y.astype(dtype).reshape(shape), Z, W, reduction="none")
    assert value.shape == (4,)
    np.testing.assert_array_equal(value, loss(Y, Z, W, reduction="none"))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_labels_in_the_shape_of_the_logits_are_dense_whatever_their_dtype(loss: Any, dtype: Any) -> None:
    np.testing.assert_array_equal(loss(ONE_HOT.astype(dtype), Z, W), loss(ONE_HOT, Z, W))


def test_labels_of_one_class_in_the_shape_of_the_logits_are_dense() -> None:
    z = Z[:, :1]
    expected = tf.nn.sigmoid_cross_entropy_with_logits(ONE_HOT[:, :1], z)[:, 0]
    value = cbcore_tf.sigmoid_cross_entropy(ONE_HOT[:, :1].astype(int), z, reduction="none")
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 3, 4), (2, 3, 4, 1)])
def test_an_axis_of_one_goes_away_wherever_the_class_axis_is(shape: tuple[int, ...]) -> None:
    r = np.random.default_rng(0)
    y, z = r.integers(0, 5, (2, 3, 4)), r.normal(size=(2, 5, 3, 4))
    value = cbcore_tf.softmax_cross_entropy(y.reshape(shape), z, axis=1, reduction="none")
    assert value.shape == (2, 3, 4)
    np.testing.assert_array_equal(value, cbcore_tf.softmax_cross_entropy(y, z, axis=1, reduction="none"))


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize(
    ("y", "shape"),
    [(Y, [None]), (Y[:, None], [None, 1]), (ONE_HOT, [None, 3]), (ONE_HOT.astype(np.int32), [None, 3])],
)
def test_a_graph_may_leave_the_batch_size_open(y: np.ndarray, shape: list[int | None], mode: str) -> None:
    loss = cbcore_tf.sigmoid_focal_loss
    signature = [tf.TensorSpec(shape, y.dtype), tf.TensorSpec([None, 3]), tf.TensorSpec([None])]

    @tf.function(input_signature=signature, jit_compile=mode == "xla")
    def step(y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
        return loss(y_true, y_pred, W, sample_weight=sample_weight)

    weight = np.array([1, 0.5, 2, 0], np.float32)
    np.testing.assert_allclose(step(y, Z, weight), loss(y, Z, W, sample_weight=weight), rtol=1e-6)
    np.testing.assert_allclose(step(y[:2], Z[:2], weight[:2]), loss(y[:2], Z[:2], W, sample_weight=weight[:2]), 1e-6)
    for wrong in ((y[:1], Z, weight), (y, Z, weight[:1]), (y, Z[:1], weight[:1])):  # nothing may broadcast
        with pytest.raises(tf.errors.InvalidArgumentError):
            step(*wrong)


def test_class_weights_of_open_length_are_checked_at_run_time() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def step(class_weights: Any) -> Any:
        return cbcore_tf.softmax_cross_entropy(Y, Z, class_weights)

    np.testing.assert_allclose(step(W), cbcore_tf.softmax_cross_entropy(Y, Z, W), rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[3\]"):
        step(W[:2])


def test_class_weights_from_the_host_keep_their_precision() -> None:
    weights = [0.1, 0.2, 0.3]
    value = cbcore_tf.softmax_cross_entropy(Y, Z.astype(np.float64), weights)
    tensor = tf.constant(weights, tf.float64)
    np.testing.assert_array_equal(value, cbcore_tf.softmax_cross_entropy(Y, Z.astype(np.float64), tensor))


FOCAL = [partial(cbcore_tf.sigmoid_focal_loss, gamma=gamma) for gamma in (0.3, 1, 2)]
SOFT = np.random.default_rng(2).dirichlet(np.ones(3), 4)


@pytest.mark.parametrize("y", [Y, SOFT], ids=["index", "soft"])
@pytest.mark.parametrize("loss", [*LOSSES, *FOCAL])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_second_derivatives(loss: Any, mode: str, y: np.ndarray) -> None:
    z = np.random.default_rng(0).normal(size=(4, 3)) * 3
    z[0], z[1, 1], z[2] = 0, 1e3, -1e3  # zero: the logits of a last layer that starts at zero
    z = tf.constant(z)
    direction = tf.constant(np.random.default_rng(1).normal(size=z.shape))

    def gradient(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(y, z, W)
        return tape.gradient(value, z)

    def curvature(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            slope = tf.reduce_sum(gradient(z) * direction)
        return tape.gradient(slope, z)

    step = 1e-5 * direction
    expected = (gradient(z + step) - gradient(z - step)) / 2e-5
    np.testing.assert_allclose(MODES[mode](curvature)(z), expected, rtol=1e-6, atol=1e-9)


@tf.function(jit_compile=True)
def curvature_under_xla(z: Any) -> Any:
    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            value = cbcore_tf.sigmoid_focal_loss(Y, z, gamma=0.5)
        slope = inner.gradient(value, z)
    return outer.gradient(slope, z)


def test_second_derivatives_are_zero_where_the_sigmoid_underflows() -> None:
    z = np.where(ONE_HOT, 200, -200).astype(np.float32)
    np.testing.assert_array_equal(curvature_under_xla(tf.constant(z)), 0)


@pytest.mark.parametrize("loss", [*LOSSES, *FOCAL])
def test_gradients_reach_soft_targets(loss: Any) -> None:
    t = tf.constant(SOFT)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = loss(t, Z, reduction="sum")
    gradient = tape.gradient(value, t).numpy()
    for i, c in np.ndindex(SOFT.shape):
        step = np.zeros_like(SOFT)
        step[i, c] = 1e-2  # the losses are linear in the targets
        slope = (
            loss(t + step, Z.astype(float), reduction="sum") - loss(t - step, Z.astype(float), reduction="sum")
        ) / 2e-2
        np.testing.assert_allclose(gradient[i, c], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [*LOSSES, *FOCAL])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_class_may_be_ruled_out_by_an_infinite_logit(loss: Any, axis: int) -> None:
    z = tf.constant(np.where(ONE_HOT[:, [1, 2, 0]], -np.inf, Z))
    finite = tf.constant(np.where(ONE_HOT[:, [1, 2, 0]], -1e4, Z))
    if axis == 0:
        z, finite = tf.transpose(z), tf.transpose(finite)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(Y, z, W, axis=axis)
    np.testing.assert_allclose(value, loss(Y, finite, W, axis=axis), rtol=1e-6)
    assert np.isfinite(tape.gradient(value, z)).all()


@pytest.mark.parametrize("gamma", [None, 0.0, 0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("axis", [0, 1])
def test_closed_forms_agree_with_the_formulas_that_they_replace(
    gamma: float | None, smoothing: float, axis: int
) -> None:
    z = tf.constant(np.moveaxis(Z, -1, axis), tf.float64)
    for y in (Y, np.moveaxis(SOFT, -1, axis)):
        results = []
        kind: Kind = Softmax() if gamma is None else OneVsAll(gamma)
        for loss in (kind, closed(kind)):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss.sample_loss(ops, z, tf.constant(y), axis, smoothing)
            results.append((value, tape.gradient(value, z)))
        (value, gradient), (own, own_gradient) = results
        np.testing.assert_allclose(own, value, rtol=1e-12)
        np.testing.assert_allclose(own_gradient, gradient, rtol=1e-11, atol=1e-14)
