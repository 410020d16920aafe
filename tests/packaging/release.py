"""The release checklist, as far as a machine can tick it: python -m tests.packaging.release (`make release-check`).

Needs the extra ``release``, git and a package index. See "How to release" in CONTRIBUTING.md.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from hashlib import sha256
from pathlib import Path

from tests.support import api

ROOT = Path(__file__).parents[2]
VERSION_FILE = "src/cbcore/__init__.py"


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command and return what it prints; what it says is shown when it fails."""
    words = [str(word) for word in command]
    env = {**os.environ, **environment}
    result = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"release-check: {' '.join(words)} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def require(condition: object, reason: str) -> None:
    """Stop with the reason if the condition does not hold."""
    if not condition:
        raise SystemExit(f"release-check: {reason}")


def version(root: Path = ROOT) -> str:
    """Return the version: it stands in one file, and all else reads it there."""
    found = re.search(r'^__version__ = "(.+)"$', (root / VERSION_FILE).read_text(encoding="utf-8"), re.MULTILINE)
    require(found, f"{VERSION_FILE} must have a line __version__ = ...")
    assert found
    return found[1]


def changelog(root: Path = ROOT) -> None:
    """Collect the fragments. The version is told: towncrier would take that of an installation that may be older."""
    print(run(sys.executable, "-m", "towncrier", "build", "--yes", "--version", version(root), cwd=root))


def check_changelog(root: Path = ROOT) -> None:
    """Require that the newest section of the changelog is of this version, and that no fragment is left over."""
    sections = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    left = sorted(path.name for path in (root / "changelog.d").glob("*.md"))
    require(
        not left, f"changelog.d must be empty, got {', '.join(left)}; run `make changelog` and commit what it wrote"
    )
    newest = sections[0] if sections else "none"
    require(
        newest == version(root),
        f"the newest section of CHANGELOG.md must be of version {version(root)}, got {newest}; "
        f"raise __version__ in {VERSION_FILE}, or run `make changelog`",
    )
    require(len(sections) == len(set(sections)), f"CHANGELOG.md must have a section once, got {sections}")


def build(source: Path, out: Path) -> dict[str, str]:
    """Build sdist, and wheel from the sdist, with the pinned backend; return the SHA-256 of each."""
    epoch = run("git", "log", "-1", "--format=%ct").strip() if (ROOT / ".git").exists() else "1577836800"
    pinned = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run(sys.executable, "-m", "build", "--outdir", out, source, SOURCE_DATE_EPOCH=epoch, **pinned)
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def check_metadata(out: Path) -> None:
    """Let twine look at what an index would refuse."""
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(out.iterdir()))


def check_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel alone into a fresh environment; it must be this version and have the recorded API."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", constraints, wheel)
    command = "import cbcore, importlib.metadata as m; print(cbcore.__version__, m.version('cbcore'), cbcore.__file__)"
    told, installed, file = run(python, "-c", command, cwd=folder, PYTHONPATH="").split()
    require(told == installed == version(), f"the wheel must be version {version()}, got {told} and {installed}")
    require(Path(file).is_relative_to(folder), f"the wheel's cbcore must be imported, got {file}")
    os.environ.pop("PYTHONPATH", None)  # the wheel's API, not that of the sources
    same = api.section("cbcore", python) == api.recorded("cbcore")
    require(same, "the API must be the one of tests/api.txt; if it is meant: python -m tests.support.api")


def main() -> None:
    """Tick the list."""
    start = time.monotonic()

    def tick(text: str) -> None:
        print(f"[{time.monotonic() - start:4.0f} s] {text}", flush=True)

    changed = run("git", "status", "--porcelain").splitlines()
    require(not changed, "the tree must be clean, got\n  " + "\n  ".join(changed) + "\ncommit or remove these")
    tick("clean tree")
    check_changelog()
    tick(f"version {version()} and CHANGELOG.md agree")
    tag = f"v{version()}"
    tags = run("git", "tag", "--list", tag).split()
    require(
        not tags or run("git", "rev-list", "-1", tag) == run("git", "rev-list", "-1", "HEAD"),
        f"the tag {tag} must not be of another commit; raise __version__ in {VERSION_FILE}",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder / "clone")
        first, second = build(ROOT, folder / "a"), build(folder / "clone", folder / "b")
        require(first == second, f"two builds must be equal, got {first} and {second}")
        tick("two builds, from here and from a clone, are equal")
        check_metadata(folder / "a")
        tick("twine check --strict")
        (wheel,) = (folder / "a").glob("*.whl")
        check_wheel(wheel, folder / "env")
        tick("the wheel installs with NumPy alone, and its API is the recorded one")
        dist = ROOT / "dist"
        dist.mkdir(exist_ok=True)
        for file, digest in first.items():
            (dist / file).write_bytes((folder / "a" / file).read_bytes())
            print(f"{digest}  dist/{file}")
    print(f"Left to do: `make check`, `make floors`; then tag {tag} and upload these two files (CONTRIBUTING.md).")


if __name__ == "__main__":
    main()
