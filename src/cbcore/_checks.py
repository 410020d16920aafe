"""Every check of an argument, and so every error text that a user can meet.

A text names the argument, what it must be, what came, and the likely fix. Wrong kinds are TypeErrors; wrong values,
ranges and shapes are ValueErrors. Checks of losses read shapes and dtypes only, never a tensor's values.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np

from cbcore._arrays import MOST_CLASSES, Host

Shape: TypeAlias = Sequence[int | None]  # None: a size that is not known before the run (TensorFlow graphs)

_COUNTS_AVERAGE = 20
_MOST_GIVEN = 10**9  # classes: eight gigabytes of counts
REDUCTIONS = ("none", "sum", "mean", "weighted_mean")


def integer(value: Any, name: str, *, at_least: int) -> int:
    """Check a whole number given on the host; return it as a plain one."""
    try:
        number = _index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def number(value: Any, name: str, *, low: float, high: float = math.inf) -> float:
    """Check a real number given on the host; return it as a plain float. NaN is out of every range."""
    if getattr(value, "requires_grad", False) or hasattr(value, "assign"):
        raise TypeError(
            f"{name} must be a fixed number, got {type(value).__name__}, which training could change and which would "
            f"get no gradient here; pass float({name})"
        )
    try:
        if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
            raise TypeError
        plain = float(value)
    except (TypeError, ValueError):  # a traced value raises a TypeError too
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})") from None
    if not low <= plain <= high:
        text = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {text}, got {plain}")
    return plain


def imbalance(value: Any) -> float:
    """Check an imbalance factor; return it as a plain float."""
    plain = number(value, "imbalance", low=1)
    if math.isinf(plain):
        raise ValueError("imbalance must be finite, got inf")
    return plain


def gamma(value: Any) -> float:
    """Check the focusing parameter of the focal loss; return it as a plain float."""
    plain = number(value, "gamma", low=0)
    if plain == math.inf:
        raise ValueError("gamma must be finite, got inf")
    return plain


def static(is_traced: bool, name: str) -> None:
    """Check that an option is known when a function is traced."""
    if is_traced:
        raise TypeError(
            f"{name} must be static, got a traced value; name it in static_argnames of jax.jit, or bind it before with "
            "functools.partial"
        )


def ignored(value: Any, name: str) -> int | None:
    """Check the index of samples to ignore; return it as a plain integer. None ignores nothing."""
    if value is None:
        return None
    try:
        return _index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer (the one index to ignore) or None (nothing is ignored), got {value!r} "
            f"({type(value).__name__}); to ignore several, map them to one before"
        ) from None


def _index(value: Any) -> int:
    """As `operator.index`, without booleans and without arrays that have an axis."""
    if isinstance(value, bool | np.bool_) or getattr(value, "shape", ()) != ():
        raise TypeError
    return operator.index(value)


def instance(value: Any, kind: type, name: str, fix: str) -> None:
    """Check that an argument is an object of the framework."""
    if not isinstance(value, kind):
        came = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"{name} must be a {kind.__module__}.{kind.__qualname__}, got {came}; {fix}")


def choice(value: Any, name: str, choices: Sequence[str | None]) -> None:
    """Check an option with a few named values."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


# ---------------------------------------------------------------- labels and counts


def labels(host: Host) -> None:
    """Check that labels are a vector of integers."""
    if host.ndim != 1:
        raise ValueError(
            f"labels must have shape (num_samples,), got {host.shape}; flatten class indices with .reshape(-1), "
            "turn one-hot rows into indices with .argmax(-1)"
        )
    if host.size and not np.issubdtype(host.dtype, np.integer):
        raise TypeError(f"labels must be integers (class indices), got {_came(host)}; {_label_fix(host)}")


def _came(host: Host) -> str:
    """Describe what stands where numbers should: text and missing values by an example, others by their dtype."""
    if host.size and host.dtype.kind in "OUST":
        odd = next(filter(_is_missing, host.tolist()), host.tolist()[0])
        return f"{odd!s:.40} ({type(odd).__name__})"
    return str(host.dtype)


def _label_fix(host: Host) -> str:
    if any(map(_is_missing, host.tolist())):
        return "leave out the samples without a label, or give them one number and name it as ignore_index"
    if host.dtype.kind in "OUST":
        return "number the classes, e.g. names, labels = np.unique(labels, return_inverse=True)"
    return "cast them, e.g. labels.astype(int)"


def _is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA, none of which equals itself or is a number."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def num_classes(value: int | None, host: Host) -> int:
    """Check the number of classes, or find it from the labels."""
    if value is not None:
        return class_number(value)
    if not host.size:
        raise ValueError("num_classes must be given where there are no labels to find it from")
    largest = int(host.max())
    if largest >= max(MOST_CLASSES, 100 * host.size):
        raise ValueError(
            f"labels must be class indices in [0, C), got {largest} among {host.size} labels; number the classes, e.g. "
            "np.unique(labels, return_inverse=True)[1], or, if these are indices, say how many classes there are with "
            "num_classes"
        )
    return max(largest + 1, 1)


def class_number(value: Any) -> int:
    """Check a number of classes that is given."""
    plain = integer(value, "num_classes", at_least=1)
    if plain > _MOST_GIVEN:
        raise ValueError(f"num_classes must be at most {_MOST_GIVEN}, got {plain}; it is not the largest id")
    return plain


def label_range(host: Host, size: int, *, name: str) -> None:
    """Check that class indices lie in [0, C)."""
    if not host.size:
        return
    low, high = int(host.min()), int(host.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} must lie in [0, {size}), got values from {low} to {high}; "
            "subtract 1 if classes are numbered from 1, mask samples to be ignored, or raise the number of classes"
        )


def counts(host: Host) -> Host:
    """Check class counts; return them in float64, in which they can be added up whatever they came in."""
    name = "class_counts"
    if host.ndim != 1 or not host.size:
        raise ValueError(
            f"{name} must have shape (C,) with C >= 1, got {host.shape}; for labels call class_counts(labels)"
        )
    whole = np.issubdtype(host.dtype, np.integer)
    if not (whole or np.issubdtype(host.dtype, np.floating) or host.dtype.name == "bfloat16"):
        raise TypeError(f"{name} must be numbers, got {_came(host)}; for labels call class_counts(labels)")
    exact = host.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(exact) | (exact != np.floor(exact)))
    if bad.size:
        raise ValueError(f"{name} must be finite whole numbers, got {exact[bad[0]]} for class {bad[0]}")
    if exact.min() < 0:
        worst = int(exact.argmin())
        raise ValueError(f"{name} must not be negative, got {host[worst]} for class {worst}")
    return exact


def some_samples(host: Host) -> None:
    """Check that not all classes are empty."""
    if not host.any():
        raise ValueError("class_counts must hold at least one sample, got zero for every class")


def no_empty_class(host: Host) -> None:
    """Check that no class is empty (the policy empty="error")."""
    if not host.all():
        empty = np.flatnonzero(host == 0)
        listed = ", ".join(map(str, empty[:10])) + (", ..." if empty.size > 10 else "")
        raise ValueError(
            f"class_counts must be at least 1 for every class, got 0 for {empty.size} of {host.size} classes "
            f'({listed}), whose weight would be infinite; choose empty="zero" (weight 0) or empty="one" (as if it had '
            "one sample), or, if these are labels, count them with class_counts(labels)"
        )


def head_class(available: Host) -> None:
    """Check that class 0, the largest of a long-tailed set, has samples."""
    if not available[0]:
        raise ValueError("labels must hold samples of class 0, the largest of a long-tailed set; got none")


def enough_samples(available: Host, keep: Host) -> None:
    """Check that a long-tailed subset can be taken."""
    short = np.flatnonzero(available < keep)
    if short.size:
        label = int(short[0])
        raise ValueError(
            f"labels must hold at least {keep[label]} samples of class {label} for this imbalance, got "
            f"{available[label]}; number the classes from the largest down or raise the imbalance"
        )


# ---------------------------------------------------------------- beta


def one_of_beta_and_num_prototypes(beta: Any, num_prototypes: Any) -> None:
    """Check that exactly one of the two ways to give beta is used."""
    for name, value in (("beta", beta), ("num_prototypes", num_prototypes)):
        if isinstance(value, str | bytes):
            raise TypeError(f"{name} must be a number or an array of numbers, got {value!r}")
    if (beta is None) == (num_prototypes is None):
        came = "neither" if beta is None else f"beta={beta!r} and num_prototypes={num_prototypes!r}"
        raise ValueError(f"exactly one of beta and num_prototypes must be given, got {came}; N = 1 / (1 - beta)")


def beta(host: Host, size: int) -> Host:
    """Check beta, scalar or per class; return it in float64."""
    return _per_class(host, "beta", size, 0, 1, "beta = 1 - 1/N lies just below 1, e.g. 0.999")


def num_prototypes(host: Host, size: int) -> Host:
    """Check N, scalar or per class; return it in float64."""
    return _per_class(host, "num_prototypes", size, 1, math.inf, "N = 1 / (1 - beta), e.g. 1000")


def _per_class(host: Host, name: str, size: int, low: float, high: float, fix: str) -> Host:
    if not (np.issubdtype(host.dtype, np.integer) or np.issubdtype(host.dtype, np.floating)):
        raise TypeError(f"{name} must be a number or an array of numbers, got dtype {host.dtype}")
    if host.ndim > 1 or (host.ndim == 1 and host.size != size):
        raise ValueError(f"{name} must be a scalar or have shape ({size},), one for each class; got shape {host.shape}")
    bad = np.flatnonzero(~((host >= low) & (host <= high)))
    if bad.size:
        where = f" for class {bad[0]}" if host.ndim else ""
        text = f"in [{low:g}, {high:g}]" if high != math.inf else f"at least {low:g}"
        raise ValueError(f"{name} must be {text}, got {host.flat[bad[0]]}{where}; {fix}")
    return host.astype(np.float64)


# ---------------------------------------------------------------- losses


def loss_options(reduction: Any, label_smoothing: Any) -> float:
    """Check the options that all losses share; return the label smoothing as a plain float."""
    choice(reduction, "reduction", REDUCTIONS)
    return number(label_smoothing, "label_smoothing", low=0, high=1)


def unlabelled_weight(value: Any) -> float | None:
    """Check the weight of rows without a label; return it as a plain float. None leaves it to the class weights."""
    if value is None:
        return None
    plain = number(value, "unlabelled_weight", low=0)
    if math.isinf(plain):
        raise ValueError("unlabelled_weight must be finite, got inf")
    return plain


def class_axis(shape: Shape, axis: Any, *, logits: str, axis_name: str) -> int:
    """Check the class axis of the logits; return it counted from the front."""
    axis = integer(axis, axis_name, at_least=-len(shape))
    if axis >= len(shape):
        raise ValueError(f"{axis_name} must name an axis of {logits}, got {axis} for {logits} of shape {_text(shape)}")
    front: int = axis % len(shape)
    if shape[front] is None:
        raise ValueError(
            f"{logits} must have a known number of classes on axis {axis}, got shape {_text(shape)}; "
            f"set it with {logits}.set_shape(...)"
        )
    if shape[front] == 0:
        raise ValueError(f"{logits} must have at least one class on axis {axis}, got shape {_text(shape)}")
    return front


def given(value: Any, name: str) -> None:
    """Check that an argument is there at all."""
    if value is None:
        raise TypeError(f"{name} must be an array, got None; pass one entry for each sample")


def floating_logits(is_floating: bool, dtype: Any, *, logits: str, targets: str | None = None) -> None:
    """Check that logits are real floating-point numbers; `targets` is their name where those are floats."""
    if not is_floating:
        fix = f"swap {logits} and {targets}, or cast with e.g. float32" if targets else "cast with e.g. float32"
        raise TypeError(f"{logits} must be floating point (raw scores of the model), got {dtype}; {fix}")


def targets(
    shape: Shape,
    dtype: Any,
    *,
    is_integer: bool,
    is_floating: bool,
    logits_shape: Shape,
    axis: int,
    names: tuple[str, str],
) -> None:
    """Check targets against the logits, so that no shape ever broadcasts into another loss."""
    logits_name, name = names
    samples = (*logits_shape[:axis], *logits_shape[axis + 1 :])
    if is_integer and tuple(shape) == samples:
        return
    if is_floating and tuple(shape) == tuple(logits_shape):
        return
    if not (is_integer or is_floating):
        fix = f"cast them to integers (class indices) or to the dtype of {logits_name} (multi-hot)"
        raise TypeError(f"{name} must be integers or floats, got {dtype}; {fix}")
    if is_integer and tuple(shape) == tuple(logits_shape):
        fix = f"cast one-hot or multi-hot {name} to a floating dtype"
    elif is_integer and _known_size(shape) == _known_size(samples):
        fix = f"reshape {name} to {_text(samples)}"
    elif is_floating and tuple(shape) == samples:
        fix = f"cast class indices in {name} to integers"
    else:
        fix = f"check the class axis and the order of the arguments {logits_name} and {name}"
    raise ValueError(
        f"{name} must be integers of shape {_text(samples)} (class indices) or floats of shape {_text(logits_shape)} "
        f"(as {logits_name}), got {dtype} of shape {_text(shape)}; {fix}"
    )


def known_rank(rank: int | None, *, name: str) -> None:
    """Check that a tensor of a graph has a known number of axes."""
    if rank is None:
        raise ValueError(
            f"{name} must have a known number of axes, got a shape that is wholly unknown; set it with "
            f"{name}.set_shape(...), e.g. in Dataset.map"
        )


def index_or_dense(shape: Shape, logits_shape: Shape, *, names: tuple[str, str]) -> None:
    """Say that labels of a graph could be class indices (N, 1) as well as multi-hot (N, C)."""
    logits_name, name = names
    raise ValueError(
        f"{name} must show whether it holds class indices or has the shape of {logits_name}, {_text(logits_shape)}; "
        f"got {_text(shape)}, which may become either; set it with {name}.set_shape(...), e.g. in Dataset.map"
    )


def one_class(shape: Shape, logits_shape: Shape, *, names: tuple[str, str]) -> None:
    """Say that labels without a class axis mean nothing where there is one class."""
    logits_name, name = names
    raise ValueError(
        f"{name} must have the shape of {logits_name}, {_text(logits_shape)}, where that has a single class (0 and 1, "
        f"as multi-hot labels); got {_text(shape)}, class indices; give {name} a class axis"
    )


def keras_backend(name: str) -> None:
    """Check which framework computes for Keras."""
    if name != "tensorflow":
        raise RuntimeError(
            f"Keras must run on TensorFlow for the losses of cbcore_tf, got the backend {name!r}; set "
            "KERAS_BACKEND=tensorflow, or call the functions of cbcore_jax or cbcore_torch"
        )


def weights_shape(shape: Shape, size: int) -> None:
    """Check that there is one weight for each class."""
    if tuple(shape) != (size,):
        raise ValueError(
            f"class_weights must have shape ({size},), one for each class, got {_text(shape)}; "
            "make them from the class counts of the whole training set, with num_classes given"
        )


def weights_vector(shape: Shape) -> None:
    """Check class weights before the logits are known."""
    if len(shape) != 1:
        raise ValueError(f"class_weights must have shape (C,), one for each class, got {_text(shape)}")


def weights_values(host: Host) -> None:
    """Check the values of class weights, once, on the host: where a criterion is made, or where they come from there.

    Weights average about 1. Whole numbers that average far more are the class counts, cast.
    """
    if host.size and host.min() >= 0 and host.max() <= _COUNTS_AVERAGE:  # not so for NaN
        return
    bad = np.flatnonzero(~(np.isfinite(host) & (host >= 0)))
    if bad.size:
        raise ValueError(
            f"class_weights must be finite and not negative, got {host[bad[0]]} for class {bad[0]}; make them from the "
            "class counts with class_weights(class_counts, beta) or from_counts"
        )
    if host.size and not (host % 1).any() and host.mean() > _COUNTS_AVERAGE:
        raise ValueError(
            f"class_weights must be weights, got whole numbers that average {host.mean():.4g}, as class counts do; "
            "for class counts call from_counts(class_counts, beta), and divide weights of your own by their mean"
        )


def floating_weights(is_floating: bool, dtype: Any) -> None:
    """Check that class weights are not, say, the class counts themselves."""
    if not is_floating:
        raise TypeError(
            f"class_weights must be floating point, got {dtype}; for class counts call from_counts(class_counts, beta)"
        )


def same_device(device: Any, expected: Any, *, name: str, like: str) -> None:
    """Check that an argument lives where the logits do."""
    if device != expected:
        raise ValueError(
            f"{name} must be on the device of {like}, {expected}, got {device}; move it there once, before "
            "the training loop (a criterion with criterion.to(device))"
        )


def bias(value: Any, head: Any) -> Any:
    """Check that the last layer has a bias; return it."""
    if value is None:
        raise ValueError(f"head must be a layer with a bias, got {head}; make it with bias=True")
    return value


def per_sample(shape: Shape, logits_shape: Shape, axis: int, *, name: str) -> None:
    """Check a mask or weight that has one entry a sample."""
    samples = (*logits_shape[:axis], *logits_shape[axis + 1 :])
    if tuple(shape) != samples:
        raise ValueError(f"{name} must have shape {_text(samples)}, one for each sample, got {_text(shape)}")


def boolean(is_boolean: bool, dtype: Any, *, name: str) -> None:
    """Check a mask."""
    if not is_boolean:
        raise TypeError(
            f"{name} must be boolean (True for samples that count), got {dtype}; compare, e.g. targets != -1"
        )


def known_weights(known: bool) -> None:
    """Check that the class weights of a criterion have values."""
    if not known:
        raise ValueError(
            "class_weights must have values, got memory that was never written (the criterion was made on the meta "
            "device from a tensor without values, or a loader assigned what it had no values for); load a state_dict, "
            "call criterion.reset_parameters(), or make the criterion with from_counts"
        )


def _known_size(shape: Shape) -> int:
    return math.prod(n for n in shape if n is not None)


def _text(shape: Shape) -> str:
    """Return a shape as a tuple of plain numbers, whatever class the framework uses."""
    return str(tuple(shape))


# ---------------------------------------------------------------- TensorFlow and Keras


def fixed_weights(kind: str) -> NoReturn:
    """Say that a loss object takes no weights that change later."""
    raise TypeError(
        f"class_weights must be fixed numbers, got {kind}, whose later values the loss would not see; pass its NumPy "
        "value, or call the function with it, which reads it at every step"
    )


def fixed_attribute(name: str, owner: str) -> NoReturn:
    """Say that an option of a loss object cannot be changed."""
    raise AttributeError(
        f"{name} must stay what {owner} was made with, got another value: a compiled step would keep the old one; make "
        "another loss and call model.compile(optimizer=model.optimizer, loss=...), which keeps the optimizer's state"
    )


_KERAS_NAMES = {
    "from_logits": "y_pred is always logits, so leave it out",
    "class_weight": "here it is class_weights",
    "weight": "here it is class_weights",
    "weights": "here it is class_weights",
    "alpha": "here it is class_weights, one for each class",
    "pos_weight": "class_weights weigh whole samples, by their labels",
    "num_classes": "the number of classes is that of class_weights or class_counts, so leave it out",
    "samples_per_class": "counts go to from_counts(class_counts, beta)",
    "class_counts": "counts go to from_counts(class_counts, beta)",
    "beta": "beta goes to from_counts(class_counts, beta)",
    "num_prototypes": "it goes to from_counts(class_counts, num_prototypes=...)",
    "ignore_index": "here it is ignore_class",
    "dim": "here it is axis",
    "sample_weight": "it goes to fit, or to the call of the loss",
}


def keras_options(unknown: dict[str, Any], owner: str) -> None:
    """Check that a loss object is given no option of another library's."""
    for name in unknown:
        fix = _KERAS_NAMES.get(name, "the documentation of the class lists its options")
        raise TypeError(f"{owner} must be given its own options, got {name}=; {fix}")
