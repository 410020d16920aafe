"""NumPy: the value only, which is what the core computes there, beside SciPy's functions and the plain formulas."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import cbcore
from benchmarks.problem import Array, Candidate, Data, MissingError, Outcome, Problem, data, optional

PATHS = ("value",)
DEFAULT_PATHS = PATHS


def candidates(problem: Problem, paths: tuple[str, ...], device: str = "cpu") -> tuple[list[Candidate], list[str]]:
    """Return ours, then the peers, and why others were left out."""
    if problem.dtype != "float32" or device != "cpu":
        return [], [f"{problem} left out: NumPy has no bfloat16 of its own"]
    batch = data(problem)
    batch = batch._replace(weights=batch.weights.astype(np.float32))
    found = [Candidate("ours", "cbcore", path, _ours(problem, batch), _read) for path in paths]
    try:
        found += [Candidate("peer", n, "", step, _read) for n, step in _peers(problem, batch).items()]
    except MissingError as reason:
        return found, [str(reason)]
    return found, []


def _read(output: Any) -> Outcome:
    return Outcome(float(output), None)


def _ours(problem: Problem, batch: Data) -> Callable[[], Any]:
    arguments = (batch.logits, batch.labels, batch.weights)
    if problem.family == "focal":
        return partial(cbcore.sigmoid_focal_loss, *arguments, gamma=problem.gamma)
    losses = {"softmax": cbcore.softmax_cross_entropy, "sigmoid": cbcore.sigmoid_cross_entropy}
    return partial(losses[problem.family], *arguments)


def _peers(problem: Problem, batch: Data) -> dict[str, Callable[[], Any]]:
    special = optional("scipy.special")
    z, y, weights = batch.logits, batch.labels, batch.weights
    rows = np.arange(len(z))

    def softmax() -> Any:
        return -np.mean(special.log_softmax(z, 1)[rows, y] * weights[y])

    def flipped() -> Array:
        v = z.copy()
        v[rows, y] *= -1
        return v

    def logaddexp() -> Any:
        return np.mean(np.logaddexp(0, flipped()).sum(1) * weights[y])

    def log_expit() -> Any:
        return -np.mean(special.log_expit(-flipped()).sum(1) * weights[y])

    def focal() -> Any:
        v = flipped()
        return np.mean((special.expit(v) ** np.float32(problem.gamma) * np.logaddexp(0, v)).sum(1) * weights[y])

    return {
        "softmax": {"scipy log_softmax": softmax},
        "sigmoid": {"np.logaddexp": logaddexp, "scipy log_expit": log_expit},
        "focal": {"scipy expit**gamma * np.logaddexp": focal},
    }[problem.family]
