"""One process or several: what each one does of a batch, and what they tell each other."""

import gc
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Processes(NamedTuple):
    """The rank of this process, and how many there are."""

    rank: int = 0
    size: int = 1

    def part(self, batches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the equal share of the last axis that this process has."""
        share, rest = divmod(batches.shape[-1], self.size)
        if rest:
            raise ValueError(
                f"--batch-size must be a multiple of the number of processes, {self.size}, got {batches.shape[-1]}"
            )
        return np.ascontiguousarray(batches[..., self.rank * share : (self.rank + 1) * share])

    def rows(self, total: int) -> range:
        """Return the share of `total` rows that this process has."""
        return range(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def distributed(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients that are averaged over the processes."""
        return DistributedDataParallel(model) if self.size > 1 else model

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


def start(device: torch.device) -> Processes:
    """Join the processes that ``torchrun`` started, if it did."""
    if "WORLD_SIZE" not in os.environ:
        return Processes()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def stop() -> None:
    """Leave the group, and end its threads.

    They hold the last tensors that were sent, and must let go of them before the interpreter ends, or they abort it.
    A distributed model keeps the group alive until its reference cycles are collected.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def pick_device(name: str | None) -> torch.device:
    """Return the device of this process: the named one, or a GPU if there is one."""
    chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    return chosen
