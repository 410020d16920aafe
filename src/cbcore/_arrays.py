"""From any array to NumPy and back.

Counts and weights are a few numbers a class, made once: NumPy float64 on the host is exact enough for every
framework, and no framework's default precision can spoil them on the way.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_array_api_obj, to_device
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
    namespace, device = array_namespace(array), device_of(array)
    host = np.asarray(to_device(array, "cpu") if str(device).startswith(("cuda", "mps")) else array)
    return host, lambda result: namespace.asarray(result, device=device)
