"""Render the tables and figures of the paper, ours beside the paper's: ``python -m experiments.report``."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments import curves, figures, files, tables
from experiments.evaluate import Integers
from experiments.results import Group, read_results

PAPER = Path(__file__).with_name("paper.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``report.md`` and its figures."""
    options = make_parser().parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        groups, counts = read_results(options.results), tables.read_counts(options.counts)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, figure in draw(groups, counts).items():
        figures.save(figure, options.out, name)
    files.write_text(options.out / "report.md", render(read_paper(), groups, counts))
    print(f"{sum(len(group.results) for group in groups)} results: {options.out / 'report.md'}")
    return 0


def read_paper() -> dict[str, Any]:
    """Return the numbers of the paper's tables."""
    paper: dict[str, Any] = json.loads(PAPER.read_text(encoding="utf-8"))
    return paper


def draw(groups: Sequence[Group], counts: Mapping[str, Integers]) -> dict[str, Figure]:
    """Return all figures by the name of their files."""
    return {
        "figure3": figures.figure3(),
        "figure4": figures.figure4(counts),
        "figure5": curves.figure5(groups),
        "figure6": figures.figure6(),
        "figure7": curves.figure7(groups),
    }


def render(paper: dict[str, Any], groups: Sequence[Group], counts: Mapping[str, Integers]) -> str:
    """Return the whole page."""
    far = tables.far_cells(paper, groups)
    parts = [
        "# The paper's tables and figures",
        f"Made by `python -m experiments.report`. The paper: {paper['source']}\n"
        "All values are percent. Ours are **bold**: the mean over seeds ± its standard error, or a single run. "
        "The paper's stand in parentheses.",
        "## Table 1: data sets",
        tables.table1(paper, counts),
        "## Table 2: test error of ResNet-32 on long-tailed CIFAR",
        tables.table2(paper, groups, "cifar10"),
        tables.table2(paper, groups, "cifar100"),
        "Only the paper's recipe of 200 epochs counts here. The class-balanced row takes the hyper-parameters that the "
        f"paper found best. † differs from the paper by more than {tables.RERUN} points, which is what a second run of "
        "the authors' own code differs by, plus our standard error where there are several seeds.",
        "\n".join(far) if far else "No cell that was run is marked.",
        "## Table 3: validation error on large data sets",
        tables.table3(paper, groups),
        "## All cells",
        "Many, medium and few are the mean recall of classes with more than 100, 20 to 100 and fewer than 20 training "
        "samples; - where there is no such class.",
        tables.all_cells(groups) if groups else tables.NOT_RUN.capitalize() + ".",
        "## Calibration of the softmax losses",
        "Expected calibration error (15 bins, percent) and negative log-likelihood on the test set, before and "
        "after log w is subtracted from the logits. A class-balanced softmax learns p(y | x) · w_y, normalised. The "
        "subtraction restores the probabilities of the *training* distribution, which a balanced test set does not "
        "have.",
        tables.calibration(groups) if groups else tables.NOT_RUN.capitalize() + ".",
        *(f"## {title}\n\n![{title}]({name}.svg)" for name, title in FIGURES.items()),
    ]
    return "\n\n".join(parts) + "\n"


FIGURES = {
    "figure3": "Figure 3: the class-balanced term",
    "figure4": "Figure 4: training samples per class",
    "figure5": "Figure 5: test error with and without the class-balanced term",
    "figure6": "Figure 6: effective number of samples",
    "figure7": "Figure 7: training curves",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--results", type=Path, default=Path("experiments/results"), help="folder of JSON files")
    add("--out", type=Path, default=Path("experiments/report"), help="folder for report.md and the figures")
    add("--counts", type=Path, help="folder of CSV files with the class counts of the large data sets")
    return parser


if __name__ == "__main__":
    sys.exit(main())
