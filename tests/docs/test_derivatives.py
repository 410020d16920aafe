"""The derivatives of the losses, their curvature and the prior bias: losses.md."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

import cbcore
from cbcore import _formulas as formulas
from cbcore import _ops as ops
from tests.docs.shared import GAMMAS, normalised


def term(v: Any, gamma: float) -> Any:
    return (1 / (1 + mpmath.exp(-v))) ** gamma * mpmath.log1p(mpmath.exp(v))


def curvature(v: Any, gamma: float) -> Any:
    s, softplus = 1 / (1 + mpmath.exp(-v)), mpmath.log1p(mpmath.exp(v))
    return s**gamma * (1 - s) * ((1 + 2 * gamma) * s + gamma * (gamma - (1 + gamma) * s) * softplus)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("v", [-30.0, -3.0, 0.0, 0.7, 4.0, 30.0])
def test_derivatives_of_the_focal_term(gamma: float, v: float) -> None:
    first, second = (mpmath.diff(lambda x: term(x, gamma), mpf(v), order) for order in (1, 2))
    slope = formulas.focal_term_derivative(ops, np.array(v), gamma)
    assert float(slope) == pytest.approx(float(first), rel=1e-13)
    assert float(curvature(mpf(v), gamma)) == pytest.approx(float(second), rel=1e-13)


def inflection(gamma: float) -> Any:
    """Return where softplus(v) (1 - gamma exp(-v)) = 2 + 1 / gamma."""
    return mpmath.findroot(
        lambda v: mpmath.log1p(mpmath.exp(v)) * (1 - gamma * mpmath.exp(-v)) - 2 - 1 / mpf(gamma), 3 + 1 / gamma
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_focal_term_has_one_inflection_and_sigmoid_cross_entropy_none(gamma: float) -> None:
    grid = [mpf(x) / 8 for x in range(-240, 241)]
    if gamma == 0:
        assert all(curvature(v, gamma) > 0 for v in grid)
        return
    at = inflection(gamma)
    assert all((curvature(v, gamma) > 0) == (v < at) for v in grid)
    slopes = formulas.focal_term_derivative(ops, float(at) + np.array([0.0, 1.0, 3.0, 9.0, 20.0]), gamma)
    assert (np.diff(slopes) < 0).all()
    assert (slopes > 1).all()


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_softmax_gradient_and_hessian(logits: list[float], targets: list[float]) -> None:
    """Through the reference of 50 digits, differentiated once more by differences of its gradient."""
    from tests.support import reference

    t = np.array([targets])

    def gradient(z: np.ndarray) -> np.ndarray:
        call: dict[str, Any] = {"gamma": 0.0, "axis": -1, "valid": None, "sample_weight": None, "label_smoothing": 0.0}
        result = reference.loss("softmax", z[None], t, None, reduction="sum", **call)
        return result.gradient[0]  # type: ignore[no-any-return]

    z, mass, step = np.array(logits), t.sum(), 1e-5
    p = normalised(np.exp(z - z.max()))
    np.testing.assert_allclose(gradient(z), mass * p - t[0], atol=1e-13)
    hessian = np.array([(gradient(z + d) - gradient(z - d)) / (2 * step) for d in step * np.eye(3)])
    np.testing.assert_allclose(hessian, mass * (np.diag(p) - np.outer(p, p)), atol=1e-9)
    for u in np.eye(3):
        assert u @ (np.diag(p) - np.outer(p, p)) @ u == pytest.approx(p @ u**2 - (p @ u) ** 2)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_first_loss_with_the_prior_bias(classes: int, gamma: float) -> None:
    logits = np.full((1, classes), cbcore.prior_bias(classes))
    loss = cbcore.sigmoid_focal_loss(logits, np.array([0]), gamma=gamma)
    prior = 1 / classes
    others = (classes - 1) * prior**gamma * -math.log1p(-prior)
    assert loss == pytest.approx((1 - prior) ** gamma * math.log(classes) + others, rel=1e-12)
    if gamma == 0:
        assert loss < math.log(classes) + 1
        slope = formulas.focal_term_derivative(ops, np.array([1.0, -1.0]) * cbcore.prior_bias(classes), gamma)
        assert (classes - 1) * slope[0] == pytest.approx(slope[1], rel=1e-12)
