"""Datasets as tensors: what is in them, how they are split, and what is said when files are missing."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from prunetune.data import Augmentation, ImageData, datasets, split_stratified
from prunetune.data._files import Published
from prunetune.data.fashion_mnist import FILES, load_fashion_mnist
from prunetune.errors import InputError

PARTS = ("train", "val", "test")


def parts(data: ImageData) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")) for part in PARTS]


def write_idx(path: Path, values: torch.Tensor) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.to(torch.uint8).numpy().tobytes(), 1))


def published(folder: Path) -> Published:
    """Fashion-MNIST as if the files in ``folder`` were those that were published."""
    sums = {name: hashlib.md5(gzip.decompress((folder / name).read_bytes())).hexdigest() for name in FILES.sums}
    return replace(FILES, sums=sums, folders=(folder / "system", folder / "mine"))


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    """600 + 100 pictures in Fashion-MNIST's format: class c is a square of brightness 20 c, with some noise."""
    generator = torch.Generator().manual_seed(0)
    for prefix, count in (("train", 600), ("t10k", 100)):
        labels = torch.arange(count) % 10
        images = (labels * 20)[:, None, None] + torch.randint(0, 20, (count, 28, 28), generator=generator)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_digits_are_the_scans_of_scikit_learn_each_in_one_part() -> None:
    data = datasets["digits"].load(None, None, 0)
    assert [len(labels) for _, labels in parts(data)] == [1079, 359, 359]
    ours = torch.cat([images.reshape(-1, 64) for images, _ in parts(data)])
    labels = torch.cat([labels for _, labels in parts(data)])
    pixels, digits = load_digits(return_X_y=True)
    rows = sorted((*row.tolist(), label) for row, label in zip(ours, labels.tolist(), strict=True))
    expected = sorted((*(round(v * 255 / 16) for v in row), label) for row, label in zip(pixels, digits, strict=True))
    assert rows == expected


def test_digits_are_scaled_up_bilinearly() -> None:
    small, large = (datasets["digits"].load(size, None, 0) for size in (8, 16))
    assert large.train_images.shape == (1079, 1, 16, 16)
    assert large.train_images.dtype == torch.uint8
    exact = F.interpolate(small.val_images.double(), scale_factor=2, mode="bilinear", align_corners=False)
    assert (large.val_images - exact).abs().max() <= 0.5


def test_digits_need_no_folder() -> None:
    with pytest.raises(InputError, match="not read from a folder"):
        datasets["digits"].load(None, Path("somewhere"), 0)


def test_every_part_has_the_classes_in_their_proportion() -> None:
    data = datasets["digits"].load(None, None, 3)
    whole = torch.cat([labels for _, labels in parts(data)]).bincount()
    for _, labels in parts(data):
        share = whole * len(labels) / 1797
        assert (labels.bincount() - share).abs().max() <= 1.5


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    one, again, other = (datasets["digits"].load(16, None, seed) for seed in (1, 1, 2))
    assert torch.equal(one.val_images, again.val_images)
    assert torch.equal(one.train_labels, again.train_labels)
    assert not torch.equal(one.val_images, other.val_images)


def test_normalisation_is_that_of_the_training_images_alone() -> None:
    data = datasets["digits"].load(16, None, 0)
    normal = data.normalize(data.train_images).double()
    assert abs(normal.mean()) < 1e-5
    assert abs(normal.std(correction=0) - 1) < 1e-5
    exact = data.train_images.double() / 255
    torch.testing.assert_close(data.mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    assert abs(data.normalize(data.test_images).mean()) > 1e-4  # the others are not centred by themselves


def test_to_moves_every_tensor() -> None:
    data = datasets["digits"].load(None, None, 0).to("meta")
    assert {value.device.type for value in vars(data).values() if isinstance(value, torch.Tensor)} == {"meta"}
    assert data.name == "digits"


@pytest.mark.parametrize("sizes", [(60, 20, 20), (1, 99), (10, 5), (0, 7)])
def test_split_stratified_is_disjoint_and_of_the_sizes_asked_for(sizes: tuple[int, ...]) -> None:
    labels = torch.arange(100) % 4
    sets = split_stratified(labels, sizes, seed=0)
    assert [len(indices) for indices in sets] == list(sizes)
    together = torch.cat(sets)
    assert len(set(together.tolist())) == sum(sizes)


def test_split_stratified_refuses_more_than_there_is() -> None:
    with pytest.raises(InputError, match="cannot split 4 images into sets of 3, 2"):
        split_stratified(torch.zeros(4, dtype=torch.int64), (3, 2), seed=0)


def test_fashion_mnist_reads_the_published_format(fashion_folder: Path) -> None:
    data = load_fashion_mnist(None, fashion_folder, 0, files=published(fashion_folder))
    assert [len(labels) for _, labels in parts(data)] == [500, 100, 100]
    assert data.image_size == 28
    assert data.augmentation == Augmentation(flip=True, rotation=0, padding=3)
    for images, labels in parts(data):
        assert labels.bincount().tolist() == [len(labels) // 10] * 10
        assert torch.equal(images.flatten(1).to(torch.int64).min(1).values // 20, labels)


def test_fashion_mnist_scales_down(fashion_folder: Path) -> None:
    data = load_fashion_mnist(14, fashion_folder, 0, files=published(fashion_folder))
    assert data.test_images.shape == (100, 1, 14, 14)
    assert data.augmentation.padding == 1


DEBIAN = FILES.folders[0]


@pytest.mark.skipif(
    not DEBIAN.exists(), reason=f"the real Fashion-MNIST is in Debian's package dataset-fashion-mnist ({DEBIAN})"
)
def test_the_real_fashion_mnist() -> None:
    """Xiao et al. (2017): 70,000 pictures, 7,000 of each of ten classes; the published mean and deviation."""
    data = datasets["fashion-mnist"].load(None, None, 0)
    assert [len(labels) for _, labels in parts(data)] == [50_000, 10_000, 10_000]
    assert torch.cat([labels for _, labels in parts(data)]).bincount().tolist() == [7000] * 10
    for _, labels in parts(data):
        assert set((labels.bincount() * 10 - len(labels)).tolist()) == {0}
    assert data.mean.item() == pytest.approx(0.2860, abs=1e-3)  # of all 60,000, as everybody has them
    assert data.std.item() == pytest.approx(0.3530, abs=1e-3)


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    first, *others = FILES.sums
    (tmp_path / first).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        datasets["fashion-mnist"].load(None, tmp_path, 0)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert all(name in message for name in others)
    assert first not in message


def test_without_a_folder_the_usual_places_are_named(tmp_path: Path) -> None:
    files = replace(FILES, folders=(tmp_path / "system", tmp_path / "mine"))
    with pytest.raises(InputError) as caught:
        load_fashion_mnist(files=files)
    message = str(caught.value)
    for part in (*FILES.sums, str(tmp_path / "system"), str(tmp_path / "mine"), "data.root", "dataset-fashion-mnist"):
        assert part in message


@pytest.mark.parametrize("place", ["system", "mine", "mine/FashionMNIST/raw"])
def test_the_usual_places_are_searched(fashion_folder: Path, place: str) -> None:
    files = published(fashion_folder)
    (fashion_folder / place).mkdir(parents=True)
    for name in files.sums:
        (fashion_folder / name).rename(fashion_folder / place / name)
    assert len(load_fashion_mnist(files=files).test_labels) == 100


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not gzip", "cannot read"),
        (gzip.compress(b"\x00\x00\x08\x01" * 100, mtime=0)[:-20], "cannot read"),
        (
            gzip.compress(b"another file", mtime=0),
            "is not the file that Fashion-MNIST was published with: its MD5 sum is",
        ),
    ],
)
def test_damaged_and_foreign_files_are_named(fashion_folder: Path, content: bytes, complaint: str) -> None:
    files = published(fashion_folder)
    path = fashion_folder / next(iter(files.sums))
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        load_fashion_mnist(None, fashion_folder, 0, files=files)
    assert str(path) in str(caught.value)


def test_files_that_are_compressed_anew_are_the_same_files(fashion_folder: Path) -> None:
    """Debian's are: the sums are those of the contents."""
    files = published(fashion_folder)
    for name in files.sums:
        path = fashion_folder / name
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 9))
    assert len(load_fashion_mnist(None, fashion_folder, 0, files=files).test_labels) == 100


@pytest.mark.parametrize("name", datasets.names())
def test_what_is_known_before_anything_is_read(name: str) -> None:
    dataset = datasets[name]
    assert dataset.summary
    assert dataset.channels in (1, 3)
    with pytest.raises(InputError):
        dataset.load(None, Path("there is no such folder"), 0)
