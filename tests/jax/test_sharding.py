"""Logits sharded over samples, over classes or over both: shards exchange one number a sample, never logits."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import cbcore
from tests.support.jax_adapter import LOSSES

SAMPLES, CLASSES = 64, 80
random = np.random.default_rng(3)
LOGITS = random.normal(size=(SAMPLES, CLASSES)).astype(np.float32)
INDEX = random.integers(0, CLASSES, SAMPLES).astype(np.int32)
SOFT = random.random((SAMPLES, CLASSES)).astype(np.float32)
WEIGHTS = cbcore.class_weights(random.integers(1, 1000, CLASSES)).astype(np.float32)
WHERE = random.random(SAMPLES) < 0.7
BOTH = ("data", "model")
# of the samples and of the classes
SHARDINGS = {"samples": (BOTH, None), "classes": (None, BOTH), "both": ("data", "model")}

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_sharding = pytest.mark.parametrize("sharding", SHARDINGS.values(), ids=SHARDINGS)


def mesh(kind: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
    return jax.make_mesh((2, 4), BOTH, axis_types=(kind, kind))


def shard(
    sharding: Any, targets: np.ndarray, *, sharded_weights: bool = False, kind: AxisType = AxisType.Auto
) -> list[jax.Array]:
    samples, classes = sharding
    specs = [P(samples, classes), P(samples, classes) if targets.ndim == 2 else P(samples)]
    specs += [P(classes if sharded_weights else None), P(samples)]
    arrays = (LOGITS, targets, WEIGHTS, WHERE)
    return [jax.device_put(x, NamedSharding(mesh(kind), s)) for x, s in zip(arrays, specs, strict=True)]


def exchanged(step: Any, arrays: list[jax.Array]) -> dict[str, int]:
    """Return the collective operations of a compiled step, and how many numbers the largest of each moves."""
    text = jax.jit(step).lower(*arrays).compile().as_text()
    found: dict[str, int] = {}
    for shapes, name in re.findall(r"= (.*?) (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", text):
        sizes = [np.prod([int(n) for n in shape.split(",") if n]) for shape in re.findall(r"\[([\d,]*)\]", shapes)]
        found[name] = max(found.get(name, 0), int(sum(sizes)))
    return found


@each_loss
@each_sharding
@pytest.mark.parametrize(
    ("targets", "sharded_weights"), [(INDEX, False), (INDEX, True), (SOFT, True)], ids=["index", "weights-too", "soft"]
)
def test_nothing_is_gathered(loss: Any, sharding: Any, targets: Any, sharded_weights: bool) -> None:
    step = jax.value_and_grad(lambda z, y, w, where: loss(z, y, w, where=where))
    moved = exchanged(step, shard(sharding, targets, sharded_weights=sharded_weights))
    assert set(moved) <= {"all-reduce"}
    assert moved.get("all-reduce", 0) <= 4 * SAMPLES


@each_sharding
def test_a_gather_row_by_row_fails_that_test(sharding: Any) -> None:
    def step(z: Any, y: Any, w: Any, where: Any) -> Any:
        rows = lax.map(lambda row: -row[2] * jax.nn.log_softmax(row[0])[row[1]], (z, y, w[y]))
        return jnp.sum(rows, where=where)

    assert "all-gather" in exchanged(jax.value_and_grad(step), shard(sharding, INDEX))


@each_loss
@each_sharding
@pytest.mark.parametrize(
    ("kind", "targets"),
    [(AxisType.Auto, INDEX), (AxisType.Explicit, INDEX), (AxisType.Explicit, SOFT)],
    ids=["auto", "explicit", "explicit-soft"],
)
def test_shards_give_the_same_numbers(loss: Any, sharding: Any, kind: AxisType, targets: Any) -> None:
    """Also where axes are explicit, parts of the arrays' types."""
    step = jax.jit(jax.value_and_grad(lambda z, y, w, where: loss(z, y, w, where=where)))
    arrays = shard(sharding, targets, sharded_weights=targets is INDEX, kind=kind)
    value, gradient = step(*arrays)
    expected = step(LOGITS, targets, WEIGHTS, WHERE)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-7)
    assert gradient.sharding.is_equivalent_to(arrays[0].sharding, 2)


@each_loss
def test_shard_map(loss: Any) -> None:
    """The mean over equal shards of the mean of each is the mean of the batch."""

    def step(z: jax.Array, y: jax.Array, w: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(loss)(z, y, w)
        return lax.pmean(value, BOTH), gradient / 8

    specs = {"in_specs": (P(BOTH), P(BOTH), P()), "out_specs": (P(), P(BOTH))}
    value, gradient = jax.jit(jax.shard_map(step, mesh=mesh(), **specs))(LOGITS, INDEX, WEIGHTS)
    expected = jax.jit(jax.value_and_grad(loss))(LOGITS, INDEX, WEIGHTS)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-7)
