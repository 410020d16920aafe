"""Count what PyTorch's operations read and write, and the memory that they hold: on any machine, whatever is busy.

An operation that reads nothing but sizes, and one that gives a view, costs nothing. Every other one reads each of its
inputs once and writes each of its outputs once, with these exceptions, which `moved` knows:

* an `out=` tensor is written; one that is worked on in place is read too, unless it is overwritten (`zero_`, `copy_`);
* an expanded input counts what it really holds;
* gathers, scatters, indexing and `nll_loss` count the elements that they touch.

Operations that PyTorch makes of others (`binary_cross_entropy_with_logits`) count as those. Kernels that are no
operations of PyTorch (numba's, Triton's) are not seen.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef  # a weak reference by the storage, not by its wrapper
from torch.utils._python_dispatch import TorchDispatchMode

_MADE_OF_OTHERS = (torch._C.DispatchKey.CompositeExplicitAutograd, torch._C.DispatchKey.CompositeImplicitAutograd)
_KERNELS = ("copy_", "fill_", "zero_")  # whatever key they are registered under
_FREE = ("empty", "new_empty", "_unsafe_view", "lift", "is_same_size", "sym_", "resize_", "set_")
_OVERWRITING = (
    "zero_", "fill_", "copy_", "normal_", "uniform_", "random_", "bernoulli_", "scatter_", "index_put_",
    "_index_put_impl_",
)  # fmt: skip
# Of operations that touch a part of one argument: its name, and whose elements tell how much.
_PARTS = {
    ("gather", "self"): "index",
    ("index_select", "self"): "out",
    ("index", "self"): "indices",
    ("nll_loss_forward", "self"): "target",
    ("nll_loss_forward", "weight"): "target",
    ("nll_loss_backward", "self"): "",  # its shape alone
    ("nll_loss_backward", "weight"): "target",
    ("scatter_", "self"): "index",
    ("scatter_", "src"): "index",
    ("scatter_add_", "self"): "index",
    ("scatter_add_", "src"): "index",
    ("scatter", "src"): "index",
    ("scatter_add", "src"): "index",
    ("index_put_", "self"): "indices",
    ("_index_put_impl_", "self"): "indices",
    ("log_sigmoid_backward", "buffer"): "cpu",  # empty on other devices
    ("log_sigmoid_forward", "buffer"): "cpu",
    ("index_add_", "self"): "source",
}


class Traffic(TorchDispatchMode):
    """Count the operations inside.

    Parameters
    ----------
    known : sequence of tensors
        What was there before; all other memory that an operation meets is taken for new, and counted as held.

    Attributes
    ----------
    moved : int
        Bytes read and written.
    naive : int
        Every tensor input and output of every operation that is called, in full; views and new empty tensors nothing.
    peak : int
        The most bytes of new memory that were alive after an operation.
    by_operation : Counter
        `moved` by the name of the operation.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = self.naive = self.peak = 0
        self.by_operation: Counter[str] = Counter()
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self._open: list[Any] = []

    def held(self) -> int:
        """Return the bytes of new memory that are alive now."""
        self._held = {key: one for key, one in self._held.items() if not _is_gone(one[0])}
        return sum(size for _, size in self._held.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        whole, made_by = not self._open, None if func in self._open else _made_by(func)
        if made_by is not None:
            self._open.append(func)
            try:
                with self:
                    out = func._op_dk(made_by, *args, **kwargs)
            finally:
                self._open.pop()
        else:
            out = func(*args, **kwargs)
            size = 0 if _is_free(func) else _moved(func, args, kwargs, out)
            self.moved += size
            self.by_operation[_name(func)] += size
        if whole and not _is_free(func):
            self.naive += sum(tensor.numel() * tensor.itemsize for tensor in _tensors((args, kwargs, out)))
        self._see(_tensors((args, kwargs, out)))
        return out

    def _see(self, tensors: Iterator[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._held[storage._cdata] = (_reference(storage), storage.nbytes())
        self.peak = max(self.peak, self.held())


def _reference(storage: torch.UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


def _is_gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]


def _name(func: Any) -> str:
    return str(func.overloadpacket.__name__)


def _made_by(func: Any) -> Any:
    """Return under which key PyTorch makes an operation of others; None for a kernel of its own."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    if _is_free(func) or _name(func) in _KERNELS or has(func.name(), "CPU"):
        return None
    return next((key for key in _MADE_OF_OTHERS if has(func.name(), key)), None)


def _is_free(func: Any) -> bool:
    is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
    return is_view or _name(func).startswith(_FREE)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _moved(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Return the bytes that one kernel reads and writes."""
    schema, name = func._schema, _name(func)
    given = {one.name: value for one, value in zip(schema.arguments, args, strict=False)} | kwargs
    reads: dict[Any, int] = {}  # an argument that is given twice is read once
    total = 0
    for argument in schema.arguments:
        size = partial(_touched, whose=_PARTS.get((name, argument.name)), given=given, out=out)
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        tensors = list(_tensors(given.get(argument.name)))
        if is_written:
            total += sum(map(size, tensors))
        if not (is_written and (argument.is_out or _overwrites(name, given))):
            reads |= {(t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride()): size(t) for t in tensors}
    fresh = zip(schema.returns, out if isinstance(out, list | tuple) else (out,), strict=False)
    for one, value in fresh:
        if one.alias_info is None:
            total += sum(_touched(tensor, _PARTS.get((name, one.name)), given, out) for tensor in _tensors(value))
    return total + sum(reads.values())


def _overwrites(name: str, given: dict[str, Any]) -> bool:
    return name in _OVERWRITING and not given.get("accumulate") and "reduce" not in given


def _touched(tensor: Tensor, whose: str | None, given: dict[str, Any], out: Any) -> int:
    """Return the bytes of an argument that an operation reads, or writes, once."""
    if whose is None:
        return _size(tensor)
    if whose == "indices" and isinstance(given[whose], list):
        return _indexed(tensor, given[whose]) * tensor.itemsize
    elements = {"": 0, "cpu": tensor.numel() if tensor.is_cpu else 0, "out": out.numel() if whose == "out" else 0}
    return (elements[whose] if whose in elements else given[whose].numel()) * tensor.itemsize


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor, the elements of an expanded axis once."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, step in steps if step or not size) * tensor.itemsize


def _indexed(tensor: Tensor, indices: Sequence[Tensor | None]) -> int:
    """Return the number of elements of `tensor[indices]`."""
    shapes = [index.shape for index in indices if index is not None]
    along = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    whole = [size for i, size in enumerate(tensor.shape) if i >= len(indices) or indices[i] is None]
    return math.prod([*along, *whole])
