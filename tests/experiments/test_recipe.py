import ast
import dataclasses

import pytest
import torch

from experiments import build, cifar, engine
from experiments.options import parse
from experiments.processes import Processes
from experiments.recipe import Recipe, learning_rate, scaled
from tests.experiments import tiny


def recipe_of(dataset: str, loss: str, *options: str) -> Recipe:
    base = ["--dataset", dataset, "--loss", loss, "--beta", "0.999", "--data", "data", "--out", "out"]
    return parse([*base, *options])[0]


class TestDefaults:
    def test_cifar_is_the_papers(self):
        recipe = recipe_of("cifar10", "softmax")
        assert dataclasses.asdict(recipe) == {
            "dataset": "cifar10", "loss": "softmax", "beta": 0.999, "gamma": None, "seed": 0, "epochs": 200,
            "imbalance": 100, "max_count": 5000, "depth": 32, "image_size": 32, "batch_size": 128,
            "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": False, "decay_norms": True,
            "warmup_epochs": 5, "milestones": (160, 180), "decay": 0.01, "drw_epoch": None,
            "precision": "float32", "sync_bn": False,
        }  # fmt: skip
        assert recipe_of("cifar100", "softmax").max_count == 500

    @pytest.mark.parametrize(
        ("dataset", "loss", "rate"),
        [
            ("ilsvrc2012", "softmax", 0.4),
            ("ilsvrc2012", "focal", 0.8),
            ("inat2017", "focal", 1.6),
            ("inat2018", "focal", 1.6),
        ],
    )
    def test_large_scale_is_the_papers(self, dataset, loss, rate):
        recipe = recipe_of(dataset, loss)
        assert recipe.learning_rate == pytest.approx(rate)
        assert (recipe.epochs, recipe.batch_size, recipe.milestones, recipe.decay) == (90, 1024, (30, 60, 80), 0.1)
        assert (recipe.weight_decay, recipe.nesterov, recipe.decay_norms, recipe.warmup_epochs) == (
            1e-4,
            True,
            False,
            5,
        )
        assert recipe.gamma == (0.5 if loss == "focal" else None)
        assert recipe_of(dataset, loss, "--batch-size", "256").learning_rate == pytest.approx(rate / 4)

    def test_schedule_is_scaled_to_the_epochs_and_drw_begins_at_the_first_milestone(self):
        recipe = recipe_of("cifar10", "focal", "--epochs", "40", "--drw")
        assert (recipe.milestones, recipe.warmup_epochs, recipe.drw_epoch, recipe.gamma) == ((32, 36), 1, 32, 1)
        assert recipe.cell == "cifar10-lt100_focal-g1_beta0.999_drw_seed0_e40"
        assert scaled((30, 60, 80), 9, 90) == (3, 6, 8)

    def test_cells_of_beta_close_to_1_have_names_of_their_own(self):
        assert (
            dataclasses.replace(recipe_of("cifar10", "softmax"), beta=0.99999999).cell.split("_")[2] == "beta0.99999999"
        )


class TestLearningRate:
    def test_warms_up_linearly_and_drops_at_the_milestones(self):
        recipe = recipe_of("cifar10", "softmax")
        steps = [0, 10, 49, 50, 1599, 1600, 1799, 1800, 1999]
        rates = [learning_rate(recipe, step, steps_per_epoch=10) for step in steps]
        assert rates == pytest.approx([0, 0.02, 0.098, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])

    def test_no_warmup_starts_at_the_full_rate(self):
        assert learning_rate(recipe_of("cifar10", "softmax", "--warmup-epochs", "0"), 0, 10) == 0.1


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--beta", "1.5"], "from 0 to 1"),
            (["--gamma", "-1"], "at least 0"),
            (["--epochs", "2.5"], "a whole number"),
            (["--imbalance", "0.5"], "at least 1"),
            (["--image-size", "224"], "is for inat2017, inat2018, ilsvrc2012"),
            (["--dataset", "inat2017", "--imbalance", "100"], "--imbalance is for cifar10, cifar100"),
            (["--loss", "hinge"], "softmax"),
        ],
    )
    def test_bad_option_is_named_with_the_reason(self, capsys, options, reason):
        with pytest.raises(SystemExit, match="2"):
            recipe_of("cifar10", "softmax", *options)
        message = capsys.readouterr().err.splitlines()[-1]
        assert next(option for option in reversed(options) if option.startswith("--")) in message
        assert reason in message


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tiny.write_cifar10(tmp_path_factory.mktemp("data"))
    return cifar.load(folder, recipe_of("cifar10", "softmax", *tiny.RECIPE), torch.device("cpu"))


class TestBuild:
    def recipe(self, loss: str, *options: str) -> Recipe:
        return recipe_of("cifar10", loss, *tiny.RECIPE, *options)

    def run(self, data, recipe: Recipe) -> engine.Run:
        return build.make_run(recipe, data, torch.device("cpu"), Processes())

    def decayed(self, run: engine.Run) -> dict[str, bool]:
        groups = run.optimizer.param_groups
        decay = {id(p): group["weight_decay"] > 0 for group in groups for p in group["params"]}
        return {name: decay[id(p)] for name, p in run.model.named_parameters()}

    def test_softmax_decays_everything_and_starts_without_bias(self, data):
        run = self.run(data, self.recipe("softmax"))
        assert all(self.decayed(run).values())
        assert not run.model.head.bias.any()

    @pytest.mark.parametrize("loss", ["sigmoid", "focal"])
    def test_sigmoid_and_focal_start_at_the_prior_and_do_not_decay_it(self, data, loss):
        run = self.run(data, self.recipe(loss))
        torch.testing.assert_close(run.model.head.bias.sigmoid(), torch.full((10,), 0.1))
        assert [name for name, decayed in self.decayed(run).items() if not decayed] == ["head.bias"]

    def test_norms_are_not_decayed_where_the_recipe_says_so(self, data):
        kept = [n for n, d in self.decayed(self.run(data, self.recipe("softmax", "--no-decay-norms"))).items() if not d]
        assert "head.bias" in kept
        assert all("bn" in name or name in ("head.bias", "stem.1.weight", "stem.1.bias") for name in kept)
        assert len(kept) == 15

    def test_beta_0_is_plain_and_deferred_weights_wait(self, data):
        plain = self.run(data, self.recipe("softmax", "--beta", "0"))
        assert (plain.criterion.class_weights == 1).all()
        deferred = self.run(data, self.recipe("softmax", "--epochs", "5", "--drw"))
        assert deferred.recipe.drw_epoch == 4
        weights = []
        for _ in range(5):
            weights.append(float(deferred.criterion.class_weights[0]))
            engine.end_epoch(deferred, 0.0, None)
        assert weights[:4] == [1, 1, 1, 1]
        assert weights[4] < 1

    def test_seeds_and_nothing_else_choose_the_initial_weights(self, data):
        first, again, other = (
            self.run(data, self.recipe(loss, "--seed", seed)).model.stem[0].weight
            for loss, seed in (("softmax", "0"), ("focal", "0"), ("softmax", "1"))
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_both_command_lines_read_numbers_alike():
    """The reader is written twice, so that either folder runs alone."""
    readers = {}
    for file, name in (("experiments/options.py", "number"), ("examples/digits/__main__.py", "_bounded")):
        functions = ast.walk(ast.parse((tiny.ROOT / file).read_text()))
        (found,) = [f for f in functions if isinstance(f, ast.FunctionDef) and f.name == name]
        readers[name] = [ast.unparse(found.args), *map(ast.unparse, found.body[1:])]
    assert readers["number"] == readers["_bounded"]
