"""Logits sharded over samples, over classes or over both: shards exchange one number a sample, never logits."""

import functools
import math
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
from tests.support.losses import functions

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

each_sharding = pytest.mark.parametrize("sharding", SHARDINGS.values(), ids=SHARDINGS)


def mesh(kind: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
    return jax.make_mesh((2, 4), BOTH, axis_types=(kind, kind))


def shard(sharding: Any, targets: np.ndarray, kind: AxisType, *, weights: bool) -> list[jax.Array]:
    """Return the arrays of a step on their devices; class weights sharded like the classes, or on every device."""
    samples, classes = sharding
    specs = [P(samples, classes), P(samples, classes) if targets.ndim == 2 else P(samples)]
    specs += [P(classes if weights else None), P(samples)]
    arrays = (LOGITS, targets, WEIGHTS, WHERE)
    return [jax.device_put(x, NamedSharding(mesh(kind), s)) for x, s in zip(arrays, specs, strict=True)]


def exchanged(compiled: Any) -> dict[str, int]:
    """Return the collective operations of a compiled step, and how many numbers the largest of each moves."""
    found: dict[str, int] = {}
    operation = r"= (.*?) (all-\w+|collective-\w+|reduce-scatter|ragged-all-to-all)(?:-start)?\("
    for shapes, name in re.findall(operation, compiled.as_text()):
        sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in re.findall(r"\[([\d,]*)\]", shapes)]
        found[name] = max(found.get(name, 0), sum(sizes))
    return found


@functools.cache
def on_one_device(name: str, soft: bool) -> tuple[jax.Array, jax.Array]:
    step = jax.jit(jax.value_and_grad(lambda z, y, w, where: LOSSES[name](z, y, w, where=where)))
    result: tuple[jax.Array, jax.Array] = step(LOGITS, SOFT if soft else INDEX, WEIGHTS, WHERE)
    return result


@pytest.mark.parametrize("name", LOSSES)
@each_sharding
@pytest.mark.parametrize(
    ("kind", "soft", "weights"),
    [
        (AxisType.Auto, False, False),
        (AxisType.Auto, True, True),
        (AxisType.Explicit, False, True),
        (AxisType.Explicit, True, False),
    ],
    ids=["index", "soft", "explicit-index", "explicit-soft"],
)
def test_shards_give_the_same_numbers_and_gather_nothing(
    name: str, sharding: Any, kind: AxisType, soft: bool, weights: bool
) -> None:
    """Also where axes are explicit, parts of the arrays' types."""
    arrays = shard(sharding, SOFT if soft else INDEX, kind, weights=weights)
    step = jax.jit(jax.value_and_grad(lambda z, y, w, where: LOSSES[name](z, y, w, where=where)))
    compiled = step.lower(*arrays).compile()
    moved = exchanged(compiled)
    assert set(moved) <= {"all-reduce"}
    assert moved.get("all-reduce", 0) <= 4 * SAMPLES
    value, gradient = compiled(*arrays)
    expected = on_one_device(name, soft)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-7)
    assert gradient.sharding.is_equivalent_to(arrays[0].sharding, 2)


@each_sharding
def test_a_gather_row_by_row_fails_that_test(sharding: Any) -> None:
    def step(z: Any, y: Any, w: Any, where: Any) -> Any:
        rows = lax.map(lambda row: -row[2] * jax.nn.log_softmax(row[0])[row[1]], (z, y, w[y]))
        return jnp.sum(rows, where=where)

    arrays = shard(sharding, INDEX, AxisType.Auto, weights=False)
    assert "all-gather" in exchanged(jax.jit(jax.value_and_grad(step)).lower(*arrays).compile())


@pytest.mark.parametrize("name", LOSSES)
def test_shard_map(name: str) -> None:
    """Sums and counts of shards add up to those of the batch."""

    def step(z: jax.Array, y: jax.Array, w: jax.Array, where: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(LOSSES[name])(z, y, w, where=where, reduction="sum")
        valid = lax.psum(where.sum(dtype=jnp.float32), BOTH)
        return lax.psum(value, BOTH) / valid, gradient / valid

    specs = {"in_specs": (P(BOTH), P(BOTH), P(), P(BOTH)), "out_specs": (P(), P(BOTH))}
    value, gradient = jax.jit(jax.shard_map(step, mesh=mesh(), **specs))(LOGITS, INDEX, WEIGHTS, WHERE)
    expected = on_one_device(name, soft=False)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("axes", [BOTH, ("data",), ()], ids=["all", "some", "replicated"])
@pytest.mark.parametrize("classes", [8, CLASSES, 10])
def test_counts_and_weights_of_sharded_arrays(kind: AxisType, axes: tuple[str, ...], classes: int) -> None:
    """A result of another shape may not divide over the devices; it must go with the sharded logits all the same."""
    host = random.integers(0, classes, SAMPLES).astype(np.int32)
    labels = jax.device_put(host, NamedSharding(mesh(kind), P(axes)))
    counts = cbcore.class_counts(labels, classes)
    np.testing.assert_array_equal(counts, cbcore.class_counts(host, classes))
    np.testing.assert_array_equal(
        cbcore.long_tailed_indices(labels // classes, 2), cbcore.long_tailed_indices(host // classes, 2)
    )
    expected = cbcore.class_weights(cbcore.class_counts(host, classes), empty="one")
    weights = cbcore.class_weights(counts, empty="one")
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    if classes == CLASSES:
        logits = jax.device_put(LOGITS, NamedSharding(mesh(kind), P(axes)))
        value = LOSSES["softmax"](logits, labels, weights)
        np.testing.assert_allclose(value, cbcore.softmax_cross_entropy(LOGITS, host, expected), rtol=1e-5)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_weights_of_sharded_counts(kind: AxisType) -> None:
    host = np.arange(1, 9)
    counts = jax.device_put(host, NamedSharding(mesh(kind), P(BOTH)))
    np.testing.assert_allclose(cbcore.class_weights(counts), cbcore.class_weights(host), rtol=1e-6)
    np.testing.assert_allclose(cbcore.effective_number(counts, 0.9), cbcore.effective_number(host, 0.9), rtol=1e-6)
    assert cbcore.imbalance_factor(counts) == 8


def test_counts_under_a_mesh_in_context() -> None:
    with jax.set_mesh(mesh(AxisType.Explicit)):
        labels = jax.device_put(INDEX, P(BOTH))
        np.testing.assert_array_equal(cbcore.class_counts(labels, CLASSES), cbcore.class_counts(INDEX, CLASSES))


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_of_the_core_take_sharded_logits(name: str) -> None:
    function = functions(cbcore)[name]
    classes = 10  # which does not divide over eight devices
    logits = jax.device_put(LOGITS[:, :classes], NamedSharding(mesh(), P(BOTH)))
    for targets in (INDEX % classes, SOFT[:, :classes]):
        expected = function(LOGITS[:, :classes], targets, WEIGHTS[:classes], where=WHERE)
        for there in (targets, jax.device_put(targets, NamedSharding(mesh(), P(BOTH)))):
            np.testing.assert_allclose(function(logits, there, WEIGHTS[:classes], where=WHERE), expected, rtol=1e-5)
