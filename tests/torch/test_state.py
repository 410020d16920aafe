"""What a criterion remembers: its weights where memory is made anew, and a schedule's epoch in its state dict."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cbcore_torch
from cbcore_torch import DeferredReweighting, SigmoidFocalLoss, SoftmaxCrossEntropy
from tests.support.losses import criteria

COUNTS = [5000, 500, 50]
MODULES: list[Any] = [*criteria(cbcore_torch).values()]
W: Any = SoftmaxCrossEntropy.from_counts(COUNTS).class_weights
ONES = torch.ones(3)
Z, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])


def weights(criterion: Any) -> torch.Tensor:
    return criterion.class_weights  # type: ignore[no-any-return]


def garbage(module: nn.Module) -> nn.Module:
    """As `to_empty`, with memory that certainly holds something else."""
    return module._apply(lambda t: torch.full_like(t, -7.0, device="cpu"))  # type: ignore[no-untyped-call, no-any-return]


ROUTES: dict[str, Callable[[Any], Any]] = {
    "to_empty": lambda c: c.to_empty(device="cpu"),
    "garbage": garbage,
    "through meta": lambda c: garbage(c.to("meta")),
    "meta and back": lambda c: c.to("meta").to("cpu"),
    "half on meta": lambda c: garbage(c.to("meta").half()),
    "bfloat16": lambda c: garbage(c.bfloat16()),
    "copy of meta": lambda c: garbage(copy.deepcopy(c.to("meta"))),
    "pickle of meta": lambda c: garbage(pickle.loads(pickle.dumps(c.to("meta")))),
    "in a model": lambda c: garbage(nn.Sequential(nn.Linear(3, 3), c).to("meta"))[1],  # type: ignore[index]
}


@pytest.mark.parametrize("cls", MODULES)
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("born", ["cpu", "meta"])
def test_memory_made_anew_holds_the_weights(cls: Any, route: Callable[[Any], Any], born: str) -> None:
    with torch.device(born):
        criterion = cls.from_counts(COUNTS)
    moved = route(criterion)
    assert torch.equal(weights(moved), W)
    assert torch.equal(moved(Z, Y), cls(W)(Z, Y))


def test_loaded_and_changed_weights_are_the_kept_ones() -> None:
    other = torch.tensor([0.5, 1.0, 1.5])
    loaded = SoftmaxCrossEntropy.from_counts(COUNTS)
    loaded.load_state_dict({"class_weights": other})
    changed = SoftmaxCrossEntropy.from_counts(COUNTS)
    weights(changed).copy_(other)
    assigned = SoftmaxCrossEntropy.from_counts(COUNTS)
    assigned.class_weights = other.clone()
    for criterion in (loaded, changed, assigned):
        assert torch.equal(weights(garbage(criterion.to("meta"))), other)
    held = SoftmaxCrossEntropy.from_counts(COUNTS).to("meta")
    with pytest.warns(UserWarning, match="no-op"):
        held.load_state_dict({"class_weights": other})
    assert torch.equal(weights(garbage(held)), other)


def test_a_loader_that_assigns_memory_as_it_comes() -> None:
    criterion = SoftmaxCrossEntropy.from_counts(COUNTS)
    criterion._buffers["class_weights"] = torch.full((3,), 3e-43)
    criterion.reset_parameters()
    assert torch.equal(weights(criterion), W)
    criterion.class_weights = torch.tensor([0.5, torch.nan, 1.0])
    with pytest.raises(ValueError, match="class_weights must have values"):
        criterion(Z, Y)
    criterion.reset_parameters()
    assert torch.equal(criterion(Z, Y), SoftmaxCrossEntropy(W)(Z, Y))
    with pytest.raises(ValueError, match="class_weights must be weights"):
        criterion.class_weights = torch.tensor([900.0, 90, 10])
    with pytest.raises(TypeError, match="class_weights must be floating point, got"):
        criterion.class_weights = torch.tensor([900, 90, 10])
    assert torch.equal(criterion(Z, Y), SoftmaxCrossEntropy(W)(Z, Y))  # what is refused changes nothing
    SoftmaxCrossEntropy().reset_parameters()


@pytest.mark.parametrize("garbage_of_a_loader", [0.0, 3e-43, 1.3e20, -1e33, torch.nan])
def test_a_loader_that_says_when_it_is_done(garbage_of_a_loader: float) -> None:
    """As Hugging Face's from_pretrained treats keys that the checkpoint lacks, and keys that it has."""
    missing = SoftmaxCrossEntropy.from_counts(COUNTS)
    missing.class_weights = torch.full((3,), garbage_of_a_loader)
    missing._is_hf_initialized = True
    assert torch.equal(missing(Z, Y), SoftmaxCrossEntropy(W)(Z, Y))
    there = SoftmaxCrossEntropy.from_counts(COUNTS)
    value: Any = torch.tensor([0.5, 1.0, 1.5])
    there.class_weights = value
    value._is_hf_initialized = True
    there._is_hf_initialized = True
    assert torch.equal(weights(there), value)


def test_weights_that_nobody_knows_are_refused_until_they_come() -> None:
    def lost() -> SoftmaxCrossEntropy:
        with torch.device("meta"):
            return garbage(SoftmaxCrossEntropy(torch.tensor([0.5, 1.0, 1.5])))  # type: ignore[return-value]

    for criterion in (lost(), copy.deepcopy(lost()), lost().double(), pickle.loads(pickle.dumps(lost()))):
        with pytest.raises(ValueError, match="class_weights must have values, got memory that was never written"):
            criterion(Z, Y)
        with pytest.raises(ValueError, match="class_weights must have values"):
            criterion.reset_parameters()
    loaded, filled, assigned = lost(), lost(), lost()
    loaded.load_state_dict({"class_weights": W})
    weights(filled).copy_(W)
    assigned.class_weights = W.clone()
    for criterion in (loaded, filled, assigned):
        assert torch.equal(criterion(Z, Y), SoftmaxCrossEntropy(W)(Z, Y))


@pytest.mark.parametrize("cls", MODULES)
def test_shapes_can_be_tried_under_a_default_of_meta(cls: Any) -> None:
    with torch.device("meta"):
        criterion = cls.from_counts(COUNTS)
        assert criterion(torch.empty(2, 3), torch.empty(2, dtype=torch.int64)).is_meta


# ---------------------------------------------------------------- deferred re-weighting


def deferred(epochs: int = 0, start: int = 3) -> tuple[SoftmaxCrossEntropy, DeferredReweighting]:
    criterion = SoftmaxCrossEntropy.from_counts(COUNTS)
    schedule = DeferredReweighting(criterion, start)
    for _ in range(epochs):
        schedule.step()
    return criterion, schedule


def saved(criterion: nn.Module) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)  # type: ignore[no-any-return]


def course(criterion: Any, schedule: DeferredReweighting, epochs: int) -> list[bool]:
    """Go on, and tell of each epoch whether it is weighted."""
    seen = []
    for _ in range(epochs):
        assert torch.equal(weights(criterion), W) or torch.equal(weights(criterion), ONES)
        seen.append(torch.equal(weights(criterion), W))
        schedule.step()
    return seen


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("first", ["load", "schedule"])
@pytest.mark.parametrize("placeholder", [False, True])
@pytest.mark.parametrize("assign", [False, True])
def test_the_state_dict_of_the_criterion_resumes(done: int, first: str, placeholder: bool, assign: bool) -> None:
    state = saved(deferred(done)[0])
    criterion = SoftmaxCrossEntropy(ONES) if placeholder else SoftmaxCrossEntropy.from_counts(COUNTS)
    if first == "load":
        criterion.load_state_dict(state, assign=assign)
    schedule = DeferredReweighting(criterion, 3)
    if first == "schedule":
        criterion.load_state_dict(state, assign=assign)
    assert (schedule.epoch, schedule.start_epoch) == (done, 3)
    assert course(criterion, schedule, 5) == [epoch >= 3 for epoch in range(done, done + 5)]


def test_as_part_of_a_model_and_through_copies() -> None:
    criterion, _ = deferred(1)
    model = nn.ModuleDict({"net": nn.Linear(3, 3), "loss": criterion})
    other = nn.ModuleDict({"net": nn.Linear(3, 3), "loss": SoftmaxCrossEntropy(ONES)})
    other.load_state_dict(saved(model))
    for twin in (other["loss"], copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert course(twin, DeferredReweighting(twin, 3), 4) == [False, False, True, True]


@pytest.mark.parametrize("done", range(5))
def test_a_second_schedule_begins_again_with_the_same_weights(done: int) -> None:
    criterion, _ = deferred(done)
    for start in (1, 1, 2):
        schedule = DeferredReweighting(criterion, start)
        assert course(criterion, schedule, 3) == [epoch >= start for epoch in range(3)]


def test_checkpoints_of_older_versions() -> None:
    early, late = {"class_weights": ONES}, {"class_weights": W}
    criterion = SoftmaxCrossEntropy.from_counts(COUNTS)
    criterion.load_state_dict(early)
    assert torch.equal(weights(criterion), ONES)
    assert course(criterion, DeferredReweighting(criterion, 2), 3) == [False, False, True]
    criterion, schedule = deferred(1)
    criterion.load_state_dict(early)
    assert course(criterion, schedule, 3) == [False, False, True]
    criterion, schedule = deferred(1)
    criterion.load_state_dict(late)
    assert course(criterion, schedule, 3) == [True, True, True]
    criterion = SoftmaxCrossEntropy(ONES)
    criterion.load_state_dict(early)
    schedule = DeferredReweighting(criterion, 9)
    schedule.load_state_dict({"epoch": 1, "start_epoch": 3, "class_weights": W})
    assert course(criterion, schedule, 3) == [False, False, True]


def test_memory_made_anew_while_weights_are_held_back() -> None:
    for done in (1, 3):
        criterion, schedule = deferred(done)
        garbage(criterion.to("meta"))
        assert course(criterion, schedule, 3) == [epoch >= 3 for epoch in range(done, done + 3)]
        criterion, schedule = deferred(done)
        weights(criterion).fill_(9)
        criterion.reset_parameters()
        assert course(criterion, schedule, 3) == [epoch >= 3 for epoch in range(done, done + 3)]


def test_what_is_printed_and_saved() -> None:
    criterion, schedule = deferred(2)
    assert repr(criterion) == (
        "SoftmaxCrossEntropy(num_classes=3, class_weights=1..1, deferred_weights=0.1256..2.557, reduction='mean')"
    )
    assert set(criterion.state_dict()) == {"class_weights", "deferred_weights", "deferred_epochs"}
    assert set(SoftmaxCrossEntropy.from_counts(COUNTS).state_dict()) == {"class_weights"}
    buffer = weights(criterion)
    schedule.step()
    assert weights(criterion) is buffer
    assert "deferred" not in repr(criterion)


def test_a_compiled_criterion_and_another_module() -> None:
    criterion: Any = torch.compile(SoftmaxCrossEntropy.from_counts(COUNTS), backend="eager")
    assert course(criterion, DeferredReweighting(criterion, 1), 2) == [False, True]
    other = nn.CrossEntropyLoss()
    other.register_buffer("class_weights", W.clone())
    with pytest.raises(TypeError, match="criterion must be a loss of cbcore_torch, got CrossEntropyLoss"):
        DeferredReweighting(other, 1)


def test_options_are_plain_numbers_after_the_constructor() -> None:
    criterion = SigmoidFocalLoss(
        gamma=np.array(2.0), label_smoothing=np.float32(0.25), dim=np.int64(1), ignore_index=np.array(7),
        unlabelled_weight=np.float64(0.5),
    )  # fmt: skip
    kinds = {name: type(value) for name, value in {**criterion._options(), "gamma": criterion.gamma}.items()}
    assert kinds == {
        "gamma": float, "label_smoothing": float, "dim": int, "ignore_index": int, "unlabelled_weight": float,
        "reduction": str,
    }  # fmt: skip


def test_a_pickle_of_the_first_version_keeps_its_weights() -> None:
    old = SoftmaxCrossEntropy.from_counts(COUNTS)
    state = {name: value for name, value in vars(old).items() if name not in ("_made", "_given", "_epochs", "_unknown")}
    criterion = SoftmaxCrossEntropy.__new__(SoftmaxCrossEntropy)
    criterion.__setstate__(state)
    assert torch.equal(weights(garbage(criterion)), W)


def test_weights_of_another_class_of_tensors_are_taken_as_they_come() -> None:
    class Elsewhere(torch.Tensor):
        pass

    criterion = SoftmaxCrossEntropy.from_counts(COUNTS)
    criterion._apply(lambda t: (t + 1).as_subclass(Elsewhere))
    assert type(weights(criterion)) is Elsewhere
    assert torch.equal(weights(criterion).as_subclass(torch.Tensor), W + 1)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    criterion = SoftmaxCrossEntropy.from_counts(COUNTS)
    with pytest.raises(RuntimeError, match="size mismatch"):
        criterion.load_state_dict({"class_weights": torch.ones(4)})
    criterion.load_state_dict({}, strict=False)
    SoftmaxCrossEntropy().load_state_dict({})
    assert torch.equal(weights(garbage(criterion)), W)


def test_a_schedule_made_on_meta() -> None:
    criterion = SoftmaxCrossEntropy.from_counts(COUNTS).to("meta")
    schedule = DeferredReweighting(criterion, start_epoch=1)
    garbage(criterion)
    assert torch.equal(weights(criterion), ONES)
    schedule.step()
    assert torch.equal(weights(criterion), W)


def test_large_weights_that_are_no_whole_numbers_are_no_counts() -> None:
    assert weights(SoftmaxCrossEntropy([40.5, 0.25])).tolist() == [40.5, 0.25]
