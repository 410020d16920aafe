import numpy as np
import pytest
import torch

from experiments import cifar
from experiments.options import parse
from experiments.processes import Processes
from tests.experiments import tiny

CPU = torch.device("cpu")
ALONE = Processes()


def load(folder, *options: str, dataset: str = "cifar10") -> cifar.Cifar:
    arguments = ["--dataset", dataset, "--loss", "softmax", "--beta", "0", "--data", str(folder), "--out", "out"]
    recipe, _ = parse([*arguments, "--max-count", str(tiny.HEAD), "--imbalance", "4", "--batch-size", "8", *options])
    return cifar.load(folder, recipe, CPU)


def epoch_of(data: cifar.Cifar, processes: Processes = ALONE, first: int = 0, **changes: int):
    arguments = ["--dataset", "cifar10", "--loss", "softmax", "--beta", "0", "--data", "d", "--out", "o"]
    seed = str(changes.get("seed", 0))
    recipe, _ = parse([*arguments, "--batch-size", "8", "--seed", seed])
    return list(data.train_batches(recipe, changes.get("epoch", 0), first, processes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_cifar10(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture(scope="module")
def data(folder):
    return load(folder)


class TestReading:
    def test_files_are_read_in_order_with_planes_as_colours(self, folder):
        images, labels, test_images, test_labels = cifar.read_split(folder, "cifar10")
        raw = b"".join((folder / "cifar-10-batches-bin" / f"data_batch_{i}.bin").read_bytes() for i in (1, 2))
        assert labels.tolist() == [raw[3073 * i] for i in range(240)]
        assert images[5, 2, 7].tolist() == [raw[3073 * 5 + 1 + 1024 * c + 32 * 2 + 7] for c in range(3)]
        assert (len(test_images), len(test_labels)) == (40, 40)

    def test_folder_of_the_archive_itself_will_do(self, folder):
        assert len(cifar.read_split(folder / "cifar-10-batches-bin", "cifar10")[1]) == 240

    def test_cifar100_takes_the_fine_label(self, tmp_path):
        labels = cifar.read_split(tiny.write_cifar100(tmp_path), "cifar100")[1]
        assert np.bincount(labels).tolist() == [4] * 100

    def test_truncated_file_is_named_with_its_size(self, tmp_path):
        path = tiny.write_cifar10(tmp_path) / "cifar-10-batches-bin" / "data_batch_2.bin"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"data_batch_2\.bin must be a whole number of records of 3073 bytes, got"):
            load(tmp_path)

    def test_empty_file_is_an_error(self, tmp_path):
        (tiny.write_cifar10(tmp_path) / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"")
        with pytest.raises(ValueError, match=r"test_batch\.bin .* got 0 bytes"):
            load(tmp_path)

    def test_label_out_of_range_is_named_with_its_record(self, tmp_path):
        path = tiny.write_cifar10(tmp_path) / "cifar-10-batches-bin" / "data_batch_1.bin"
        content = bytearray(path.read_bytes())
        content[3073 * 3] = 10
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data_batch_1\.bin must have labels below 10, got 10 in record 3"):
            load(tmp_path)

    @pytest.mark.parametrize("name", ["data_batch_1.bin", "test_batch.bin"])
    def test_missing_file_is_named(self, tmp_path, name):
        (tiny.write_cifar10(tmp_path) / "cifar-10-batches-bin" / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"cifar-10-batches-bin/{name}"):
            load(tmp_path)

    def test_the_pickled_archive_is_not_opened(self, tmp_path):
        (tmp_path / "cifar-10-batches-py").mkdir()
        (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"pickle")
        with pytest.raises(FileNotFoundError, match="the Python and Matlab versions will not do"):
            load(tmp_path)

    def test_incomplete_head_class_is_an_error(self, tmp_path):
        (tiny.write_cifar10(tmp_path) / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
        with pytest.raises(ValueError, match="--data must have 24 training images of class 0, got "):
            load(tmp_path)


class TestLongTail:
    def test_counts_are_truncated_and_the_subset_is_seeded(self, folder):
        first, again, other = (load(folder, "--seed", seed) for seed in ("0", "0", "1"))
        assert first.class_counts.tolist() == [24, 20, 17, 15, 12, 11, 9, 8, 6, 6]
        assert first.available_counts.tolist() == [24] * 10
        assert first.digest == again.digest != other.digest
        assert np.bincount(first.train_labels).tolist() == first.class_counts.tolist()

    def test_factor_1_keeps_everything(self, folder):
        assert load(folder, "--imbalance", "1").class_counts.tolist() == [24] * 10

    def test_class_that_would_be_empty_stops_before_training(self, folder):
        data = load(folder, "--imbalance", "100")
        assert data.class_counts[-1] == 0  # and the loss refuses it: see test_train


class TestBatches:
    def test_an_epoch_shows_no_image_twice(self, data):
        labels = torch.cat([labels for _, labels in epoch_of(data)])
        assert np.bincount(labels).tolist() == data.class_counts.tolist()  # 128 images fill 16 batches of 8

    def test_epochs_and_seeds_differ_and_repeat(self, data):
        first, again = epoch_of(data), epoch_of(data)
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
        for other in (epoch_of(data, epoch=1), epoch_of(data, seed=1)):
            assert not torch.equal(first[0][0], other[0][0])

    def test_an_epoch_can_go_on_in_the_middle(self, data):
        whole, rest = epoch_of(data), epoch_of(data, first=13)
        assert len(rest) == 3
        assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[13:], rest, strict=True))

    def test_processes_share_the_batch_of_one(self, data):
        whole = epoch_of(data)
        parts = [epoch_of(data, Processes(rank, 2)) for rank in range(2)]
        for step, (images, labels) in enumerate(whole):
            assert torch.equal(torch.cat([part[step][0] for part in parts]), images)
            assert torch.equal(torch.cat([part[step][1] for part in parts]), labels)
        with pytest.raises(ValueError, match="--batch-size must be a multiple of the number of processes, 3, got 8"):
            epoch_of(data, Processes(0, 3))

    def test_images_are_cropped_from_black_borders_and_mirrored(self):
        image = torch.arange(40 * 40 * 3).reshape(1, 40, 40, 3)
        twice, top, left = torch.tensor([0, 0]), torch.tensor([0, 8]), torch.tensor([3, 8])
        got = cifar.crop(image, twice, top, left, flip=torch.tensor([0, 1]))
        assert torch.equal(got[0], image[0, 0:32, 3:35])
        assert torch.equal(got[1], image[0, 8:40, 8:40].flip(1))

    def test_training_images_are_padded_by_four(self, data):
        border = data.train_images.clone()
        border[:, 4:36, 4:36] = 0
        assert data.train_images.shape[1:] == (40, 40, 3)
        assert not border.any()

    def test_bytes_become_minus_1_to_1(self):
        got = cifar.to_float(torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 1, 1, 3))
        assert got.flatten().tolist() == [-1, 0, 127 / 128]
        assert got.shape == (1, 3, 1, 1)
