"""JAX: our functions and optax, both jitted, value and gradient in one call."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import cbcore_jax
from benchmarks.problem import Candidate, Outcome, Problem, data, optional

PATHS = ("jit",)
DEFAULT_PATHS = PATHS


def candidates(problem: Problem, paths: tuple[str, ...], device: str = "cpu") -> tuple[list[Candidate], list[str]]:
    """Return ours, then optax, and why others were left out."""
    jax.config.update("jax_platforms", device)  # type: ignore[no-untyped-call]
    batch = data(problem)
    arrays = (
        jnp.asarray(batch.logits, problem.dtype),
        jnp.asarray(batch.labels, jnp.int32),
        jnp.asarray(batch.weights, jnp.float32),
    )
    peer, name = _optax(problem)
    found = [Candidate("ours", "cbcore", path, _step(_ours(problem), arrays), _read) for path in paths]
    return [*found, Candidate("peer", name, "", _step(peer, arrays), _read)], []


def _step(loss: Callable[..., Any], arrays: tuple[Array, ...]) -> Callable[[], Any]:
    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(compiled(*arrays))  # type: ignore[no-untyped-call]


def _read(output: tuple[Array, Array]) -> Outcome:
    return Outcome(float(output[0]), np.asarray(output[1].astype(jnp.float32)))


def _ours(problem: Problem) -> Callable[..., Array]:
    if problem.family == "focal":
        return partial(cbcore_jax.sigmoid_focal_loss, gamma=problem.gamma)
    losses = {"softmax": cbcore_jax.softmax_cross_entropy, "sigmoid": cbcore_jax.sigmoid_cross_entropy}
    return losses[problem.family]


def _optax(problem: Problem) -> tuple[Callable[..., Any], str]:
    optax = optional("optax")

    def softmax(z: Array, y: Array, weights: Array) -> Any:
        return (optax.softmax_cross_entropy_with_integer_labels(z, y) * weights[y]).mean()

    def one_vs_all(z: Array, y: Array, weights: Array) -> Any:
        labels = jax.nn.one_hot(y, z.shape[1], dtype=z.dtype)
        if problem.gamma:
            terms = optax.sigmoid_focal_loss(z, labels, gamma=problem.gamma)
        else:
            terms = optax.sigmoid_binary_cross_entropy(z, labels)
        return (terms.sum(1) * weights[y]).mean()

    names = {
        "softmax": "optax.softmax_cross_entropy_with_integer_labels",
        "sigmoid": "optax.sigmoid_binary_cross_entropy",
        "focal": "optax.sigmoid_focal_loss",
    }
    return softmax if problem.family == "softmax" else one_vs_all, names[problem.family]
