"""What users read when they call a loss wrongly, and when TensorFlow is not there."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import cbcore_tf
from tests.support.losses import criteria, functions

Z = np.zeros((4, 3), np.float32)
Y = np.array([0, 2, 1, 2])
LOSSES = [*functions(cbcore_tf).values()]
CLASSES = [*criteria(cbcore_tf).values()]

WRONG_CALLS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, r"integers of shape \(4,\).* or floats of shape \(4, 3\).* got float32 of shape \(4, 2\)",
     {"y_true": np.zeros((4, 2), np.float32)}),
    (ValueError, r"got int64 of shape \(2, 2\); reshape y_true to \(4,\)", {"y_true": Y.reshape(2, 2)}),
    (ValueError, r"got int64 of shape \(5,\)", {"y_true": np.zeros(5, int)}),
    (ValueError, r"got int64 of shape \(1, 4\)", {"y_true": Y[None]}),
    (TypeError, r"y_true must be integers or floats, got complex128", {"y_true": Y * 1j}),
    (TypeError, r"y_true must be integers or floats, got bool", {"y_true": Y > 0}),
    (TypeError, r"y_pred must be floating point .* got int32", {"y_pred": Z.astype(np.int32)}),
    (ValueError, r"class_weights must have shape \(3,\), one for each class, got \(2,\)", {"class_weights": [1.0, 2]}),
    (ValueError, r"class_weights must have shape \(3,\), .* got \(1, 2\)", {"class_weights": [[1.0, 2]]}),
    (ValueError, r"sample_weight must have shape \(4,\), one for each sample, got \(4, 1\)",
     {"sample_weight": np.ones((4, 1))}),
    (ValueError, r"axis must name an axis of y_pred, got 2", {"axis": 2}),
    (ValueError, r"axis must be at least -2, got -3", {"axis": -3}),
    (ValueError, r"reduction must be one of 'none', 'sum', 'mean', 'weighted_mean'; got 'avg'", {"reduction": "avg"}),
    (ValueError, r"label_smoothing must be in \[0, 1\], got 2", {"label_smoothing": 2}),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "text", "wrong"), WRONG_CALLS, ids=[text for _, text, _ in WRONG_CALLS])
def test_texts_name_the_argument(loss: Any, kind: type[Exception], text: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(kind, match=text):
        loss(**{"y_true": Y, "y_pred": Z, **wrong})


@pytest.mark.parametrize("gamma", [-1, float("nan"), float("inf")])
def test_gamma_must_not_be_negative(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must be"):
        cbcore_tf.sigmoid_focal_loss(Y, Z, gamma=gamma)
    with pytest.raises(ValueError, match="gamma must be"):
        cbcore_tf.SigmoidFocalLoss(gamma=gamma)


@pytest.mark.parametrize(
    ("labels", "logits", "text"),
    [
        ([None, None], [None, 3], r"y_true must show whether .* y_pred, \(None, 3\); got \(None, None\), which may"),
        (None, [None, 3], "y_true must have a known number of axes"),
        ([None], None, "y_pred must have a known number of axes"),
        ([None], [None, None], r"y_pred must have a known number of classes on axis -1, got shape \(None, None\)"),
        ([None, 2], [None, 3], r"got int64 of shape \(None, 2\)"),
        ([None, 1, 1], [None, 3], r"got int64 of shape \(None, 1, 1\); reshape y_true to \(None,\)"),
    ],
)
def test_shapes_that_a_graph_leaves_too_open(labels: list[Any] | None, logits: list[Any] | None, text: str) -> None:
    signature = [tf.TensorSpec(labels, tf.int64), tf.TensorSpec(logits)]
    step = tf.function(cbcore_tf.softmax_cross_entropy, input_signature=signature, autograph=False)
    with pytest.raises(ValueError, match=text):
        step.get_concrete_function()


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize(
    ("kind", "text", "wrong"),
    [
        (TypeError, "class_weights must be floating point, got int64; for class counts", {"class_weights": [5, 1]}),
        (ValueError, r"class_weights must have shape \(C,\)", {"class_weights": [[1.0]]}),
        (ValueError, "label_smoothing must be", {"label_smoothing": -0.1}),
        (ValueError, "dtype must be one of 'float32', 'float64'; got 'bfloat16'", {"dtype": "mixed_bfloat16"}),
        (ValueError, "reduction", {"reduction": "weighted_mean"}),
    ],
)
def test_constructors_check_their_arguments(loss: Any, kind: type[Exception], text: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(kind, match=text):
        loss(**wrong)


def test_losses_of_keras_need_its_tensorflow_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"Keras must run on TensorFlow .* got the backend 'jax'"):
        cbcore_tf.SoftmaxCrossEntropy()


@pytest.mark.parametrize("labels", [Y > 1, (Y > 1) / 1])
def test_one_logit_needs_labels_with_a_class_axis(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"y_true must have the shape of y_pred, \(4, 1\), .* single class"):
        cbcore_tf.SigmoidCrossEntropy()(labels.astype(np.float32), Z[:, :1])


def test_sample_weights_never_broadcast_to_timesteps() -> None:
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(3, 3\), one for each sample, got \(3,\)"):
        cbcore_tf.SoftmaxCrossEntropy()(np.zeros((3, 3), int), np.zeros((3, 3, 2), np.float32), np.ones(3))


def test_class_weight_dict_is_checked() -> None:
    with pytest.raises(TypeError, match="class_weights must be floating point, got int64"):
        cbcore_tf.class_weight_dict([5, 1])


def import_again() -> None:
    spec = importlib.util.spec_from_file_location("cbcore_tf_again", cbcore_tf.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_without_tensorflow_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "cbcore\[tf\]"') as error:
        import_again()
    assert error.value.name == "tensorflow"


def test_a_broken_tensorflow_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow")
    with pytest.raises(ModuleNotFoundError, match="No module named 'a_module_that_is_not_there'"):
        import_again()
