"""Tiny data sets in the official formats, and the command that trains on them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
from PIL import Image

from experiments.options import parse

ROOT = Path(__file__).parents[2]
HEAD = 24  # training images of class 0
RECIPE = ("--depth", "8", "--batch-size", "8", "--epochs", "2", "--max-count", str(HEAD), "--imbalance", "4")


def write_cifar10(folder: Path, per_class: int = HEAD) -> Path:
    """Write a CIFAR-10 whose classes are colours with noise; the training images lie in two files."""
    root = folder / "cifar-10-batches-bin"
    root.mkdir(parents=True)
    records = _records(per_class, 10, 1, seed=0)
    records[: len(records) // 2].tofile(root / "data_batch_1.bin")
    records[len(records) // 2 :].tofile(root / "data_batch_2.bin")
    _records(4, 10, 1, seed=1).tofile(root / "test_batch.bin")
    return folder


def write_cifar100(folder: Path, per_class: int = 4) -> Path:
    root = folder / "cifar-100-binary"
    root.mkdir(parents=True)
    _records(per_class, 100, 2, seed=0).tofile(root / "train.bin")
    _records(1, 100, 2, seed=1).tofile(root / "test.bin")
    return folder


def _records(per_class: int, num_classes: int, label_bytes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class)).astype(np.uint8)
    colours = np.random.default_rng(99).integers(0, 200, (num_classes, 3, 1))
    pixels = colours[labels] + rng.integers(0, 56, (len(labels), 3, 1024))
    coarse = np.full((len(labels), label_bytes - 1), 7)
    return np.concatenate([coarse, labels[:, None], pixels.reshape(len(labels), -1)], axis=1).astype(np.uint8)


def write_inaturalist(folder: Path, counts: tuple[int, ...] = (8, 4, 4)) -> Path:
    """Write an iNaturalist 2018 with category ids that begin at 5 and are not in order."""
    for split, seed in (("train", 0), ("val", 1)):
        images, annotations = [], []
        for label in range(len(counts)):
            for i in range(counts[label] if split == "train" else 2):
                name = f"train_val2018/Aves/{label}/{split}{i}.jpg"
                write_image(folder / name, label, seed + i, size=(40 + i, 48))
                images.append({"id": 100 * label + i, "file_name": name})
                annotations.append({"id": len(annotations), "image_id": 100 * label + i, "category_id": 5 + label})
        categories = [{"id": 5 + label, "name": f"species {label}"} for label in reversed(range(len(counts)))]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}2018.json").write_text(json.dumps(content))
    return folder


def write_ilsvrc(folder: Path) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("n001", "n002", "n003")):
            for i in range(count):
                write_image(folder / split / name / f"{split}_{i}.JPEG", label, i)
    return folder


def write_image(path: Path, label: int, seed: int, size: tuple[int, int] = (48, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 80, (*size, 3)) + 80 * label
    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG")


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    """Return the options of a training that takes a second."""
    base = ["--dataset", "cifar10", "--data", str(data), "--out", str(out), "--threads", "1", "--device", "cpu"]
    return [*base, "--loss", "softmax", "--beta", "0.99", *RECIPE, *more]


def start(
    *command: str, module: str = "experiments.train", interrupt: Any = signal.default_int_handler
) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with warnings as errors.

    Whoever runs the tests may ignore Ctrl-C (`nohup`, `&` in a script), and children inherit that; a handler of ours
    is the default again in the child. With ``signal.SIG_IGN`` the child ignores it.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-W", "error", "-m", module]
    ours = signal.signal(signal.SIGINT, interrupt)
    try:
        return subprocess.Popen([*python, *command], env=environment, text=True, stdout=PIPE, stderr=PIPE)
    finally:
        signal.signal(signal.SIGINT, ours)


def write_result(folder: Path, error: float, *options: str) -> Path:
    """Write a result of `experiments.train` with these options as if it had been trained."""
    recipe, _ = parse(["--data", "data", "--out", "out", *options])
    metrics: dict[str, object] = {"top1_error": error, "top5_error": error / 4, "balanced_accuracy": 1 - error}
    metrics |= {"many": 1 - error, "medium": 0.5, "few": None, "recall": [1 - error] * 10}
    softmax = recipe.loss == "softmax"
    metrics |= {f"{name}_{when}": 0.125 if softmax else None for name in ("ece", "nll") for when in ("before", "after")}
    tested = range(2, recipe.epochs + 1, 2)
    history = [
        {"epoch": e, "test_error": error * (1 + 1 / e) if e in tested else None} for e in range(1, recipe.epochs + 1)
    ]
    result = {"recipe": recipe.as_json(), "metrics": metrics, "history": history, "data": {}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.cell}.json"
    path.write_text(json.dumps(result))
    return path
