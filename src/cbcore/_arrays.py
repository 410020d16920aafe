"""From any array to NumPy and back.

Counts and weights are a few numbers a class, made once: NumPy float64 on the host is exact enough for every
framework, and no framework's default precision can spoil them on the way.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_array_api_obj, to_device
from array_api_compat import device as device_of

Host: TypeAlias = npt.NDArray[Any]


def to_host(array: Any) -> tuple[Host, Callable[[Host], Any]]:
    """Return `array` as NumPy, and the function that brings a result to the kind and device of `array`."""
    if isinstance(array, np.ndarray) or not is_array_api_obj(array):
        return np.asarray(array), lambda result: result
    namespace, device = array_namespace(array), device_of(array)
    host = np.asarray(to_device(array, "cpu") if str(device).startswith(("cuda", "mps")) else array)
    return host, lambda result: namespace.asarray(result, device=device)
