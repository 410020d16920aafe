"""The conformance table: losses x cases x dtypes x modes, each checked in value and gradient against the reference.

A framework takes part with an `Adapter`; what it must meet stands here alone (design targets: float64 1e-12, float32
4e-6 relative per sample, an absolute floor for softmax; half precision is computed in float32).
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from tests.support import reference
from tests.support.losses import FAMILIES, LOSSES

DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# Of the value of each sample, and of the sum of the absolute terms of each gradient.
RELATIVE = {"float64": 1e-12, "float32": 4e-6}
# A softmax loss near zero is exact only in absolute terms: epsilons of the dtype, times the weight of the sample.
SOFTMAX_FLOOR = 16

TRACED = ("softmax", "sigmoid", "focal-0.5", "focal-2", "float32", "bfloat16")


@dataclass(frozen=True)
class Call:
    """One call of a loss, as the core's public functions take it (`valid` is `where`)."""

    loss: str
    logits: np.ndarray
    targets: np.ndarray
    class_weights: np.ndarray | None = None
    gamma: float = 0.0
    axis: int = -1
    valid: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    reduction: str = "mean"
    label_smoothing: float = 0.0
    unlabelled_weight: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return what is not an array and has one name in all packages, as keyword arguments."""
        own = {name: getattr(self, name) for name in FAMILIES[self.loss].options}
        given = {} if self.unlabelled_weight is None else {"unlabelled_weight": self.unlabelled_weight}
        return {"reduction": self.reduction, "label_smoothing": self.label_smoothing, **own, **given}


class Adapter(Protocol):
    """A framework under test."""

    name: str
    dtypes: Sequence[str]
    modes: Sequence[str]

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the value, and its gradient with respect to the logits if the framework has one, in own dtypes."""


@runtime_checkable
class Forced(Adapter, Protocol):
    """An adapter that forces one of several paths, and knows which one was taken."""

    path: str
    taken: str

    def refuses(self, call: Call) -> bool:
        """Tell whether the path leaves a call to another."""


@dataclass(frozen=True)
class Case:
    """Inputs in float64, before they are rounded to a dtype."""

    logits: np.ndarray
    targets: np.ndarray
    class_weights: np.ndarray | None = None
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    loss: str
    case: str
    dtype: str
    mode: str

    def __str__(self) -> str:
        return f"{self.loss}-{self.case}-{self.dtype}-{self.mode}"


def _weights(classes: int) -> np.ndarray:
    return np.geomspace(0.05, 3.0, classes)


@functools.cache
def cases() -> dict[str, Case]:
    """Return every case by name."""
    r = np.random.default_rng(20190116)
    z = r.normal(size=(6, 5)) * 3
    y = np.array([0, 4, 2, 2, 1, 3])
    soft = r.dirichlet(np.ones(5), size=6)
    multi_hot = (r.random((6, 5)) < 0.4).astype(np.float64)
    multi_hot[2] = 0  # a row without a label
    wide = r.choice([-1, 1], (8, 7)) * 10.0 ** r.uniform(-3, 4, (8, 7))
    wide[0], wide[1] = 1e4, [1e4, -1e4, 1e4, -1e4, 1e4, -1e4, 0]
    easy = -r.uniform(2, 30, (8, 6))
    easy[np.arange(8), np.arange(8) % 6] *= -1
    # One class alone, where no sum hides its rounding; at gamma = 5 the loss nears the smallest float32 at 14.5.
    scan = np.concatenate([np.linspace(0, 29, 60), np.linspace(12.5, 14.5, 180)])[:, None]
    ignored = np.array([True, False, True, False, True, True])
    broken = z.copy()
    broken[1], broken[3] = np.nan, [np.inf, -np.inf, np.nan, 0, 1]
    outside = np.where(ignored, y, -1)
    dense, dense_y = r.normal(size=(2, 4, 3, 2)) * 4, r.integers(0, 4, (2, 3, 2))
    w = _weights(5)
    sample_weight = np.array([0.5, 2, 0, 1, 3, 0.25])
    ruled_out = z.copy()
    ruled_out[[0, 1, 3], [1, 0, 4]] = -np.inf  # classes that are not the target's
    one_hot = np.eye(5)[y]
    partly = np.where(np.isinf(ruled_out), 0, soft)
    return {
        "index": Case(z, y, w),
        "unweighted": Case(z, y),
        "none": Case(z, y, w, (("reduction", "none"),)),
        "sum": Case(z, y, w, (("reduction", "sum"),)),
        "weighted-mean": Case(z, y, w, (("reduction", "weighted_mean"),)),
        "to-1e4": Case(wide, np.arange(8) % 7, _weights(7), (("reduction", "none"),)),
        "well-classified": Case(easy, np.arange(8) % 6, _weights(6), (("reduction", "none"),)),
        "scan": Case(scan, np.zeros(240, int), None, (("reduction", "none"),)),
        "soft": Case(z, soft, w),
        "soft-to-1e4": Case(wide, r.dirichlet(np.ones(7), size=8), _weights(7), (("reduction", "none"),)),
        "multi-hot": Case(z, multi_hot, w, (("reduction", "none"),)),
        "soft-weighted-mean": Case(z, multi_hot, w, (("reduction", "weighted_mean"),)),
        "smoothing": Case(z, y, w, (("label_smoothing", 0.1),)),
        "soft-smoothing": Case(z, soft, w, (("label_smoothing", 0.3),)),
        "dense": Case(dense, dense_y, _weights(4), (("axis", 1),)),
        "dense-soft": Case(dense, np.moveaxis(r.dirichlet(np.ones(4), (2, 3, 2)), -1, 1), _weights(4), (("axis", 1),)),
        "class-axis-first": Case(z.T.copy(), y, w, (("axis", 0),)),
        "ignored": Case(broken, outside, w, (("valid", ignored),)),
        "ignored-none": Case(broken, outside, w, (("valid", ignored), ("reduction", "none"))),
        "ignored-weighted-mean": Case(broken, outside, w, (("valid", ignored), ("reduction", "weighted_mean"))),
        "all-ignored": Case(z * np.nan, y * 0 - 1, w, (("valid", np.zeros(6, bool)),)),
        "empty-batch": Case(z[:0], y[:0], w),
        "sample-weight": Case(z, y, w, (("sample_weight", sample_weight),)),
        "sample-weight-soft": Case(
            z, soft, None, (("sample_weight", sample_weight), ("reduction", "weighted_mean"))
        ),
        "one-sample": Case(z[0], np.array(3), w, (("axis", 0),)),
        "unlabelled": Case(z, multi_hot, w, (("reduction", "none"), ("unlabelled_weight", 0.25))),
        "ruled-out": Case(ruled_out, y, w, (("reduction", "none"),)),
        "ruled-out-one-hot": Case(ruled_out, one_hot, w, (("reduction", "none"),)),
        "ruled-out-soft": Case(ruled_out, partly, w),
        "one-class": Case(z[:, :1], y * 0, w[:1]),
    }  # fmt: skip


def call(cell: Cell) -> Call:
    """Return the call of a cell, every input rounded to its dtype (weights of half-precision logits to float32)."""
    dtype, case = DTYPES[cell.dtype], cases()[cell.case]
    weight_dtype = np.float64 if dtype == np.float64 else np.float32
    loss, own = LOSSES[cell.loss]
    options = {k: v.astype(weight_dtype) if k == "sample_weight" else v for k, v in case.options}
    return Call(
        loss=loss,
        logits=case.logits.astype(dtype),
        targets=case.targets if case.targets.dtype.kind == "i" else case.targets.astype(dtype),
        class_weights=None if case.class_weights is None else case.class_weights.astype(weight_dtype),
        **own,
        **options,
    )


def cells(adapter: Adapter, *, without: Sequence[str] = ()) -> list[Cell]:
    """Return the part of the table that an adapter runs; `without` names options its signature lacks."""
    # Tracing is slow, and dtype and gamma only change constants of what is traced: four losses, two dtypes.
    names = [name for name, case in cases().items() if not any(key in without for key, _ in case.options)]
    table = itertools.starmap(Cell, itertools.product(LOSSES, names, adapter.dtypes, adapter.modes))
    return [
        cell
        for cell in table
        if cell.mode not in ("compiled", "watched") or (cell.loss in TRACED and cell.dtype in TRACED)
    ]


@functools.cache
def _expected(cell: Cell) -> reference.Reference:
    return reference.loss(**vars(call(cell)))


def expected(cell: Cell) -> reference.Reference:
    """Return the reference for a cell; it does not depend on the mode."""
    return _expected(replace(cell, mode=""))


def taken_cells(adapter: Forced, **options: Any) -> list[Cell]:
    """Return the part of the table that a forced path does not refuse; the rest is the composite's, run as that."""
    return [cell for cell in cells(adapter, **options) if not adapter.refuses(call(cell))]


def refused_cells(adapter: Forced, **options: Any) -> list[Cell]:
    """Return what a path refuses, for two losses and a dtype: who refuses looks at no more."""
    table = cells(adapter, **options)
    few = [cell for cell in table if cell.loss in ("softmax", "focal-0.3") and cell.dtype == adapter.dtypes[0]]
    return [cell for cell in few if adapter.refuses(call(cell))]


def assert_taken(adapter: Adapter, asked: Call) -> None:
    """Assert that a forced path computed the call, or refuses such calls and did not."""
    if not isinstance(adapter, Forced):
        return  # a framework with one path
    if adapter.refuses(asked):
        assert adapter.taken != adapter.path, f"{adapter.name} took a call that it is said to refuse"
    else:
        assert adapter.taken == adapter.path, f"{adapter.name} was asked for, and {adapter.taken} computed"


def check(adapter: Adapter, cell: Cell) -> None:
    """Assert that an adapter meets the accuracy targets in one cell."""
    asked, truth = call(cell), expected(cell)
    value, gradient = adapter(asked, cell.mode)
    if cell.mode != "compiled":
        assert_taken(adapter, asked)
    computed: Any = np.dtype(np.float64 if cell.dtype == "float64" else np.float32)
    assert value.dtype == computed, f"loss dtype {value.dtype}, expected {computed}"
    assert value.shape == truth.value.shape
    eps = float(np.finfo(computed).eps)
    relative = RELATIVE[computed.name]
    floor = SOFTMAX_FLOOR * eps * truth.unit if FAMILIES[asked.loss].is_softmax else 0.0
    tiny = float(np.finfo(computed).tiny)  # a term below it may be flushed to zero
    flushed = tiny * (asked.logits.shape[asked.axis] - 1 + (np.abs(truth.value) < tiny))
    within("value", value, truth.value, relative * np.abs(truth.value) + floor + flushed)
    if gradient is None:
        return
    assert gradient.dtype == asked.logits.dtype, f"gradient dtype {gradient.dtype}, expected {asked.logits.dtype}"
    own: Any = ml_dtypes.finfo(asked.logits.dtype)
    relative += float(own.eps) / 2 if own.bits < 32 else 0.0
    along = np.expand_dims(truth.unit, asked.axis) if asked.reduction == "none" else truth.unit
    floor = SOFTMAX_FLOOR * eps * np.abs(along) if FAMILIES[asked.loss].is_softmax else 0.0
    tiny += float(own.smallest_normal)
    within("gradient", gradient, truth.gradient, relative * truth.gradient_terms + floor + tiny)


def within(what: str, got: np.ndarray, expected: np.ndarray, tolerance: np.ndarray | float) -> None:
    """Assert |got - expected| <= tolerance elementwise, and say where it fails worst."""
    got = np.asarray(got, np.float64)
    tolerance = np.broadcast_to(tolerance, expected.shape)
    error = np.abs(got - expected)
    bad = ~(error <= tolerance)
    if bad.any():
        ratio = np.where(np.isfinite(error), error / np.maximum(tolerance, 5e-324), np.inf)
        worst = np.unravel_index(np.argmax(ratio), ratio.shape) if ratio.ndim else ()
        raise AssertionError(
            f"{what}{list(worst)}: got {got[worst]!r}, expected {expected[worst]!r}, "
            f"off by {ratio[worst]:.3g} times the tolerance ({bad.sum()} of {bad.size} elements fail)"
        )
