"""What is computed, and by whom: problems and candidates, without any framework."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

import cbcore

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Kind: TypeAlias = Literal["ours", "peer", "copy"]

LOSSES = ("softmax", "sigmoid", "focal-0.5", "focal-1", "focal-2")
SHAPES = ((128, 10), (1024, 1000), (1024, 8142), (256, 100_000))
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}  # bytes
TARGETS = ("index", "soft", "smoothed")
# What most people train with, measured in every loss and shape; and the rest, in these.
USUAL = (("float32", "index"), ("bfloat16", "index"))
RARE_LOSSES = ("softmax", "sigmoid", "focal-2")
RARE_SHAPES = ((1024, 8142),)
SMOOTHING = 0.1
BETA = 0.999


@dataclass(frozen=True)
class Problem:
    """One loss of one batch of logits (rows, classes)."""

    loss: str
    rows: int
    classes: int
    dtype: str = "float32"
    targets: str = "index"  # or "soft", mixtures of two classes, or "smoothed", labels smoothed by `SMOOTHING`

    @property
    def gamma(self) -> float:
        """Return the focusing parameter, 0 for the other losses."""
        return float(self.loss.removeprefix("focal-")) if self.family == "focal" else 0.0

    @property
    def family(self) -> str:
        """Return "softmax", "sigmoid" or "focal"."""
        return self.loss.split("-")[0]

    @property
    def size(self) -> int:
        """Return the number of logits."""
        return self.rows * self.classes

    @property
    def bytes(self) -> int:
        """Return the bytes of the logits."""
        return self.size * DTYPES[self.dtype]

    def __str__(self) -> str:
        text = f"{self.loss} {self.rows}x{self.classes} {self.dtype}"
        return text if self.targets == "index" else f"{text} {self.targets}"


class Data(NamedTuple):
    """A long-tailed batch."""

    logits: Array  # float32 (rows, classes)
    labels: Array  # int64 (rows,)
    counts: Array  # int64 (classes,)
    weights: Array  # float64 (classes,)
    shares: Array  # float32 (rows,): of its own label in a soft target; the rest is for that of the row before


def data(problem: Problem) -> Data:
    """Make the batch: the same for every framework, with class counts from 1000 down to 10."""
    random = np.random.default_rng(0)
    counts = cbcore.long_tailed_counts(1000, problem.classes, 100)
    # float32 from the start: a passing float64 array would hide the memory that is measured later.
    logits = random.standard_normal((problem.rows, problem.classes), dtype=np.float32)
    logits *= 2
    labels = random.choice(problem.classes, problem.rows, p=counts / counts.sum())
    shares = random.random(problem.rows, dtype=np.float32)  # mixup's Beta(1, 1)
    return Data(logits, labels, counts, cbcore.class_weights(counts, BETA), shares)


class Outcome(NamedTuple):
    """What a step computed, on the host."""

    loss: float
    gradient: Array | None  # in float32; None where only the value is computed


def deviation(outcome: Outcome, reference: Outcome) -> float:
    """Return the larger of the relative errors of the loss and of the gradient as a whole."""
    errors = [abs(outcome.loss - reference.loss) / abs(reference.loss)]
    if outcome.gradient is not None and reference.gradient is not None:
        difference = np.linalg.norm(outcome.gradient - reference.gradient)
        errors.append(float(difference / np.linalg.norm(reference.gradient)))
    return float(max(errors)) if np.isfinite(errors).all() else np.inf


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Candidate:
    """One way to compute a problem.

    `mode` is the path or the kind of compilation: ours are compared with peers of the same mode, and with those of
    none. `during` surrounds many steps, `finish` waits for the device; both stay outside the single step, because a
    step may last 30 microseconds.
    """

    kind: Kind
    name: str
    mode: str
    step: Callable[[], Any]
    read: Callable[[Any], Outcome]
    during: Callable[[], AbstractContextManager[Any]] = nullcontext
    finish: Callable[[], None] = _nothing
    is_same: bool = True  # False: another loss than ours, of which only the time is compared; the name says so

    @property
    def key(self) -> str:
        """Return what tells it from the other candidates of a problem."""
        return f"{self.name}, {self.mode}" if self.mode else self.name


class MissingError(Exception):
    """A peer, path or framework that is not installed; the text says which."""


def optional(module: str) -> Any:
    """Import a peer, or say that it is not there."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingError(f"{module} left out: {error.name} is not installed") from error
