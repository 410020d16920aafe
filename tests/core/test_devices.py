"""To the host and back, from devices that are here and from such as are not."""

from typing import Any

import array_api_strict as strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_strict._devices import ALL_DEVICES
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import cbcore
from cbcore._arrays import beside, to_host
from tests.support.losses import functions

LABELS = np.array([0, 2, 1, 0, 0, 1, 0, 2], np.int32)
COUNTS = np.array([4, 2, 2], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
LOSSES = [*functions(cbcore).values()]


def on_host(array: Any) -> np.ndarray:
    return to_host(array, "labels")[0]


@pytest.mark.parametrize("device", ALL_DEVICES, ids=lambda device: device._device)
class TestStrictDevices:
    """One has no float64, as MPS; one has no 64 bits at all, as JAX by default."""

    def test_counts_and_weights(self, device: Any) -> None:
        labels, counts = (strict.asarray(x, device=device) for x in (LABELS, COUNTS))
        for result, expected in [
            (cbcore.class_counts(labels), COUNTS),
            (cbcore.long_tailed_indices(labels, 2), cbcore.long_tailed_indices(LABELS, 2)),
            (cbcore.class_weights(counts), cbcore.class_weights(COUNTS)),
            (cbcore.effective_number(counts, 0.9), cbcore.effective_number(COUNTS, 0.9)),
            (cbcore.effective_number(counts, strict.asarray(0.5, device=device)), cbcore.effective_number(COUNTS, 0.5)),
        ]:
            assert result.device == device
            assert result.dtype in (strict.float64, strict.float32, strict.int64, strict.int32)
            np.testing.assert_allclose(on_host(result), expected, rtol=1e-7)
        assert cbcore.imbalance_factor(counts) == 2

    def test_float64_where_the_device_has_it(self, device: Any) -> None:
        narrow = device._device in ("no_float64", "no_x64")
        weights = cbcore.class_weights(strict.asarray(COUNTS, device=device))
        assert weights.dtype == (strict.float32 if narrow else strict.float64)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_losses_take_the_rest_from_the_host(self, device: Any, loss: Any) -> None:
        logits = strict.asarray(LOGITS, device=device)
        weights = cbcore.class_weights(COUNTS)
        for targets in (LABELS, np.eye(3)[LABELS]):
            result = loss(logits, targets, weights, where=LABELS != 1)
            assert result.device == device
            np.testing.assert_allclose(on_host(result), loss(LOGITS, targets, weights, where=LABELS != 1), rtol=1e-5)


class Elsewhere(torch.Tensor):
    """A tensor on a device that is not here: NumPy cannot read it, and some dtypes it cannot hold."""

    refused: tuple[torch.dtype, ...] = ()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert xpu:0 device type tensor to numpy. Use Tensor.cpu()")

    def numpy(self, **_: Any) -> Any:
        return self.__array__()

    def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)

    @property
    def device(self) -> str:  # type: ignore[override]
        return "elsewhere"


@pytest.mark.parametrize(
    "refused", [(), (torch.float64,), (torch.float64, torch.int64)], ids=["xpu", "mps", "no 64 bits"]
)
@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_devices_that_numpy_cannot_read(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[torch.dtype, ...], error: type[Exception]
) -> None:
    import array_api_compat.torch as namespace

    def asarray(x: np.ndarray, *, device: str) -> torch.Tensor:
        assert device == "elsewhere"
        tensor = torch.from_numpy(x)
        if tensor.dtype in refused:
            raise error(f"Cannot convert a tensor to {tensor.dtype}")
        return tensor.as_subclass(Elsewhere)  # type: ignore[return-value]

    monkeypatch.setattr(namespace, "asarray", asarray)
    counts = cbcore.class_counts(torch.from_numpy(LABELS).as_subclass(Elsewhere))
    assert type(counts) is Elsewhere
    np.testing.assert_array_equal(counts.cpu(), COUNTS)
    weights = cbcore.class_weights(counts)
    assert type(weights) is Elsewhere
    assert weights.dtype == (torch.float32 if refused else torch.float64)
    np.testing.assert_allclose(weights.cpu(), cbcore.class_weights(COUNTS), rtol=1e-7)


def test_a_device_that_refuses_for_another_reason_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    import array_api_compat.torch as namespace

    def asarray(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(namespace, "asarray", asarray)
    with pytest.raises(RuntimeError, match="out of memory"):
        cbcore.class_weights(torch.from_numpy(COUNTS))
    with pytest.raises(RuntimeError, match="out of memory"):  # which 32 bits, that are tried next, could not hold
        beside(np.array([1 << 40]), torch.from_numpy(COUNTS))


def test_dtypes_that_numpy_does_not_have() -> None:
    counts = torch.tensor([50, 4, 2], dtype=torch.bfloat16)
    np.testing.assert_allclose(cbcore.class_weights(counts), cbcore.class_weights([50, 4, 2]))
    assert cbcore.class_weights(counts).dtype == torch.float64


def test_a_cupy_array_stays_one() -> None:
    """CuPy names its way to the host `get`; here a stand-in, made of strict arrays."""

    class Cupy:
        device = "gpu"

        def __init__(self, host: np.ndarray) -> None:
            self.host = host

        def __array_namespace__(self, **kwargs: Any) -> Any:
            return Namespace

        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise TypeError("Implicit conversion to a NumPy array is not allowed. Use .get()")

        def get(self) -> np.ndarray:
            return self.host

        def to_device(self, device: Any, /) -> Any:
            raise TypeError(f"Unsupported device {device!r}")

    class Namespace:
        @staticmethod
        def asarray(host: np.ndarray, *, device: str) -> Cupy:
            assert device == "gpu"
            return Cupy(host)

    weights = cbcore.class_weights(Cupy(COUNTS))
    assert type(weights) is Cupy
    np.testing.assert_array_equal(weights.host, cbcore.class_weights(COUNTS))


def test_jax_on_a_device_that_has_no_way_to_one_called_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: a JAX array goes to the host through NumPy alone."""
    kind = type(jnp.asarray(LABELS))
    monkeypatch.setattr(kind, "to_device", lambda *_, **__: pytest.fail("a JAX array has no device called cpu"))
    np.testing.assert_array_equal(cbcore.class_counts(jnp.asarray(LABELS)), COUNTS)


def test_traced_values_are_refused_in_the_words_of_jax() -> None:
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(cbcore.class_counts)(LABELS)


def test_jax_on_one_device() -> None:
    """Where JAX may still move the argument it may move the result; else both stay."""
    assert not cbcore.class_counts(jnp.asarray(LABELS)).committed
    device = jax.devices()[0]
    counts = cbcore.class_counts(jax.device_put(LABELS, device))
    assert counts.committed
    assert counts.device == device


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_jax_on_a_mesh_of_one_device(kind: AxisType) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,))
    labels = jax.device_put(LABELS, NamedSharding(mesh, P("data")))
    np.testing.assert_array_equal(cbcore.class_counts(labels), COUNTS)
    np.testing.assert_allclose(cbcore.class_weights(cbcore.class_counts(labels)), cbcore.class_weights(COUNTS), 1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_read_only_and_reversed_arrays_beside_torch_logits(loss: Any) -> None:
    """PyTorch warns of the first and refuses the second."""
    weights, targets = cbcore.class_weights(COUNTS), LABELS.copy()
    weights.flags.writeable = targets.flags.writeable = False
    expected = loss(LOGITS, targets[::-1], weights[::-1])
    np.testing.assert_allclose(loss(torch.from_numpy(LOGITS), targets[::-1], weights[::-1]), expected, rtol=1e-5)
    np.testing.assert_allclose(
        loss(torch.from_numpy(LOGITS), targets, weights), loss(LOGITS, targets, weights), rtol=1e-5
    )
