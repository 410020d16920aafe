"""The Python blocks of a Markdown page: found, and run in order.

    python -m tests.docs.snippets torch PAGE...             # runs what these pages show for PyTorch
    python -m tests.docs.snippets torch PAGE --out FOLDER   # and keeps the files that it writes, figures for example

Fences that open with three backticks and ``python`` are run; ``{code-block} python`` shows code that is not. What a
block prints stands in a fence ``output`` right below it, in a fence ``text`` if its numbers depend on the machine, or
behind its calls as ``print(...)  # text``. The blocks of a page share a namespace, one for each framework, so that
frameworks stay apart: a block belongs to the framework that it names, or else to the first one of the page.
"""

import argparse
import contextlib
import io
import json
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```(output|text)\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
CLAIM = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
NAMES = {"torch": "cbcore_torch|torch", "jax": "cbcore_jax|jax", "tf": "cbcore_tf|tensorflow|keras"}


class Block(NamedTuple):
    """One block, where it stands and what it says that it prints."""

    line: int
    code: str
    prints: list[str]
    exactly: bool


class Outcome(NamedTuple):
    """What a block did: the traceback is empty where all went well."""

    printed: list[str]
    error: str


def sessions(page: Path) -> dict[str, list[Block]]:
    """Return the blocks of a page by framework; "numpy" where the page names none."""
    text = page.read_text()
    found = [_block(text, match) for match in FENCE.finditer(text)]
    named = [framework(block.code) for block in found]
    first = next(filter(None, named), "numpy")
    result: dict[str, list[Block]] = {}
    for name, block in zip(named, found, strict=True):
        result.setdefault(name or first, []).append(block)
    return result


def framework(code: str) -> str | None:
    """Return the framework that a block names: by our package, or else by its own name."""
    for i in range(2):
        for name, words in NAMES.items():
            if re.search(rf"\b({words.split('|', 1)[i]})\b", code):
                return name
    return None


def _block(text: str, match: re.Match[str]) -> Block:
    code, kind, output = match.groups()
    prints = CLAIM.findall(code) if kind is None else output.splitlines()
    return Block(text[: match.start()].count("\n") + 1, code, prints, kind != "text")


def run(page: Path, blocks: list[Block]) -> Iterator[Outcome]:
    """Run blocks in one namespace, up to the first that fails."""
    namespace = {"__name__": "__main__"}
    for line, code, *_ in blocks:
        printed, error = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile("\n" * line + code, page, "exec", dont_inherit=True), namespace)
            except Exception:
                error = traceback.format_exc()
        yield Outcome([text.rstrip() for text in printed.getvalue().splitlines()], error)
        if error:
            return


def main() -> None:
    """Run pages, each in a folder of its own; the last line that is printed holds outcomes and files, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.snippets", description=main.__doc__)
    parser.add_argument("framework")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {}
    for page in options.pages:
        blocks = sessions(page)[options.framework]
        with tempfile.TemporaryDirectory() as temporary, contextlib.chdir((options.out or Path(temporary)).resolve()):
            outcomes = list(run(page, blocks))
            report[str(page)] = {"outcomes": outcomes, "files": sorted(os.listdir())}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
