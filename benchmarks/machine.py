"""The machine: what it is, its heap, and the floor that its memory sets."""

import ctypes
import itertools
import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.problem import Array, Candidate, Outcome, Problem

PACKAGES = (
    "cbcore", "numpy", "scipy", "numba", "torch", "triton", "jax", "jaxlib", "optax", "tensorflow", "keras",
    "balanced-loss", "cbloss", "kornia", "liger-kernel",
)  # fmt: skip
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def threads() -> int:
    """Return how many cores this process may use; every framework takes that many threads by itself."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def name() -> str:
    """Return a name for files: processor and number of cores."""
    return re.sub(r"[^a-z0-9]+", "-", f"{cpu_model()} {os.cpu_count()} cores".lower()).strip("-")


def header() -> dict[str, str]:
    """Return what a reader must know to judge the numbers."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "CPU": cpu_model(),
        "Cores": str(os.cpu_count()),
        "Threads": str(threads()),
        "Python": platform.python_version(),
        "Packages": ", ".join(versions),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def keep_heap_warm(size: int) -> bool:
    """Make malloc keep what is freed, and touch `size` bytes once; return whether that worked.

    glibc gives every block above 32 MiB back to the system, and a new one costs several times what the copy of its
    contents costs. All candidates are spared that alike; the fresh processes show what it makes of them.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc, free = libc.mallopt, libc.malloc, libc.free
    except AttributeError:  # not glibc
        return False
    # One arena: those of other threads cannot hold a large block, and would fetch it from the system again.
    if not (mallopt(_ARENA_MAX, 1) and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1)):
        return False
    # Not by NumPy: it asks for huge pages, which most blocks of most candidates do not have in a training process.
    malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    size = min(size, _memory() // 4, 2**31 - 2**26)  # glibc trims a larger one all the same
    ballast = malloc(size)
    ctypes.memset(ballast, 1, size)
    free(ballast)
    return True


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def trim_heap() -> None:
    """Give all free memory back to the system, so that the next block that is needed counts."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def copy_floor(problem: Problem) -> Candidate:
    """Return the copy of the logits into memory that is there: no loss with a gradient can be faster."""
    source = np.ones(problem.bytes, np.uint8)
    target = np.ones_like(source)
    count = threads() if problem.bytes > 1 << 18 else 1
    bounds = [problem.bytes * i // count for i in range(count + 1)]
    parts = [slice(low, high) for low, high in itertools.pairwise(bounds)]
    pool = ThreadPoolExecutor(count)

    def copy(part: slice) -> None:
        np.copyto(target[part], source[part])  # without the interpreter lock

    def step() -> Array:
        others = [pool.submit(copy, part) for part in parts[1:]]
        copy(parts[0])
        for other in others:
            other.result()
        return target

    return Candidate("copy", "copy", "", step, lambda _: Outcome(0.0, None))
