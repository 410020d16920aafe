import json
import math
import re
from xml.etree import ElementTree

import pytest

from experiments import report, tables
from experiments.curves import mean_curve
from experiments.results import Estimate, estimate, read_results
from tests.experiments import tiny

FIGURES = ("figure3", "figure4", "figure5", "figure6", "figure7")


def run(tmp_path, *options: str) -> str:
    base = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]
    assert report.main([*base, *options]) == 0
    return (tmp_path / "report" / "report.md").read_text()


def rendered(tmp_path, counts=None) -> str:
    """Return the page without drawing the figures."""
    return report.render(report.read_paper(), read_results(tmp_path / "results"), tables.read_counts(counts))


def write(tmp_path, error: float, *options: str):
    base = ("--dataset", "cifar10", "--loss", "softmax", "--beta", "0")
    return tiny.write_result(tmp_path / "results", error, *base, *options)


def cells(text: str, first: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first} |")]


def test_paper_has_the_tables_whole():
    paper = report.read_paper()
    for dataset in ("cifar10", "cifar100"):
        rows = tables.table2_rows(paper, dataset)
        assert len(rows) == 6
        assert all(len(row) == 6 for row in rows.values())
        for column in zip(*rows.values(), strict=True):
            best = column[-1][1]
            assert all(best <= error for _, error in column)  # class balancing is best in all of the paper's columns
    for row in paper["table3"]["rows"]:
        assert all(top5 < top1 for top1, top5 in zip(row["top1"], row["top5"], strict=True))
    assert rows["Softmax"][1][1] == 61.68


def test_without_results_every_cell_says_not_run(tmp_path):
    text = rendered(tmp_path)
    (ten, hundred) = cells(text, "Softmax")
    assert ten[1:3] == ["not run (34.32)", "not run (29.64)"]
    assert hundred[6] == "not run (29.07)"
    assert text.count("not run (") == 2 * 6 * 6 + 9 * 6
    assert "**" not in text.replace("**bold**", "")
    assert text.count("\nNot run.\n") == 2
    assert cells(text, "iNaturalist 2018")[0][-1] == "not given"


def test_ours_stand_beside_the_papers_with_the_error_over_seeds(tmp_path):
    for seed, error in enumerate((0.29, 0.30, 0.31)):
        write(tmp_path, error, "--seed", str(seed))
    write(tmp_path, 0.20, "--imbalance", "50", "--precision", "bfloat16")
    row = cells(rendered(tmp_path), "Softmax")[0]
    assert row[2] == "**30.00 ± 0.58** (29.64)"
    assert row[3] == "**20.00** † (25.19)"


def test_only_the_papers_recipe_counts_as_a_reproduction(tmp_path):
    for seed, options in enumerate(("--epochs 40", "--batch-size 64", "--beta 0.9999 --drw", "--weight-decay 0")):
        write(tmp_path, 0.1, *options.split(), "--seed", str(seed))
    text = rendered(tmp_path)
    assert not re.search(r"\*\*10\.00", text)
    assert "| 40 | Softmax | plain | 1 | 10.00 |" in text
    assert "0.9999, deferred" in text
    assert "batch_size 64" in text
    assert "weight_decay 0.0" in text


def test_balanced_row_is_the_papers_best(tmp_path):
    tiny.write_result(
        tmp_path / "results", 0.255, "--dataset", "cifar10", "--loss", "focal", "--gamma", "1", "--beta", "0.9999"
    )
    row = cells(rendered(tmp_path), "Class-balanced")[0]
    assert row[2] == "**25.50** (25.43)"
    assert row[1] == "not run (31.11)"


def test_large_data_sets_have_top_1_and_top_5(tmp_path):
    options = ("--dataset", "inat2018", "--loss", "focal", "--beta", "0.999", "--depth", "101", "--image-size", "320")
    tiny.write_result(tmp_path / "results", 0.32, *options)
    rows = cells(rendered(tmp_path), "ResNet-101")
    assert [row[5] for row in rows] == ["not run (39.47)", "not run (36.12)", "**32.00** (32.02)"]
    assert rows[2][6] == "**8.00** † (14.27)"


def test_far_cells_are_listed_with_their_difference(tmp_path):
    write(tmp_path, 0.35)
    lines = [line for line in rendered(tmp_path).splitlines() if line.startswith("- ")]
    assert lines == ["- CIFAR-10, factor 100, Softmax, β = 0: 35.00 (seeds: 1), paper 29.64, +5.36 points"]


@pytest.mark.parametrize(
    ("mean", "error", "far"), [(31.2, math.nan, False), (31.4, math.nan, True), (31.4, 0.2, False)]
)
def test_far_is_beyond_the_authors_rerun_and_our_error(mean, error, far):
    assert tables.is_far(mean, error, 30.0) is far


def test_estimates_are_mean_and_standard_error():
    assert estimate([1.0, 2.0, 3.0]) == Estimate(2.0, pytest.approx(1 / math.sqrt(3)), 3)
    assert str(estimate([1.0, 2.0, 3.0])) == "2.00 ± 0.58"
    assert str(estimate([1.0])) == "1.00"
    assert str(estimate([math.nan, math.nan])) == "-"


def test_counts_give_the_real_factors(tmp_path):
    counts = tmp_path / "counts"
    counts.mkdir()
    (counts / "inaturalist2018.csv").write_text("class_id,count\n0,1000\n1,2\n")
    (row,) = cells(rendered(tmp_path, counts), "iNaturalist 2018")
    assert row[-1] == "500.00 (of 2 classes, 1,002 images)"


def test_counts_without_their_column_are_an_error(tmp_path, capsys):
    counts = tmp_path / "counts"
    counts.mkdir()
    (counts / "ilsvrc2012.csv").write_text("class_id,number\n0,5\n")
    base = ["--results", str(tmp_path), "--out", str(tmp_path / "report")]
    assert report.main([*base, "--counts", str(counts)]) == 1
    assert "ilsvrc2012.csv must be CSV with a column count" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "{}", '{"recipe": {"dataset": "cifar10"}}'])
def test_what_is_no_result_is_named(tmp_path, content, capsys):
    (tmp_path / "broken.json").write_text(content)
    assert report.main(["--results", str(tmp_path), "--out", str(tmp_path / "report")]) == 1
    assert "broken.json must " in capsys.readouterr().err


def test_figures_are_drawn_and_the_same_every_time(tmp_path):
    for beta in ("0", "0.9", "0.999", "0.9999"):
        for seed in ("0", "1"):
            write(tmp_path, 0.3 - float(beta) / 20 + int(seed) / 100, "--beta", beta, "--seed", seed, "--epochs", "40")
    counts = tmp_path / "counts"
    counts.mkdir()
    (counts / "inaturalist2017.csv").write_text("class_id,count\n0,10\n1,2\n")
    text = run(tmp_path, "--counts", str(counts))
    first = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    assert run(tmp_path, "--counts", str(counts)) == text
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == first
    for name in FIGURES:
        assert f"]({name}.svg)" in text
        ElementTree.fromstring(first[f"{name}.svg"])


def test_figures_are_drawn_without_results(tmp_path):
    run(tmp_path)
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} == set(FIGURES)


def test_curves_are_the_mean_of_the_tested_epochs(tmp_path):
    for seed, error in (("0", 0.2), ("1", 0.4)):
        path = write(tmp_path, error, "--seed", seed, "--epochs", "4")
        result = json.loads(path.read_text())
        result["history"] = [{"epoch": e, "test_error": None if e == 3 else error * e} for e in (1, 2, 3)]
        path.write_text(json.dumps(result))
    (group,) = read_results(tmp_path / "results")
    epochs, errors = mean_curve(group)
    assert epochs == [1, 2]
    assert errors == pytest.approx([30, 60])
