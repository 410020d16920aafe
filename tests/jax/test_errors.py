"""Errors of the JAX losses: the same texts as the core's."""
# ruff: noqa: E501 -- a row a case

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cbcore_jax import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy

Z, Y = jnp.zeros((4, 3)), jnp.array([0, 1, 2, 0])

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: softmax_cross_entropy(Z, Y[:, None]), ValueError, "targets must be integers of shape (4,) (class indices) or floats of shape (4, 3) (as logits), got int32 of shape (4, 1); reshape targets to (4,)"),
    (lambda: softmax_cross_entropy(Z, Z.astype(int)), ValueError, "got int32 of shape (4, 3); cast one-hot or multi-hot targets to a floating dtype"),
    (lambda: softmax_cross_entropy(Z, Y[:2]), ValueError, "got int32 of shape (2,); check the class axis and the order of the arguments logits and targets"),
    (lambda: sigmoid_cross_entropy(Z, jnp.array(1)), ValueError, "got int32 of shape (); check the class axis"),
    (lambda: sigmoid_cross_entropy(Z, Z[:, :2]), ValueError, "got float32 of shape (4, 2)"),
    (lambda: softmax_cross_entropy(Z, Z[:, 0]), ValueError, "cast class indices in targets to integers"),
    (lambda: softmax_cross_entropy(Z, Z > 0), TypeError, "targets must be integers or floats, got bool"),
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
    (lambda: jax.jit(lambda gamma: sigmoid_focal_loss(Z, Y, gamma=gamma))(2.0), TypeError, "gamma must be a number, got"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=[text[:60] for _, _, text in CASES])
def test_error(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert text in str(caught.value)
