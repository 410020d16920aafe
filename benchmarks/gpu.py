"""What only a CUDA device has: its own copy floor, and a count of its memory."""

import torch

from benchmarks.problem import Candidate, Outcome, Problem


def name() -> str:
    """Return the device's name; end the program where there is none."""
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
