"""What PyTorch does around a call: the one home of every private name that the question takes.

PyTorch has no public question for these modes. Where a release drops a name, the answer is the careful one, "yes": the
composite then computes every loss, right and slower, and `tests/torch/test_modes.py` says which name went.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMES = (
    "_C._are_functorch_transforms_active",
    "_C._len_torch_dispatch_stack",
    "_C._get_tracing_state",
    "_C._functorch.is_legacy_batchedtensor",
    "autograd.forward_ad._current_level",
)


def traced() -> bool:
    """Tell whether something records or transforms the operations, which must then be PyTorch's own."""
    if torch.compiler.is_compiling():
        return True
    try:
        return (
            torch._C._are_functorch_transforms_active()
            or forward_ad._current_level >= 0
            or torch._C._get_tracing_state() is not None
            or (torch._C._len_torch_dispatch_stack() > 0 and _writes_down())
        )
    except AttributeError:
        return True


def _writes_down() -> bool:
    """Tell whether a mode makes a program of the operations; others, such as counters, only look at them."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return get_proxy_mode() is not None


def reads_host(*tensors: Tensor | None) -> bool:
    """Tell whether the values of tensors may be read: they are on the CPU, and nothing watches them."""
    for x in tensors:
        if x is not None and not (x.is_cpu and _is_tensor(x)):
            return False
    return torch._C._len_torch_dispatch_stack() == 0


def watched(x: Tensor) -> bool:
    """Tell whether a TorchDispatchMode is to see each operation, or the tensor is a fake one and has no values.

    Asked where `traced` has found the private name.
    """
    return torch._C._len_torch_dispatch_stack() > 0 or not _is_tensor(x)


def is_plain(x: Tensor) -> bool:
    """Tell plain tensors from subclasses, which may stand for others; a fake one only lacks its values."""
    if _is_tensor(x):
        return True
    from torch._subclasses import FakeTensor

    return type(x) is FakeTensor


def _is_tensor(x: Tensor) -> bool:
    return type(x) is Tensor or type(x) is torch.nn.Parameter


def transformed(upstream: Tensor) -> bool:
    """Tell whether a backward may read and overwrite nothing: its upstream gradient may stand for a batch of them.

    ``is_grads_batched`` and vectorised Jacobians batch it without announcing a transform.
    """
    try:
        return traced() or type(upstream) is not Tensor or torch._C._functorch.is_legacy_batchedtensor(upstream)
    except AttributeError:
        return True
