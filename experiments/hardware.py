"""What a result was made with: versions and machine, without names of hosts or users."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    packages = {name: metadata.version(name) for name in ("cbcore", "numpy", "torch")}
    return {"python": platform.python_version(), **packages}


def hardware(device: torch.device, processes: int) -> dict[str, str | int]:
    """Return the processor that trained, and how many threads and processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()
    return {"device": name, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "processes": processes}


def cpu_model() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
