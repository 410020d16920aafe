"""The Triton kernels without a GPU: their numbers in Triton's interpreter, their machine code from its compiler.

Triton chooses between the two once, when it is imported, by an environment variable. So this file runs itself a second
time, in a process of its own: with `TRITON_INTERPRET=1` it holds `TestInterpreted`, without it `TestCompiled`.
"""

import functools
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from cbcore_torch import paths, sigmoid_focal_loss, softmax_cross_entropy
from tests.support import spec
from tests.support.torch_adapter import TorchAdapter, force

if importlib.util.find_spec("triton") is None and not os.environ.get("CI"):
    pytest.skip("Triton is not installed", allow_module_level=True)

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime import interpreter

from cbcore_torch import _proof
from cbcore_torch import _triton as kernels
from cbcore_torch._paths import triton as path_of_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
H100 = GPUTarget("cuda", 90, 32)
IGNORED = -100
CPU = torch.device("cpu")
STRIDES = ("classes", "stride_n", "grad_n")
LOSSES: dict[str, float | None] = {
    "softmax": None,
    **{f"gamma={gamma:g}": gamma for gamma in (0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0, 6.7)},
}
COMPOSITES: dict[str, Callable[..., torch.Tensor]] = {
    "softmax": lambda z, y, scale: softmax_cross_entropy(z, y, sample_weight=scale, reduction="none"),
    **{
        f"gamma={gamma:g}": lambda z, y, scale, gamma=gamma: sigmoid_focal_loss(
            z, y, gamma=gamma, sample_weight=scale, reduction="none"
        )
        for gamma in (0.0, 0.5, 2.0)
    },
}
every_loss = pytest.mark.parametrize("gamma", LOSSES.values(), ids=LOSSES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


# Of the source: the variants that they are seen in, what stands there, and what a mistake would make of it.
MUTANTS: dict[str, tuple[float | None, str, str]] = {
    "wrong sign, softmax": (None, "g - up, g)", "g + up, g)"),
    "wrong sign, one-vs-all": (2.0, "sign = tl.where(cols == y, -1.0, 1.0)", "sign = 1.0"),
    "lost tail, gamma=0": (0.0, "log1p = _log1p(e)", "log1p = tl.log(1.0 + e)"),
    "lost tail, gamma=2": (2.0, "log1p = _log1p(e)", "log1p = tl.log(1.0 + e)"),
    "unwritten gradient, softmax": (None, "mask=(row < rows) & (cols < classes)", "mask=live & (cols < classes)"),
    "unwritten gradient, one-vs-all": (0.5, "mask=(row < rows) & (cols", "mask=(row < rows) & (up != 0) & (cols"),
    "unwritten loss, softmax": (None, "row, value, mask=row < rows", "row, value, mask=(row < rows) & (scale != 0)"),
    "unwritten loss, one-vs-all": (1.0, "row, value, mask=row < rows", "row, value, mask=(row < rows) & (scale != 0)"),
    "NaN, softmax": (None, "tl.constexpr(-3.4028234e38)", 'tl.constexpr(-float("inf"))'),
    "NaN, one-vs-all": (2.3, "tl.maximum(x, -150.0, propagate_nan=tl.PropagateNan.ALL)", "x"),
    "padding counted": (0.5, '(scale != 0), other=-float("inf")', "(scale != 0), other=0.0"),
    "raises": (2.0, "    sign = tl", "    raise ValueError('no such instruction')\n            sign = tl"),
}

ADAPTER = TorchAdapter("triton")
CELLS = [
    cell
    for cell in spec.taken_cells(ADAPTER)
    if cell.loss != "focal-0" and (cell.dtype == "float32" or cell.loss in spec.TRACED)
]


def inputs(rows: int, classes: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows * classes)
    z = (torch.randn(rows, classes, generator=generator) * 4).to(dtype)
    return z, torch.randint(classes, (rows,), generator=generator), torch.rand(rows, generator=generator) + 0.5


def step(
    gamma: float | None, z: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, upstream: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses and the gradient, of their sum if no upstream gradients are given."""
    value, stats = kernels.forward(z, y, scale, gamma)
    upstream = torch.ones_like(scale) if upstream is None else upstream
    return value, kernels.gradient(upstream, z, y, scale, gamma, stats)


def mutant(folder: Path, old: str, new: str) -> Any:
    """Return the module of the kernels with a text of its source replaced."""
    source = Path(kernels.__file__).read_text()
    assert old in source
    path = folder / "mutant.py"
    path.write_text(source.replace(old, new))
    spec_of = importlib.util.spec_from_file_location("mutant", path)
    assert spec_of is not None
    assert spec_of.loader is not None
    module = importlib.util.module_from_spec(spec_of)
    spec_of.loader.exec_module(module)
    return module


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter do as devices do: multiply-adds are fused, casts to bfloat16 round, a maximum drops NaN."""
    plain = interpreter._convert_float

    def fma(_: Any, x: Any, y: Any, z: Any) -> Any:
        exact = x.data.astype(np.float64) * y.data + z.data  # the product of two float32 is exact in float64
        return interpreter.TensorHandle(exact.astype(np.float32), z.dtype.scalar)

    def convert(x: np.ndarray, source: Any, to: Any, rounding: Any) -> np.ndarray:
        return x.astype(ml_dtypes.bfloat16).view(np.uint16) if to == tl.bfloat16 else plain(x, source, to, rounding)

    builder = interpreter.InterpreterBuilder
    monkeypatch.setattr(builder, "create_fma", fma)
    monkeypatch.setattr(builder, "create_maxnumf", lambda self, x, y: self.binary_op(x, y, np.fmax))
    monkeypatch.setattr(builder, "create_minnumf", lambda self, x, y: self.binary_op(x, y, np.fmin))
    monkeypatch.setattr(interpreter, "_convert_float", convert)


def approximate(monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
    """Let the units err as far as PTX allows: 2^-22 for ex2.approx, 2^-22.9 for rsqrt.approx, both flushing to zero."""
    tiny = np.finfo(np.float32).tiny

    def unit(function: Callable[[Any], Any], error: float) -> Callable[..., Any]:
        def approximation(_: Any, x: Any) -> Any:
            y = (function(x.data.astype(np.float64)) * (1 + sign * error)).astype(np.float32)
            return interpreter.TensorHandle(np.where(y < tiny, np.float32(0), y), x.dtype.scalar)

        return approximation

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_exp2", unit(np.exp2, 2**-22))
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_rsqrt", unit(lambda x: x**-0.5, 2**-22.9))


@pytest.mark.usefixtures("hardware")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, about infinities that the kernels mean to meet
class TestInterpreted:
    __test__ = INTERPRETED

    @pytest.mark.parametrize("cell", CELLS, ids=str)
    def test_values_and_gradients_agree_with_50_digits(self, cell: spec.Cell) -> None:
        spec.check(ADAPTER, cell)

    def test_kernels_that_are_not_taken_are_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(path_of_triton, "refuses", lambda _: "for no reason")
        with pytest.raises(AssertionError, match="was asked for"):
            spec.check(ADAPTER, spec.Cell("softmax", "index", "float32", "interpreted"))

    @pytest.mark.parametrize("loss", [softmax_cross_entropy, sigmoid_focal_loss])
    @pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean"])
    def test_options_and_second_derivatives(self, loss: Callable[..., torch.Tensor], reduction: str) -> None:
        z, y, sample_weight = inputs(6, 5)
        z.requires_grad_()
        y[0] = IGNORED
        weights = torch.tensor([1.0, 2, 3, 4, 0])
        results = []
        for path in ("triton", "composite"):
            with force(path):
                value = loss(z, y, weights, sample_weight=sample_weight, reduction=reduction)
            (first,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
            (again,) = torch.autograd.grad(value.sum(), z, create_graph=True)
            (second,) = torch.autograd.grad((again**2).sum(), z)
            results.append((value.detach(), first, again.detach(), second))
        torch.testing.assert_close(*results, rtol=2e-5, atol=1e-6)

    def test_a_target_out_of_range_beside_a_class_of_no_weight(self) -> None:
        z, y, _ = inputs(3, 5)
        y[1] = 5
        with force("triton"):
            value = sigmoid_focal_loss(z, y, torch.tensor([1.0, 1, 1, 1, 0]), reduction="none")
        assert value.isnan().tolist() == [False, True, False]

    @pytest.mark.parametrize("classes", [1, 3, 17, 129, 1000, 1025, 9001])  # the last: two programs a row
    @pytest.mark.parametrize("name", ["softmax", "gamma=0", "gamma=0.5", "gamma=2"])
    def test_any_number_of_classes(self, name: str, classes: int) -> None:
        z, y, scale = inputs(2, classes)
        value, gradient = step(LOSSES[name], z, y, scale)
        exact = z.double().requires_grad_()  # the composite in float64 agrees with 50 digits to 1e-12
        expected = COMPOSITES[name](exact, y, scale.double())
        (expected_gradient,) = torch.autograd.grad(expected.sum(), exact)
        floor = 2e-6 if name == "softmax" else 0.0
        torch.testing.assert_close(value.double(), expected.detach(), rtol=4e-6, atol=floor)
        torch.testing.assert_close(gradient.double(), expected_gradient, rtol=4e-6, atol=floor)

    @pytest.mark.parametrize("low", [-1, 1])
    @pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 2.3, 3.0, 3.5, 5.0, 6.9])
    def test_approximate_units_at_the_limits_of_their_errors(
        self, monkeypatch: pytest.MonkeyPatch, gamma: float, low: int
    ) -> None:
        approximate(monkeypatch, low)
        v = np.linspace(-86 / (1 + gamma), 20, 700, dtype=np.float32)
        y = torch.zeros(len(v), dtype=torch.long)
        value, gradient = step(gamma, torch.from_numpy(-v)[:, None], y, torch.ones(len(v)))
        v = v.astype(np.float64)
        softplus, sigmoid = np.logaddexp(0, v), np.exp(-np.logaddexp(0, -v))
        power, rest = np.exp(-gamma * np.logaddexp(0, -v)), np.exp(-np.logaddexp(0, v))
        slope = power * (gamma * rest * softplus + sigmoid)
        spec.within("value", value.numpy(), power * softplus, 4e-6 * power * softplus)
        spec.within("gradient", -gradient.numpy()[:, 0], slope, 4e-6 * slope)

    @every_loss
    @every_dtype
    def test_ignored_rows_are_zero_and_targets_out_of_range_nan(self, gamma: float | None, dtype: torch.dtype) -> None:
        z, y, scale = inputs(9, 5, dtype)
        z[0], z[1], z[2] = torch.nan, torch.inf, -torch.inf
        y[:6] = torch.tensor([IGNORED, 0, 7, -1, 5, 2**32])  # 5 and 7 lie inside the tile
        scale[:3] = 0
        value, gradient = step(gamma, z, y, scale)
        assert (value[:3] == 0).all()
        assert (gradient[:3] == 0).all()
        assert value[3:6].isnan().all()
        assert gradient[3:6].isnan().all()
        alone, alone_gradient = step(gamma, z[6:], y[6:], scale[6:])
        assert torch.equal(value[6:], alone)
        assert torch.equal(gradient[6:], alone_gradient)

    @every_loss
    def test_nan_in_a_valid_row_is_not_hidden(self, gamma: float | None) -> None:
        z, y, scale = inputs(2, 5)
        z[1, (y[1] + 1) % 5] = torch.nan
        value, gradient = step(gamma, z, y, scale)
        assert value.isnan().tolist() == [False, True]
        assert gradient.isnan().any(1).tolist() == [False, True]

    @every_loss
    def test_a_class_at_minus_infinity_is_as_good_as_absent(self, gamma: float | None) -> None:
        z, y, scale = inputs(3, 5)
        wide = torch.cat([z, torch.full((3, 1), -torch.inf)], 1)
        value, gradient = step(gamma, wide, y, scale)
        expected, expected_gradient = step(gamma, z, y, scale)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient[:, :5], expected_gradient, rtol=1e-6, atol=0)
        assert (gradient[:, 5] == 0).all()

    @every_loss
    def test_empty_batch(self, gamma: float | None) -> None:
        z, y, scale = inputs(0, 5)
        value, gradient = step(gamma, z, y, scale)
        assert value.shape == (0,)
        assert gradient.shape == (0, 5)

    @every_loss
    def test_strides(self, gamma: float | None) -> None:
        z, y, scale = inputs(5, 40)
        value, gradient = step(gamma, z, y, scale)
        transposed = z.T.contiguous().T
        padded = torch.full((5, 99), torch.nan)[:, 3:43].copy_(z)
        for other in (transposed, padded):
            before = other.clone()
            for got, expected in zip(step(gamma, other, y, scale), (value, gradient), strict=True):
                assert torch.equal(got, expected)
            assert torch.equal(other, before)
        repeated = z[:1].expand(5, 40)
        for got, expected in zip(
            step(gamma, repeated, y, scale), step(gamma, repeated.contiguous(), y, scale), strict=True
        ):
            assert torch.equal(got, expected)

    @every_loss
    def test_gradient_follows_upstream(self, gamma: float | None) -> None:
        z, y, scale = inputs(4, 5)
        z[1] = torch.inf  # its loss is not finite, and not used
        upstream = torch.tensor([[2.0, 9], [0, 9], [-0.5, 9], [1, 9]])[:, 0]
        _, gradient = step(gamma, z, y, scale, upstream)
        _, plain = step(gamma, z, y, scale)
        assert (gradient[1] == 0).all()
        torch.testing.assert_close(gradient[[0, 2, 3]], (plain * upstream[:, None])[[0, 2, 3]], rtol=1e-6, atol=0)

    @every_loss
    @pytest.mark.parametrize(("shape", "strides"), [((4, 5), (2**30, 1)), ((3, 4), (1, 2**30))])
    def test_offsets_beyond_2_to_the_31(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        gamma: float | None,
        shape: tuple[int, int],
        strides: tuple[int, int],
    ) -> None:
        """The file has holes, so that only the pages touched exist; the interpreter would copy all of it back."""
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
        z, y, scale = inputs(*shape, torch.bfloat16)
        file = torch.from_file(str(tmp_path / "logits"), shared=True, size=3 * 2**30 + 8, dtype=torch.bfloat16)
        far = file.as_strided(shape, strides).copy_(z)
        for got, expected in zip(step(gamma, far, y, scale), step(gamma, z, y, scale), strict=True):
            assert torch.equal(got, expected)

    def test_gradient_offsets_beyond_2_to_the_31(self) -> None:
        @triton.jit
        def probe(out, rows, cols, stride_n, stride_c):  # type: ignore[no-untyped-def]
            lane = tl.arange(0, 2)
            offset = kernels._offset(tl.load(rows + lane), tl.load(cols + lane), stride_n, stride_c)
            tl.store(out + lane, offset)

        out = torch.zeros(2, dtype=torch.long)
        at = torch.tensor([3, 2**20], dtype=torch.int32)
        probe[(1,)](out, at, at, 100_000, 70_000)
        assert out.tolist() == [510_000, 170_000 * 2**20]

    @every_dtype
    @pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 2.0, 2.3, 3.0])
    def test_good_kernels_prove_themselves(
        self, monkeypatch: pytest.MonkeyPatch, gamma: float | None, dtype: torch.dtype
    ) -> None:
        monkeypatch.setattr(_proof, "_verdicts", {})
        assert _proof.refusal(kernels, path_of_triton.reference, CPU, dtype, gamma) is None

    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.parametrize("gamma", [None, 1.5, 6.9])
    def test_a_device_at_the_limits_of_its_errors_is_not_refused(
        self, monkeypatch: pytest.MonkeyPatch, gamma: float | None, sign: int
    ) -> None:
        approximate(monkeypatch, sign)
        monkeypatch.setattr(_proof, "_verdicts", {})
        assert _proof.refusal(kernels, path_of_triton.reference, CPU, torch.float32, gamma) is None

    @pytest.mark.parametrize(("gamma", "old", "new"), MUTANTS.values(), ids=MUTANTS)
    def test_broken_kernels_are_refused_and_the_numbers_come_out(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gamma: float | None, old: str, new: str
    ) -> None:
        broken = mutant(tmp_path, old, new)
        monkeypatch.setattr(path_of_triton, "kernels", lambda: broken)
        loss = softmax_cross_entropy if gamma is None else functools.partial(sigmoid_focal_loss, gamma=gamma)
        z, y, _ = inputs(6, 5)
        z[0], y[0] = torch.nan, IGNORED
        z.requires_grad_()
        results = []
        for path in ("triton", "composite"):
            with force(path), paths() as taken, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                values = [loss(z, y) for _ in range(2)]
            assert [record.path for record in taken] == ["composite"] * 2
            assert [w.category for w in caught if "cbcore" in str(w.message)] == [RuntimeWarning] * (path == "triton")
            results.append((values[1].detach(), *torch.autograd.grad(values[1], z)))
        torch.testing.assert_close(*results, rtol=0, atol=0)


def tool(name: str) -> str:
    try:
        path: str = getattr(triton.knobs.nvidia, name).path
    except RuntimeError:
        pytest.skip(f"Triton has no {name}")
    return path


def compiled(kernel: Any, dtype: str, aligned: tuple[str, ...] = STRIDES, **constants: Any) -> Any:
    """Compile a kernel for contiguous logits; `aligned` names the integers that are multiples of 16."""
    tool("ptxas")
    kinds = {"logits": f"*{dtype}", "grad": f"*{dtype}", "target": "*i64", "part": "fp32"}
    kinds |= dict.fromkeys(("upstream", "row_scale", "loss", "stats"), "*fp32")
    constants = {"ALIGN": 16, "ROWS": 1, "BLOCK": 1024, "stride_c": 1, "grad_c": 1} | constants
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in names}

    def multiple(name: str) -> bool:
        return name in (*aligned, "span") or signature[name][0] == "*"

    source = triton.compiler.ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items() if name in names},
        {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if multiple(name)},
    )
    return triton.compile(source, target=H100, options={"num_warps": 4})


def resources(built: Any, folder: Path) -> dict[str, int]:
    """Return the registers and the memory that each thread of a kernel takes."""
    (folder / "cubin").write_bytes(built.asm["cubin"])
    command = [tool("cuobjdump"), "-res-usage", folder / "cubin"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


class TestCompiled:
    __test__ = not INTERPRETED

    def test_in_the_interpreter(self) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        environment = os.environ | {"TRITON_INTERPRET": "1"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
        assert re.fullmatch(r"\d{3,} passed in .*", result.stdout.splitlines()[-1])

    @pytest.mark.parametrize("dtype", ["fp32", "bf16"])
    @pytest.mark.parametrize(
        ("kernel", "power"),
        [
            ("_softmax_forward", {}),
            ("_softmax_backward", {}),
            *itertools.product(
                ("_one_vs_all_forward", "_one_vs_all_backward"),
                ({"WHOLE": 0, "BROKEN": "none"}, {"WHOLE": 0, "BROKEN": "half"}, {"WHOLE": 6, "BROKEN": "any"}),
            ),
        ],
    )
    def test_machine_code_does_not_spill(self, tmp_path: Path, kernel: str, power: dict[str, Any], dtype: str) -> None:
        taken = resources(compiled(getattr(kernels, kernel), dtype, **power), tmp_path)
        assert taken["REG"] > 0
        assert taken["STACK"] == taken["LOCAL"] == 0

    @pytest.mark.parametrize("kernel", ["_one_vs_all_forward", "_softmax_backward"])
    def test_an_even_number_of_classes_is_read_in_pairs(self, kernel: str) -> None:
        single, pairs = (
            compiled(getattr(kernels, kernel), "bf16", (), ALIGN=align, WHOLE=0, BROKEN="none").asm["ptx"]
            for align in (1, 2)
        )
        assert "global.b16" in single
        assert "global.b16" not in pairs
