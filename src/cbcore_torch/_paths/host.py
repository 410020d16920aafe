"""Small batches on the CPU that nothing faster takes: the closed form in NumPy, on memory that tensors share.

Of 1,280 logits a NumPy operation costs a third of PyTorch's. What is computed is what `closed` does.
"""

import numpy as np
import torch

from cbcore._arrays import Host
from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows
from cbcore_torch._paths.rows import SMALL, Result

NAME = "NumPy"


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    z = call.input
    if z.numel() > SMALL:
        return f"input has more than {SMALL} logits"
    if z.dtype not in (torch.float32, torch.bfloat16) or not modes.reads_host(z):
        return "input is not float32 or bfloat16 on the CPU, or a TorchDispatchMode wants to see operations"
    if call.label_smoothing or call.target.is_floating_point():
        return "the targets are soft"
    return None if type(call.kind) in (OneVsAll, Softmax) else f"the closed form does not know {call.kind}"


def run(rows: Rows, with_gradient: bool, /) -> Result:
    """As `cbcore_torch._paths.rows.Run`."""
    z, scale, kind = rows.z.detach().float().contiguous().numpy(), rows.scale.numpy(), rows.kind
    at = np.arange(0, z.size, z.shape[1]) + rows.target.numpy()  # the places of the targets in the flat logits
    with np.errstate(all="ignore"):
        losses, slope = _softmax(z, at) if type(kind) is Softmax else _one_vs_all(z, at, kind.gamma)  # type: ignore[attr-defined]
        losses *= scale
        slope *= scale[:, None]
    if rows.masks and np.count_nonzero(scale) < len(scale):
        losses[scale == 0] = 0
        slope[scale == 0] = 0
    return Result(torch.from_numpy(losses), torch.from_numpy(slope).to(rows.z.dtype) if with_gradient else None)


def _softmax(z: Host, at: Host) -> tuple[Host, Host]:
    """Return the loss of each row and its derivatives."""
    shifted = z - z.max(1, keepdims=True)
    p = np.exp(shifted)
    total = np.add.reduce(p, 1)
    losses = np.log(total) - shifted.reshape(-1)[at]
    p /= total[:, None]
    p.reshape(-1)[at] -= 1
    return losses, p


def _one_vs_all(z: Host, at: Host, gamma: float) -> tuple[Host, Host]:
    """As `_softmax`; see `cbcore._formulas.focal_term`, whose v is made here, and `focal_term_derivative`."""
    v = z.copy()
    v.reshape(-1)[at] *= -1
    above, small = np.maximum(v, 0), np.exp(-np.abs(v))
    r = 1 / (1 + small)
    slope, terms = np.exp(np.minimum(v, 0)) * r, np.log1p(small)
    terms += above
    if gamma:
        rising, power = slope, slope**gamma
        slope = np.exp(-above) * r
        slope *= gamma
        slope *= terms
        slope += rising
        slope *= power
        terms *= power
    slope.reshape(-1)[at] *= -1
    return np.add.reduce(terms, 1), slope
