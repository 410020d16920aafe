"""The README tells the truth: its Python blocks run, in order, each framework's in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def framework(block: str) -> str:
    return next((name for name in ("cbcore_jax", "cbcore_tf") if name in block), "cbcore_torch")


@pytest.mark.parametrize("package", ["cbcore_torch", "cbcore_jax", "cbcore_tf"])
def test_snippets_run(package: str) -> None:
    code = "".join(block for block in BLOCKS if framework(block) == package)
    assert package in code
    warnings = [] if package == "cbcore_tf" else ["-W", "error"]  # TensorFlow warns about itself
    subprocess.run([sys.executable, *warnings, "-c", code], check=True, capture_output=True, text=True)


def test_claims_in_comments_are_what_is_printed() -> None:
    code = "".join(block for block in BLOCKS if framework(block) == "cbcore_torch")
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    claims = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert claims == printed.splitlines()
