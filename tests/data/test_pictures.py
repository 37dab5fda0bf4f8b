"""Picture files: TinyImageNet as it is published, and anybody's folders."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as tv

from prunetune.data import Augmentation, datasets
from prunetune.data.tinyimagenet import load_tiny_imagenet
from prunetune.errors import InputError

WNIDS = ("n02124075", "n01443537", "n04067472")  # wnids.txt is not sorted
GREY = 40


def write_picture(path: Path, brightness: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, brightness if mode == "L" else (brightness,) * 3).save(path, quality=95)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """TinyImageNet with 3 classes, 20 training pictures each and 6 for validation; the i-th class has brightness 40 i.

    Laid out as published; some training pictures are grey ones, as some of the published are.
    """
    top = tmp_path / "tiny-imagenet-200"
    classes = sorted(WNIDS)
    for number, wnid in enumerate(classes):
        for each in range(20):
            mode = "L" if each == 3 else "RGB"
            write_picture(top / "train" / wnid / "images" / f"{wnid}_{each}.JPEG", GREY * number, mode=mode)
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    lines = []
    for each in range(6):
        number = (each * 2) % 3
        write_picture(top / "val" / "images" / f"val_{each}.JPEG", GREY * number)
        lines.append(f"val_{each}.JPEG\t{classes[number]}\t0\t32\t44\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    write_picture(top / "test" / "images" / "test_0.JPEG", 255)
    (top / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (top / "words.txt").write_text("n00001740\tentity\n")
    return tmp_path


def zipped(folder: Path) -> tuple[Path, str]:
    """The archive in a folder of its own, and its MD5 sum."""
    (folder / "zip").mkdir()
    path = folder / "zip" / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in sorted((folder / "tiny-imagenet-200").rglob("*")):
            archive.write(each, each.relative_to(folder))
    return path.parent, hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["unpacked", "inside", "archive"])
def test_tinyimagenet_is_read_as_published(tiny: Path, form: str) -> None:
    root, md5 = {"unpacked": (tiny, ""), "inside": (tiny / "tiny-imagenet-200", "")}.get(form) or zipped(tiny)
    data = load_tiny_imagenet(None, root, 0, md5=md5)
    assert data.num_classes == 3
    assert [len(data.train_labels), len(data.val_labels)] == [54, 6]
    assert torch.cat([data.train_labels, data.val_labels]).bincount().tolist() == [20] * 3
    assert data.val_labels.bincount().tolist() == [2] * 3
    assert data.test_labels.tolist() == [0, 2, 1, 0, 2, 1]  # as the annotations have them
    for part in ("train", "val", "test"):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        assert images.shape[1:] == (3, 64, 64)
        brightness = images.double().mean((1, 2, 3))
        assert (brightness - GREY * labels).abs().max() < 3  # JPEG
    assert data.augmentation == Augmentation(flip=True, rotation=15.0, padding=3)


def test_at_the_papers_size_the_frame_is_the_papers(tiny: Path) -> None:
    data = load_tiny_imagenet(128, tiny, 0)
    assert data.train_images.shape[-1] == 128
    assert data.augmentation.padding == 6


def test_an_archive_that_is_not_the_published_one_is_refused(tiny: Path) -> None:
    root, _ = zipped(tiny)
    with pytest.raises(InputError, match="is not the published archive: its MD5 sum is") as caught:
        datasets["tinyimagenet"].load(None, root, 0)
    assert str(root / "tiny-imagenet-200.zip") in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("val/val_annotations.txt", "cannot read val/val_annotations.txt"),
        ("val/images/val_3.JPEG", "cannot read the picture 'val/images/val_3.JPEG'"),
    ],
)
def test_what_tinyimagenet_lacks_is_named(tiny: Path, missing: str, complaint: str) -> None:
    (tiny / "tiny-imagenet-200" / missing).unlink()
    with pytest.raises(InputError, match=complaint):
        load_tiny_imagenet(None, tiny, 0)


def test_pictures_of_an_unknown_class_are_refused(tiny: Path) -> None:
    (tiny / "tiny-imagenet-200" / "wnids.txt").write_text(WNIDS[0])
    with pytest.raises(InputError, match="does not name the classes of all pictures"):
        load_tiny_imagenet(None, tiny, 0)


def test_tinyimagenet_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="put tiny-imagenet-200.zip, as it is or unpacked, into") as caught:
        datasets["tinyimagenet"].load(None, tmp_path, 0)
    assert str(tmp_path) in str(caught.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data.root"):
        datasets["tinyimagenet"].load(None, None, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 + 20 + 20 squares of 16 pixels, the j-th of class c filled with 40 c + j."""
    for number, name in enumerate(("ant", "bee", "cat")):
        for each in range(20):
            write_picture(tmp_path / "all" / name / f"{each}.png", GREY * number + each, (16, 16))
    (tmp_path / "all" / "ant" / "notes.txt").write_text("not a picture")
    (tmp_path / "all" / ".cache").mkdir()
    return tmp_path / "all"


def test_a_folder_without_parts_is_split(folder: Path) -> None:
    one, again, other = (datasets["imagefolder"].load(None, folder, seed) for seed in (0, 0, 1))
    assert [len(one.train_labels), len(one.val_labels), len(one.test_labels)] == [48, 6, 6]
    for part in ("train", "val", "test"):
        labels = getattr(one, f"{part}_labels")
        assert labels.bincount().tolist() == [len(labels) // 3] * 3
        assert torch.equal(getattr(one, f"{part}_images")[:, 0, 0, 0].long() // GREY, labels)
        assert torch.equal(getattr(one, f"{part}_images"), getattr(again, f"{part}_images"))
    assert not torch.equal(one.train_images, other.train_images)
    assert one.num_classes == 3


@pytest.mark.parametrize(("val", "test"), [("val", "test"), ("validation", None), (None, "test")])
def test_parts_are_taken_as_they_are(folder: Path, val: str | None, test: str | None) -> None:
    root = folder.parent / "parts"
    root.mkdir()
    for part in filter(None, (val, test)):
        for number, name in enumerate(("ant", "bee", "cat")):
            write_picture(root / part / name / "deep" / "x.png", GREY * number, (16, 16))
    folder.rename(root / "train")
    data = datasets["imagefolder"].load(None, root, 0)
    assert len(data.val_labels) == (3 if val else 6)
    assert len(data.test_labels) == (3 if test else 6)
    assert len(data.train_labels) == 60 - 6 * (not val) - 6 * (not test)


def test_classes_are_numbered_as_torchvision_does(folder: Path) -> None:
    assert ImageFolder(folder, allow_empty=True).class_to_idx["cat"] == 3  # it counts .cache, which we leave out
    (folder / ".cache").rmdir()
    theirs = ImageFolder(folder)
    data = datasets["imagefolder"].load(None, folder, 0)
    counts = torch.cat([data.train_labels, data.val_labels, data.test_labels]).bincount()
    assert counts.tolist() == np.bincount(theirs.targets).tolist()


@pytest.mark.parametrize("size", [(48, 32), (32, 48), (20, 20)])
def test_pictures_are_scaled_and_their_middle_is_kept(folder: Path, size: tuple[int, int]) -> None:
    """As torchvision's Resize and CenterCrop of the same picture; its crop may be half a pixel off."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    picture = small.resize(size, Image.Resampling.BICUBIC)
    for path in folder.rglob("*.png"):
        picture.save(path)
    data = datasets["imagefolder"].load(16, folder, 0)
    theirs = tv.center_crop(tv.resize(picture, 16), [16, 16])
    expected = torch.from_numpy(np.asarray(theirs).copy()).permute(2, 0, 1)
    assert (data.train_images[0].int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda root: (root / "bee" / "3.png").write_bytes(b"no"), "cannot read the picture 'bee/3.png'"),
        (lambda root: write_picture(root / "bee" / "3.png", 0, (8, 8)), "'bee/3.png' .* is 8 x 8 .* data.image_size"),
        (lambda root: write_picture(root / "ant" / "0.png", 0, (8, 4)), "'ant/0.png' .* is 8 x 4 .* data.image_size"),
        (lambda root: write_picture(root / "val" / "ant" / "0.png", 0), None),
        (lambda root: write_picture(root / "train" / "dog" / "0.png", 0), "at least two classes; it has dog"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(folder: Path, spoil: object, complaint: str | None) -> None:
    assert callable(spoil)
    spoil(folder)
    if complaint is None:  # without a folder train, val is a class like any other
        assert datasets["imagefolder"].load(16, folder, 0).num_classes == 4
        return
    with pytest.raises(InputError, match=complaint):
        datasets["imagefolder"].load(None, folder, 0)


def test_other_classes_in_a_part_are_refused(folder: Path) -> None:
    root = folder.parent / "parts"
    root.mkdir()
    folder.rename(root / "train")
    write_picture(root / "test" / "dog" / "0.png", 0, (16, 16))
    with pytest.raises(InputError, match="the classes of .*test.* are not those of .*train.*: 'ant' is only in one"):
        datasets["imagefolder"].load(None, root, 0)


def test_the_folder_must_be_named() -> None:
    with pytest.raises(InputError, match="data.root must name the folder"):
        datasets["imagefolder"].load(None, None, 0)
