"""The class counts of the data sets in Table 1 of the paper, packed for the page that draws them.

python -m docs.scripts.class_counts docs/_static/choose-beta-data.js
"""

import sys
from collections import Counter
from pathlib import Path

FILES = {
    "iNaturalist 2017": "inaturalist2017.txt",
    "iNaturalist 2018": "inaturalist2018.txt",
    "ILSVRC 2012": "ilsvrc2012.txt",
}
HEAD = """// Class counts as "count*classes" or "count", largest first. Made by `python -m docs.scripts.class_counts`.
"use strict";
const CLASS_COUNTS = {
"""
FOOT = """};
if (typeof module === "object") module.exports = CLASS_COUNTS;
"""


def pack(counts: list[int]) -> str:
    """Return "count*classes", or "count" for a single class, for each different count in descending order."""
    parts = sorted(Counter(counts).items(), reverse=True)
    return " ".join(f"{count}*{classes}" if classes > 1 else str(count) for count, classes in parts)


def script(folder: Path) -> str:
    """Return the JavaScript."""
    packed = {name: pack([int(n) for n in (folder / file).read_text().split()]) for name, file in FILES.items()}
    return HEAD + "".join(f'  "{name}": "{text}",\n' for name, text in packed.items()) + FOOT


if __name__ == "__main__":
    made = script(Path(__file__).parents[2] / "tests" / "data")
    for page in sys.argv[1:]:
        Path(page).write_text(made)
