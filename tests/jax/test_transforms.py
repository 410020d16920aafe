"""Whatever JAX can do with a pure function, it can do with these losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

import cbcore
from cbcore import _formulas as formulas
from cbcore_jax import _ops as ops
from cbcore_jax._closed import focal_term
from tests.support.jax_adapter import LOSSES, enable_x64

random = np.random.default_rng(7)
LOGITS = random.normal(size=(5, 4)) * 2
INDEX = np.array([0, 3, 2, 1, 2])
SOFT = random.dirichlet(np.ones(4), size=5)
WEIGHTS = cbcore.class_weights([100, 30, 9, 1])
WHERE = np.array([True, True, False, True, True])

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_target = pytest.mark.parametrize("targets", [INDEX, SOFT], ids=["index", "soft"])


def close(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, expected)


@pytest.mark.parametrize("loss", [LOSSES["softmax"], LOSSES["focal"]], ids=["softmax", "focal"])
@each_target
def test_first_and_second_derivatives_by_differences(loss: Any, targets: Any) -> None:
    function = jax.jit(lambda z, w: loss(z, targets, w, where=WHERE))
    with enable_x64(True):
        check_grads(function, (LOGITS, WEIGHTS), order=2, modes=("rev",))


@pytest.mark.parametrize("gamma", [0.0, 1.3])
@pytest.mark.parametrize("term", [focal_term, formulas.focal_term], ids=["closed", "composite"])
def test_derivatives_of_the_term_to_third_order(term: Any, gamma: float) -> None:
    """The closed derivative, its own derivatives and those of the primitives under it, 0 included."""
    v = np.array([-30.0, -2.0, 0.0, 0.7, 30.0])
    with enable_x64(True):
        check_grads(jax.jit(lambda v: term(ops, v, gamma)), (v,), order=3, modes=("fwd",), atol=1e-5)


@pytest.mark.parametrize("loss", [LOSSES["sigmoid"], LOSSES["focal"]])
def test_curvature_is_finite_everywhere(loss: Any) -> None:
    logits = jnp.array([[0.0, 1e4, -1e4, 88.0], [-88.0, -104.0, 104.0, 1e-30]])
    gradient = jax.jit(jax.grad(lambda z: loss(z, np.array([0, 2]))))
    for z in (logits, logits.astype(jnp.bfloat16)):
        assert np.isfinite(gradient(z)).all()
        assert np.isfinite(jax.jvp(gradient, (z,), (jnp.ones_like(z),))[1]).all()


@each_loss
@each_target
def test_vmap_over_samples_is_the_batch(loss: Any, targets: Any) -> None:
    logits = jnp.asarray(LOGITS)
    each = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(0, 0, None)))(logits, targets, WEIGHTS)
    values = loss(logits, targets, WEIGHTS, reduction="none")
    gradients = jax.jit(jax.grad(lambda z: loss(z, targets, WEIGHTS, reduction="sum")))(logits)
    close(each, (values, gradients))


@each_loss
@each_target
def test_forward_and_reverse_mode_agree(loss: Any, targets: Any) -> None:
    def each(z: jax.Array) -> jax.Array:
        return loss(z, targets, WEIGHTS, reduction="none")  # type: ignore[no-any-return]

    logits, tangent = jnp.asarray(LOGITS), jnp.asarray(SOFT)
    jacobian = jax.jit(jax.jacfwd(each))(logits)
    close(jacobian, jax.jit(jax.jacrev(each))(logits))
    close(jax.jvp(each, (logits,), (tangent,))[1], jnp.einsum("nmc,mc->n", jacobian, tangent))
    curvature = jax.jit(jax.hessian(lambda z: each(z).sum()))(logits).reshape(20, 20)
    close(curvature, curvature.T)
    assert np.linalg.eigvalsh(curvature).max() > 0.01


@each_loss
def test_logits_may_be_donated(loss: Any) -> None:
    step = jax.jit(jax.value_and_grad(loss), donate_argnums=0)
    logits = jnp.asarray(LOGITS)
    expected = jax.jit(jax.value_and_grad(loss))(logits, INDEX, WEIGHTS)
    close(step(logits, INDEX, WEIGHTS), expected)
    assert logits.is_deleted()


@each_loss
@each_target
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean"])
def test_nothing_reads_a_value(loss: Any, targets: Any, reduction: str) -> None:
    """Under `eval_shape` there is none to read."""

    def step(z: Any, y: Any, w: Any, where: Any) -> Any:
        return loss(z, y, w, where=where, reduction=reduction, label_smoothing=0.1)

    arrays = (LOGITS.astype(jnp.bfloat16), targets, WEIGHTS.astype(np.float32), WHERE)
    shapes = [jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype)) for x in arrays]
    value = jax.eval_shape(step, *shapes)
    assert (value.shape, value.dtype) == ((5,) if reduction == "none" else (), jnp.float32)
    gradient = jax.eval_shape(jax.grad(lambda *x: step(*x).sum()), *shapes)
    assert (gradient.shape, gradient.dtype) == ((5, 4), jnp.bfloat16)


def test_that_test_can_fail() -> None:
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.eval_shape(lambda z: float(z.sum()), jax.ShapeDtypeStruct((5, 4), jnp.float32))


@each_loss
@each_target
def test_export_with_a_batch_of_any_size(loss: Any, targets: Any) -> None:
    (batch,) = export.symbolic_shape("batch")
    arrays = (LOGITS.astype(np.float32), targets.astype(np.int32 if targets.ndim == 1 else np.float32))
    shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in arrays]
    exported = export.export(jax.jit(lambda z, y: loss(z, y, WEIGHTS)))(*shapes)
    close(exported.call(*(x[:3] for x in arrays)), loss(*(x[:3] for x in arrays), WEIGHTS))


@each_loss
def test_a_label_outside_the_classes_gives_nan_unless_masked(loss: Any) -> None:
    logits, targets = jnp.asarray(LOGITS), np.array([0, 4, -1, 1, 2])
    outside = np.array([False, True, True, False, False])
    each = loss(logits, targets, WEIGHTS, reduction="none")
    np.testing.assert_array_equal(np.isnan(each), outside)
    assert np.isnan(loss(logits, targets, WEIGHTS))
    for gradient_of in (jax.grad(loss), jax.jit(jax.grad(loss))):
        gradient = gradient_of(logits, targets, WEIGHTS)
        np.testing.assert_array_equal(np.isnan(gradient), np.repeat(outside[:, None], 4, 1))
    value, gradient = jax.value_and_grad(loss)(logits, targets, WEIGHTS, where=~outside)
    close(value, loss(logits[~outside], targets[~outside], WEIGHTS))
    assert np.isfinite(gradient).all()


@each_loss
@each_target
def test_masked_samples_may_hold_nan_and_get_no_gradient(loss: Any, targets: Any) -> None:
    logits = jnp.asarray(np.where(WHERE[:, None], LOGITS, np.nan))
    for gradient_of in (jax.grad(loss), jax.jit(jax.grad(loss))):
        gradient = gradient_of(logits, targets, WEIGHTS, where=WHERE)
        np.testing.assert_array_equal(gradient[2], 0)
        assert (gradient[jnp.asarray(WHERE)] != 0).all()


@each_loss
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64])
def test_labels_of_any_integer_dtype(loss: Any, dtype: Any) -> None:
    """200 classes are more than int8 can count; none of its values may wrap into a class."""
    logits, targets = jnp.asarray(random.normal(size=(3, 200))), np.array([0, 100, 127])
    close(loss(logits, targets.astype(dtype)), loss(logits, targets))
    assert np.isnan(loss(logits, (targets - 1).astype(dtype)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_needs_no_memory_but_its_own(gamma: float) -> None:
    """Plain autodiff stores two or three more arrays of the size of the logits."""
    arrays = jnp.zeros((64, 4096)), jnp.zeros(64, int), jnp.ones(4096)
    step = jax.jit(jax.value_and_grad(lambda z, y, w: LOSSES["focal"](z, y, w, gamma=gamma)))
    memory = step.lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.5 * memory.output_size_in_bytes


RULED_OUT = [
    *((name, {}, precision) for name in LOSSES for precision in ("float32", "float64", "bfloat16")),
    *(("focal", {"gamma": gamma}, "float32") for gamma in (0.3, 1.0, 2.5)),
]


@pytest.mark.parametrize(("name", "options", "precision"), RULED_OUT, ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "soft"])
def test_a_class_that_is_ruled_out_adds_nothing(name: str, options: Any, soft: bool, precision: str) -> None:
    """Logit -inf, target 0: values and derivatives of every order are those without the class, and 0 for it."""
    loss = LOSSES[name]
    with enable_x64(precision == "float64"):
        there = np.array([True, True, False, True])
        few = SOFT[:, there] / SOFT[:, there].sum(1, keepdims=True)
        few = few if soft else np.eye(3)[[0, 2, 1, 2, 0]]
        targets = np.zeros((5, 4))
        targets[:, there] = few
        logits = jnp.asarray(np.where(there, LOGITS, -np.inf), precision)
        tangent = jnp.asarray(SOFT, precision)

        def total(z: jax.Array, t: Any, w: Any) -> jax.Array:
            value: jax.Array = loss(z, t, w, reduction="sum", **options)
            return value

        def derivatives(z: jax.Array, direction: jax.Array, t: Any, w: Any) -> Any:
            gradient = jax.grad(total)
            curvature = jax.hessian(total)(z, t, w)
            return (
                total(z, t, w), gradient(z, t, w), jax.jvp(lambda z: total(z, t, w), (z,), (direction,))[1],
                jax.jvp(lambda z: gradient(z, t, w), (z,), (direction,))[1], curvature,
            )  # fmt: skip

        run = jax.jit(derivatives)
        weights = jnp.asarray(WEIGHTS, jnp.float32)  # not NumPy's: jit may have compiled the same for other bits
        got = run(logits, tangent, jnp.asarray(targets, precision), weights)
        expected = run(logits[:, there], tangent[:, there], jnp.asarray(few, precision), weights[there])
        assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in got)
        np.testing.assert_array_equal(got[1][:, ~there], 0)
        np.testing.assert_array_equal(got[4][:, ~there], 0)
        cut = (got[0], got[1][:, there], got[2], got[3][:, there], got[4][:, there][..., there])
        tolerance = 2e-2 if precision == "bfloat16" else 1e-5
        close(jax.tree.map(lambda x: np.asarray(x, np.float64), cut),
              jax.tree.map(lambda x: np.asarray(x, np.float64), expected), tolerance)  # fmt: skip


HEALTHY = {
    "index": INDEX,
    "soft": SOFT,
    "multi-hot": np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]], float),
}


@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "some ignored"])
@pytest.mark.parametrize("targets", HEALTHY.values(), ids=HEALTHY)
@each_loss
def test_a_debugger_of_nans_finds_none(loss: Any, targets: Any, where: Any) -> None:
    """A constant that is NaN stops it too, where operations run one by one."""
    with jax.debug_nans(True), jax.disable_jit():
        step = jax.value_and_grad(lambda z: loss(z, targets, WEIGHTS, where=where))
        value, gradient = step(jnp.asarray(LOGITS * 100))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("compiled", [False, True], ids=["disable_jit", "compiled"])
@each_loss
def test_a_debugger_of_nans_finds_a_label_outside_the_classes(loss: Any, compiled: bool) -> None:
    with jax.debug_nans(True), jax.disable_jit(not compiled), pytest.raises(FloatingPointError):
        jax.jit(loss)(jnp.asarray(LOGITS), np.array([0, 4, 2, 1, 2]))


@each_loss
def test_rows_without_a_label(loss: Any) -> None:
    targets = HEALTHY["multi-hot"]
    plain = loss(jnp.asarray(LOGITS), targets, reduction="none")[1]
    for scale in (1.0, 1000.0):
        weights = WEIGHTS / WEIGHTS.sum() * scale
        value = loss(jnp.asarray(LOGITS), targets, jnp.asarray(weights), reduction="none")[1]
        close(value, plain * weights.mean())
        given = loss(jnp.asarray(LOGITS), targets, jnp.asarray(weights), reduction="none", unlabelled_weight=0.25)[1]
        close(given, plain * 0.25)
