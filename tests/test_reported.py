"""What users report of such libraries, re-enacted: each input with its answer here (`pytest -s` shows them all).

Each framework has a process of its own. A row is code, whose last line is an expression, and a part of what it must
give: its value as text, or the error.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest


class Row(NamedTuple):
    about: str
    framework: str
    code: str
    answer: str


PREAMBLE = {
    "numpy": "import numpy as np, cbcore",
    "torch": "import numpy as np, torch, cbcore, cbcore_torch as cb\n"
    "z, y = torch.tensor([[2., 0, -1], [0, 1, 3]]), torch.tensor([0, 1])",
    "jax": "import numpy as np, jax, jax.numpy as jnp, cbcore, cbcore_jax as cb\n"
    "z, y = jnp.array([[2., 0, -1], [0, 1, 3]]), jnp.array([0, 1])",
    "tf": "import numpy as np, tensorflow as tf, keras, cbcore, cbcore_tf as cb\n"
    "z, y = tf.constant([[2., 0, -1], [0, 1, 3]]), tf.constant([0, 1])",
}
MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "tf": "tensorflow"}

Z = "z, y = np.array([[2., 0, -1], [0, 1, 3]]), np.array([0, 1])\n"
RULED_OUT = "cb.sigmoid_focal_loss(jnp.array([[2., -jnp.inf, 0]]), jnp.array([[1., 0, 0]]))"
ROWS = [
    Row(
        "counts that carry labels", "numpy",
        "import pandas as pd\n"
        "carried = cbcore.class_weights(pd.Series([2] * 5 + [0] * 2 + [1] * 9).value_counts())\n"
        "(carried == cbcore.class_weights([2, 9, 5])).all()",
        "True",
    ),
    Row("a Counter of names", "numpy", "cbcore.class_weights({'cat': 5, 'dog': 2})", "TypeError: class_counts must be keyed"),
    Row(
        "counts for weights", "numpy", Z + "cbcore.softmax_cross_entropy(z, y, [900, 90, 10])",
        "TypeError: class_weights must be floating point",
    ),
    Row("counts for weights", "torch", "cb.SoftmaxCrossEntropy([900, 90, 10])", "TypeError: class_weights must be floating"),
    Row(
        "counts for weights", "torch", "cb.sigmoid_focal_loss(z, y, torch.tensor([900, 90, 10]))",
        "TypeError: class_weights must be floating point",
    ),
    Row(
        "counts for weights", "jax", "cb.softmax_cross_entropy(z, y, [900, 90, 10])",
        "TypeError: class_weights must be floating point",
    ),
    Row(
        "counts for weights", "tf", "cb.softmax_cross_entropy(y, z, [900, 90, 10])",
        "TypeError: class_weights must be floating point",
    ),
    Row(
        "float counts for weights", "torch", "cb.SoftmaxCrossEntropy(torch.tensor([900., 90, 10]))",
        "ValueError: class_weights must be weights",
    ),
    Row(
        "made on meta", "torch",
        "with torch.device('meta'):\n    c = cb.SoftmaxCrossEntropy.from_counts([5000, 500, 50])\n"
        "float(c.to_empty(device='cpu')(z, y)) == float(cb.SoftmaxCrossEntropy.from_counts([5000, 500, 50])(z, y))",
        "True",
    ),
    Row(
        "default dtype float64", "torch",
        "torch.set_default_dtype(torch.float64)\nvalue = cb.sigmoid_focal_loss(z, y, gamma=.7)\n"
        "torch.set_default_dtype(torch.float32)\nvalue.dtype",
        "torch.float32",
    ),
    Row(
        "default device meta", "torch",
        "with torch.device('meta'):\n    value = cb.sigmoid_focal_loss(z, y, gamma=.7)\nvalue.device.type", "cpu",
    ),
    Row(
        "default dtype bfloat16", "torch",
        "torch.set_default_dtype(torch.bfloat16)\nc = cb.SoftmaxCrossEntropy.from_counts([5000, 500, 50])\n"
        "torch.set_default_dtype(torch.float32)\n"
        "np.abs(c.class_weights.numpy() / cbcore.class_weights([5000, 500, 50]) - 1).max() < 1e-7",
        "True",
    ),
    Row(
        "masked labels", "numpy", "cbcore.class_counts(np.ma.masked_equal([0, 1, 1, 2, 0, 0], 0))",
        "TypeError: labels must have no masked entries",
    ),
    Row(
        "ignore_index a list", "numpy", "cbcore.class_counts([0, 1, 1, 0], 2, ignore_index=[0, 1, 1, 0])",
        "TypeError: ignore_index must be an integer",
    ),
    Row("ignore_class a list", "tf", "cb.softmax_cross_entropy(y, z, ignore_class=[1, 0])", "TypeError: ignore_class must be"),
    Row("ignore_index text", "torch", "cb.softmax_cross_entropy(z, y, ignore_index='255')", "TypeError: ignore_index must be"),
    Row("ignore_index None", "torch", "round(cb.softmax_cross_entropy(z, y, ignore_index=None).item(), 4)", "1.1698"),
    Row("gamma text", "numpy", Z + "cbcore.sigmoid_focal_loss(z, y, gamma='2')", "TypeError: gamma must be a number"),
    Row("gamma text", "jax", "cb.sigmoid_focal_loss(z, y, gamma='2')", "TypeError: gamma must be a number"),
    Row("gamma text", "tf", "cb.sigmoid_focal_loss(y, z, gamma='2')", "TypeError: gamma must be a number"),
    Row(
        "gamma that learns", "torch", "cb.sigmoid_focal_loss(z, y, gamma=torch.nn.Parameter(torch.tensor(2.)))",
        "TypeError: gamma must be a fixed number",
    ),
    Row("gamma a NumPy number", "torch", "round(cb.sigmoid_focal_loss(z, y, gamma=np.array(2.)).item(), 3)", "1.58"),
    Row(
        "an option that is a tensor", "tf", "cb.SigmoidFocalLoss(gamma=tf.constant(2.)).get_config()['gamma']", "2.0",
    ),
    Row(
        "a class ruled out", "numpy",
        "cbcore.softmax_cross_entropy(np.array([[0., -np.inf, 0]]), np.array([[1., 0, 0]])).round(4)", "0.6931",
    ),
    Row(
        "a class ruled out", "torch",
        "z = torch.tensor([[0., -torch.inf, 0]], requires_grad=True)\n"
        "torch.autograd.grad(cb.sigmoid_focal_loss(z, torch.tensor([[1., 0, 0]])), z)[0].isfinite().all().item()", "True",
    ),
    Row("a class ruled out", "jax", f"bool(jnp.isfinite({RULED_OUT}))", "True"),
    Row(
        "a class ruled out", "tf",
        "bool(tf.math.is_finite(cb.sigmoid_focal_loss([[1., 0, 0]], [[2., -np.inf, 0]])))", "True",
    ),
    Row(
        "counts in float16", "numpy",
        "cbcore.class_weights(np.array([60000, 6000, 600], np.float16), normalize='samples').max() < 1e3", "True",
    ),
    Row(
        "weights (N, 1) of samples (N, T)", "tf",
        "loss = cb.SoftmaxCrossEntropy(reduction='mean_with_sample_weight')\n"
        "labels, logits = np.zeros((2, 4), int), np.zeros((2, 4, 3), 'float32')\n"
        "round(float(loss(labels, logits, np.ones((2, 1)))), 4)", "1.0986",
    ),
    Row(
        "deferred twice", "torch",
        "c = cb.SoftmaxCrossEntropy.from_counts([90, 10], beta=0.9)\ncb.DeferredReweighting(c, 1)\n"
        "schedule = cb.DeferredReweighting(c, 1)\nschedule.step()\nc.class_weights.tolist()", "[0.788",
    ),
    Row(
        "deferred, resumed from the criterion alone", "torch",
        "c = cb.SoftmaxCrossEntropy.from_counts([90, 10], beta=0.9)\nschedule = cb.DeferredReweighting(c, 2)\n"
        "schedule.step()\nnew = cb.SoftmaxCrossEntropy.from_counts([90, 10], beta=0.9)\n"
        "new.load_state_dict(c.state_dict())\nschedule = cb.DeferredReweighting(new, 2)\nbefore = new.class_weights.tolist()\n"
        "schedule.step()\n(before, new.class_weights.tolist())", "([1.0, 1.0], [0.788",
    ),
    Row(
        "weights that look settable", "tf", "cb.SoftmaxCrossEntropy([.5, 1.5]).class_weights = [1., 1.]\n'set'",
        "AttributeError",
    ),
    Row("what a Keras loss shows", "tf", "print(cb.SoftmaxCrossEntropy([.5, 1.5]))\ncb.SoftmaxCrossEntropy([.5, 1.5])", "0.5..1.5"),
    Row(
        "a row without a label", "numpy",
        "z, none, w = np.zeros((1, 3)), np.zeros((1, 3)), cbcore.class_weights([900, 90, 10], normalize=None)\n"
        "bool(np.isclose(cbcore.sigmoid_cross_entropy(z, none, w), w.mean() * np.log(8)))", "True",
    ),
    Row("negative weights", "torch", "cb.SoftmaxCrossEntropy([1., -1.])", "ValueError: class_weights must be finite and not"),
    Row(
        "a vectorised Jacobian", "torch",
        "torch.autograd.functional.jacobian(lambda z: cb.sigmoid_focal_loss(z, y, reduction='none'), z, "
        "vectorize=True).shape", "torch.Size([2, 2, 3])",
    ),
    Row(
        "a Jacobian", "tf",
        "with tf.GradientTape() as tape:\n    tape.watch(z)\n    value = cb.sigmoid_focal_loss(y, z, reduction='none')\n"
        "tape.jacobian(value, z).shape", "(2, 2, 3)",
    ),
    Row(
        "jax_debug_nans", "jax",
        "with jax.debug_nans(True), jax.disable_jit():\n    value = float(cb.sigmoid_focal_loss(z, y))\nround(value, 3)", "2.",
    ),
    Row(
        "labels on several devices", "jax",
        "mesh = jax.make_mesh((2,), ('d',))\n"
        "labels = jax.device_put(jnp.array([0, 2, 0, 1]), jax.NamedSharding(mesh, jax.P('d')))\n"
        "cbcore.class_counts(labels).tolist()", "[2, 1, 1]",
    ),
    Row("an id for a label", "numpy", "cbcore.class_counts([0, 10**12])", "ValueError: labels must be class indices"),
    Row(
        "a huge unsigned label", "numpy", "cbcore.class_counts(np.array([0, 2**63], np.uint64))", "got 9223372036854775808",
    ),
    Row("a generator", "numpy", "cbcore.class_counts(n for n in [0, 1])", "got a generator; pass list(...)"),
    Row("text", "numpy", "cbcore.class_counts(['cat', 'dog'])", "number the classes, e.g. names, labels = np.unique"),
    Row("a ragged list", "numpy", "cbcore.class_counts([[0], [1, 2]])", "ValueError: labels must be numbers of one shape"),
    Row("swapped arguments", "numpy", Z + "cbcore.softmax_cross_entropy(y, z)", "swap logits and targets"),
    Row("labels for counts", "numpy", "cbcore.class_weights([0, 1, 0, 2, 1])", "count them with class_counts(labels)"),
    Row("weight=", "torch", "cb.SoftmaxCrossEntropy(weight=[1., 2.])", "class_weights"),
    Row("samples_per_class=", "torch", "cb.SigmoidFocalLoss(samples_per_class=[5, 2])", "from_counts"),
    Row("from_logits=", "tf", "cb.SoftmaxCrossEntropy(from_logits=True)", "logits"),
    Row("a model for its head", "torch", "cb.init_prior_bias_(torch.nn.Sequential(torch.nn.Linear(2, 3)))", "Sequential"),
    Row("TorchScript", "torch", "torch.jit.script(cb.SoftmaxCrossEntropy())", "torch.compile or exported with torch.export"),
]  # fmt: skip

RUN = """
import ast, json, sys, warnings
warnings.simplefilter("ignore")
preamble, rows = json.load(sys.stdin)
answers = []
for code in rows:
    space = {}
    exec(preamble, space)
    try:
        *body, last = ast.parse(code).body
        exec(compile(ast.Module(body, []), "row", "exec"), space)
        answers.append(str(eval(compile(ast.Expression(last.value), "row", "eval"), space)))
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
sys.stderr.flush()
print("ANSWERS" + json.dumps(answers))
"""


@functools.cache
def answers(framework: str) -> dict[str, str]:
    codes = [row.code for row in ROWS if row.framework == framework]
    environ = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    result = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([PREAMBLE[framework], codes]), env=environ,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return dict(zip(codes, json.loads(result.stdout.rpartition("ANSWERS")[2]), strict=True))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.framework}: {row.about}" for row in ROWS])
def test_what_was_reported_is_answered(row: Row) -> None:
    if importlib.util.find_spec(MODULES[row.framework]) is None and not os.environ.get("CI"):
        pytest.skip(f"{row.framework} is not installed")
    answer = answers(row.framework)[row.code]
    print(f"\n{row.about} ({row.framework})\n    {row.code.splitlines()[-1]}\n    -> {answer}")
    assert row.answer in answer
