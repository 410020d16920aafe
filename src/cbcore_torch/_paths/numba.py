"""The CPU kernels of `cbcore._kernels`, with the extra `fast`, on tensors that share their memory with NumPy."""

import torch
from torch import Tensor

from cbcore import _kinds as kinds
from cbcore._fused import GAMMA_LIMIT, numba_is_installed
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows
from cbcore_torch._paths import rows as by_rows
from cbcore_torch._paths.rows import Result

NAME = "numba"


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    if not modes.reads_host(call.input):
        return "input is not on the CPU, or a TorchDispatchMode wants to see operations"
    if not numba_is_installed():
        return "the extra `fast` is not installed"
    if call.input.dtype not in (torch.float32, torch.bfloat16):
        return f"input is {call.input.dtype}; the kernels are for float32 and bfloat16"
    if call.target.is_floating_point() or call.label_smoothing:
        return "the targets are soft; the kernels are for class indices"
    return None if kinds.is_fused(call.kind, GAMMA_LIMIT) else f"the kernels do not know {call.kind}"


def loss(call: Call) -> Tensor:
    """As `cbcore_torch._paths.Path`."""
    return by_rows.loss(call, run)


def run(rows: Rows, with_gradient: bool, /) -> Result:
    """As `cbcore_torch._paths.rows.Run`."""
    from cbcore import _kernels

    half, z = rows.z.dtype == torch.bfloat16, rows.z.detach().contiguous()
    losses, gradient = _kernels.run(
        (z.view(torch.uint16) if half else z).numpy(), rows.target.contiguous().numpy(), rows.scale.numpy(),
        kinds.power(rows.kind), threads=torch.get_num_threads(), with_gradient=with_gradient,
    )  # fmt: skip
    result = None if gradient is None else torch.from_numpy(gradient)
    return Result(torch.from_numpy(losses), result.view(torch.bfloat16) if half and result is not None else result)
