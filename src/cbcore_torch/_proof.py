"""Kernels that prove themselves on the device that is to run them, before their first number is used.

Nobody has every device, driver and compiler that a kernel will meet. So the first call for a device, a dtype and a
variant of the kernels tries them on two small batches that hold what goes wrong, and compares every loss and every
element of the gradient with the closed form. The outcome is copied to the host in one piece, which waits for the
device; later calls look the verdict up and wait for nothing.

The closed form judges on the CPU, in float64, from the same inputs. So it shares no instruction, no compiler and no
rounding with what it judges, and the bound can be that of the conformance table, which is the kernels' alone.
"""

import platform
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import cbcore

__all__ = ["CAPTURING", "NO_MEMORY", "RELATIVE", "SOFTMAX_FLOOR", "Kernels", "Reference", "refusal"]

# From logits (N, C), targets, the scale of each row and gamma (None: softmax): the loss of each row, and its gradient.
Reference = Callable[[Tensor, Tensor, Tensor, float | None], tuple[Tensor, Tensor]]

# All kernels compute in float32. A loss, and each of the terms that a gradient is the sum of, may be off by so much of
# itself; with softmax by some epsilons more, as it is a difference of numbers that stay large where it gets small.
# These are the bounds of the conformance table (a test compares them), and what a gradient's own dtype rounds is added.
RELATIVE = 4e-6
SOFTMAX_FLOOR = 16

CAPTURING = "not tried yet: a CUDA graph is being captured, and to try them waits for the device"
NO_MEMORY = "not tried yet: the device had no memory left to try them"

_WARNING = (
    "cbcore's kernels ({variant}, {dtype}) failed their test on {device} and are not used: {reason}. Losses and "
    "gradients are right all the same; they come from PyTorch's own operations, which are slower. Please send this "
    "whole text to the developers of cbcore as a bug report ({versions})"
)

_verdicts: dict[tuple[Any, ...], str | None] = {}
_lock = threading.Lock()


class Kernels(Protocol):
    """What is to be proved: the module `_triton`."""

    def variant(self, gamma: float | None, /) -> str:
        """Name the compiled code that serves gamma."""

    def forward(self, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, /) -> tuple[Tensor, Tensor | None]:
        """Return the losses, and what the gradient needs besides."""

    def gradient(
        self, upstream: Tensor, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, stats: Tensor | None, /
    ) -> Tensor:
        """Return the gradient for upstream gradients of the losses."""


def refusal(
    kernels: Kernels, reference: Reference, device: torch.device, dtype: torch.dtype, gamma: float | None
) -> str | None:
    """Return None where the kernels may be used, and otherwise in words why not.

    A verdict holds for as long as the process lives, and a bad one is warned of when it is reached. No verdict is
    reached while a CUDA graph is being captured.
    """
    key = kernels, device, dtype, kernels.variant(gamma)
    if key in _verdicts:
        return _verdicts[key]
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return CAPTURING
    with _lock:
        if key in _verdicts:  # reached by another thread meanwhile
            return _verdicts[key]
        try:
            reason = _tried(kernels, reference, device, dtype, gamma)
        except torch.OutOfMemoryError:
            return NO_MEMORY
        _verdicts[key] = reason
    if reason is not None:
        device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        text = _WARNING.format(variant=key[3], dtype=dtype, device=device_name, reason=reason, versions=_versions())
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return reason


def _versions() -> str:
    triton = getattr(sys.modules.get("triton"), "__version__", "none")
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return f"cbcore {cbcore.__version__}, torch {torch.__version__}, triton {triton}, {runtime}, {platform.platform()}"


def _tried(
    kernels: Kernels, reference: Reference, device: torch.device, dtype: torch.dtype, gamma: float | None
) -> str | None:
    """Return where kernels and reference disagree, or how the kernels failed to run; None if all is well."""
    batches = _batches(dtype)
    try:
        made = [x for batch in batches for x in _outcome(kernels, batch, device, gamma)]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of a compiler or a driver, or for want of a C compiler: it can be anything
        return f"{type(error).__name__}: {error}"
    # Out of the try: what this raises is about the device, or because PyTorch was told to refuse to wait for it.
    whole = torch.cat([x.float().flatten() for x in made]).cpu()
    host = torch.split(whole, [x.numel() for x in made])
    for batch, losses, gradient in zip(batches, host[::2], host[1::2], strict=True):
        reason = _difference(batch, losses, gradient.view(batch.z.shape), reference, gamma)
        if reason is not None:
            return reason
    return None


class _Batch(NamedTuple):
    """What the kernels are given, on the CPU; one upstream gradient for all rows, or one for each."""

    z: Tensor
    target: Tensor
    scale: Tensor
    upstream: Tensor


def _batches(dtype: torch.dtype) -> list[_Batch]:
    """Return two batches that between them take the kernels through all of their code.

    80 classes: several rows to a tile, the last tile not full, 16 elements read at once, and the upstream gradient that
    a sum hands down, of stride 0. 1101 classes: two tiles to a row, the second ragged, elements read one by one.
    """
    few, many = _batch(80, 3, dtype), _batch(1101, 1, dtype)
    return [few._replace(upstream=torch.tensor(-1.5, device="cpu")), many]


def _batch(classes: int, copies: int, dtype: torch.dtype) -> _Batch:
    """Return 15 rows, most of them awkward, or as many again with other numbers."""
    generator = torch.Generator("cpu").manual_seed(classes)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    z = torch.randn(copies, 15, classes, **options) * 3
    y = torch.randint(classes, (copies, 15), generator=generator, dtype=torch.int64, device="cpu")
    scale, upstream = torch.rand(2, copies, 15, **options) + 0.5
    y[:, 1], y[:, 2] = 0, classes - 1
    sign = torch.ones_like(z).scatter_(2, y[..., None], -1.0)  # of v: see `cbcore._formulas.focal_term`
    z[:, 3] = sign[:, 3] * (-8 - z[:, 3].abs())  # all classes told apart: nothing but tails
    z[:, 4], z[:, 5], z[:, 6], z[:, 7] = z[:, 4].sign() * 1e4, sign[:, 5] * 1e4, sign[:, 6] * -1e4, 1e4
    z[:, 8].masked_fill_((z[:, 8] > 2) & (sign[:, 8] > 0), -torch.inf)  # classes that are ruled out
    z[:, 9].scatter_(1, (y[:, 9, None] + 1) % classes, torch.nan)
    y[:, 10], y[:, 11], y[:, 12] = -1, classes, 2**32  # the second within the tile, the third 0 in 32 bits
    scale[:, 10:13] = torch.nan  # as a row scale has it for a target out of range
    z[:, 13], z[:, 14], y[:, 13] = torch.nan, torch.inf, -100
    scale[:, 13:15] = 0  # ignored
    upstream[:, 0] = 0
    return _Batch(z.flatten(0, 1).to(dtype), y.flatten(), scale.flatten(), upstream.flatten())


class _Unwritten(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fill with NaN what is only allocated: an element that no kernel writes must not pass for a zero by chance."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if "empty" in function.__name__ and made.is_floating_point():
            made.fill_(torch.nan)
        return made


def _outcome(kernels: Kernels, batch: _Batch, device: torch.device, gamma: float | None) -> tuple[Tensor, Tensor]:
    """Return the losses and the gradient that the kernels make of a batch."""
    z, target, scale, upstream = (x.to(device, non_blocking=True) for x in batch)
    with torch.no_grad(), _Unwritten():  # type: ignore[no-untyped-call]
        losses, stats = kernels.forward(z, target, scale, gamma)
        return losses, kernels.gradient(upstream.expand(len(z)), z, target, scale, gamma, stats)


def _difference(
    batch: _Batch, losses: Tensor, gradient: Tensor, reference: Reference, gamma: float | None
) -> str | None:
    """Return, of the numbers that are out of bounds, the one that is furthest."""
    z, target = batch.z.double(), batch.target
    scale, upstream = batch.scale.double(), batch.upstream.double().expand(len(z))[:, None]
    loss, slope = reference(z, target, scale, gamma)
    slope = slope * upstream
    terms, floor = slope.abs(), torch.zeros_like(scale)
    single, own = torch.finfo(torch.float32), torch.finfo(batch.z.dtype)
    if gamma is None:
        floor = SOFTMAX_FLOOR * single.eps * scale
        index = target.clamp(0, z.shape[1] - 1)[:, None]  # there the gradient is p - 1: two terms, 1 - p + 2 p
        terms = terms.scatter(1, index, 2 * scale[:, None] * upstream.abs() - terms.gather(1, index))
    rounding = own.eps / 2 if own.bits < 32 else 0.0
    for what, got, right, bound in (
        ("loss", losses, loss, RELATIVE * loss.abs() + floor + single.tiny * z.shape[1]),
        ("gradient", gradient, slope, (RELATIVE + rounding) * terms + floor[:, None] * upstream.abs() + own.tiny * 2),
    ):
        same = (got == right) | (got.isnan() & right.isnan())
        excess = ((got - right).abs() / bound).nan_to_num(nan=torch.inf).masked_fill(same, 0.0)
        if excess.max() > 1:
            at = tuple(int(i) for i in torch.unravel_index(excess.argmax(), excess.shape))
            where = f"{what}{list(at)} of {'softmax' if gamma is None else f'gamma = {gamma:g}'}"
            return f"{where} is {got[at]:.9g} and must be {right[at]:.9g}, within {bound[at]:.2g}"
    return None
