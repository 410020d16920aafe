import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import images
from experiments.listings import read_listings
from experiments.options import parse
from experiments.processes import Processes
from tests.experiments import tiny


def load(folder, dataset: str, *options: str, workers: int = 0) -> images.Large:
    arguments = ["--dataset", dataset, "--loss", "focal", "--beta", "0.999", "--data", str(folder), "--out", "out"]
    recipe, _ = parse([*arguments, "--image-size", "32", "--batch-size", "4", *options])
    return images.load(folder, recipe, torch.device("cpu"), workers)


def edit_json(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestINaturalist:
    def test_classes_are_numbered_by_category_id(self, tmp_path):
        train, test, num_classes = read_listings(tiny.write_inaturalist(tmp_path), "inat2018")
        assert num_classes == 3
        assert np.bincount(train.labels).tolist() == [8, 4, 4]
        assert train.files[8] == "train_val2018/Aves/1/train0.jpg"
        assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]

    def test_missing_annotations_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"--data must hold train2017\.json"):
            read_listings(tmp_path, "inat2017")

    def test_truncated_annotations_are_an_error(self, tmp_path):
        path = tiny.write_inaturalist(tmp_path) / "val2018.json"
        path.write_text(path.read_text()[:-10])
        with pytest.raises(ValueError, match=r"val2018\.json must be JSON, got .*cut off"):
            read_listings(tmp_path, "inat2018")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda c: c.pop("images"), "must have images, each with id and file_name, got no 'images'"),
            (lambda c: c["images"][0].pop("file_name"), "got no 'file_name'"),
            (lambda c: c.pop("categories"), "must have categories"),
            (lambda c: c["annotations"][1].pop("category_id"), "must have annotations, .* got no 'category_id'"),
            (lambda c: c["annotations"][1].update(category_id=99), "got no 99"),
            (lambda c: c["annotations"][1].update(image_id=-1), "got no -1"),
            (lambda c: c["annotations"].clear(), "must have annotations, got none"),
        ],
    )
    def test_wrong_annotations_are_named(self, tmp_path, change, reason):
        edit_json(tiny.write_inaturalist(tmp_path) / "train2018.json", change)
        with pytest.raises(ValueError, match=rf"train2018\.json {reason}|train2018\.json .*{reason}"):
            read_listings(tmp_path, "inat2018")

    def test_years_that_do_not_fit_are_an_error(self, tmp_path):
        edit_json(
            tiny.write_inaturalist(tmp_path) / "val2018.json", lambda c: c["categories"].append({"id": 77, "name": "?"})
        )
        with pytest.raises(ValueError, match="the same categories, got 3 and 4"):
            read_listings(tmp_path, "inat2018")

    def test_missing_images_are_counted_before_training(self, tmp_path):
        tiny.write_inaturalist(tmp_path)
        for name in ("train1.jpg", "train2.jpg"):
            (tmp_path / "train_val2018/Aves/1" / name).unlink()
        with pytest.raises(FileNotFoundError, match=r"2 are missing, the first is train_val2018/Aves/1/train1\.jpg"):
            read_listings(tmp_path, "inat2018")


class TestIlsvrc:
    def test_classes_are_numbered_by_folder(self, tmp_path):
        train, test, num_classes = read_listings(tiny.write_ilsvrc(tmp_path), "ilsvrc2012")
        assert (num_classes, len(train.files), len(test.files)) == (3, 12, 6)
        assert train.files[4] == "train/n002/train_0.JPEG"
        assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4

    def test_flat_validation_folder_is_an_error(self, tmp_path):
        (tiny.write_ilsvrc(tmp_path) / "val").rename(tmp_path / "other")
        tiny.write_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 0, 0)
        with pytest.raises(FileNotFoundError, match="--data must hold val/ with a folder of images for each class"):
            read_listings(tmp_path, "ilsvrc2012")

    def test_class_that_only_one_split_has_is_named(self, tmp_path):
        tiny.write_image(tiny.write_ilsvrc(tmp_path) / "val" / "n009" / "a.JPEG", 0, 0)
        with pytest.raises(ValueError, match="got 3 and 4, only one has n009"):
            read_listings(tmp_path, "ilsvrc2012")

    def test_class_without_an_image_is_named(self, tmp_path):
        (tiny.write_ilsvrc(tmp_path) / "train" / "n000").mkdir()
        with pytest.raises(FileNotFoundError, match="train/n000 must have JPEG or PNG images"):
            read_listings(tmp_path, "ilsvrc2012")


class TestImages:
    @pytest.mark.parametrize("content", [b"no image", b""])
    def test_what_is_no_image_is_named(self, tmp_path, content):
        tiny.write_ilsvrc(tmp_path)
        (tmp_path / "val" / "n001" / "val_0.JPEG").write_bytes(content)
        with pytest.raises(ValueError, match=r"val_0\.JPEG must be a complete image, got "):
            list(load(tmp_path, "ilsvrc2012").test_batches(range(6), 4))

    def test_truncated_image_is_named(self, tmp_path):
        tiny.write_ilsvrc(tmp_path)
        path = tmp_path / "val" / "n002" / "val_1.JPEG"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"val_1\.JPEG must be a complete image, got image file is truncated"):
            list(load(tmp_path, "ilsvrc2012").test_batches(range(6), 4))

    def test_batches_do_not_depend_on_the_workers_or_on_where_an_epoch_begins(self, tmp_path):
        tiny.write_inaturalist(tmp_path)
        alone, helped = (load(tmp_path, "inat2018", workers=workers) for workers in (0, 2))
        whole = list(alone.train_batches(alone.recipe, 1, 0, Processes()))
        rest = list(helped.train_batches(alone.recipe, 1, 2, Processes()))
        assert (len(whole), len(rest)) == (4, 2)
        for (images_a, labels_a), (images_b, labels_b) in zip(whole[2:], rest, strict=True):
            assert torch.equal(images_a, images_b)
            assert torch.equal(labels_a, labels_b)

    def test_an_image_is_cropped_anew_every_epoch(self, tmp_path):
        data = load(tiny.write_inaturalist(tmp_path), "inat2018")
        first, again, other = (images.Images(tmp_path, data.train, 32, seed=0, epoch=e)[0][0] for e in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_pixels_are_normalised_by_channel(self, tmp_path):
        data = load(tiny.write_ilsvrc(tmp_path), "ilsvrc2012")
        ((got, labels),) = data.test_batches(range(1), 4)
        with Image.open(tmp_path / "val/n001/val_0.JPEG") as image:
            side = round(7 / 8 * 40)
            left, top = (40 - side) // 2, (48 - side) // 2
            box = (left, top, left + side, top + side)
            pixels = np.array(image.resize((32, 32), Image.Resampling.BICUBIC, box)) / 255
        expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(got[0].permute(1, 2, 0), expected, atol=1e-6)
        assert got.shape == (1, 3, 32, 32)
        assert labels.tolist() == [0]

    def test_grey_images_get_three_colours(self, tmp_path):
        Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
        assert np.array(images.read_image(tmp_path / "grey.png")).tolist() == [[[7, 7, 7]] * 8] * 8

    def test_random_windows_have_the_papers_area_and_shape(self):
        rng = np.random.default_rng(0)
        boxes = np.array([images.random_box(rng, 500, 400) for _ in range(400)])
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        share = width * height / (500 * 400)
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= 500
        assert boxes[:, 3].max() <= 400
        assert 0.079 < share.min() < 0.12
        assert share.max() > 0.8
        assert 0.74 < (width / height).min() < 0.78
        assert 1.29 < (width / height).max() < 1.35

    def test_image_too_narrow_for_a_window_gives_the_centre(self):
        assert images.random_box(np.random.default_rng(0), 10, 1000) == images.centre_box(10, 1000) == (0, 495, 9, 504)
