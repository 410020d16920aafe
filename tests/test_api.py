"""The public API: names, signatures that mean the same in every package, and what an import may load."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import api
from tests.support.api import describe
from tests.support.losses import FAMILIES, Family

SOURCES = Path(__file__).parents[1] / "src"
FRAMEWORKS = {"cbcore_torch": "torch", "cbcore_jax": "jax", "cbcore_tf": "tensorflow"}
PACKAGES = ["cbcore", *FRAMEWORKS]
LOSSES = {family.function for family in FAMILIES.values()}
CLASSES = {family.criterion for family in FAMILIES.values()}
COUNTS = {"class_counts", "imbalance_factor", "long_tailed_counts", "long_tailed_indices"}
PRIORS = {"class_weights", "effective_number", "logit_adjustment", "prior_bias", "beta_from_ratio", "beta_grid"}
AFTER = {"PriorChoice", "adjust_logits", "choose_prior", "posterior"}
NAMES = {
    "cbcore": LOSSES | COUNTS | PRIORS | AFTER,
    "cbcore_torch": LOSSES | CLASSES | {"DeferredReweighting", "init_prior_bias_", "param_groups", "paths"},
    "cbcore_jax": LOSSES,
    "cbcore_tf": LOSSES | CLASSES | {"class_weight_dict"},
}
COMMON = "reduction='mean', label_smoothing=0.0, unlabelled_weight=None"
SIGNATURES = {
    "cbcore": f"(logits, targets, class_weights=None, *, axis=-1, where=None, {COMMON})",
    "cbcore_torch": f"(input, target, class_weights=None, *, dim=1, ignore_index=-100, sample_weight=None, {COMMON})",
    "cbcore_jax": f"(logits, targets, class_weights=None, *, axis=-1, where=None, {COMMON})",
    "cbcore_tf": f"(y_true, y_pred, class_weights=None, *, axis=-1, ignore_class=None, sample_weight=None, {COMMON})",
}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names(package: str) -> None:
    module = describe(package)
    assert module["all"] == sorted(NAMES[package])
    assert set(module["visible"]) == NAMES[package]
    assert module["documented"] == module["all"]
    assert (SOURCES / package / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_signatures_agree(package: str, family: Family) -> None:
    own = "".join(f"{name}={default}, " for name, default in family.options.items())
    assert describe(package)["signatures"][family.function] == SIGNATURES[package].replace("*, ", f"*, {own}")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_snapshot_is_current(package: str) -> None:
    assert api.section(package) == api.recorded(package), "if it is meant: python -m tests.support.api"


def test_the_snapshot_has_every_package() -> None:
    assert tuple(PACKAGES) == api.PACKAGES
    lines = api.SNAPSHOT.read_text(encoding="utf-8").splitlines()
    assert "class cbcore_torch.SoftmaxCrossEntropy.from_counts(" in "".join(lines)
    assert len(lines) == len(set(lines) - {""}) + len(PACKAGES) - 1


@pytest.mark.parametrize("package", [p for p in PACKAGES if NAMES[p] >= CLASSES])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_classes_take_class_weights_first(package: str, family: Family) -> None:
    signature = describe(package)["signatures"][family.criterion]
    assert signature.startswith("(class_weights=None, *, ")
    known = {name: default for other in FAMILIES.values() for name, default in other.options.items()}
    assert {name: default for name, default in known.items() if f"{name}={default}" in signature} == family.options


@pytest.mark.parametrize("package", PACKAGES)
def test_import_loads_nothing_else(package: str) -> None:
    forbidden = {*PACKAGES[1:], *FRAMEWORKS.values(), "keras", "numba", "scipy", "triton", "tests"} - {package}
    framework = {**FRAMEWORKS, "cbcore_tf": "keras, tensorflow"}.get(package, "array_api_compat")
    alone = python(f"import sys, {framework}; print(*sys.modules)").stdout.split()  # loads what it likes
    assert not forbidden & (set(describe(package)["loaded"]) - set(alone))


def test_the_isolation_test_can_fail() -> None:
    assert {"torch", "cbcore"} <= set(describe("cbcore_torch")["loaded"])


@pytest.mark.parametrize(("package", "framework"), FRAMEWORKS.items())
def test_missing_framework_names_the_extra(package: str, framework: str) -> None:
    error = python(f"import sys; sys.modules['{framework}'] = None; import {package}").stderr.splitlines()[-1]
    assert error.startswith("ModuleNotFoundError")
    assert f'pip install "cbcore[{package.removeprefix("cbcore_")}]"' in error


@pytest.mark.parametrize(("package", "framework"), FRAMEWORKS.items())
def test_broken_framework_surfaces_unchanged(package: str, framework: str, tmp_path: Path) -> None:
    (tmp_path / f"{framework}.py").write_text("import something_that_it_needs")
    error = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {package}").stderr.splitlines()[-1]
    assert error == "ModuleNotFoundError: No module named 'something_that_it_needs'"
