"""The two vectors of one class prior: powers of the effective number, and its log; exact cases and 50 digits."""

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from tests.core.test_weights import BETAS, betas, counts
from tests.support import reference

COUNTS = np.array([1, 2, 3, 10, 999, 5000, 10**6, 10**9, 10**12])


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.5])
def test_the_shift_agrees_with_50_digits(beta: float, tau: float) -> None:
    with mp.workdps(50):
        logs = [mp.log(reference.effective_number(int(n), beta=beta)) for n in COUNTS]
        expected = [float(mp.mpf(tau) * (x - max(logs))) for x in logs]
    result = cbcore.logit_adjustment(COUNTS, beta, tau=tau)
    np.testing.assert_allclose(result, expected, rtol=4e-15, atol=1e-15 * tau * (1 + float(max(logs))))
    assert result.max() == 0


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("power", [0.0, 0.1, 0.5, 1.0])
def test_powers_of_the_weights_agree_with_50_digits(beta: float, power: float) -> None:
    with mp.workdps(50):
        raw = [reference.effective_number(int(n), beta=beta) ** -mp.mpf(power) for n in COUNTS]
        expected = [float(x * len(raw) / mp.fsum(raw)) for x in raw]
    np.testing.assert_allclose(cbcore.class_weights(COUNTS, beta, power=power), expected, rtol=4e-15)


def test_the_ends_of_beta_power_and_tau() -> None:
    n = [8, 4, 1]
    assert cbcore.logit_adjustment(n, 0.0).tolist() == [0, 0, 0]
    assert cbcore.logit_adjustment(n, tau=0.0).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(cbcore.logit_adjustment(n), cbcore.logit_adjustment(n, 1.0))
    np.testing.assert_array_equal(cbcore.logit_adjustment(n), cbcore.logit_adjustment(n, num_prototypes=math.inf))
    np.testing.assert_allclose(cbcore.logit_adjustment(n), np.log([1, 1 / 2, 1 / 8]), rtol=1e-15)
    assert cbcore.class_weights(n, power=0).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(cbcore.class_weights(n, power=1), cbcore.class_weights(n))
    np.testing.assert_allclose(cbcore.class_weights([4, 1], 1.0, power=0.5, normalize=None), [0.5, 1])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_empty_classes(power: float) -> None:
    weights = cbcore.class_weights([8, 0, 2], 1.0, power=power, empty="zero")
    assert weights[1] == 0
    np.testing.assert_allclose(weights[[0, 2]], cbcore.class_weights([8, 2], 1.0, power=power))
    shift = cbcore.logit_adjustment([8, 0, 2], empty="zero")
    assert shift[1] == -math.inf
    np.testing.assert_array_equal(shift[[0, 2]], cbcore.logit_adjustment([8, 2]))
    shift = cbcore.logit_adjustment([8, 0, 2], empty="one", tau=0.5)
    np.testing.assert_array_equal(shift, cbcore.logit_adjustment([8, 1, 2], tau=0.5))
    assert cbcore.logit_adjustment([8, 0], empty="zero", tau=0).tolist() == [0, -math.inf]
    with pytest.raises(ValueError, match="class_counts must be at least 1 for every class"):
        cbcore.logit_adjustment([8, 0, 2])


@given(counts, betas)
def test_weights_are_the_exponential_of_the_shift(n: np.ndarray, beta: float) -> None:
    """w / w_max = exp(-(a - a_min)): so the weighted and the shifted loss have one optimum (see the docs)."""
    weights, shift = cbcore.class_weights(n, beta), cbcore.logit_adjustment(n, beta)
    np.testing.assert_allclose(weights / weights.max(), np.exp(shift.min() - shift), rtol=1e-13)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), betas)
def test_the_weighted_and_the_shifted_loss_have_one_population_optimum(size: int, seed: int, beta: float) -> None:
    """For posteriors p: softmax of z = log p - a, and of z = log(p w), are the same distribution."""
    r = np.random.default_rng(seed)
    n, p = r.integers(1, 10**6, size), r.dirichlet(np.ones(size)) + 1e-12
    by_weight = p * cbcore.class_weights(n, beta)
    by_shift = p * np.exp(-cbcore.logit_adjustment(n, beta))
    np.testing.assert_allclose(by_weight / by_weight.sum(), by_shift / by_shift.sum(), rtol=1e-12)


@given(st.integers(1, 10**6), st.integers(2, 10**6))
def test_the_effective_number_is_at_least_the_vendi_number(n: int, prototypes: int) -> None:
    """nN / (N + n - 1), of order 2, for samples that are alike with probability 1 / N; equal at n = 1."""
    vendi = n * prototypes / (prototypes + n - 1)
    (number,) = cbcore.effective_number([n], num_prototypes=prototypes)
    assert vendi <= number * (1 + 1e-15)
    assert n > 1 or vendi == number == 1


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (cbcore.class_weights, {"power": 1.5}, r"power must be in \[0, 1\], got 1\.5"),
        (cbcore.class_weights, {"power": -0.1}, r"power must be .* got -0\.1"),
        (cbcore.class_weights, {"power": "1"}, r"power must be .* got '1'"),
        (cbcore.logit_adjustment, {"tau": -1}, r"tau must be .* got -1"),
        (cbcore.logit_adjustment, {"tau": math.inf}, r"tau must be .* got inf"),
        (cbcore.logit_adjustment, {"tau": math.nan}, r"tau must be .* got nan"),
        (cbcore.logit_adjustment, {"beta": 0.9, "num_prototypes": 10}, "exactly one of beta and num_prototypes"),
    ],
)
def test_errors(function: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        function([3, 2], **options)
