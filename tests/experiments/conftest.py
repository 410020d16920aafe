"""What the experiments need beside PyTorch; without it their tests are left out."""

import importlib.util

NEEDED = ("torch", "matplotlib", "PIL", "rich")
collect_ignore_glob = ["*"] if any(importlib.util.find_spec(name) is None for name in NEEDED) else []
