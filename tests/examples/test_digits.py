import io
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from rich.console import Console

from examples.digits import data, metrics, report
from examples.digits.__main__ import main
from examples.digits.recipe import LOSSES, WEIGHTINGS, Recipe
from examples.digits.train_torch import train

QUICK = Recipe(epochs=2)


def run_main(capsys, path: Path, *options: str) -> str:
    main(["--seeds", "2", "--epochs", "2", "--out", str(path), *options])
    return capsys.readouterr().out


def constant_scores(few: float, many: float = 0.9) -> metrics.Scores:
    return metrics.Scores(0.9, 0.8, 0.7, many, math.nan, few, np.zeros(10))


def results_with(few_of_balanced, few_of_plain):
    few = {"plain": few_of_plain, "class-balanced": few_of_balanced, "deferred": few_of_plain}
    return {(loss, w): [constant_scores(value) for value in few[w]] for loss in LOSSES for w in WEIGHTINGS}


def rendered(table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


class TestCommand:
    def test_prints_tables_figure_and_conclusion_the_same_every_time(self, capsys, tmp_path):
        path = tmp_path / "new [folder]" / "figure.png"
        first = run_main(capsys, path)
        image = path.read_bytes()
        assert image.startswith(b"\x89PNG")
        assert str(path) in first
        for text in ("Effective", "weight", "Accuracy", "Balanced", "Macro-F1", "Many", "Medium", "Few", *LOSSES):
            assert text in first
        for weighting in WEIGHTINGS:
            assert first.count(f"  {weighting} ") == len(LOSSES)
        assert "few-shot recall" in first

        assert run_main(capsys, path) == first
        assert path.read_bytes() == image

    def test_beta_0_is_plain_and_empty_groups_show_a_dash(self, capsys, tmp_path):
        text = run_main(capsys, tmp_path / "figure.png", "--beta", "0", "--imbalance", "1")
        text = " ".join(text.split("Figure:")[0].split())
        assert "many-shot recall did not change." in text
        assert "few-shot" not in text
        assert " - " in text
        assert "nan" not in text

    @pytest.mark.parametrize(
        ("option", "value", "reason"),
        [
            ("--imbalance", "0.5", "at least 1"),
            ("--imbalance", "135", "at most 134"),
            ("--imbalance", "inf", "finite"),
            ("--beta", "1.5", "from 0 to 1"),
            ("--beta", "nan", "from 0 to 1"),
            ("--gamma", "-1", "at least 0"),
            ("--gamma", "inf", "finite"),
            ("--seeds", "1", "at least 2"),
            ("--epochs", "2.5", "a whole number"),
            ("--epochs", "0", "at least 1"),
            ("--out", "figure.pdf", ".png"),
            ("--framework", "abacus", "torch"),
        ],
    )
    def test_bad_option_is_named_with_the_reason(self, capsys, option, value, reason):
        with pytest.raises(SystemExit, match="2"):
            main([option, value])
        message = capsys.readouterr().err.splitlines()[-1]
        assert option in message
        assert reason in message


class TestData:
    def test_split_is_long_tailed_and_balanced_without_overlap(self):
        labels = np.repeat(np.arange(10), 180)
        train_set, test_set = data.split(labels, 100, np.random.default_rng(0))
        counts = np.bincount(labels[train_set])
        assert counts.tolist() == [134, 80, 48, 28, 17, 10, 6, 3, 2, 1]
        assert np.bincount(labels[test_set]).tolist() == [40] * 10
        assert not set(train_set) & set(test_set)

    def test_problem_depends_on_the_seed_only(self):
        first, again, other = (data.make_problem(seed, 100, QUICK) for seed in (0, 0, 1))
        for name in ("train_images", "train_labels", "test_images", "test_labels", "batches"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(first.batches, other.batches)
        assert not np.array_equal(first.test_images, other.test_images)

    def test_an_epoch_sees_no_sample_twice(self):
        batches = data.make_problem(0, 100, QUICK).batches
        assert batches.shape == (2, 329 // 32, 32)
        assert all(len(np.unique(epoch)) == epoch.size for epoch in batches)

    def test_losses_share_initial_weights_but_for_the_prior(self):
        softmax, focal = data.initial_params(3, "softmax"), data.initial_params(3, "focal")
        for name in ("hidden_weight", "hidden_bias", "head_weight"):
            np.testing.assert_array_equal(softmax[name], focal[name])
        assert not softmax["head_bias"].any()
        np.testing.assert_allclose(1 / (1 + np.exp(-focal["head_bias"])), 0.1, rtol=1e-6)


class TestTraining:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_first_loss_is_that_of_the_core(self, loss):
        import cbcore

        problem = data.make_problem(0, 100, QUICK)
        params, batch = data.initial_params(0, loss), problem.batches[0, 0]
        hidden = np.maximum(problem.train_images[batch] @ params["hidden_weight"] + params["hidden_bias"], 0)
        logits = hidden @ params["head_weight"] + params["head_bias"]
        weights = cbcore.class_weights(problem.class_counts, QUICK.beta)
        names = {"softmax": "softmax_cross_entropy", "sigmoid": "sigmoid_cross_entropy", "focal": "sigmoid_focal_loss"}
        expected = getattr(cbcore, names[loss])(logits, problem.train_labels[batch], weights)
        _, losses = train(problem, loss, "class-balanced", QUICK)
        assert losses[0] == pytest.approx(float(expected), rel=1e-5)
        assert len(losses) == problem.batches[..., 0].size

    def test_deferred_is_plain_at_first_and_weighted_late(self):
        problem = data.make_problem(0, 100, QUICK)
        plain, deferred = (np.array(train(problem, "focal", w, QUICK)[1]) for w in ("plain", "deferred"))
        start = QUICK.late_epoch * problem.batches.shape[1]
        np.testing.assert_array_equal(plain[:start], deferred[:start])
        assert (plain[start:] != deferred[start:]).all()

    def test_leaves_its_input_and_torch_as_they_were(self):
        import torch

        problem, threads, state = data.make_problem(0, 100, QUICK), torch.get_num_threads(), torch.get_rng_state()
        images = problem.train_images.copy()
        train(problem, "softmax", "plain", QUICK)
        np.testing.assert_array_equal(problem.train_images, images)
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)


class TestMetrics:
    def test_against_hand_computed_values(self):
        labels = np.array([0, 0, 1, 1, 2, 2])
        predicted = np.array([0, 0, 1, 0, 0, 0])
        scores = metrics.evaluate(np.eye(3, dtype=np.float32)[predicted], labels, np.array([300, 80, 20]))
        np.testing.assert_allclose(scores.recall, [1, 0.5, 0])
        assert scores.balanced_accuracy == pytest.approx(0.5)
        assert scores.accuracy == pytest.approx((300 * 1 + 80 * 0.5 + 20 * 0) / 400)
        assert scores.macro_f1 == pytest.approx((2 * 2 / 7 + 2 / 3 + 0) / 3)  # 2 tp / (2 tp + fp + fn)
        assert (scores.many, scores.medium) == pytest.approx((1, 0.25))
        assert math.isnan(scores.few)

    def test_shot_groups_at_their_borders(self):
        recall = np.array([0.9, 0.8, 0.6, 0.3, 0.1])
        many, medium, few = metrics.shot_recall(recall, np.array([101, 100, 20, 19, 1]))
        assert (many, medium, few) == pytest.approx((0.9, 0.7, 0.2))

    def test_standard_error(self):
        assert metrics.mean_and_error(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 1 / math.sqrt(3)))

    def test_clear_means_beyond_the_t_interval(self):
        assert metrics.is_clear(np.array([1.0, 1.2, 0.8]))
        assert not metrics.is_clear(np.array([1.0, 2.0, -1.0]))
        assert not metrics.is_clear(np.array([0.0, 0.0]))
        # Two seeds that agree within a factor of two prove little: t = 3 of 12.7 needed.
        assert not metrics.is_clear(np.array([1.0, 2.0]))


class TestReport:
    def test_conclusion_follows_the_numbers(self):
        plain, noisy = [0.50, 0.52, 0.51], [0.7, 0.3, 0.5]
        for balanced, words in (
            ([0.60, 0.63, 0.60], "few-shot recall rose by 10.0 ± 0.6 points"),
            ([0.40, 0.43, 0.40], "few-shot recall fell by 10.0 ± 0.6 points"),
            (noisy, "few-shot recall did not clearly change (-1.0 ±"),
            (plain, "few-shot recall did not change"),
        ):
            text = report.conclusion(results_with(balanced, plain))
            assert words in text
            assert "many-shot recall did not change" in text
            assert "medium" not in text  # no class of that size, so nothing to say

    def test_marks_the_best_only_where_rows_differ(self):
        results = results_with([0.8, 0.82, 0.81, 0.8, 0.8], [0.5, 0.52, 0.51, 0.5, 0.5])
        assert report.among_best(results, "few") == {(loss, "class-balanced") for loss in LOSSES}
        assert report.among_best(results, "many") == set()
        assert report.among_best(results, "medium") == set()

    def test_marks_nothing_with_few_seeds(self):
        assert report.among_best(results_with([0.8, 0.82], [0.5, 0.52]), "few") == set()

    def test_score_table_fits_80_columns(self):
        text = rendered(report.score_table(results_with([1.0, 0.0], [0.5, 0.5])), 80)
        assert "50.0±50.0" in text
        assert "…" not in text
