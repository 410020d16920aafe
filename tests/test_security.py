"""What SECURITY.md says: no file that the project reads can run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [name for name in ("src", "examples", "experiments", "benchmarks") if (ROOT / name).is_dir()]
RUN_CODE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "torch.jit.load", "eval", "exec"}


def findings(source: str) -> Iterator[str]:
    """Yield the calls by which a file that is read could run code."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        numpy = name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False"
        if name in RUN_CODE or numpy or (name == "torch.load" and options.get("weights_only") != "True"):
            yield ast.unparse(node)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_that_is_read_can_run_code(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    assert not {path: found for path in files if (found := list(findings(path.read_text(encoding="utf-8"))))}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "pickle.loads(b)",
        "pickle.Unpickler(f).load()",
    ],
)
def test_what_could_run_code_is_found(line: str) -> None:
    assert list(findings(line))


def test_what_could_not_is_left_alone() -> None:
    assert not list(findings("torch.load(f, weights_only=True)\nnp.load(f)\nnp.load(f, allow_pickle=False)"))
