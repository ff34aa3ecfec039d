"""Imagenette: ten easy classes of ImageNet that download in a minute (github.com/fastai/imagenette, Apache-2.0)."""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from edlab.cache import Cache
from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.data.folders import list_image_folder
from edlab.errors import DataError, DataUnavailableError

# The shorter side is 320 pixels. Address and MD5 as in torchvision.datasets.Imagenette.
URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
MD5 = "3df6f0d01a2c9592104656642f5e78a3"
_CONNECT_S = 10.0
_CHUNK = 1 << 20


def list_imagenette(
    config: DatasetConfig, num_classes: int, cache: Cache, on_progress: Callable[[float], None]
) -> Catalogue:
    """The validation images, downloaded into the cache the first time. Raises `DataUnavailableError` offline."""

    def make(folder: Path) -> None:
        archive = folder / "imagenette.tgz"
        _download(archive, on_progress)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()

    folder = cache.get_or_make("downloads", f"imagenette-{MD5}", make)
    path = str(folder / "imagenette2-320" / "val")
    return list_image_folder(dataclasses.replace(config, path=path, labels=None, class_order=None), num_classes)


def _download(archive: Path, on_progress: Callable[[float], None]) -> None:
    hint = "check the network, or unpack Imagenette yourself and set dataset=image_folder dataset.path=.../val"
    digest = hashlib.md5(usedforsecurity=False)
    try:
        response = urllib.request.urlopen(URL, timeout=_CONNECT_S)
    except OSError as error:
        raise DataUnavailableError(f"cannot download Imagenette from {URL}: {error}", hint=hint) from error
    with response, open(archive, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := _read(response, hint):
            digest.update(chunk)
            file.write(chunk)
            if total:
                on_progress(file.tell() / total)
    if digest.hexdigest() != MD5:
        raise DataError(f"the file downloaded from {URL} is damaged, or another file (wrong MD5)", hint=hint)


def _read(response: object, hint: str) -> bytes:
    """The next chunk. A broken connection is a network error; a failing write is a disk error."""
    try:
        chunk: bytes = response.read(_CHUNK)  # type: ignore[attr-defined]
    except OSError as error:
        raise DataUnavailableError(f"the download of Imagenette was interrupted: {error}", hint=hint) from error
    return chunk
