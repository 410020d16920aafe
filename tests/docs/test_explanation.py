"""Every page of the explanation has all its parts, and the code and tests that it names exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "explanation").glob("*.md"))
REFERENCE = re.compile(r"`((?:src|tests|docs|examples)/[\w./-]+)(?:::(\w+))?`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@each_page
def test_code_and_tests_that_a_page_names_exist(page: Path) -> None:
    for path, name in REFERENCE.findall(page.read_text()):
        assert (ROOT / path).exists(), path
        assert not name or name in names(ROOT / path), f"{path}::{name}"


def names(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@each_page
def test_a_page_of_mathematics_has_every_part(page: Path) -> None:
    if page.stem in ("index", "choose-beta"):
        return
    headings = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    parts = ["Statement", "Proof", "Numerics", "Where in the code", "Tested by"]
    assert [heading for heading in headings if heading in parts] == parts
    assert REFERENCE.search(page.read_text().split("## Tested by")[1])


def test_a_wrong_name_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`src/cbcore/_weights.py::no_such_function`")
    with pytest.raises(AssertionError, match="no_such_function"):
        test_code_and_tests_that_a_page_names_exist(page)
