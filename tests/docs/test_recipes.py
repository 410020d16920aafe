"""The functions that pages hand to the reader, taken from there and tried on more than the page shows."""

import itertools
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cbcore
import cbcore_torch
from cbcore_torch import SoftmaxCrossEntropy
from tests.docs.snippets import sessions
from tests.support.losses import criteria

DOCS = Path(__file__).parents[2] / "docs"
LOSSES = [*criteria(cbcore_torch).values()]
COUNTS = [900, 90, 10]


def namespace(page: str, *names: str) -> dict[str, Any]:
    """Run the blocks of a page, for PyTorch, up to those that define the names."""
    found: dict[str, Any] = {}
    for block in sessions(DOCS / page)["torch"]:
        exec(block.code, found)
        if found.keys() >= set(names):
            return found
    raise AssertionError(f"{page} must define {names}")


class TestTrainer:
    """`compute_loss_func` for Hugging Face's Trainer."""

    @pytest.fixture
    def page(self) -> dict[str, Any]:
        return namespace("how-to/accumulation-and-ddp.md", "compute_loss_func")

    @pytest.mark.parametrize("pieces", [1, 2, 8, 64])
    @pytest.mark.parametrize("floats", [False, True], ids=["indices", "floats"])
    @pytest.mark.parametrize("make", LOSSES)
    def test_pieces_add_up_to_the_batch(self, page: dict[str, Any], make: Any, floats: bool, pieces: int) -> None:
        torch.manual_seed(1)
        page["criterion"] = make.from_counts(COUNTS, 0.999, reduction="sum")
        x, labels = torch.randn(64, 3), torch.arange(64) % 3
        if floats:
            labels = torch.nn.functional.one_hot(labels).float()
        else:
            labels[:40:2] = -100
        head = torch.nn.Linear(3, 3)
        items = (labels != -100).sum()  # as the Trainer counts
        for part in torch.arange(64).split(64 // pieces):
            page["compute_loss_func"]({"logits": head(x[part])}, labels[part], num_items_in_batch=items).backward()
        whole = make.from_counts(COUNTS, 0.999)(head(x), labels)
        torch.testing.assert_close(head.weight.grad, torch.autograd.grad(whole, head.weight)[0])

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda z: {"logits": z},
            lambda z: {"logits": z, "hidden_states": ()},
            lambda z: types.SimpleNamespace(logits=z),
            lambda z: (z,),
            lambda z: (z, "hidden states"),
        ],
    )
    @pytest.mark.parametrize("items", [None, 4, torch.tensor(4), torch.tensor([[4]])])
    def test_outputs_and_numbers_of_every_kind(self, page: dict[str, Any], wrap: Any, items: Any) -> None:
        logits, labels = torch.randn(5, 3), torch.tensor([0, 1, -100, 2, 1])
        got = page["compute_loss_func"](wrap(logits), labels, items)
        mean = SoftmaxCrossEntropy.from_counts(COUNTS, 0.999)
        torch.testing.assert_close(got.squeeze(), mean(logits, labels))

    def test_nothing_but_ignored_labels_gives_0(self, page: dict[str, Any]) -> None:
        logits = torch.randn(5, 3, requires_grad=True)
        value = page["compute_loss_func"]((logits,), torch.full((5,), -100))
        value.backward()
        assert value == 0
        assert logits.grad is not None
        assert not logits.grad.any()


class TestUndoingTheWeights:
    """Posteriors from weighted models, where classes may have weight 0."""

    @pytest.mark.parametrize("zeros", [(), (0,), (2,), (1, 3)])
    @pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
    def test_gives_the_posterior_among_the_classes_that_were_learnt(self, loss: str, zeros: tuple[int, ...]) -> None:
        truth = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)
        weights = torch.tensor([0.2, 0.8, 1.0, 2.0], dtype=torch.float64)
        weights[list(zeros)] = 0
        learnt = truth * weights / (truth * weights).sum(1, keepdim=True)
        logits = learnt.log() if loss == "softmax" else learnt.logit()
        expected = truth * (weights > 0)
        expected /= expected.sum(1, keepdim=True)
        for left in (-torch.inf, -30.0, 5.0):  # what training left of the logit of such a class must not matter
            moved = torch.where(weights > 0, logits, left)
            torch.testing.assert_close(cbcore.posterior(moved, weights, loss=loss), expected)

    def test_what_is_learnt_where_a_class_has_weight_0(self) -> None:
        """Trained to the optimum: samples of class 1 do not count, the others are recovered."""
        joint = torch.tensor([[0.2, 0.3, 0.1], [0.1, 0.05, 0.25]], dtype=torch.float64)
        weights = torch.tensor([0.5, 0.0, 2.5], dtype=torch.float64)
        table = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([table], max_iter=300, tolerance_grad=1e-10)
        criterion = SoftmaxCrossEntropy(weights, reduction="sum")
        x, y = (i.flatten() for i in torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij"))

        def closure() -> float:
            optimizer.zero_grad()
            loss = criterion(table[x], y, joint.flatten())
            loss.backward()
            return loss.item()

        optimizer.step(closure)
        expected = joint * (weights > 0)
        expected /= expected.sum(1, keepdim=True)
        torch.testing.assert_close(cbcore.posterior(table.detach(), weights), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("counts", list(itertools.permutations([900, 90, 0])))
    def test_readme(self, counts: tuple[int, ...]) -> None:
        blocks = [block.code for block in sessions(DOCS.parent / "README.md")["torch"]]
        code = next(code for code in blocks if "posterior" in code)
        criterion = SoftmaxCrossEntropy.from_counts(counts, empty="zero")
        found = {"torch": torch, "logits": torch.zeros(2, 3), "criterion": criterion}
        exec(code, found)
        inverse = [1 / w if w else 0 for w in cbcore.class_weights(counts, empty="zero")]
        np.testing.assert_allclose(found["probabilities"].detach(), [np.array(inverse) / sum(inverse)] * 2, rtol=1e-5)


class Scored(torch.nn.Module):
    """A head with its loss."""

    def __init__(self, criterion: torch.nn.Module) -> None:
        super().__init__()
        self.head, self.criterion = torch.nn.Linear(3, 3), criterion

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.criterion(self.head(x), y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", LOSSES)
def test_export_takes_the_losses_that_torchscript_does_not(make: Any) -> None:
    model = Scored(make.from_counts(COUNTS, 0.999))
    example = torch.randn(4, 3), torch.tensor([0, 1, 2, -100])
    exported = torch.export.export(model, example).module()
    torch.testing.assert_close(exported(*example), model(*example))


def test_the_glossary_translates_the_names_that_people_type() -> None:
    table = (DOCS / "reference" / "glossary.md").read_text().partition("## Names in other libraries")[2]
    there = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    names = ("weight", "alpha", "pos_weight", "samples_per_class", "from_logits", "num_classes", "class_weight", "mask")
    assert [name for name in names if f"`{name}`" not in there] == []
