"""The verbs of the kinds: classes in blocks give what all of them together give."""

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from cbcore import _kinds as kinds
from cbcore import _ops as ops
from cbcore._kinds import InBlocks, OneVsAll, Softmax, Stats
from tests.support import reference

KINDS = {"softmax": Softmax(), **{f"gamma-{gamma:g}": OneVsAll(gamma) for gamma in (0.0, 0.3, 0.5, 1.0, 2.0, 5.0)}}
BLOCKS = (1, 2, 7, 11)  # of 11 classes: one each, with a rest of one and of four, and all
RELATIVE = {np.float64: 1e-12, np.float32: 4e-6}  # as in tests/support/spec.py

R = np.random.default_rng(5)
Z = R.normal(size=(9, 11)) * 3
Y = np.arange(9)
SOFT = R.dirichlet(np.ones(11), 9)
RULED_OUT = np.where(np.eye(11, dtype=bool)[(Y + 1) % 11] | np.eye(11, dtype=bool)[(Y + 2) % 11], -np.inf, Z)
INPUTS = {
    "index": (Z, Y),
    "soft": (Z, SOFT),
    "multi-hot": (Z, (R.random((9, 11)) < 0.3).astype(float)),
    "offset": (Z + 1e4, Y),
    "offset-soft": (Z - 1e4, SOFT),
    "wide": (R.choice([-1, 1], (9, 11)) * 10.0 ** R.uniform(-3, 4, (9, 11)), Y),
    "wide-soft": (R.choice([-1, 1], (9, 11)) * 10.0 ** R.uniform(-3, 4, (9, 11)), SOFT),
    "ruled-out": (RULED_OUT, Y),  # whole blocks of one class and of two
    "ruled-out-below": (RULED_OUT - 1e4, Y),
    "ruled-out-soft": (RULED_OUT, np.where(np.isinf(RULED_OUT), 0, SOFT)),
}

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_input = pytest.mark.parametrize(("z", "t"), INPUTS.values(), ids=INPUTS)
each_size = pytest.mark.parametrize("size", BLOCKS)
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def blocks(z: np.ndarray, t: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the logits and targets of each block of classes."""
    lows = range(0, z.shape[1], size)
    return [(z[:, low : low + size], t - low if t.ndim == 1 else t[:, low : low + size]) for low in lows]


def rounded(z: np.ndarray, t: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    return z.astype(dtype), t if t.ndim == 1 else t.astype(dtype)


def truth(kind: InBlocks, z: np.ndarray, t: np.ndarray) -> reference.Reference:
    return reference.loss(
        "focal" if isinstance(kind, OneVsAll) else "softmax", z, t, None, gamma=getattr(kind, "gamma", 0.0), axis=1,
        valid=None, sample_weight=None, reduction="none", label_smoothing=0.0,
    )  # fmt: skip


@each_kind
@each_input
@each_size
@each_dtype
def test_blocks_of_classes_give_the_loss_and_the_gradient_to_50_digits(
    kind: InBlocks, z: np.ndarray, t: np.ndarray, size: int, dtype: Any
) -> None:
    z, t = rounded(z, t, dtype)
    expected, parts = truth(kind, z, t), blocks(z, t, size)
    stats = functools.reduce(functools.partial(kind.merge, ops), (kind.partial(ops, *part, 1) for part in parts))
    slope = np.concatenate([kind.slope(ops, *part, stats, 1) for part in parts], 1)
    value = kind.finish(ops, stats)
    assert value.dtype == slope.dtype == dtype
    floor = 16 * np.finfo(dtype).eps if isinstance(kind, Softmax) else 0  # absolute, as in tests/support/spec.py
    tiny = 16 * np.finfo(dtype).tiny
    error = np.abs(value - expected.value)
    assert (error <= RELATIVE[dtype] * expected.value + floor + tiny).all()
    error = np.abs(slope - expected.gradient)
    assert (error <= RELATIVE[dtype] * expected.gradient_terms + floor + tiny).all()


@each_kind
@each_input
def test_merge_is_associative_and_commutes(kind: InBlocks, z: np.ndarray, t: np.ndarray) -> None:
    parts: list[Stats] = [kind.partial(ops, *part, 1) for part in blocks(z, t, 4)]
    assert len(parts) == 3
    results = []
    for a, b, c in itertools.permutations(parts):
        results += [kind.merge(ops, kind.merge(ops, a, b), c), kind.merge(ops, a, kind.merge(ops, b, c))]
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)


@each_input
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_formula_of_softmax_is_its_one_block(z: np.ndarray, t: np.ndarray, smoothing: float) -> None:
    """It stands twice; a class that is ruled out has an infinite loss once it is smoothed, in both."""
    with np.errstate(invalid="ignore"):
        value = kinds.in_one_block(Softmax(), ops, z, t, 1, smoothing)
        expected = Softmax().sample_loss(ops, z, t, 1, smoothing)
    assert np.isinf(value).all() == bool(smoothing and np.isinf(z).any())
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)


@each_kind
def test_the_class_axis_may_come_first(kind: InBlocks) -> None:
    for t in (Y, SOFT):
        stats, turned = kind.partial(ops, Z, t, 1), kind.partial(ops, Z.T, t.T, 0)
        for got, expected in zip(turned, stats, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)
        slope = kind.slope(ops, Z.T, t.T, turned, 0)
        np.testing.assert_allclose(slope.T, kind.slope(ops, Z, t, stats, 1), rtol=1e-12, atol=1e-15)


@each_kind
def test_nan_in_one_block_reaches_the_loss_and_the_whole_softmax(kind: InBlocks) -> None:
    z = Z.copy()
    z[3, 9] = np.nan
    parts = blocks(z, Y, 4)
    for order in (parts, parts[::-1]):
        stats = functools.reduce(functools.partial(kind.merge, ops), (kind.partial(ops, *part, 1) for part in order))
        np.testing.assert_array_equal(np.isnan(kind.finish(ops, stats)), np.arange(9) == 3)
        slope = np.concatenate([kind.slope(ops, *part, stats, 1) for part in parts], 1)
        np.testing.assert_array_equal(np.isnan(slope[3]), True if isinstance(kind, Softmax) else np.arange(11) == 9)
        assert np.isfinite(np.delete(slope, 3, 0)).all()
