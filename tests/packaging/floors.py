"""Run the tests at the lowest versions that pyproject.toml admits: python -m tests.packaging.floors (`make floors`).

Each extra has an environment of its own in out/floors, with the versions of constraints-floors.txt and nothing else of
ours in it. Needs Python alone, and a package index. A table of what was run where stands at the end.
"""

import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = ROOT / "constraints-floors.txt"
TOOLS = ("hypothesis", "mpmath", "pytest")  # at the versions of constraints.txt: they are not what is tested

# A part of the conformance table, and everything that depends on what a framework can do.
SOME = "(float32 or bfloat16) and (softmax or focal-0.5 or focal-2) and not compiled"
CORE = [f"tests/core/test_{name}.py" for name in ("conformance", "counts", "errors", "weights")]
RUNS: dict[str, tuple[Sequence[str], Sequence[Sequence[str]]]] = {
    "core": (["ml_dtypes"], [[*CORE, "-k", f"(not test_values and not numba) or ({SOME} and not numba)"]]),
    "fast": (["ml_dtypes"], [["tests/core/test_conformance.py", "-k", f"numba and {SOME}"]]),
    "torch": (
        ["ml_dtypes"],
        [
            ["tests/torch/test_conformance.py", "-k", f"{SOME} and not numba"],
            ["tests/torch/test_transforms.py", "tests/torch/test_modes.py", "-k", "not numba"],
        ],
    ),
    "jax": (
        ["absl-py", "array-api-strict"],
        [["tests/jax/test_conformance.py", "-k", SOME], ["tests/jax/test_transforms.py", "tests/jax/test_sharding.py"]],
    ),
    "tf": (
        [],
        [
            ["tests/tf/test_conformance.py", "-k", SOME],
            ["tests/tf/test_functional.py", "tests/tf/test_keras.py", "tests/tf/test_transforms.py"],
        ],
    ),
}


def main(names: Sequence[str]) -> int:
    """Run the tests of the named extras, or of all; return how many of them failed."""
    unknown = set(names) - set(RUNS)
    if unknown:
        raise SystemExit(f"floors: extras must be among {', '.join(RUNS)}, got {', '.join(sorted(unknown))}")
    rows, failed = [], 0
    for name in names or RUNS:
        python = environment(name)
        counts = [run_tests(python, tests) for tests in RUNS[name][1]]
        failed += not all(good for good, _ in counts)
        rows.append(f"| {name} | {', '.join(versions(python, name))} | {'; '.join(text for _, text in counts)} |")
        print(rows[-1], flush=True)
    print("\n| extra | at | tests |\n|---|---|---|", *rows, sep="\n")
    return failed


def environment(name: str) -> Path:
    """Make the environment of an extra; return its Python."""
    folder = ROOT / "out" / "floors" / name
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    extra = "" if name == "core" else f"[{name}]"
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.split("==")[0] in TOOLS]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", FLOORS]
    subprocess.run([*pip, "--editable", f"{ROOT}{extra}", *pinned, *RUNS[name][0]], check=True)
    return python


def run_tests(python: Path, tests: Sequence[str]) -> tuple[bool, str]:
    """Run a part of the tests; return whether all passed, and how many did."""
    # Without CI, under which a framework that is not there is a failure: here all but one are not there, on purpose.
    environ = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTHONPATH")}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stdout[-6000:], result.stderr[-2000:], sep="\n", file=sys.stderr)
    counted = re.findall(
        r"\d+ (?:passed|failed|skipped|errors?)", result.stdout.splitlines()[-1] if result.stdout else ""
    )
    return result.returncode == 0, ", ".join(counted) or "no tests"


def versions(python: Path, name: str) -> list[str]:
    """Return the versions of the requirements of an extra, as they are installed."""
    wanted = {*required("core"), *required(name)}
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split("==")[0].replace("_", "-") in wanted]


def required(name: str) -> dict[str, str]:
    """Return the lowest version of each requirement of an extra, as pyproject.toml states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] if name == "core" else project["optional-dependencies"][name]
    found = {text: re.fullmatch(r"([\w-]+)>=([\d.]+)", text) for text in texts}
    odd = [text for text, match in found.items() if match is None]
    if odd:
        raise SystemExit(f"floors: requirements must be plain lower bounds, got {', '.join(odd)}")
    return {match[1]: match[2] for match in found.values() if match}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
