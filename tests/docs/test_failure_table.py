"""The tables of where implementations break are what running them gives."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ("balanced_loss", "cbloss", "keras", "kornia")


def cells(tables: str) -> dict[tuple[str, str], str]:
    """Return every cell by row and column."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n)+", tables, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines())
        found.update({(row[0], column): cell for row in rows for column, cell in zip(head, row, strict=True)})
    return found


def parted(cell: str) -> tuple[str, list[int]]:
    """Return the words of a cell and its percentages, which depend a little on the processor's exp and log."""
    return re.sub(r"\d+%", "%", cell), [int(number) for number in re.findall(r"(\d+)%", cell)]


def test_the_page_shows_what_the_packages_do() -> None:
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [sys.executable, "-m", "docs.scripts.failure_table"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    page = (ROOT / "docs" / "explanation" / "log-space.md").read_text()
    shown = cells(page.split("<!-- failure tables: begin -->")[1])
    found = cells(run.stdout)
    assert shown.keys() == found.keys()
    for key, cell in shown.items():
        (words, numbers), (found_words, found_numbers) = parted(cell), parted(found[key])
        assert words == found_words, key
        assert numbers == pytest.approx(found_numbers, rel=0.2, abs=3), key
    assert {shown[key] for key in shown if key[1] == "cbcore"} == {"✓", "ValueError, names the class"}
