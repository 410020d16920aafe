"""The public API: names, signatures that mean the same in every package, and what an import may load."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ["cbcore", "cbcore_torch"]
LOSSES = ["sigmoid_cross_entropy", "sigmoid_focal_loss", "softmax_cross_entropy"]
SOURCES = Path(__file__).parents[1] / "src"

CORE = {"class_counts", "class_weights", "effective_number", "imbalance_factor", "long_tailed_counts"}
NAMES = {
    "cbcore": {*CORE, "long_tailed_indices", "prior_bias", *LOSSES},
    "cbcore_torch": {
        *{"DeferredReweighting", "SigmoidCrossEntropy", "SigmoidFocalLoss", "SoftmaxCrossEntropy"},
        *{"init_prior_bias_", "param_groups", *LOSSES},
    },
}
COMMON = "reduction='mean', label_smoothing=0.0"
SIGNATURES = {
    "cbcore": f"(logits, targets, class_weights=None, *, axis=-1, where=None, {COMMON})",
    "cbcore_torch": f"(input, target, class_weights=None, *, dim=1, ignore_index=-100, sample_weight=None, {COMMON})",
}


def signature(function: object) -> str:
    """Return a signature without its annotations."""
    full = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [p.replace(annotation=p.empty) for p in full.parameters.values()]
    return str(full.replace(parameters=parameters, return_annotation=full.empty))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == sorted(module.__all__)
    assert set(module.__all__) == NAMES[package]
    visible = {
        name for name in vars(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))
    }
    assert visible == NAMES[package]
    assert all(inspect.getdoc(getattr(module, name)) for name in module.__all__)
    assert (SOURCES / package / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("loss", LOSSES)
def test_signatures_agree(package: str, loss: str) -> None:
    expected = SIGNATURES[package]
    if loss == "sigmoid_focal_loss":
        expected = expected.replace("*, ", "*, gamma=0.5, ")
    assert signature(getattr(import_module(package), loss)) == expected


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("cbcore", ["torch", "jax", "tensorflow", "keras", "numba", "scipy", "tests"]),
        ("cbcore_torch", ["jax", "tensorflow", "keras", "cbcore_jax", "cbcore_tf", "tests"]),
    ],
)
def test_import_loads_nothing_else(package: str, forbidden: list[str]) -> None:
    result = python(f"import sys, {package}; print(*[m for m in {forbidden} if m in sys.modules])")
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_the_isolation_test_can_fail() -> None:
    assert python("import sys, cbcore_torch; print('torch' in sys.modules)").stdout.strip() == "True"


@pytest.mark.parametrize(("package", "framework"), [("cbcore_torch", "torch")])
def test_missing_framework_names_the_extra(package: str, framework: str) -> None:
    error = python(f"import sys; sys.modules['{framework}'] = None; import {package}").stderr.splitlines()[-1]
    assert error.startswith("ModuleNotFoundError")
    assert f'pip install "cbcore[{package.removeprefix("cbcore_")}]"' in error


def test_broken_framework_surfaces_unchanged(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import something_that_torch_needs")
    error = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cbcore_torch").stderr.splitlines()[-1]
    assert error == "ModuleNotFoundError: No module named 'something_that_torch_needs'"
