import jax
import jax.numpy as jnp
import pytest

from tests.support import metamorphic, spec
from tests.support.jax_adapter import JaxAdapter

ADAPTER = JaxAdapter()
# Half precision is float32 but for two casts: once over all cases is enough of it, compiling takes most of the time.
FEW = ("index", "soft", "smoothing", "ignored")
CELLS = [
    cell
    for cell in spec.cells(ADAPTER, without=["sample_weight"])
    if cell.case in FEW or (cell.dtype != "float16" and (cell.mode, cell.dtype) != ("compiled", "bfloat16"))
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_values_and_gradients_agree_with_50_digits(cell: spec.Cell) -> None:
    spec.check(ADAPTER, cell)


def test_metamorphic_properties() -> None:
    metamorphic.check(JaxAdapter(gradients=False))  # eager gradients take most of the time


def test_promotion_is_strict_here() -> None:
    with pytest.raises(Exception, match="no available implicit dtype promotion path"):
        jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.bfloat16)
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]
