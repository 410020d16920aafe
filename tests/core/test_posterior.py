"""Calibrated probabilities back from the logits of the three losses, and from one class prior to another."""
# ruff: noqa: E501 -- a row a case

from types import ModuleType
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from cbcore import _formulas, _ops
from tests.support import reference

LOSSES = [("softmax", None), ("sigmoid", None), *(("focal", gamma) for gamma in (0.0, 0.5, 1.0, 2.0, 2.5, 5.0))]
each_loss = pytest.mark.parametrize(("loss", "gamma"), LOSSES)
losses = st.sampled_from(LOSSES)
LOGITS = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 2.0, -1.0], [0.1, 0.2, 0.3]]
WEIGHTS = [0.2, 0.0, 2.8]


def exact(z: Any, weights: Any, loss: str, gamma: float | None) -> list[Any]:
    """Return P(y | x) to 50 digits, from statements 3 to 5 of what-is-optimised.md; f' is the reference's."""
    z = [mp.mpf(float(x)) for x in z]
    if loss == "softmax":
        top = max(z)
        q = [mp.exp(x - top) for x in z]
    elif loss == "sigmoid":
        q = [1 / (1 + mp.exp(-x)) for x in z]
    else:
        slopes = [(reference._term(x, mp.mpf(gamma))[1], reference._term(-x, mp.mpf(gamma))[1]) for x in z]
        q = [up / (up + down) for up, down in slopes]
    p = [a / mp.mpf(float(w)) if w else mp.mpf(0) for a, w in zip(q, weights, strict=True)]
    return [a / mp.fsum(p) for a in p]


def rows() -> np.ndarray:
    r = np.random.default_rng(0)
    sizes = np.array([0.0, 1e-9, 0.3, 1, 3, 10, 40, 100, 700])
    return sizes.repeat(6)[:, None] * r.normal(size=(54, 5)) + r.choice([0.0, 8, -8], (54, 1))


@each_loss
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_posterior_agrees_with_50_digits(loss: str, gamma: float | None, dtype: Any) -> None:
    z = rows().astype(dtype)
    weights = np.array([1e-3, 0.5, 1.0, 0.0, 3.5])
    span = float(np.log(3.5 / 1e-3))
    result = cbcore.posterior(z, weights, loss=loss, gamma=gamma)
    assert result.dtype == (np.float64 if dtype == np.float64 else np.float32)
    tiny, unit = np.finfo(result.dtype).smallest_normal, np.finfo(result.dtype).eps
    for row, ours in zip(z, result, strict=True):
        truth = exact(row, weights, loss, gamma)
        # Logarithms are rounded at their own size, whatever that of the logits; but focal losses multiply logits.
        rounded = 4 + 2 * span + (2 * (1 + gamma) * float(np.abs(row).max()) if gamma else 0)
        for a, b in zip(ours, truth, strict=True):
            assert abs(mp.mpf(float(a)) - b) <= (rounded + 2 * abs(mp.log(b or 1))) * unit * b + tiny
    assert (result[:, 3] == 0).all()


@each_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_neither_overflow_nor_lose_their_differences(loss: str, gamma: float | None, dtype: Any) -> None:
    z = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4 + 2], [1e4, 1e4, 1e4], [0, -1e4, 0]], dtype)
    result = cbcore.posterior(z, np.array([0.5, 1, 1.5]), loss=loss, gamma=gamma)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-6)
    expected = [[float(p) for p in exact(row, [0.5, 1, 1.5], loss, gamma)] for row in z]
    # What a focal loss multiplies logits by is rounded at their size; the others subtract them exactly.
    np.testing.assert_allclose(result, expected, rtol=np.finfo(dtype).eps * (2e5 if loss == "focal" else 8))


@given(st.integers(2, 12), st.integers(0, 2**32 - 1), losses)
def test_posterior_inverts_the_weighted_optimum(classes: int, seed: int, case: tuple[str, float | None]) -> None:
    """The optimum is found by root finding on the derivative of the expected loss, without the inverse used here."""
    loss, gamma = case
    r = np.random.default_rng(seed)
    truth = r.dirichlet(np.ones(classes)) + 1e-6
    truth /= truth.sum()
    weights = cbcore.class_weights(r.integers(1, 10**5, classes), float(r.choice([0.9, 0.999, 1.0])))
    q = weights * truth / (weights @ truth)
    z = np.log(q) + 3 if loss == "softmax" else np.array([optimum(eta, gamma or 0.0) for eta in q])
    np.testing.assert_allclose(cbcore.posterior(z, weights, loss=loss, gamma=gamma), truth, rtol=1e-9)


def optimum(eta: float, gamma: float) -> float:
    """Return where the slope (1 - eta) f'(z) - eta f'(-z) of the expected loss of one class changes sign."""
    low, high = -60.0, 60.0
    while low < (z := (low + high) / 2) < high:
        up, down = (_formulas.focal_term_derivative(_ops, np.array(v), gamma) for v in (z, -z))
        low, high = (low, z) if (1 - eta) * up > eta * down else (z, high)
    return low


def test_without_weights_it_calibrates_a_plain_focal_model() -> None:
    z = np.array([optimum(eta, 2.0) for eta in (0.7, 0.2, 0.1)])
    np.testing.assert_allclose(cbcore.posterior(z, None, loss="focal", gamma=2), [0.7, 0.2, 0.1], rtol=1e-12)
    assert abs(1 / (1 + np.exp(-z[0])) - 0.7) > 0.05
    np.testing.assert_allclose(cbcore.posterior(np.log([0.7, 0.2, 0.1]), None), [0.7, 0.2, 0.1], rtol=1e-15)


def test_gamma_is_that_of_the_loss_where_none_is_given() -> None:
    z = np.array(LOGITS)
    np.testing.assert_array_equal(
        cbcore.posterior(z, None, loss="focal"), cbcore.posterior(z, None, loss="focal", gamma=0.5)
    )
    np.testing.assert_allclose(
        cbcore.posterior(z, None, loss="focal", gamma=0), cbcore.posterior(z, None, loss="sigmoid"), rtol=1e-14
    )


def test_the_scale_of_the_weights_does_not_matter() -> None:
    for loss in ("softmax", "sigmoid"):
        one, many = (cbcore.posterior(LOGITS, scale * np.array(WEIGHTS), loss=loss) for scale in (1.0, 7.0))
        np.testing.assert_allclose(one, many, rtol=1e-15)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_the_class_axis(axis: int) -> None:
    z = np.random.default_rng(1).normal(size=(2, 4, 3))
    expected = np.moveaxis(cbcore.posterior(z, np.array(WEIGHTS)), -1, axis)
    np.testing.assert_array_equal(cbcore.posterior(np.moveaxis(z, -1, axis), np.array(WEIGHTS), axis=axis), expected)
    expected = np.moveaxis(cbcore.adjust_logits(z, source=[9, 0, 1]), -1, axis)
    np.testing.assert_array_equal(cbcore.adjust_logits(np.moveaxis(z, -1, axis), source=[9, 0, 1], axis=axis), expected)


@pytest.mark.parametrize("xp", [array_api_strict, torch, jnp], ids=lambda xp: xp.__name__.split(".")[0])
def test_any_array_in_the_same_kind_out(xp: ModuleType) -> None:
    z = xp.asarray(LOGITS)
    for loss in ("softmax", "sigmoid", "focal"):
        result = cbcore.posterior(z, xp.asarray(WEIGHTS), loss=loss)
        assert array_namespace(result) is array_namespace(z)
        expected = cbcore.posterior(np.asarray(LOGITS), np.array(WEIGHTS), loss=loss)
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)
    result = cbcore.adjust_logits(z, source=xp.asarray([9, 0, 1]), target=[0.5, 0.25, 0.25])
    assert array_namespace(result) is array_namespace(z)
    np.testing.assert_allclose(
        np.asarray(result), cbcore.adjust_logits(LOGITS, source=[9, 0, 1], target=[0.5, 0.25, 0.25]), rtol=1e-6
    )


def test_traced_and_differentiated_logits() -> None:
    """Weights and priors are numbers on the host; logits may be what a compiled step makes."""
    z, w = jnp.asarray(LOGITS), np.array(WEIGHTS)

    def both(z: Any) -> Any:
        return cbcore.posterior(z, w, loss="focal", gamma=2.0), cbcore.adjust_logits(z, source=[9, 0, 1])

    with jax.numpy_rank_promotion("raise"):
        for ours, expected in zip(jax.jit(both)(z), both(z), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
    slope = jax.grad(lambda z: cbcore.posterior(z, w)[..., 0].sum())(z)
    p = np.asarray(cbcore.posterior(z, w))
    np.testing.assert_allclose(slope, p[:, :1] * (np.eye(3)[0] - p), rtol=1e-5, atol=1e-7)
    t = torch.tensor(LOGITS, requires_grad=True)
    cbcore.posterior(t, w)[..., 0].sum().backward()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(t.grad, slope, rtol=1e-5, atol=1e-7)


def test_half_precision_is_computed_in_float32() -> None:
    z = torch.tensor(LOGITS, dtype=torch.bfloat16)
    assert torch.equal(cbcore.posterior(z, WEIGHTS), cbcore.posterior(z.float(), WEIGHTS))
    assert cbcore.adjust_logits(z, source=[1, 2, 3]).dtype == torch.float32


# ---------------------------------------------------------------- adjust_logits

vectors = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), vectors, vectors)
def test_there_and_back_is_the_identity(z: list[float], source: list[float], target: list[float]) -> None:
    there = cbcore.adjust_logits(z, source=source, target=target)
    back = cbcore.adjust_logits(there, source=target, target=source)
    np.testing.assert_allclose(back, z, rtol=1e-15, atol=1e-14)
    np.testing.assert_array_equal(cbcore.adjust_logits(z, source=source, target=source), z)


def softmax(z: Any) -> np.ndarray:
    e = np.exp(z - np.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)  # type: ignore[no-any-return]


@given(st.integers(2, 10), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.9, 0.999, 1.0]))
def test_every_row_of_the_table(classes: int, seed: int, beta: float) -> None:
    """By Bayes' rule from densities p(x | y), which no prior changes."""
    r = np.random.default_rng(seed)
    n, r_, density = r.integers(1, 10**5, classes), r.dirichlet(np.ones(classes)) + 1e-9, r.random(classes) + 1e-3
    weights, shift = cbcore.class_weights(n, beta), cbcore.logit_adjustment(n, beta, tau=0.7)
    plain, weighted = np.log(n * density), np.log(n * weights * density)
    shifted = np.log(n * density) - shift  # the optimum of the loss of z + shift
    cases = [
        (plain, {"source": n}, density),
        (plain, {"source": n, "target": r_}, r_ * density),
        (plain, {"source": cbcore.effective_number(n, beta) ** 0.7}, np.exp(shifted)),
        (weighted, {"source": weights}, n * density),
        (weighted, {"source": weights * n, "target": r_}, r_ * density),
        (shifted, {"target": np.exp(shift)}, n * density),
    ]
    for z, options, expected in cases:
        result = softmax(cbcore.adjust_logits(z + 5, **options))
        np.testing.assert_allclose(result, expected / expected.sum(), rtol=1e-10)


def test_it_agrees_with_posterior_and_leaves_out_what_is_0() -> None:
    for z in LOGITS:
        result = softmax(cbcore.adjust_logits(z, source=WEIGHTS))
        np.testing.assert_allclose(result, cbcore.posterior(z, WEIGHTS), rtol=1e-14)
    z = cbcore.adjust_logits([1.0, 2.0, 3.0, np.inf], source=[0, 1, 1, 0], target=[1, 0, 1, 0])
    assert z.tolist() == [-np.inf, -np.inf, 3.0, -np.inf]
    np.testing.assert_array_equal(cbcore.adjust_logits([1.0, 2.0]), [1, 2])
    by_key = cbcore.adjust_logits([1.0, 2.0, 3.0], source={2: 5, 0: 5})
    assert by_key.tolist() == [1 - np.log(5), -np.inf, 3 - np.log(5)]


Z = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: cbcore.posterior(Z, np.ones(3), loss="ce"), ValueError, "loss must be one of 'softmax', 'sigmoid'"),
        (lambda: cbcore.posterior(Z, np.ones(3), gamma=2), ValueError, "gamma must be left out where loss is not 'focal', got gamma=2 with loss='softmax'"),
        (lambda: cbcore.posterior(Z, np.ones(3), loss="focal", gamma=-1), ValueError, "gamma must be at least 0, got -1"),
        (lambda: cbcore.posterior(Z.astype(int), np.ones(3)), TypeError, "logits must be floating point (raw scores of the model), got int64; swap logits and class_weights"),
        (lambda: cbcore.posterior(Z.astype(int), None), TypeError, "logits must be floating point"),
        (lambda: cbcore.posterior(None, None), TypeError, "logits must be an array or a list"),
        (lambda: cbcore.posterior(Z, np.ones(4)), ValueError, "class_weights must have shape (3,), one for each class, got (4,)"),
        (lambda: cbcore.posterior(Z, [1, 2, 3]), TypeError, "class_weights must be floating point, got int64"),
        (lambda: cbcore.posterior(Z, np.array([1.0, -1, 1])), ValueError, "class_weights must be finite and not negative, got -1.0 for class 1"),
        (lambda: cbcore.posterior(Z, np.zeros(3)), ValueError, "class_weights must be above 0 for at least one class, got 0 for all 3"),
        (lambda: cbcore.posterior(Z, {0: 1.0, 2: 1.0}), ValueError, "class_weights must hold a number for every class"),
        (lambda: cbcore.posterior(Z, np.ones(3), axis=2), ValueError, "axis must name an axis of logits, got 2"),
        (lambda: cbcore.adjust_logits(Z.astype(int)), TypeError, "logits must be floating point"),
        (lambda: cbcore.adjust_logits(Z, source=[1, 2]), ValueError, "source must have shape (3,), one for each class of the logits, got (2,)"),
        (lambda: cbcore.adjust_logits(Z, target=[[1, 2, 3]]), ValueError, "target must have shape (3,)"),
        (lambda: cbcore.adjust_logits(Z, source=[0, -2.0, -4]), ValueError, "source must be finite and not negative, got -2.0 for class 1; of a shift of the logits, which is a logarithm, pass np.exp(shift)"),
        (lambda: cbcore.adjust_logits(Z, target=[1, np.nan, 1]), ValueError, "target must be finite and not negative, got nan for class 1"),
        (lambda: cbcore.adjust_logits(Z, target=[0, 0, 0]), ValueError, "target must be above 0 for at least one class, got 0 for all 3"),
        (lambda: cbcore.adjust_logits(Z, source=[True, True, False]), TypeError, "source must be numbers, got dtype bool"),
    ],
)  # fmt: skip
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)
