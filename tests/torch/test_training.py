# ruff: noqa: E501 -- a row a case
import math
from typing import Any

import pytest
import torch
from torch import nn

import cbcore_torch
from cbcore_torch import DeferredReweighting, SoftmaxCrossEntropy


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4)])
        self.head = nn.Linear(4, 10)


def test_prior_bias_starts_every_sigmoid_at_the_prior() -> None:
    for head in (nn.Linear(4, 10), nn.Conv2d(4, 10, 1)):
        assert cbcore_torch.init_prior_bias_(head) is head
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((10,), 0.1))  # type: ignore[union-attr]
        assert head.bias.requires_grad  # type: ignore[union-attr]


def test_first_loss_is_smaller_with_the_prior_bias() -> None:
    """log(2) a class without it; about log(C) + 1 a sample with it."""
    target = torch.arange(1000)
    plain = cbcore_torch.sigmoid_cross_entropy(torch.zeros(1000, 1000), target)
    primed = cbcore_torch.sigmoid_cross_entropy(torch.full((1000, 1000), -math.log(999)), target)
    torch.testing.assert_close(plain, torch.tensor(1000 * math.log(2)))
    assert primed < 8


@pytest.mark.parametrize(("decay_norms", "undecayed"), [(True, 1), (False, 1 + 2 + 2 + 2 + 1)])
def test_param_groups(decay_norms: bool, undecayed: int) -> None:
    model = Net()
    model.body.bias.requires_grad_(False)  # type: ignore[union-attr]
    decay, rest = cbcore_torch.param_groups(model, head=model.head, weight_decay=2e-4, decay_norms=decay_norms)
    assert (decay["weight_decay"], rest["weight_decay"]) == (2e-4, 0.0)
    assert len(rest["params"]) == undecayed
    assert any(p is model.head.bias for p in rest["params"])
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(decay["params"]) + len(rest["params"]) == len(trained)
    torch.optim.SGD([decay, rest], lr=0.1)


def test_deferred_reweighting_survives_a_checkpoint() -> None:
    def make() -> tuple[SoftmaxCrossEntropy, DeferredReweighting]:
        criterion = SoftmaxCrossEntropy.from_counts([90, 9, 1], 0.9)
        return criterion, DeferredReweighting(criterion, start_epoch=2)

    criterion, schedule = make()
    buffer = criterion.class_weights
    seen, states = [], []
    for _ in range(4):
        seen.append(criterion.class_weights.tolist())  # type: ignore[union-attr]
        states.append((schedule.state_dict(), {k: v.clone() for k, v in criterion.state_dict().items()}))
        schedule.step()
    assert criterion.class_weights is buffer  # in place: compiled steps see it
    weights = SoftmaxCrossEntropy.from_counts([90, 9, 1], 0.9).class_weights.tolist()  # type: ignore[union-attr]
    assert seen == [[1.0] * 3, [1.0] * 3, weights, weights]

    for epoch, (state, saved) in enumerate(states):
        resumed, other = make()
        other.load_state_dict(state)  # the criterion itself need not be saved
        assert resumed.class_weights.tolist() == seen[epoch]  # type: ignore[union-attr]
        late = SoftmaxCrossEntropy([1.0, 1.0, 1.0])
        late.load_state_dict(saved)  # ... nor be whole when the schedule is made
        again = DeferredReweighting(late, start_epoch=9)
        again.load_state_dict(state)
        for _ in range(epoch, 3):
            again.step()
        assert late.class_weights.tolist() == weights  # type: ignore[union-attr]


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: cbcore_torch.init_prior_bias_(nn.Linear(3, 4, bias=False)), ValueError, "head must be a layer with a bias, got Linear"),
    (lambda: cbcore_torch.init_prior_bias_(nn.ReLU()), ValueError, "head must be a layer with a bias, got ReLU"),
    (lambda: cbcore_torch.init_prior_bias_(nn.Sequential(nn.ReLU(), nn.Linear(3, 4))), ValueError, "head must be the last layer alone, got a Sequential of 2 modules; pass the layer that makes the logits, e.g. model[-1] or model.fc"),
    (lambda: cbcore_torch.param_groups(Net(), head=nn.Linear(4, 10), weight_decay=0), ValueError, "head must be a layer of model, got another Linear; pass e.g. head=model.fc"),
    (lambda: cbcore_torch.param_groups((n := Net()), head=n.head, weight_decay=-1), ValueError, "weight_decay must be at least 0, got -1"),
    (lambda: DeferredReweighting(SoftmaxCrossEntropy(), 3), TypeError, "criterion.class_weights must be a torch.Tensor, got builtins.NoneType; make the criterion with from_counts"),
    (lambda: DeferredReweighting(SoftmaxCrossEntropy([1.0]), -1), ValueError, "start_epoch must be at least 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text for _, _, text in ERRORS])
def test_error(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)
