"""docs/reference/licences.md: what each extra brings and under which licence, from the installed distributions.

python -m tests.support.licences_page            # writes the page; needs every extra, as `make docs` installs them
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "licences.md"
FOR_USERS = ("torch", "jax", "tf", "fast", "demo", "experiments")
SHORT = {"Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0"}

TEXT = """# Licences of what is installed

cbcore is under Apache-2.0, and contains nothing that others wrote; the page of its documentation that sets mathematics
carries MathJax (Apache-2.0). What pip installs beside it, in the versions of `constraints.txt` on Linux with Python
3.11 and PyTorch's CPU build, as each distribution states its own licence (`python -m tests.support.licences_page`
writes this page, and a test keeps it so). "core" is `pip install cbcore`.

PyTorch's default build for Linux brings NVIDIA's CUDA libraries (`nvidia-*`) as well, which are under NVIDIA's
proprietary licence.

## Extras for users

{users}

## Extras for the development of cbcore

These are never needed to use the losses.

{developers}
"""


def requirements(texts: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    """Return the requirements that hold here, with these extras."""
    found = [Requirement(text) for text in texts]
    return [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("", *extras))]


def project() -> dict[str, list[str]]:
    """Return the requirements of the core and of each extra, as pyproject.toml has them."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"core": table["dependencies"], **table["optional-dependencies"]}


def closure(extra: str) -> set[str]:
    """Return the names of all distributions that an extra brings, without those of the core."""
    own = project()
    names: set[str] = set()
    todo = [(r.name, frozenset(r.extras)) for r in requirements(own[extra], ())]
    seen = set()
    while todo:
        name, extras = todo.pop()
        name = str(canonicalize_name(name))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name == "cbcore":
            todo += [(r.name, frozenset(r.extras)) for e in extras for r in requirements(own[e], ())]
            continue
        names.add(name)
        needs = metadata.distribution(name).requires or []
        todo += [(r.name, frozenset(r.extras)) for r in requirements(needs, extras)]
    return names if extra == "core" else names - closure("core")


def licence(name: str) -> str:
    """Return the licence that a distribution states: as an expression, by classifiers, or in a line of its own."""
    about: Any = metadata.metadata(name)  # a message of `email`, whose type says less than it has
    if expression := about.get("License-Expression"):
        return str(expression)
    kinds = [text.split(" :: ")[-1] for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    line = str(about.get("License", "")).strip()
    # A short line says more than the classifier "BSD License"; some put the whole text there.
    text = line if line and "\n" not in line and len(line) < 40 else ", ".join(k for k in kinds if k != "OSI Approved")
    return SHORT.get(text, text) or of_file(name)


def of_file(name: str) -> str:
    """Return the licence whose text a distribution carries, for those that state none."""
    files = [file for file in metadata.files(name) or [] if file.name.upper().startswith("LICEN")]
    apache = any("Apache License" in file.read_text() for file in files)
    return "Apache-2.0 (licence file)" if apache else "not stated"


def pins() -> dict[str, str]:
    """Return the version of each distribution in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.match(r"\w", line))


def table(extras: Iterable[str], known: set[str]) -> str:
    """Return the table of the distributions that these extras bring and that are not known yet."""
    brought = defaultdict(list)
    for extra in extras:
        for name in closure(extra) - known:
            brought[name].append(extra)
    rows = [f"| {n} | {pins()[n]} | {licence(n)} | {', '.join(brought[n])} |" for n in sorted(brought)]
    known |= set(brought)
    return "\n".join(["| distribution | version | licence | brought by |", "|---|---|---|---|", *rows])


def page() -> str:
    """Return the text of the page."""
    known: set[str] = set()
    users = table(("core", *FOR_USERS), known)
    developers = table([extra for extra in project() if extra not in ("core", *FOR_USERS)], known)
    return TEXT.format(users=users, developers=developers)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
