"""The demonstration's network in TensorFlow; see `examples.digits.train_torch`, which trains the same numbers."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

import cbcore_tf
from examples.digits.data import Floats, Problem, initial_params, step_weights
from examples.digits.recipe import Loss, Recipe, Weighting

NAMES = ("hidden_weight", "hidden_bias", "head_weight", "head_bias")


def train(problem: Problem, loss: Loss, weighting: Weighting, recipe: Recipe) -> tuple[Floats, list[float]]:
    """Train one network; return the logits of the test images and the loss of every step before its update."""
    batches = problem.batches.reshape(-1, recipe.batch_size)
    initial = initial_params(problem.seed, loss)
    params, losses = _fit(loss, recipe)(
        tuple(tf.constant(initial[name]) for name in NAMES),
        tf.constant(problem.train_images[batches]),
        tf.constant(problem.train_labels[batches]),
        tf.constant(step_weights(problem, weighting, recipe)),
        tf.constant(np.repeat(recipe.learning_rates, len(batches) // recipe.epochs)),
    )
    logits: Floats = _logits(params, problem.test_images).numpy()
    return logits, losses.numpy().tolist()


@functools.cache
def _fit(loss: Loss, recipe: Recipe) -> Any:
    """Return a graph that takes all steps."""
    decay = [0.0 if name == "head_bias" else recipe.weight_decay for name in NAMES]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def fit(params: Any, images: Any, labels: Any, class_weights: Any, rates: Any) -> Any:
        velocity = tuple(tf.zeros_like(p) for p in params)
        losses = tf.TensorArray(tf.float32, size=len(rates))
        for i in tf.range(len(rates)):
            with tf.GradientTape() as tape:
                tape.watch(params)
                value = _criterion(loss, recipe)(labels[i], _logits(params, images[i]), class_weights[i])
            gradients = tape.gradient(value, params)
            velocity = tuple(
                recipe.momentum * v + g + d * p for v, g, d, p in zip(velocity, gradients, decay, params, strict=True)
            )
            params = tuple(p - rates[i] * v for p, v in zip(params, velocity, strict=True))
            losses = losses.write(i, value)
        return params, losses.stack()

    return fit


def _criterion(loss: Loss, recipe: Recipe) -> Any:
    if loss == "focal":
        return functools.partial(cbcore_tf.sigmoid_focal_loss, gamma=recipe.gamma)
    return {"softmax": cbcore_tf.softmax_cross_entropy, "sigmoid": cbcore_tf.sigmoid_cross_entropy}[loss]


def _logits(params: Any, images: Any) -> Any:
    hidden_weight, hidden_bias, head_weight, head_bias = params
    hidden = tf.nn.relu(tf.matmul(images, hidden_weight) + hidden_bias)
    return tf.matmul(hidden, head_weight) + head_bias
