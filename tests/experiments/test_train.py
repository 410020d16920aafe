import json
import os
import pickle
import platform
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import files, train
from tests.experiments import tiny

LONG = ("--epochs", "5", "--batch-size", "4", "--save-minutes", "0", "--drw")  # 32 steps an epoch, saved at 20 and 32


@pytest.fixture(scope="module", autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_cifar10(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    assert train.main(tiny.arguments(data, out, *LONG)) == 0
    return out


def read(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def losses(out: Path) -> list[float]:
    return [epoch["train_loss"] for epoch in read(out)["history"]]


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (first, second))
    assert a["model"].keys() == b["model"].keys()
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert losses(first) == losses(second)
    for name in ("metrics", "recipe", "data"):
        assert read(first)[name] == read(second)[name]


def signal_after_checkpoint(process: subprocess.Popen, out: Path, number: int) -> None:
    while not (out / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)


class TestInterruption:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
    def test_same_command_ends_with_the_same_weights(self, data, tmp_path, uninterrupted, number, code):
        arguments = tiny.arguments(data, tmp_path, *LONG)
        process = tiny.start(*arguments)
        signal_after_checkpoint(process, tmp_path, number)
        messages = process.communicate()
        assert process.returncode == code, messages
        assert not (tmp_path / "result.json").exists()

        assert train.main(arguments) == 0
        assert_same_weights(uninterrupted, tmp_path)

    def test_interrupt_is_heard_where_the_shell_ignores_it(self, data, tmp_path):
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = tiny.start(*tiny.arguments(data, tmp_path, *LONG))
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, ours)
        signal_after_checkpoint(process, tmp_path, signal.SIGINT)
        messages = process.communicate()
        assert process.returncode == 130, messages

    def test_started_with_interrupts_ignored_it_trains_to_its_end(self, data, tmp_path, uninterrupted):
        process = tiny.start(*tiny.arguments(data, tmp_path, *LONG), interrupt=signal.SIG_IGN)
        signal_after_checkpoint(process, tmp_path, signal.SIGINT)
        messages = process.communicate()
        assert process.returncode == 0, messages
        assert_same_weights(uninterrupted, tmp_path)

    def test_goes_on_in_the_middle_of_an_epoch(self, data, tmp_path, uninterrupted, monkeypatch, capsys):
        save, saved = train.Keeper.save, []

        def save_until_third_epoch(keeper, run):
            save(keeper, run)
            saved.append((run.epoch, run.step))
            if saved[-1] == (2, 20):
                raise KeyboardInterrupt

        monkeypatch.setattr(train.Keeper, "save", save_until_third_epoch)
        assert train.main(tiny.arguments(data, tmp_path, *LONG)) == 130
        assert "the same command goes on" in capsys.readouterr().err
        monkeypatch.undo()
        assert train.main(tiny.arguments(data, tmp_path, *LONG)) == 0
        assert "Going on after epoch 2 and 20 steps." in capsys.readouterr().out
        assert_same_weights(uninterrupted, tmp_path)

    def test_log_has_each_epoch_once(self, uninterrupted):
        lines = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
        assert lines == read(uninterrupted)["history"]

    def test_a_broken_write_leaves_the_old_checkpoint(self, tmp_path, monkeypatch):
        path = tmp_path / "checkpoint.pt"
        files.write_checkpoint(path, {"epoch": 1})
        monkeypatch.setattr(torch, "save", lambda _, file: file.write(b"half") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            files.write_checkpoint(path, {"epoch": 2})
        assert files.read_checkpoint(path, torch.device("cpu")) == {"epoch": 1}


class TestResult:
    def test_same_seed_same_numbers_other_seed_others(self, data, tmp_path):
        for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
            assert train.main(tiny.arguments(data, tmp_path / name, "--seed", seed)) == 0
        assert_same_weights(tmp_path / "a", tmp_path / "b")
        assert losses(tmp_path / "a") != losses(tmp_path / "c")

    def test_says_all_about_the_run_and_nothing_about_the_machine_owner(self, data, tmp_path):
        assert train.main(tiny.arguments(data, tmp_path, "--loss", "focal", "--eval-every", "3")) == 0
        result, text = read(tmp_path), (tmp_path / "result.json").read_text()
        assert result["cell"] == "cifar10-lt4_focal-g1_beta0.99_seed0_e2"
        assert result["recipe"]["milestones"] == [2, 2]
        assert result["data"]["class_counts"] == [24, 20, 17, 15, 12, 11, 9, 8, 6, 6]
        assert (result["data"]["train_images"], result["data"]["test_images"]) == (128, 40)
        assert [epoch["test_error"] is None for epoch in result["history"]] == [True, False]
        assert result["history"][-1]["test_error"] == result["metrics"]["top1_error"]
        assert result["metrics"]["nll_before"] is None
        assert result["hardware"].items() >= {"threads": 1, "processes": 1}.items()
        assert result["versions"].keys() == {"python", "cbcore", "numpy", "torch"}
        assert str(tmp_path) not in text
        assert str(data) not in text
        assert platform.node() not in text

    def test_keeps_the_logits_that_were_tested(self, data, uninterrupted):
        logits = np.load(uninterrupted / "test_logits.npy", allow_pickle=False)
        assert (logits.shape, logits.dtype) == ((40, 10), np.float16)
        records = np.fromfile(data / "cifar-10-batches-bin" / "test_batch.bin", np.uint8)
        labels = records.reshape(40, -1)[:, 0]
        assert np.mean(logits.argmax(1) != labels) == read(uninterrupted)["metrics"]["top1_error"]

    def test_learns_the_colours_in_bfloat16(self, data, tmp_path):
        options = ("--precision", "bfloat16", "--epochs", "6", "--eval-every", "6")
        assert train.main(tiny.arguments(data, tmp_path, *options)) == 0
        assert min(losses(tmp_path)) < losses(tmp_path)[0] - 0.5
        assert read(tmp_path)["metrics"]["top1_error"] < 0.5

    def test_finished_cell_is_not_trained_again(self, data, uninterrupted, capsys):
        before = (uninterrupted / "checkpoint.pt").stat().st_mtime_ns
        assert train.main(tiny.arguments(data, uninterrupted, *LONG)) == 0
        assert "is finished" in capsys.readouterr().out
        assert (uninterrupted / "checkpoint.pt").stat().st_mtime_ns == before

    def test_large_images_train_with_two_processes_that_read(self, tmp_path):
        folder = tiny.write_inaturalist(tmp_path / "data")
        base = [
            "--dataset",
            "inat2018",
            "--data",
            str(folder),
            "--out",
            str(tmp_path),
            "--loss",
            "focal",
            "--beta",
            "0.9",
        ]
        more = ["--image-size", "32", "--batch-size", "8", "--epochs", "1", "--workers", "2", "--threads", "1"]
        assert train.main([*base, *more, "--device", "cpu"]) == 0
        assert read(tmp_path)["cell"] == "inat2018_r50-32_focal-g0.5_beta0.9_seed0_e1"
        assert len(read(tmp_path)["metrics"]["recall"]) == 3


class TestErrors:
    def error(self, capsys, *arguments: str) -> str:
        assert train.main(list(arguments)) == 1
        return capsys.readouterr().err

    def test_loss_that_is_not_finite_stops_and_keeps_nothing_broken(self, data, tmp_path, capsys):
        options = ("--learning-rate", "1e30", "--warmup-epochs", "0", "--batch-size", "4")
        message = self.error(capsys, *tiny.arguments(data, tmp_path, *options))
        assert "must stay finite, got nan" in message
        assert "before step 20 of epoch 1" in message
        assert "--learning-rate" in message
        assert not (tmp_path / "checkpoint.pt").exists()

    def test_folder_of_another_run_is_not_mixed_up(self, data, tmp_path, uninterrupted, capsys):
        message = self.error(capsys, *tiny.arguments(data, uninterrupted, *LONG, "--beta", "0.5"))
        assert "beta 0.99 there, 0.5 here" in message
        (tmp_path / "checkpoint.pt").write_bytes((uninterrupted / "checkpoint.pt").read_bytes())
        message = self.error(capsys, *tiny.arguments(data, tmp_path, *LONG, "--seed", "3"))
        assert "seed 0 there, 3 here" in message

    def test_checkpoint_of_other_images_is_an_error(self, tmp_path, uninterrupted, capsys):
        other = tiny.write_cifar10(tmp_path / "data")
        path = other / "cifar-10-batches-bin" / "data_batch_1.bin"
        content = bytearray(path.read_bytes())
        for i in range(1, len(content), 3073):
            content[i] ^= 255
        path.write_bytes(content)
        (tmp_path / "checkpoint.pt").write_bytes((uninterrupted / "checkpoint.pt").read_bytes())
        assert "other training images" in self.error(capsys, *tiny.arguments(other, tmp_path, *LONG))

    def test_folder_in_use_is_an_error(self, data, tmp_path, capsys):
        with files.locked(tmp_path):
            assert "where another process trains" in self.error(capsys, *tiny.arguments(data, tmp_path))

    @pytest.mark.parametrize("write", [lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=2)), torch.save])
    def test_a_pickle_is_never_run(self, data, tmp_path, capsys, write):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "trapped"),)

        write(Trap(), tmp_path / "checkpoint.pt")
        assert "must be a checkpoint of this program" in self.error(capsys, *tiny.arguments(data, tmp_path))
        assert not (tmp_path / "trapped").exists()

    def test_empty_class_and_large_batch_are_named(self, data, tmp_path, capsys):
        assert "class" in self.error(capsys, *tiny.arguments(data, tmp_path, "--imbalance", "100"))
        message = self.error(capsys, *tiny.arguments(data, tmp_path, "--batch-size", "129"))
        assert "--batch-size must be at most the number of training images, 128, got 129" in message

    def test_missing_data_is_named(self, tmp_path, capsys):
        assert "--data must hold" in self.error(capsys, *tiny.arguments(tmp_path, tmp_path))


class TestDisplay:
    def test_a_line_an_epoch_without_a_terminal(self, data, tmp_path, capsys):
        train.main(tiny.arguments(data, tmp_path))
        lines = capsys.readouterr().out.splitlines()
        assert "training images per class [24, 20," in lines[0]
        assert lines[1].startswith("epoch 1/2  loss ")
        assert lines[2].startswith("epoch 2/2  loss ")
        assert "test error" in lines[3]
        assert len(lines) == 4

    def test_a_bar_on_a_terminal(self, data, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "150")
        train.main(tiny.arguments(data, tmp_path))
        text = capsys.readouterr().out
        assert "epoch 2/2" in text
        assert "images/s" in text
        assert "epoch 1/2  loss" not in text


def test_two_processes_follow_the_curve_of_one(data, tmp_path):
    """Batch statistics over both processes make it the same computation; only the order of sums differs.

    A small learning rate keeps the rounding from growing.
    """
    options = ("--learning-rate", "0.002", "--warmup-epochs", "0", "--batch-size", "16")
    assert train.main(tiny.arguments(data, tmp_path / "one", *options)) == 0
    curves = {}
    for name, more in (("together", ("--sync-bn",)), ("apart", ())):
        arguments = ["--standalone", "--nproc-per-node", "2", "-m", "experiments.train"]
        arguments += tiny.arguments(data, tmp_path / name, *options, *more)
        process = tiny.start(*arguments, module="torch.distributed.run")
        messages = process.communicate()
        assert process.returncode == 0, messages
        curves[name] = losses(tmp_path / name)
        assert read(tmp_path / name)["hardware"]["processes"] == 2
        assert len(read(tmp_path / name)["history"]) == 2
    one = losses(tmp_path / "one")
    assert curves["together"] == pytest.approx(one, rel=1e-4)
    assert curves["apart"] != pytest.approx(one, rel=1e-2)
    assert read(tmp_path / "together")["metrics"]["recall"] == pytest.approx(
        read(tmp_path / "one")["metrics"]["recall"]
    )
