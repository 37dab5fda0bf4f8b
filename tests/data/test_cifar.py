"""CIFAR-10 and CIFAR-100: files in the format of Python 2 in which they are published, read, refused and downloaded."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import parse_config, with_download
from prunetune.cli.job import load_data
from prunetune.cli.launch import keep_config
from prunetune.data import Augmentation, Dataset, datasets
from prunetune.data._files import Download, Published
from prunetune.data.cifar import CIFAR10, CIFAR100, loader
from prunetune.data.fashion_mnist import FILES as FASHION_MNIST
from prunetune.errors import InputError


class Python2Pickler(pickle._Pickler):  # the one that is written in Python can be extended
    """Writes bytes as Python 2 wrote its strings, and arrays by the names that numpy had then."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_bytes(self, content: bytes) -> None:
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)  # type: ignore[attr-defined]
        self.memoize(content)  # type: ignore[attr-defined]

    dispatch[bytes] = save_bytes


def python2_pickle(value: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(count: int, classes: int, key: bytes, seed: int) -> bytes:
    """Pictures whose red is their class, green their row and blue their column."""
    labels = (np.arange(count) + seed) % classes
    planes = np.zeros((count, 3, 32, 32), np.uint8)
    planes[:, 0] = labels[:, None, None]
    planes[:, 1], planes[:, 2] = np.arange(32)[:, None], np.arange(32)
    names = [b"%d.png" % number for number in range(count)]
    content = {b"batch_label": b"one", key: labels.tolist(), b"data": planes.reshape(count, 3072), b"filenames": names}
    return python2_pickle(content)


CASES = {
    "cifar10": (CIFAR10, "cifar-10-batches-py", b"labels", 10),
    "cifar100": (CIFAR100, "cifar-100-python", b"fine_labels", 100),
}


def write_files(name: str, folder: Path) -> Published:
    """Small files in the format of that dataset in ``folder``, and a description that takes them for the published."""
    files, _, key, classes = CASES[name]
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for number, each in enumerate(files.sums):
        (folder / each).write_bytes(content := batch(2 * classes, classes, key, number))
        sums[each] = hashlib.md5(content).hexdigest()
    return replace(files, sums=sums)


def load(name: str, files: Published, root: Path | None, image_size: int | None = None, seed: int = 0) -> Any:
    _, _, key, classes = CASES[name]
    return loader(name, files, key.decode(), classes)(image_size, root, seed)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("inside", [False, True])
def test_the_published_format_is_read(name: str, inside: bool, tmp_path: Path) -> None:
    """From the folder with the files, or from the one in which the archive was unpacked."""
    _, subfolder, _, classes = CASES[name]
    files = write_files(name, tmp_path / subfolder)
    data = load(name, files, tmp_path if inside else tmp_path / subfolder)
    images = 2 * classes * (len(files.sums) - 1)
    assert [len(data.train_labels), len(data.val_labels), len(data.test_labels)] == [
        images - images // 10,
        images // 10,
        2 * classes,
    ]
    assert data.num_classes == classes
    assert data.augmentation == Augmentation(flip=True, rotation=0, padding=4)
    assert torch.cat([data.train_labels, data.val_labels]).bincount().tolist() == [images // classes] * classes
    if name == "cifar10":
        assert data.val_labels.bincount().tolist() == [images // 10 // classes] * classes
    for part in ("train", "val", "test"):
        pictures, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        assert pictures.shape[1:] == (3, 32, 32)
        assert torch.equal(pictures[:, 0, 5, 7].long(), labels)
        assert pictures[0, 1, :, 0].tolist() == list(range(32))  # rows go down
        assert pictures[0, 2, 0].tolist() == list(range(32))


@pytest.mark.parametrize("name", CASES)
def test_torchvision_reads_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that our small files are of the format that it reads, and ours of what it is given."""
    _, subfolder, _, _ = CASES[name]
    files = write_files(name, tmp_path / subfolder)
    theirs = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    meta = python2_pickle({theirs.meta["key"].encode(): [b"a", b"b"]})
    (tmp_path / subfolder / theirs.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": hashlib.md5(meta).hexdigest()})
    pairs = [list(pair) for pair in files.sums.items()]
    monkeypatch.setattr(theirs, "train_list", pairs[:-1])
    monkeypatch.setattr(theirs, "test_list", pairs[-1:])
    data = load(name, files, tmp_path)
    test = theirs(tmp_path, train=False)
    assert test.targets == data.test_labels.tolist()
    assert np.array_equal(test.data.transpose(0, 3, 1, 2), data.test_images.numpy())


def test_the_sums_and_addresses_are_torchvisions() -> None:
    for ours, theirs in ((CIFAR10, torchvision.datasets.CIFAR10), (CIFAR100, torchvision.datasets.CIFAR100)):
        assert [list(pair) for pair in ours.sums.items()] == theirs.train_list + theirs.test_list
        assert ours.downloads == (Download(theirs.url, theirs.filename, theirs.tgz_md5),)
        assert ours.subfolders == (theirs.base_folder,)
    fashion = torchvision.datasets.FashionMNIST
    assert [(each.name, each.md5) for each in FASHION_MNIST.downloads] == fashion.resources
    assert {each.url.removesuffix(each.name) for each in FASHION_MNIST.downloads} == set(fashion.mirrors)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_a_file_that_was_changed_is_refused_before_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_files("cifar10", tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_3"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="is not the file that CIFAR-10 was published with") as caught:
        load("cifar10", files, tmp_path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_missing_files_are_named_with_their_place_and_their_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        datasets["cifar10"].load(None, tmp_path, 0)
    for part in ("data_batch_1", "test_batch", str(tmp_path), "cifar-10-python.tar.gz", "--download"):
        assert part in str(caught.value)


class Server(http.server.ThreadingHTTPServer):
    """Sends the files in a dict, and remembers what it was asked for."""

    content: dict[str, bytes]
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path not in self.server.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content[self.path])))
        self.end_headers()
        self.wfile.write(self.server.content[self.path])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.content, running.asked = {}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def archive_of(folder: Path, files: Published, subfolder: str) -> bytes:
    """The files as they are published, and beside them what should not be unpacked."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in files.sums:
            tar.add(folder / name, f"{subfolder}/{name}")
        tar.add(folder / next(iter(files.sums)), "../escaped")
        link = tarfile.TarInfo("data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return content.getvalue()


@pytest.fixture
def served(server: Server, tmp_path: Path) -> Published:
    """CIFAR-10 as a server on this machine has it, with its usual place under ``tmp_path``."""
    files = write_files("cifar10", tmp_path / "published")
    content = archive_of(tmp_path / "published", files, "cifar-10-batches-py")
    server.content["/cifar.tar.gz"] = content
    url = f"http://127.0.0.1:{server.server_port}/cifar.tar.gz"
    downloads = (Download(url, "cifar-10-python.tar.gz", hashlib.md5(content).hexdigest()),)
    return replace(files, downloads=downloads, folders=(tmp_path / "here",))


def test_what_is_missing_is_downloaded_verified_and_unpacked(served: Published, server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    served.fetch(None, said.append)
    assert len(load("cifar10", served, None).train_labels) == 90
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(
        [*served.sums, "cifar-10-python.tar.gz"]
    )
    assert not (tmp_path / "escaped").exists()
    assert len(said) == 1
    assert served.downloads[0].url in said[0] and str(tmp_path / "here") in said[0] and "MB" in said[0]
    served.fetch(None, said.append)
    assert server.asked == ["/cifar.tar.gz"]  # once


def test_an_archive_that_is_there_is_not_downloaded_again(served: Published, server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cifar-10-python.tar.gz").write_bytes(server.content["/cifar.tar.gz"])
    served.fetch(tmp_path / "mine")
    assert len(load("cifar10", served, tmp_path / "mine").test_labels) == 20
    assert server.asked == []


def test_what_is_not_what_was_published_is_thrown_away(served: Published, server: Server, tmp_path: Path) -> None:
    server.content["/cifar.tar.gz"] += b"x"
    with pytest.raises(InputError, match="is not what was published: its MD5 sum is") as caught:
        served.fetch(None)
    assert served.downloads[0].url in str(caught.value)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_server_that_cannot_be_used_is_named(served: Published, server: Server, tmp_path: Path) -> None:
    server.content.clear()
    with pytest.raises(InputError, match=r"cannot download http://127\.0\.0\.1.*404.*put it into") as caught:
        served.fetch(None)
    assert "\n" not in str(caught.value)


CONFIG = {"model": {"name": "resnet8"}, "data": {"name": "cifar10"}, "run": {"folder": "run"}}


def test_a_configuration_may_ask_for_the_download(
    served: Published, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: Dataset = replace(datasets["cifar10"], load=loader("cifar10", served, "labels", 10), fetch=served.fetch)
    monkeypatch.setitem(datasets._entries, "cifar10", ours)
    config = parse_config({**CONFIG, "train": {"flip": False, "padding": 2}})
    with pytest.raises(InputError, match="not there"):
        load_data(config)
    assert server.asked == []
    data = load_data(with_download(config))
    assert len(data.train_labels) == 90
    assert data.augmentation == Augmentation(flip=False, rotation=0, padding=2)


def test_a_run_may_go_on_with_or_without_the_download(tmp_path: Path) -> None:
    config = parse_config({**CONFIG, "run": {"folder": str(tmp_path / "run")}})
    keep_config(config)
    keep_config(with_download(config))


def test_what_cannot_be_downloaded_is_said_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[model]\nname = "resnet8"\n[data]\nname = "digits"\n[run]\nfolder = "{tmp_path / "run"}"\n')
    refused = CliRunner().invoke(app, ["run", str(path), "--download"])
    assert refused.exit_code == 2
    assert "digits cannot be downloaded (that can cifar10, cifar100, fashion-mnist)" in refused.stderr
    assert not (tmp_path / "run").exists()
