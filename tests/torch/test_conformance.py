from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cbcore_torch import _fused, _row_blocks, _small
from tests.support import metamorphic, spec, torch_adapter
from tests.support.torch_adapter import TorchAdapter, force

ADAPTERS = {path: TorchAdapter(path) for path in ("composite", "small", "row blocks", "numba")}
CELLS = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.taken_cells(adapter)]
REFUSED = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.refused_cells(adapter)]
DECLINED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "small": (_small, "loss", lambda *_, **__: None),
    "row blocks": (_fused, "takes", lambda *_: False),
    "numba": (_fused, "kernels", lambda: _row_blocks),
    "composite": (_fused, "takes", lambda *_: True),
}


@pytest.mark.parametrize(("path", "cell"), CELLS, ids=[f"{path}-{cell}" for path, cell in CELLS])
def test_values_and_gradients_agree_with_50_digits(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize(("path", "cell"), REFUSED, ids=[f"{path}-{cell}" for path, cell in REFUSED])
def test_refused_calls_go_elsewhere(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize("path", ADAPTERS)
def test_a_path_that_is_not_taken_is_noticed(path: str) -> None:
    adapter, cell = ADAPTERS[path], spec.Cell("softmax", "index", "float32", "eager")
    module, name, mutant = DECLINED[path]

    @contextmanager
    def force_and_decline(path: str) -> Iterator[None]:
        with force(path), pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, mutant)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_adapter, "force", force_and_decline)
        with pytest.raises(AssertionError, match="was asked for"):
            spec.check(adapter, cell)


@pytest.mark.parametrize("path", ADAPTERS)
def test_metamorphic_properties(path: str) -> None:
    metamorphic.check(ADAPTERS[path])
