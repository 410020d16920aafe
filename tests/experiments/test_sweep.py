import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiments import sweep, train
from tests.experiments import tiny


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """The commands that were run, in this process instead of one each; the result of gamma 3 is a failure."""
    seen: list[list[str]] = []

    def run(command, **_):
        seen.append(command)
        code = 1 if "3" in command else train.main(command[3:])
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(sweep.subprocess, "run", run)
    return seen


def options(tmp_path: Path, *more: str) -> list[str]:
    data = tmp_path / "data"
    if not data.exists():
        tiny.write_cifar10(data)
    folders = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work"), "--data", str(data)]
    recipe = [o for i, o in enumerate(tiny.RECIPE) if "--imbalance" not in tiny.RECIPE[max(i - 1, 0) : i + 1]]
    return ["--dataset", "cifar10", *folders, "--device", "cpu", "--threads", "1", *recipe, "--epochs", "1", *more]


def results(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in (tmp_path / "results").glob("*.json"))


GRID = ("--losses", "softmax", "focal", "--betas", "0.9", "--gammas", "1", "--imbalances", "4")


def test_trains_the_grid_and_then_nothing(tmp_path, commands, capsys):
    assert sweep.main(options(tmp_path, *GRID)) == 0
    assert results(tmp_path) == ["cifar10-lt4_focal-g1_beta0.9_seed0_e1", "cifar10-lt4_softmax_beta0.9_seed0_e1"]
    assert len(commands) == 2
    assert "2 cells, 0 finished, 2 to train" in capsys.readouterr().out
    assert sweep.main(options(tmp_path, *GRID, "--seeds", "0", "1", "--losses", "softmax")) == 0
    assert "2 cells, 1 finished, 1 to train" in capsys.readouterr().out
    assert len(commands) == 3
    assert "cifar10-lt4_softmax_beta0.9_seed1_e1" in results(tmp_path)


@pytest.mark.usefixtures("commands")
def test_goes_on_after_a_cell_that_fails_and_says_so(tmp_path, capsys):
    more = ("--losses", "focal", "--betas", "0.9", "--gammas", "3", "1", "--imbalances", "4")
    assert sweep.main(options(tmp_path, *more)) == 1
    assert results(tmp_path) == ["cifar10-lt4_focal-g1_beta0.9_seed0_e1"]
    assert "failed: cifar10-lt4_focal-g3_beta0.9_seed0_e1" in capsys.readouterr().err


@pytest.mark.usefixtures("commands")
def test_several_at_a_time_write_their_lines_into_files(tmp_path):
    assert sweep.main(options(tmp_path, *GRID, "--jobs", "2")) == 0
    assert len(results(tmp_path)) == 2
    assert all((tmp_path / "work" / name / "output.txt").exists() for name in results(tmp_path))


@pytest.mark.usefixtures("commands")
def test_result_of_another_recipe_is_not_taken_for_this_one(tmp_path):
    sweep.main(options(tmp_path, *GRID))
    with pytest.raises(SystemExit, match=r"weight_decay 0\.0002 there, 0\.1 here"):
        sweep.main(options(tmp_path, *GRID, "--weight-decay", "0.1"))


def test_dry_run_lists_what_is_left(tmp_path, commands, capsys):
    more = ("--losses", "softmax", "focal", "--betas", "0", "0.9", "--gammas", "0.5", "2", "--drw", "no", "yes")
    assert sweep.main(options(tmp_path, *more, "--imbalances", "4", "--dry-run")) == 0
    cells = [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines()]
    losses = ("softmax", "focal-g0.5", "focal-g2")
    weights = ("beta0", "beta0.9", "beta0.9_drw")
    assert sorted(cells) == sorted(f"cifar10-lt4_{loss}_{weight}_seed0_e1" for loss in losses for weight in weights)
    assert not commands


def test_mistake_in_an_option_of_train_ends_before_training(tmp_path, commands, capsys):
    with pytest.raises(SystemExit, match="2"):
        sweep.main(options(tmp_path, "--precison", "bfloat16"))
    assert "--precison" in capsys.readouterr().err
    assert not commands


@pytest.mark.usefixtures("commands")
def test_result_is_the_file_that_train_wrote(tmp_path):
    sweep.main(options(tmp_path, *GRID))
    for name in results(tmp_path):
        stored = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert stored == json.loads((tmp_path / "work" / name / "result.json").read_text())
        assert stored["cell"] == name
        logits = np.load(tmp_path / "results" / "logits" / f"{name}.npy")
        assert np.array_equal(logits, np.load(tmp_path / "work" / name / "test_logits.npy"))


@pytest.mark.usefixtures("commands")
def test_logits_of_a_large_test_set_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "LOGITS_BYTES", 1)
    sweep.main(options(tmp_path, *GRID))
    assert results(tmp_path)
    assert not (tmp_path / "results" / "logits").exists()
