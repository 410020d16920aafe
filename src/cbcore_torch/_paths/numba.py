"""The CPU kernels of `cbcore._kernels`, with the extra `fast`, on tensors that share their memory with NumPy."""

import functools
from types import ModuleType

import torch

from cbcore import _kinds as kinds
from cbcore._paths import GAMMA_LIMIT, numba_is_installed
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows
from cbcore_torch._paths.rows import Result

NAME = "numba"
_DTYPES = (torch.float32, torch.bfloat16)


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    if call.input.dtype not in _DTYPES:
        return f"input is {call.input.dtype}; the kernels are for float32 and bfloat16"
    if not modes.reads_host(call.input):
        return "input is not on the CPU, or a TorchDispatchMode wants to see operations"
    if not numba_is_installed():
        return "the extra `fast` is not installed"
    if call.label_smoothing or call.target.is_floating_point():
        return "the targets are soft; the kernels are for class indices"
    return None if kinds.is_fused(call.kind, GAMMA_LIMIT) else f"the kernels do not know {call.kind}"


def run(rows: Rows, with_gradient: bool, /) -> Result:
    """As `cbcore_torch._paths.rows.Run`."""
    half, z = rows.z.dtype == torch.bfloat16, rows.z.detach().contiguous()
    losses, gradient = _kernels().run(
        (z.view(torch.uint16) if half else z).numpy(), rows.target.contiguous().numpy(), rows.scale.numpy(),
        kinds.power(rows.kind), threads=torch.get_num_threads(), with_gradient=with_gradient,
    )  # fmt: skip
    result = None if gradient is None else torch.from_numpy(gradient)
    return Result(torch.from_numpy(losses), result.view(torch.bfloat16) if half and result is not None else result)


@functools.cache
def _kernels() -> ModuleType:
    """Import numba when it is needed, which takes a second."""
    from cbcore import _kernels

    return _kernels
