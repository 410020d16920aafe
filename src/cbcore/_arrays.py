"""From any array to NumPy and back.

Counts and weights are a few numbers a class, made once: NumPy float64 on the host is exact enough for every
framework, and no framework's default precision can spoil them on the way.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_array_api_obj
from array_api_compat import device as device_of

Host: TypeAlias = npt.NDArray[Any]


def aligned(values: Any, name: str, size: int | None = None) -> Any:
    """Return one value a class in the order of the classes; what carries labels of its own is ordered by them.

    Mappings (dict, Counter) and series with an index have class indices as labels; a class that is not there has 0,
    up to `size` where that is known. Everything else comes back as it is.
    """
    if isinstance(values, Mapping):
        labels, numbers = list(values.keys()), list(values.values())
    elif hasattr(values, "index") and hasattr(values, "iloc"):  # a pandas Series; pandas itself is not imported
        if getattr(values, "ndim", 1) != 1:
            raise TypeError(
                f"{name} must be one number a class, got a {type(values).__name__}; pass one of its columns"
            )
        labels, numbers = values.index.tolist(), values.to_numpy()
    else:
        return values
    index = np.asarray(labels)
    if len(labels) and not (np.issubdtype(index.dtype, np.integer) and index.min() >= 0):
        raise TypeError(
            f"{name} must be keyed by class indices 0 to C - 1, got {labels[0]!r} ({type(labels[0]).__name__}); "
            f"pass the numbers alone, in the order of the class indices"
        )
    if len(set(labels)) != len(labels):
        raise ValueError(f"{name} must name each class once, got an index with repeated classes")
    host = np.asarray(numbers)
    ordered = np.zeros(max([*labels, (size or 0) - 1]) + 1, host.dtype)
    ordered[index] = host
    return ordered


def to_host(array: Any) -> tuple[Host, Callable[[Host], Any]]:
    """Return `array` as NumPy, and the function that brings a result to the kind and device of `array`."""
    if isinstance(array, np.ndarray) or not is_array_api_obj(array):
        return np.asarray(array), lambda result: result
    return _fetched(array), lambda result: beside(result, array)


def beside(host: Host, array: Any) -> Any:
    """Return NumPy as an array of the kind and on the device of `array`, in 32 bits where there are no 64."""
    namespace, device = array_namespace(array), place(array)
    host = np.require(host, requirements=["C", "W"])  # PyTorch warns of read-only memory, refuses negative strides
    try:
        return namespace.asarray(host, device=device)
    except (TypeError, ValueError, RuntimeError):  # as MPS and some XPUs do
        narrow = host.astype(_NARROW.get(host.dtype.name, host.dtype))
        if narrow.dtype == host.dtype or (host.dtype.kind == "i" and (narrow != host).any()):
            raise
        return namespace.asarray(narrow, device=device)


def place(array: Any) -> Any:
    """Return the device where an array beside `array` belongs; None is the default one, from which JAX may move it.

    A JAX sharding is no place for another shape, and an array that is tied to one device would not meet sharded ones.
    """
    device = device_of(array)
    return None if hasattr(device, "device_set") or not getattr(array, "committed", True) else device


_NARROW = {"float64": np.float32, "int64": np.int32}
# What frameworks call the way from a device to the host, which not all take unasked; then what NumPy has no dtype for.
_WAYS: tuple[Callable[[Any], Any], ...] = (
    lambda array: array,
    lambda array: array.cpu(),
    lambda array: array.get(),
    lambda array: array.to_device(array_namespace(array).__array_namespace_info__().default_device()),
    lambda array: np.from_dlpack(array, device="cpu"),
    lambda array: array.cpu().float(),
)


def _fetched(array: Any) -> Host:
    errors: list[Exception] = []
    for way in _WAYS:
        try:
            return np.asarray(way(array))
        except (AttributeError, BufferError, TypeError, ValueError, RuntimeError) as error:
            errors.append(error)
    raise errors[0]
