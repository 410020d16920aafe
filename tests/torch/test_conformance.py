import pytest

from cbcore_torch import _paths
from tests.support import metamorphic, spec
from tests.support.torch_adapter import TorchAdapter

PATHS = {path.NAME: path for path in _paths.PATHS if path.NAME != "triton"}
ADAPTERS = {name: TorchAdapter(name) for name in PATHS}
CELLS = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.taken_cells(adapter)]
REFUSED = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.refused_cells(adapter)]


@pytest.mark.parametrize(("path", "cell"), CELLS, ids=[f"{path}-{cell}" for path, cell in CELLS])
def test_values_and_gradients_agree_with_50_digits(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize(("path", "cell"), REFUSED, ids=[f"{path}-{cell}" for path, cell in REFUSED])
def test_refused_calls_go_elsewhere(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize("path", [name for name in PATHS if name != "composite"])
@pytest.mark.parametrize("mutant", [("refuses", "for no reason"), ("loss", None)])
def test_a_path_that_is_not_taken_is_noticed(
    path: str, mutant: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, answer = mutant
    if name == "loss":  # as a path that has one may answer, when it has looked at the values
        monkeypatch.delattr(PATHS[path], "run", raising=False)
    monkeypatch.setattr(PATHS[path], name, lambda _: answer, raising=False)
    with pytest.raises(AssertionError, match="was asked for"):
        spec.check(ADAPTERS[path], spec.Cell("softmax", "index", "float32", "eager"))


def test_a_faster_path_beside_the_composite_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_paths, "PATHS", tuple(path for path in _paths.PATHS if path.NAME != "small"))
    monkeypatch.setattr("tests.support.torch_adapter.only", lambda _: _paths.only("closed form"))
    with pytest.raises(AssertionError, match="was asked for, and closed form computed"):
        spec.check(ADAPTERS["composite"], spec.Cell("softmax", "index", "float32", "eager"))


@pytest.mark.parametrize("path", ADAPTERS)
def test_metamorphic_properties(path: str) -> None:
    metamorphic.check(ADAPTERS[path])
