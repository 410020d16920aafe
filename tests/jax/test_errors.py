"""Errors of the JAX losses: the same texts as the core's."""
# ruff: noqa: E501 -- a row a case

from collections.abc import Callable
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbcore_jax import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy
from tests.support.jax_adapter import LOSSES

Z, Y = jnp.zeros((4, 3)), jnp.array([0, 1, 2, 0])

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: softmax_cross_entropy(Z, Y[:, None]), ValueError, "targets must be integers of shape (4,) (class indices) or floats of shape (4, 3) (as logits), got int32 of shape (4, 1); reshape targets to (4,)"),
    (lambda: softmax_cross_entropy(Z, Z.astype(int)), ValueError, "got int32 of shape (4, 3); cast one-hot or multi-hot targets to a floating dtype"),
    (lambda: softmax_cross_entropy(Z, Y[:2]), ValueError, "got int32 of shape (2,); check the class axis and the order of the arguments logits and targets"),
    (lambda: sigmoid_cross_entropy(Z, jnp.array(1)), ValueError, "got int32 of shape (); check the class axis"),
    (lambda: sigmoid_cross_entropy(Z, Z[:, :2]), ValueError, "got float32 of shape (4, 2)"),
    (lambda: softmax_cross_entropy(Z, Z[:, 0]), ValueError, "cast class indices in targets to integers"),
    (lambda: softmax_cross_entropy(Z, Z > 0), TypeError, "targets must be integers or floats, got bool"),
    (lambda: softmax_cross_entropy(Y, Z), TypeError, "swap logits and targets"),
    (lambda: softmax_cross_entropy(Z.astype(int), Y), TypeError, "logits must be floating point (raw scores of the model), got int32"),
    (lambda: softmax_cross_entropy(Z.astype(complex), Y), TypeError, "logits must be floating point (raw scores of the model), got complex64"),
    (lambda: softmax_cross_entropy(Z, Y, jnp.ones(4)), ValueError, "class_weights must have shape (3,), one for each class, got (4,)"),
    (lambda: softmax_cross_entropy(Z, Y, where=jnp.ones(4)), TypeError, "where must be boolean (True for samples that count), got float32"),
    (lambda: softmax_cross_entropy(Z, Y, where=jnp.ones((4, 1), bool)), ValueError, "where must have shape (4,), one for each sample, got (4, 1)"),
    (lambda: softmax_cross_entropy(Z, Y, axis=2), ValueError, "axis must name an axis of logits, got 2 for logits of shape (4, 3)"),
    (lambda: softmax_cross_entropy(Z[:, :0], Y), ValueError, "logits must have at least one class on axis -1, got shape (4, 0)"),
    (lambda: softmax_cross_entropy(Z, Y, reduction="avg"), ValueError, "reduction must be one of 'none', 'sum', 'mean', 'weighted_mean'; got 'avg'"),
    (lambda: softmax_cross_entropy(Z, Y, label_smoothing=1.5), ValueError, "label_smoothing must be in [0, 1], got 1.5"),
    (lambda: sigmoid_focal_loss(Z, Y, gamma=-0.5), ValueError, "gamma must be at least 0, got -0.5"),
    (lambda: sigmoid_focal_loss(Z, Y, gamma="2x"), TypeError, "gamma must be a number, got '2x' (str)"),  # type: ignore[arg-type]
    (lambda: jax.jit(lambda gamma: sigmoid_focal_loss(Z, Y, gamma=gamma))(2.0), TypeError, "gamma must be static, got a traced value; name it in static_argnames of jax.jit"),
    (lambda: jax.grad(lambda gamma: sigmoid_focal_loss(Z, Y, gamma=gamma))(2.0), TypeError, "gamma must be static, got a traced value"),
    (lambda: jax.vmap(lambda gamma: sigmoid_focal_loss(Z, Y, gamma=gamma))(jnp.ones(2)), TypeError, "gamma must be static, got a traced value"),
    (lambda: jax.jit(lambda e: softmax_cross_entropy(Z, Y, label_smoothing=e))(0.1), TypeError, "label_smoothing must be static, got a traced value"),
    (lambda: jax.jit(lambda axis: softmax_cross_entropy(Z, Y, axis=axis))(1), TypeError, "axis must be static, got a traced value"),
    (lambda: jax.jit(lambda w: softmax_cross_entropy(Z, Z, unlabelled_weight=w))(1.0), TypeError, "unlabelled_weight must be static, got a traced value"),
    (lambda: softmax_cross_entropy(Z, Z, unlabelled_weight=-1.0), ValueError, "unlabelled_weight must be at least 0, got -1.0"),
    (lambda: softmax_cross_entropy(Z, Z, unlabelled_weight="1"), TypeError, "unlabelled_weight must be a number, got '1' (str)"),  # type: ignore[arg-type]
    (lambda: sigmoid_focal_loss(Z, Y, gamma="2"), TypeError, "gamma must be a number, got '2' (str)"),  # type: ignore[arg-type]
    (lambda: sigmoid_focal_loss(Z, Y, gamma=jnp.ones(1)), TypeError, "gamma must be a number, got"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, Y, label_smoothing="0"), TypeError, "label_smoothing must be a number, got '0' (str)"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, Y, axis=1.0), TypeError, "axis must be an integer, got 1.0 (float)"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, Y, {0: 1.0, "b": 2.0}), TypeError, "class_weights must be keyed by class indices"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, Y, {5: 1.0}), ValueError, "class_weights must be keyed by class indices 0 to 2, got the key 5"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, Y, {0: 1.0, 2: 2.0}), ValueError, "class_weights must hold a number for every class, got none for class 1 of 3"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, np.ma.masked_equal([0, 1, 2, 0], 1)), TypeError, "targets must have no masked entries, got"),
    (lambda: softmax_cross_entropy(np.ma.masked_equal(np.zeros((4, 3)), 0), Y), TypeError, "logits must have no masked entries, got"),
    (lambda: softmax_cross_entropy(Z, Y, np.ma.masked_equal([1.0, 2.0, 3.0], 2)), TypeError, "class_weights must have no masked entries, got"),
    (lambda: softmax_cross_entropy(Z, Y, where=np.ma.masked_equal([True] * 4, True)), TypeError, "where must have no masked entries, got"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=[text[:60] for _, _, text in CASES])
def test_error(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert text in str(caught.value)


COUNTS = {
    "list": [900, 90, 10],
    "tuple": (900, 90, 10),
    "numpy": np.array([900, 90, 10]),
    "jax": jnp.array([900, 90, 10]),
    "narrow": np.array([90, 9, 1], np.uint8),
    "bool": np.ones(3, bool),
    "jax bool": jnp.ones(3, bool),
    "dict": {2: 10, 0: 900, 1: 90},
}
BAD = {
    "negative": [1.0, -0.5, 1.0],
    "nan": np.array([1.0, np.nan, 1.0]),
    "inf": np.array([1.0, np.inf, 1.0], np.float32),
    "float counts": np.array([900.0, 90.0, 10.0]),
    "bfloat16 counts": np.array([900.0, 90.0, 10.0], jnp.bfloat16),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
class TestWeights:
    @pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
    def test_counts_are_no_weights(self, loss: Any, counts: Any, compiled: bool) -> None:
        step = jax.jit(lambda: loss(Z, Y, counts)) if compiled else lambda: loss(Z, Y, counts)
        with pytest.raises(TypeError, match=r"class_weights must be floating point, got .*; for class counts call"):
            step()

    def test_traced_counts_are_no_weights(self, loss: Any, compiled: bool) -> None:
        wrap = jax.jit if compiled else jax.vmap
        with pytest.raises(TypeError, match="class_weights must be floating point, got int32"):
            wrap(lambda w: loss(Z, Y, w))(jnp.ones(3, int) if compiled else jnp.ones((2, 3), int))

    @pytest.mark.parametrize("weights", BAD.values(), ids=BAD)
    def test_values_from_the_host_are_looked_at(self, loss: Any, weights: Any, compiled: bool) -> None:
        step = jax.jit(lambda: loss(Z, Y, weights)) if compiled else lambda: loss(Z, Y, weights)
        with pytest.raises(ValueError, match=r"class_weights must be (finite and not negative|weights), got"):
            step()

    @pytest.mark.parametrize(
        "weights",
        [
            [0.5, 2.5, 0.0],
            (0.5, 2.5, 0.0),
            {1: 2.5, 0: 0.5, 2: 0.0},
            [jnp.float32(0.5), jnp.float32(2.5), jnp.float32(0)],
            np.array([0.5, 2.5, 0]),
            np.array([0.5, 2.5, 0], np.float16),
            np.array([0.5, 2.5, 0], jnp.bfloat16),
            array_api_strict.asarray([0.5, 2.5, 0], device=array_api_strict.Device("device1")),
        ],
        ids=["list", "tuple", "dict", "list of jax", "numpy", "float16", "bfloat16", "another device"],
    )
    def test_weights_of_any_kind(self, loss: Any, weights: Any, compiled: bool) -> None:
        logits = jnp.arange(12.0).reshape(4, 3) / 4
        step = jax.jit(lambda: loss(logits, Y, weights)) if compiled else lambda: loss(logits, Y, weights)
        np.testing.assert_allclose(step(), loss(logits, Y, jnp.array([0.5, 2.5, 0.0])), rtol=1e-6)

    def test_traced_weights_in_a_list(self, loss: Any, compiled: bool) -> None:
        wrap = jax.jit if compiled else lambda f: jax.grad(f) and f
        value = wrap(lambda w: loss(Z, Y, [w, w, w]))(1.5)
        np.testing.assert_allclose(value, loss(Z, Y, jnp.full(3, 1.5)), rtol=1e-6)


@pytest.mark.parametrize("gamma", [2, np.float32(2), np.array(2.0), jnp.array(2.0), np.int64(2)])
def test_numbers_of_any_kind_become_plain_ones(gamma: Any) -> None:
    expected = sigmoid_focal_loss(Z, Y, gamma=2.0, label_smoothing=0.5)
    assert sigmoid_focal_loss(Z, Y, gamma=gamma, label_smoothing=gamma / 4, axis=np.int64(-1)) == expected
    assert jax.jit(lambda z: sigmoid_focal_loss(z, Y, gamma=gamma, axis=np.array(1)))(Z) > 0


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("index", [2**32, -(2**32), 2**32 + 1, 2**63 - 1, -(2**63)])
def test_an_index_of_64_bits_is_not_cut_to_a_class(loss: Any, index: int) -> None:
    value = loss(Z, np.array([0, 1, 2, index]), reduction="none")
    np.testing.assert_array_equal(np.isnan(value), [False, False, False, True])
    value = loss(Z, np.array([0, 1, 2, index % 2**64], np.uint64), reduction="none")
    np.testing.assert_array_equal(np.isnan(value), [False, False, False, True])
