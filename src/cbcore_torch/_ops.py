"""The primitives of `cbcore._ops.Ops` in PyTorch."""

import torch
from torch import Tensor

exp = torch.exp
log = torch.log
where = torch.where


def upcast(x: Tensor, /) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def cast(x: Tensor, like: Tensor, /) -> Tensor:
    return x.to(like.dtype)


def is_floating(x: Tensor, /) -> bool:
    return x.is_floating_point()


def sqrt(x: Tensor, /) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny).sqrt()


def sigmoid(x: Tensor, /) -> Tensor:
    small = torch.exp(torch.where(x < 0, x, -x))
    return torch.where(x < 0, small, 1.0) / (1.0 + small)


def softplus(x: Tensor, /) -> Tensor:
    return -torch.nn.functional.logsigmoid(-x)  # its own takes x for the value above 20


def log_softmax(x: Tensor, axis: int, /) -> Tensor:
    return torch.log_softmax(x, axis)


def sum(x: Tensor, axis: int | None = None, /) -> Tensor:  # noqa: A001
    return x.sum() if axis is None else x.sum(axis)


def max(x: Tensor, axis: int, /) -> Tensor:  # noqa: A001
    return x.detach().amax(axis)


def size(x: Tensor, /) -> int:
    return x.numel() or 1


def expand_dims(x: Tensor, axis: int, /) -> Tensor:
    return x.unsqueeze(axis)


def one_hot(index: Tensor, size: int, axis: int, /) -> Tensor:
    classes = torch.arange(size, dtype=torch.int64, device=index.device)
    return index.unsqueeze(axis) == classes.view(-1, *(1,) * (index.ndim - axis))


def flip(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
    return torch.where(one_hot(index, x.shape[axis], axis), -x, x)


def take(values: Tensor, index: Tensor, /) -> Tensor:
    return values.index_select(0, index.reshape(-1)).view(index.shape)


def pick(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
    if torch.compiler.is_compiling():  # pragma: no cover  # traced, never run
        # The slope of a gather is a scatter into zeros, which Inductor does not fuse; of this one it compares an iota.
        return -torch.nn.functional.nll_loss(x.movedim(axis, min(1, x.ndim - 1)), index, reduction="none")
    return x.gather(axis, index.unsqueeze(axis)).squeeze(axis)
