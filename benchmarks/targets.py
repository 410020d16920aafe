"""What is asked for: the smallest ratios to the best peer, and the largest costs, of each framework and path."""

from dataclasses import dataclass

from benchmarks.records import Comparison

HUGE, LARGE, WIDE = 20_000_000, 8_000_000, 1_000_000  # logits
FAMILIES = ("softmax", "sigmoid", "focal")

# (framework, path, dtype) -> fewest logits, and the ratio for softmax, sigmoid and focal
RATIOS = {
    ("torch", "numba", "float32"): (LARGE, (2.3, 7.0, 14.0)),
    ("torch", "numba", "bfloat16"): (WIDE, (1.6, 7.5, 14.0)),
    ("torch", "closed form", "float32"): (LARGE, (1.41, 1.98, 5.0)),
    ("torch", "closed form", "bfloat16"): (WIDE, (1.0, 1.8, 2.8)),
    ("jax", "jit", "float32"): (LARGE, (0.95, 3.0, 5.5)),
    ("tf", "graph", "float32"): (LARGE, (1.4, 2.3, 2.2)),
    ("tf", "XLA", "float32"): (LARGE, (1.2, 1.0, 1.25)),
}
DENSE_RATIOS = (1.0, None, 2.5)  # PyTorch, every path: soft or smoothed targets, LARGE logits, float32
COPIES = (2.0, 1.8, 1.8)  # of the numba path on LARGE logits
FRESH = {"closed form": (4.0, 7.0, 20.0), "numba": (6.0, 25.0, 100.0)}  # ratio, 256 x 100,000, float32
EXTRA = {"numba": (1.02, 1.02, 1.02), "closed form": (1.05, 1.10, 1.15)}  # memory over the logits
SMALL_RATIOS = {"numba": (1.0, 1.5, 3.0), "closed form": (0.9, 0.9, 1.4)}  # 128 x 10, float32

# One GPU: (family, rows, classes, dtype) -> seconds; measured against a device copy of 3.0 TB/s.
GPU_SECONDS = {
    ("sigmoid", 8192, 100_000, "float32"): 3.65e-3,
    ("focal", 8192, 100_000, "float32"): 3.65e-3,
    ("sigmoid", 8192, 100_000, "bfloat16"): 1.9e-3,
    ("focal", 8192, 100_000, "bfloat16"): 2.1e-3,
    ("sigmoid", 4096, 8142, "bfloat16"): 90e-6,
    ("focal", 4096, 8142, "bfloat16"): 90e-6,
}
GPU_FOCAL_RATIO = 25.0  # to torchvision's formula


@dataclass(frozen=True)
class Targets:
    """Ratios are at least, the rest at most; None where nothing is asked."""

    ratio: float | None = None
    seconds: float | None = None
    copies: float | None = None
    fresh_ratio: float | None = None
    extra: float | None = None


def targets(comparison: Comparison) -> Targets:
    """Return what is asked of one comparison."""
    ours, problem = comparison.ours, comparison.ours.problem
    column = FAMILIES.index(problem.family)
    if problem.targets != "index":
        is_asked = (ours.framework, ours.device, problem.dtype) == ("torch", "cpu", "float32") and ours.mode in EXTRA
        return Targets(DENSE_RATIOS[column] if is_asked and problem.size >= LARGE else None)
    if ours.device == "cuda":
        seconds = GPU_SECONDS.get((problem.family, problem.rows, problem.classes, problem.dtype))
        return Targets(GPU_FOCAL_RATIO if problem.family == "focal" else None, seconds, extra=1.0)
    fewest, ratios = RATIOS.get((ours.framework, ours.mode, problem.dtype), (0, None))
    ratio = ratios[column] if ratios and problem.size >= fewest else None
    if ours.framework != "torch" or ours.mode not in EXTRA:
        return Targets(ratio)
    if (problem.rows, problem.classes, problem.dtype) == (128, 10, "float32"):
        return Targets(SMALL_RATIOS[ours.mode][column])
    return Targets(
        ratio,
        copies=COPIES[column] if ours.mode == "numba" and problem.size >= LARGE else None,
        fresh_ratio=FRESH[ours.mode][column] if problem.size >= HUGE and problem.dtype == "float32" else None,
        extra=EXTRA[ours.mode][column] if problem.size >= WIDE else None,
    )


def verdict(value: float | None, target: float | None, *, at_least: bool, quiet: bool) -> str:
    """Return what was asked and whether it is met; no judgement where others kept the machine busy."""
    if value is None or target is None:
        return ""
    met = value >= target if at_least else value <= target
    mark = "busy" if not quiet else "met" if met else "MISSED"
    return f" ({'≥' if at_least else '≤'} {target:.3g} {mark})"
