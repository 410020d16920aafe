"""The contract inside the house: who may import what, read from the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
CORE = SOURCES / "cbcore"
ADAPTERS = ("cbcore_torch", "cbcore_jax", "cbcore_tf")
FRAMEWORKS = re.compile("torch|jax|tensorflow|keras|set_shape", re.IGNORECASE)


def imported(source: str) -> set[str]:
    """Return every module, and every name of a module, that a source imports, in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


def modules(names: set[str], package: str) -> set[str]:
    """Return the modules of a package, without the folder, that are among imported names."""
    inside = {name.removeprefix(f"{package}.").partition(".")[0] for name in names if name.startswith(f"{package}.")}
    return {name for name in inside if (SOURCES / package.replace(".", "/") / f"{name}.py").exists()}


def words(source: str) -> Iterator[str]:
    """Return the names and texts of a source, without what documents it."""
    tree = ast.parse(source)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    for node in ast.walk(tree):
        if id(node) not in documents:
            for value in (getattr(node, field) for field in node._fields):
                yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def contract() -> set[str]:
    """Return the private modules of the core that the table of CONTRIBUTING.md gives to the adapters."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(_\w+)` \|", text, re.MULTILINE))


def test_adapters_import_of_the_core_what_the_contract_names() -> None:
    sources = [path.read_text(encoding="utf-8") for name in ADAPTERS for path in (SOURCES / name).rglob("*.py")]
    assert set().union(*(modules(imported(source), "cbcore") for source in sources)) == contract()


def test_the_contract_can_be_broken() -> None:
    lines = ["from cbcore import _losses", "from cbcore._losses import _about", "import cbcore._losses"]
    lines.append("def f():\n    from cbcore import (_losses as losses)")
    for line in lines:
        assert modules(imported(line), "cbcore") == {"_losses"}
    assert modules(imported("from cbcore import class_weights\nimport cbcore_torch._losses"), "cbcore") == set()


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.name)
def test_the_core_knows_no_framework(path: Path) -> None:
    assert not [word for word in words(path.read_text(encoding="utf-8")) if FRAMEWORKS.search(word)]


def test_words_are_found_wherever_they_stand() -> None:
    for code in ("torch = 1", "x.torch", "f(torch=1)", "def torch(): ...", "x = f'of {y} torch'", "import torch as t"):
        assert [word for word in words(code) if FRAMEWORKS.search(word)], code
    assert [*words('"""Of torch."""\n\ndef f():\n    """Of torch."""  # torch')] == ["f"]


def test_paths_import_their_base_and_never_each_other() -> None:
    paths = {path.stem: path.read_text(encoding="utf-8") for path in (SOURCES / "cbcore_torch" / "_paths").glob("*.py")}
    paths.pop("__init__", None)
    used = {name: modules(imported(source), "cbcore_torch._paths") for name, source in paths.items()}
    base = {"rows": set(), "triton": {"rows", "closed"}}  # Triton's kernels are judged by the closed form
    assert not {name: others for name, others in used.items() if others - base.get(name, {"rows"})}
