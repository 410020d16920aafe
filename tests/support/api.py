"""The public API as text: names and signatures of all packages, so that a change of one is a line in a diff.

python -m tests.support.api            # writes tests/api.txt
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parents[1] / "api.txt"
PACKAGES = ("cbcore", "cbcore_torch", "cbcore_jax", "cbcore_tf")

DESCRIBE = """
import importlib, inspect, json, sys
module = importlib.import_module(sys.argv[1])
def signature(f):
    full = inspect.signature(f)
    bare = [p.replace(annotation=p.empty) for p in full.parameters.values()]
    return str(full.replace(parameters=bare, return_annotation=full.empty))
def members(name, value):
    name = f"{sys.argv[1]}.{name}"
    yield name + signature(value)
    if inspect.isclass(value):
        ours = [c for c in value.__mro__ if c.__module__.startswith("cbcore")]
        for member in sorted({m for c in ours for m in vars(c) if not m.startswith("_")}):
            found = inspect.getattr_static(value, member)
            kind = {staticmethod: "static ", classmethod: "class "}.get(type(found), "")
            called = callable(getattr(value, member))
            yield f"{kind}{name}.{member}" + (signature(getattr(value, member)) if called else "")
print(json.dumps({
    "all": module.__all__,
    "visible": [n for n, v in vars(module).items() if not (n.startswith("_") or inspect.ismodule(v))],
    "documented": [n for n in module.__all__ if inspect.getdoc(getattr(module, n))],
    "signatures": {n: signature(getattr(module, n)) for n in module.__all__},
    "lines": [line for n in module.__all__ for line in members(n, getattr(module, n))],
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@functools.cache
def describe(package: str, python: str | Path = sys.executable) -> dict[str, Any]:
    """Import a package in a process of its own: frameworks do not share one."""
    command = [str(python), "-c", DESCRIBE, package]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def section(package: str, python: str | Path = sys.executable) -> str:
    """Return what the snapshot says of one package."""
    return "".join(f"{line}\n" for line in describe(package, python)["lines"])


def snapshot() -> str:
    """Return the text of the snapshot."""
    return "\n".join(section(package) for package in PACKAGES)


def recorded(package: str) -> str:
    """Return what the committed snapshot says of one package."""
    return SNAPSHOT.read_text(encoding="utf-8").split("\n\n")[PACKAGES.index(package)].rstrip("\n") + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
