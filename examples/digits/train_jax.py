"""The demonstration's network in JAX; see `examples.digits.train_torch`, which trains the same numbers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import cbcore_jax
from examples.digits.data import Floats, Params, Problem, initial_params, step_weights
from examples.digits.recipe import Loss, Recipe, Weighting


def train(problem: Problem, loss: Loss, weighting: Weighting, recipe: Recipe) -> tuple[Floats, list[float]]:
    """Train one network; return the logits of the test images and the loss of every step before its update."""
    batches = problem.batches.reshape(-1, recipe.batch_size)
    steps = {
        "images": problem.train_images[batches],
        "labels": problem.train_labels[batches],
        "class_weights": step_weights(problem, weighting, recipe),
        "learning_rate": np.repeat(recipe.learning_rates, len(batches) // recipe.epochs),
    }
    params, losses = _fit(initial_params(problem.seed, loss), steps, loss, recipe)
    return np.asarray(_logits(params, problem.test_images)), losses.tolist()


@functools.partial(jax.jit, static_argnums=(2, 3))
def _fit(params: Params, steps: dict[str, Array], loss: Loss, recipe: Recipe) -> tuple[Params, Array]:
    """Take all steps in one compiled loop."""

    def batch_loss(params: Params, batch: dict[str, Array]) -> Array:
        logits = _logits(params, batch["images"])
        value: Array = _criterion(loss, recipe)(logits, batch["labels"], batch["class_weights"])
        return value

    def step(state: tuple[Params, Params], batch: dict[str, Array]) -> tuple[tuple[Params, Params], Array]:
        params, velocity = state
        value, gradient = jax.value_and_grad(batch_loss)(params, batch)
        decay = {name: 0.0 if name == "head_bias" else recipe.weight_decay for name in params}
        velocity = {n: recipe.momentum * velocity[n] + gradient[n] + decay[n] * params[n] for n in params}
        return ({n: params[n] - batch["learning_rate"] * velocity[n] for n in params}, velocity), value

    state = (params, jax.tree.map(jnp.zeros_like, params))
    (params, _), losses = jax.lax.scan(step, state, steps)
    return params, losses


def _criterion(loss: Loss, recipe: Recipe) -> Any:
    if loss == "focal":
        return functools.partial(cbcore_jax.sigmoid_focal_loss, gamma=recipe.gamma)
    return {"softmax": cbcore_jax.softmax_cross_entropy, "sigmoid": cbcore_jax.sigmoid_cross_entropy}[loss]


def _logits(params: Any, images: Any) -> Any:
    hidden = jax.nn.relu(images @ params["hidden_weight"] + params["hidden_bias"])
    return hidden @ params["head_weight"] + params["head_bias"]
