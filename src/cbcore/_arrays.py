"""From any array to NumPy and back.

Counts and weights are a few numbers a class, made once: NumPy float64 on the host is exact enough for every
framework, and no framework's default precision can spoil them on the way.
"""

from collections.abc import Callable, Iterator, Mapping, MappingView
from collections.abc import Set as AbstractSet
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_array_api_obj
from array_api_compat import device as device_of
from array_api_compat import numpy as numpy_namespace

Host: TypeAlias = npt.NDArray[Any]

MOST_CLASSES = 10**7  # that are believed of a largest index alone; ids of samples or products are far above
_ORDERED = "in the order of the class indices"


def aligned(values: Any, name: str, size: int | None = None, *, fill: bool = True) -> Any:
    """Return one value a class in the order of the classes; what carries labels of its own is ordered by them.

    Mappings (dict, Counter) and series with an index have class indices as labels. A class that is not there has 0, up
    to `size` where that is known, or with `fill` False is an error. Everything else comes back as it is.
    """
    if isinstance(values, Mapping):
        labels, numbers = list(values.keys()), list(values.values())
    elif hasattr(values, "columns") or hasattr(values, "column_names"):  # a data frame or table of any library
        raise TypeError(f"{name} must be one number a class, got a {_kind(values)}; pass one column, {_ORDERED}")
    elif hasattr(values, "iloc") and hasattr(values, "index"):  # a pandas Series; pandas itself is not imported
        labels, numbers = values.index.tolist(), values.to_numpy()
    else:
        return values
    if not labels:
        raise ValueError(f"{name} must hold at least one class, got an empty {_kind(values)}")
    odd = [label for label in labels if isinstance(label, bool | np.bool_) or not isinstance(label, Integral)]
    if odd:
        raise TypeError(
            f"{name} must be keyed by class indices 0 to C - 1, got the key {odd[0]!r} ({_kind(odd[0])}); pass the "
            f"numbers alone, {_ORDERED}"
        )
    index = [int(label) for label in labels]
    if min(index) < 0 or max(index) >= (max(MOST_CLASSES, 100 * len(index)) if size is None else size):
        worst = min(index) if min(index) < 0 else max(index)
        text = "C - 1" if size is None else size - 1
        raise ValueError(f"{name} must be keyed by class indices 0 to {text}, got the key {worst}; number the classes")
    if len(set(index)) != len(index):
        raise ValueError(
            f"{name} must name each class once, got {len(index) - len(set(index))} keys again; add them up"
        )
    length = max(index) + 1 if size is None else size
    if not fill and len(index) < length:
        absent = min(set(range(length)) - set(index))
        raise ValueError(f"{name} must hold a number for every class, got none for class {absent} of {length}; add it")
    host = np.asarray(numbers)
    ordered = np.zeros(length, host.dtype)
    ordered[index] = host
    return ordered


def to_host(array: Any, name: str) -> tuple[Host, Callable[[Host], Any]]:
    """Return `array` as NumPy, and the function that brings a result to the kind and device of `array`.

    `name` is that of the argument, for errors about what is no array.
    """
    if isinstance(array, np.ndarray) and array.dtype != object:
        return unmasked(array, name), _as_it_is
    if isinstance(array, np.ndarray) or not is_array_api_obj(array):
        return _gathered(array, name), _as_it_is
    if getattr(array, "requires_grad", False):
        raise TypeError(
            f"{name} must be plain numbers, got a {_kind(array)} that requires a gradient, which would get none here; "
            f"pass {name}.detach()"
        )
    return _fetched(array), lambda result: beside(result, array)


def _as_it_is(result: Host) -> Host:
    return result


def unmasked(array: Any, name: str) -> Any:
    """Return `array`, unless NumPy's mask says that some of its entries are not there."""
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            masked = int(np.ma.getmaskarray(array).sum())
            raise TypeError(
                f"{name} must have no masked entries, got {masked} in a masked array; drop them, e.g. with "
                f"{name}.compressed(), or say what they count as with {name}.filled(...)"
            )
        return array.data
    return array


def _gathered(values: Any, name: str) -> Host:
    """Return a sequence of numbers as NumPy, and say what is not one."""
    fix = next((fix for kind, fix in _NO_SEQUENCE if isinstance(values, kind)), None)
    if fix is not None:
        raise TypeError(f"{name} must be an array or a list, got a {_kind(values)}; {fix}")
    values = unmasked(values, name)
    try:
        host = np.asarray(values)
        if host.dtype == object:  # as columns come that may hold missing values
            host = np.asarray(host.tolist())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers of one shape, got a {_kind(values)} that is no array ({error}); give all entries "
            "one length and kind"
        ) from None
    if host.dtype.kind in "fO" and isinstance(values, list | tuple) and values and all(map(_is_whole, values)):
        worst = max(values, key=abs)  # NumPy would go on with floats, or with objects
        raise ValueError(f"{name} must fit in 64 bits, got {worst}; ids are no class indices: number the classes")
    return host


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


_NO_SEQUENCE: tuple[tuple[Any, str], ...] = (
    (type(None), "pass the numbers"),
    (str | bytes, "text is no array, not even of digits"),
    (Mapping, "counts by class index go to class_weights as they are; for others pass an array"),
    (AbstractSet, "a set has no order and holds nothing twice: pass the array that it was made of"),
    (MappingView, "pass the dictionary itself, whose keys say which class a number is of"),
    (Iterator, "pass list(...) of it"),
)


def _kind(value: Any) -> str:
    return type(value).__name__


def namespace_of(array: Any) -> Any:
    """Return the namespace of an array; NumPy's at once: looking it up takes longer than a small batch."""
    return numpy_namespace if isinstance(array, _NUMPY) else array_namespace(array)


_NUMPY = (np.ndarray, np.generic)


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
    try:
        tied = not hasattr(device, "device_set") and getattr(array, "committed", True)
    except TypeError:  # a traced array of JAX, which has no place yet
        tied = False
    return device if tied else None


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
