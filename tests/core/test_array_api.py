"""Any array in, the same kind out."""

from types import ModuleType
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace

import cbcore
from tests.support.losses import functions

NAMESPACES = [np, array_api_strict, torch, jnp]
COUNTS, LABELS = [50, 7, 3], [0, 2, 1, 0]
LOSSES = [*functions(cbcore).values()]
LOGITS = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 2.0, -1.0], [0.1, 0.2, 0.3]]


@pytest.fixture(params=NAMESPACES, ids=lambda xp: xp.__name__.split(".")[0])
def xp(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


def same_kind(xp: Any, result: Any, expected: np.ndarray) -> None:
    assert array_namespace(result) is array_namespace(xp.asarray([1.0]))
    tolerance = 1e-15 if np.asarray(result).dtype == np.float64 else 2e-7
    np.testing.assert_allclose(np.asarray(result), expected, rtol=tolerance)


def test_weights(xp: Any) -> None:
    for function in (cbcore.effective_number, cbcore.class_weights):
        same_kind(xp, function(xp.asarray(COUNTS), 0.99), function(COUNTS, 0.99))
        same_kind(xp, function(xp.asarray(COUNTS), xp.asarray([0.5, 0.25, 1.0])), function(COUNTS, [0.5, 0.25, 1.0]))


def test_counts(xp: Any) -> None:
    same_kind(xp, cbcore.class_counts(xp.asarray(LABELS)), np.array([2, 1, 1]))
    same_kind(xp, cbcore.long_tailed_indices(xp.asarray([0, 0, 1, 1]), 2), np.array([0, 1, 2]))
    assert cbcore.imbalance_factor(xp.asarray(COUNTS)) == 50 / 3


def test_float64_where_the_framework_has_it(xp: Any) -> None:
    weights = cbcore.class_weights(xp.asarray(COUNTS))
    assert np.asarray(weights).dtype == (np.float32 if xp is jnp else np.float64)
    with jax.enable_x64(True):
        assert cbcore.class_weights(jnp.asarray(COUNTS)).dtype == jnp.float64


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(xp: Any, loss: Any) -> None:
    weights = cbcore.class_weights(COUNTS)
    soft = np.abs(np.array(LOGITS)) / 4
    where = [True, False, True, True]
    same_kind(xp, loss(xp.asarray(LOGITS), xp.asarray(LABELS), weights), loss(LOGITS, LABELS, weights))
    same_kind(
        xp,
        loss(xp.asarray(LOGITS), xp.asarray(soft), xp.asarray(weights), where=xp.asarray(where), reduction="none"),
        loss(LOGITS, soft, weights, where=where, reduction="none"),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor(LOGITS, dtype=dtype)
    result = cbcore.sigmoid_focal_loss(logits, torch.tensor(LABELS))
    assert result.dtype == torch.float32
    assert result == cbcore.sigmoid_focal_loss(logits.float(), torch.tensor(LABELS))


def test_narrow_integer_targets_hold_many_classes() -> None:
    logits = np.zeros((2, 300))
    loss = cbcore.sigmoid_cross_entropy(logits, np.array([7, 8], np.uint8), np.ones(300))
    np.testing.assert_allclose(loss, 300 * np.log(2))
