"""Every page tells the truth: its Python blocks run, in order, and print what the page says."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.snippets import NAMES, framework, run, sessions

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SESSIONS = [(page, name) for page in PAGES for name in sessions(page)]


class Roughly:
    """Equal to the same lines with numbers within 15 %: results of training differ between processors."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __eq__(self, other: object) -> bool:
        text, printed = "\n".join(self.lines), "\n".join(other)  # type: ignore[arg-type]
        numbers = [float(number) for number in NUMBER.findall(text)]
        close = [float(number) for number in NUMBER.findall(printed)] == pytest.approx(numbers, rel=0.15)
        return close and NUMBER.sub("", text).split() == NUMBER.sub("", printed).split()

    def __repr__(self) -> str:
        return f"about {self.lines}"


@functools.cache
def report(name: str) -> dict[str, Any]:
    """Run what all pages show for a framework, in one process."""
    pages = [str(page) for page, of in SESSIONS if of == name]
    warnings = [] if name == "tf" else ["-W", "error"]  # TensorFlow warns about itself
    result = subprocess.run(
        [sys.executable, *warnings, "-m", "tests.docs.snippets", name, *pages],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(("page", "name"), SESSIONS, ids=[f"{p.relative_to(ROOT)}-{n}" for p, n in SESSIONS])
def test_snippets_run_and_print_what_the_page_says(page: Path, name: str) -> None:
    ran = report(name)[str(page)]
    for block, (printed, error) in zip(sessions(page)[name], ran["outcomes"], strict=False):
        assert not error, error
        same = block.prints if block.exactly else Roughly(block.prints)
        assert printed == same, f"{page}, line {block.line}"
    figures = set(re.findall(r"!\[.*?\]\(([\w-]+\.svg)\)", page.read_text()))
    assert figures <= {file for of in sessions(page) for file in report(of)[str(page)]["files"]}


def test_readme_shows_every_framework() -> None:
    assert set(sessions(ROOT / "README.md")) == set(NAMES)


def test_a_block_belongs_to_the_framework_that_it_names() -> None:
    assert framework("import keras\nfrom cbcore_jax import x  # not torch") == "jax"
    assert framework("y = keras.ops.sum(x)") == "tf"
    assert framework("y = x.numpy()") is None


def test_a_wrong_claim_and_an_error_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)  # 3\n```\n\n```python\n1 / 0\n```\n")
    blocks = sessions(page)["numpy"]
    good, bad = run(page, blocks)
    assert (good.printed, blocks[0].prints) == (["2"], ["3"])
    assert 'page.md", line 6' in bad.error


def test_roughly_the_same() -> None:
    assert Roughly(["recall 10 %"]) == ["recall 11 %"]
    assert Roughly(["recall 10 %"]) != ["recall 13 %"]
    assert Roughly(["recall 10 %"]) != ["precision 10 %"]
