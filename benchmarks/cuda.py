"""What only a CUDA device has; and `Rehearsal`, which stands in for all of it where a CPU runs the same programs."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import torch

from benchmarks import machine
from benchmarks.problem import Candidate, Outcome, Problem

T = TypeVar("T")


class Device(Protocol):
    """Where the losses run."""

    name: str  # for tensors
    backend: str  # of torch.compile

    def describe(self) -> dict[str, str]:
        """Return what a reader must know of it."""

    def finish(self) -> None:
        """Wait for it."""

    def waiting_is_an_error(self) -> AbstractContextManager[None]:
        """Raise where an operation makes the host wait for the device."""

    def captured(self, step: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Capture a step in a graph; return its output, which every replay overwrites, and the replay."""

    def copy_floor(self, problem: Problem) -> Candidate:
        """Return the copy of the logits into memory that is there."""

    def extra_memory(self, candidate: Candidate) -> int | None:
        """Return the peak of the memory of a step beyond what was there, in bytes; None where it is not counted."""


class Cuda:
    """The GPU."""

    name = "cuda"
    backend = "inductor"

    def __init__(self) -> None:
        name()

    def describe(self) -> dict[str, str]:
        """As `Device`."""
        memory = torch.cuda.get_device_properties().total_memory
        return {"GPU": f"{name()}, {memory / 2**30:.0f} GiB", "CUDA": str(torch.version.cuda)}

    def finish(self) -> None:
        """As `Device`."""
        torch.cuda.synchronize()

    @contextlib.contextmanager
    def waiting_is_an_error(self) -> Iterator[None]:
        """As `Device`."""
        self.finish()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def captured(self, step: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """As `Device`."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # a few steps beforehand, on another stream, as PyTorch's manual asks
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = step()
        return output, graph.replay

    def copy_floor(self, problem: Problem) -> Candidate:
        """As `Device`."""
        return copy_floor(problem)

    def extra_memory(self, candidate: Candidate) -> int | None:
        """As `Device`."""
        return extra_memory(candidate)


class Rehearsal:
    """A CPU in place of the GPU: no graphs, no count of memory, and a compiler that only traces."""

    name = "cpu"
    backend = "aot_eager"

    def describe(self) -> dict[str, str]:
        """As `Device`."""
        return {"GPU": "none: a rehearsal on a CPU", "CUDA": "none"}

    def finish(self) -> None:
        """As `Device`."""

    def waiting_is_an_error(self) -> AbstractContextManager[None]:
        """As `Device`."""
        return nullcontext()

    def captured(self, step: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """As `Device`; the output is overwritten by what the step computes again."""
        output = step()

        def replay() -> None:
            for old, new in zip(output, step(), strict=True):  # type: ignore[call-overload]
                old.data.copy_(new)

        return output, replay

    def copy_floor(self, problem: Problem) -> Candidate:
        """As `Device`."""
        return machine.copy_floor(problem)

    def extra_memory(self, candidate: Candidate) -> int | None:  # noqa: ARG002
        """As `Device`."""
        return None


def device(name: str) -> Device:
    """Return the device of a name."""
    return Cuda() if name == "cuda" else Rehearsal()


def name() -> str:
    """Return the GPU's name; end the program where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("--device cuda: PyTorch sees no GPU on this machine")
    return torch.cuda.get_device_name()


def copy_floor(problem: Problem) -> Candidate:
    """Return the copy of the logits on the device."""
    source = torch.zeros(problem.rows, problem.classes, dtype=getattr(torch, problem.dtype), device="cuda")
    target = torch.empty_like(source)

    def step() -> torch.Tensor:
        return target.copy_(source)

    return Candidate("copy", "copy", "", step, lambda _: Outcome(0.0, None), finish=torch.cuda.synchronize)


def extra_memory(candidate: Candidate) -> int:
    """Return the peak of the memory of a step beyond what was there, in bytes."""
    with candidate.during():
        candidate.finish()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        candidate.step()
        candidate.finish()
    return torch.cuda.max_memory_allocated() - before
