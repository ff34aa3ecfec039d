"""Identifies a file by its first bytes: its name is not enough, and only damaged files are reported as damaged."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edlab.errors import ModelError

_HEAD = 512
_TORCH_EXPORT = 'torch.export.save(torch.export.export(model.eval(), (images,)), "net.pt2")'


def ensure_is(path: Path) -> None:
    """Raise `ModelError` if the content of the file is known to differ from its suffix, and name it."""
    kind, fix = identify(path)
    if kind and kind != path.suffix:
        if kind.startswith("."):
            raise ModelError(
                f"{path.name} is a {kind} file by its content", hint=f"rename it to {path.with_suffix(kind).name}"
            )
        raise ModelError(f"{path.name} is {kind}, not a {path.suffix} file", hint=fix)


def identify(path: Path) -> tuple[str, str]:
    """The type of the content, and how to get a model file from it; a suffix if it is a model file; "" if unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file", "copy or download the model again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer", "download the model itself: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the model itself: open the link that serves the raw file"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return (
            "an HDF5 file, the format of old Keras",
            'load it with the Keras that saved it, then model.save("net.keras")',
        )
    if head[4:8] == b"TFL3":
        return ".tflite", ""
    if head.startswith(b"PK\x03\x04"):
        return _identify_zip(path)
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, such as an old torch.save", _state_dict_fix(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file: weights without a network", _state_dict_fix(path)
    if text.startswith(b"<?xml"):
        return "an XML file, such as an OpenVINO IR", "set model.path to the model that it was converted from"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive", "unpack it, and set model.path to the model inside"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it, and set model.path to the model inside"
    return "", ""


def _identify_zip(path: Path) -> tuple[str, str]:
    """For the archives of PyTorch and Keras: their contents show which program wrote them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "", ""  # a damaged one: its reader reports it
    inner = {name.partition("/")[2] for name in names} | set(names)
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return ".pt2", ""
    if "serialized_exported_program.json" in inner:  # of torch 2.1 to 2.6
        return ".pt2", ""
    if {"config.json", "metadata.json"} <= set(names):
        return ".keras", ""
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "a TorchScript archive (torch.jit.save)", f"export the model again: {_TORCH_EXPORT}"
    if "data.pkl" in inner:
        return "a torch.save file: weights, or a pickled module", _state_dict_fix(path)
    if any(name.endswith((".onnx", ".tflite", ".keras", ".pt2")) for name in names):
        return "a zip archive", "unpack it, and set model.path to the model inside"
    return "", ""


def _state_dict_fix(path: Path) -> str:
    return (
        f"for a state dict set model=timm (or torchvision) model.arch=NAME model.weights={path}; "
        f"else export the model: {_TORCH_EXPORT}"
    )
