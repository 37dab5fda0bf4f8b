"""Files that a dataset was published as: found, verified by their MD5 sums, and fetched where that is wanted.

The sums say that a file is whole and the one that everybody else has; against forgery MD5 is no help.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final, TypeAlias
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prunetune.errors import InputError

Say: TypeAlias = Callable[[str], None]
"""Takes a sentence that a person may want to read while waiting."""

CHUNK: Final = 2**20
TIMEOUT: Final = 60.0
"""Seconds that a server may be silent."""


def silently(sentence: str) -> None:
    """What says nothing."""


@dataclass(frozen=True)
class Download:
    """Where one file is fetched from, the name that it gets, and the MD5 sum that it must have."""

    url: str
    name: str
    md5: str


@dataclass(frozen=True)
class Published:
    """The files of a dataset.

    ``sums`` has the MD5 sum of each by its name; of what ends in ``.gz`` it is that of the content, since others
    (Debian) compress anew. ``folders`` are the usual places, the last of which is the user's own and gets what is
    downloaded; the files may lie in any of ``subfolders`` of one, for others unpack them there. ``hint`` ends the
    sentence on what to do. A download is one of the files, or a tar archive with all of them.
    """

    title: str
    sums: Mapping[str, str]
    folders: tuple[Path, ...]
    subfolders: tuple[str, ...] = ()
    hint: str = ""
    downloads: tuple[Download, ...] = ()

    def find(self, root: Path | None) -> Path:
        """The folder that has all files: ``root``, a subfolder of it, or the first usual one.

        Raises InputError with the files that are missing and where to put them.
        """
        folder = self._there(root)
        if folder is not None:
            return folder
        if root is None:
            raise InputError(
                f"{self.title}'s files are not there: put {', '.join(self.sums)} into {str(self.folders[-1])!r} or "
                f"into the folder that data.root names{self.hint} "
                f"(looked in {', '.join(repr(str(each)) for each in self.folders)})"
            )
        missing = [name for name in self.sums if not (root / name).is_file()]
        raise InputError(
            f"{self.title}'s files are not all in {str(root)!r}: put {', '.join(missing)} there{self.hint}"
        )

    def read(self, folder: Path, name: str) -> bytes:
        """The content of one file, decompressed. Raises InputError if it is damaged or not the published one."""
        path = folder / name
        try:
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot read {str(path)!r}: {error}; get this file anew") from None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != self.sums[name]:
            raise InputError(
                f"{str(path)!r} is not the file that {self.title} was published with: its MD5 sum is {found} and "
                f"should be {self.sums[name]}; get this file anew"
            )
        return content

    def fetch(self, root: Path | None, say: Say = silently) -> None:
        """Download what is missing into ``root``, or the last usual folder; nothing if all files are somewhere.

        Raises InputError if a server cannot be reached, or sends something else than was published.
        """
        if self._there(root) is not None:
            return
        folder = self.folders[-1] if root is None else root
        for each in self.downloads:
            path = folder / each.name
            if not path.is_file() or file_md5(path) != each.md5:
                download(each, folder, say)
            if each.name not in self.sums:
                self._unpack(path, folder)

    def _there(self, root: Path | None) -> Path | None:
        for parent in self.folders if root is None else (root,):
            for folder in (parent, *(parent / each for each in self.subfolders)):
                if all((folder / name).is_file() for name in self.sums):
                    return folder
        return None

    def _unpack(self, archive: Path, folder: Path) -> None:
        """Write the files out of a tar archive into ``folder``, those with a known name and no others."""
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if name in self.sums and member.isreg() and (content := tar.extractfile(member)) is not None:
                    write(folder / name, content.read())


def download(what: Download, folder: Path, say: Say = silently) -> None:
    """Fetch a file into ``folder``, where it appears when it is whole and verified, and not before."""
    path = folder / what.name
    partial = path.with_name(f"{path.name}.part")
    digest = hashlib.md5(usedforsecurity=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        request = Request(what.url, headers={"User-Agent": "prunetune"})
        with urlopen(request, timeout=TIMEOUT) as response, partial.open("wb") as file:
            size = int(response.headers.get("Content-Length") or 0)
            say(f"Downloading {what.url}" + (f" ({size / 1e6:.1f} MB)" if size else "") + f" to {path}")
            while chunk := response.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != what.md5:
            raise InputError(
                f"what {what.url} sent is not what was published: its MD5 sum is {digest.hexdigest()} and should be "
                f"{what.md5}; try again, or get the file from elsewhere and put it into {str(folder)!r}"
            )
        partial.replace(path)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise InputError(
            f"cannot download {what.url}: {error}; get the file from elsewhere and put it into {str(folder)!r}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(content)
    os.replace(partial, path)


def file_md5(path: Path) -> str:
    """The MD5 sum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
