"""How an image file becomes pixels: every kind of pixel, orientation and size, against its definition."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edlab.data.pixels import decode, read_image, resize_and_crop
from edlab.source import Preprocessing

RANDOM = np.random.default_rng(0)
GREY16 = RANDOM.integers(0, 65536, (12, 16), dtype=np.uint16)
GREY8 = np.rint(GREY16 / 257).astype(np.uint8)


def png(values: NDArray[np.uint16], colour: int) -> bytes:
    """A PNG with 16 bits per channel, which Pillow does not write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: NDArray[Any], *, sample_format: int, black_is_zero: bool = True) -> bytes:
    """A TIFF without compression, of one channel, written by hand: signed, floating-point, or with white as zero."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    height, width = values.shape
    data = values.tobytes()
    entries = {
        256: width, 257: height, 258: 8 * values.dtype.itemsize, 259: 1, 262: int(black_is_zero), 273: 134,
        277: 1, 278: height, 279: len(data), 339: sample_format,
    }  # fmt: skip
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries.items())
    return (
        (b"MM\0*" if order == ">" else b"II*\0")
        + struct.pack(f"{order}IH", 8, len(entries))
        + table
        + struct.pack(f"{order}I", 0)
        + data
    )


def saved(tmp_path: Path, data: bytes, suffix: str) -> Path:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    return path


def red_of(path: Path) -> NDArray[np.uint8]:
    """The pixels of a grey image, whose three channels must be equal."""
    image = np.asarray(read_image(path))
    assert (image == image[..., :1]).all()
    return image[..., 0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_value_by_65535(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(GREY16).save(path)
    np.testing.assert_array_equal(red_of(path), GREY8)
    assert decode(path, apply_orientation=False).peak == GREY16.max()


def test_16_bit_tiffs_of_either_byte_order_and_with_white_as_zero(tmp_path: Path) -> None:
    swapped = GREY16.astype(">u2")
    np.testing.assert_array_equal(red_of(saved(tmp_path, tiff(swapped, sample_format=1), ".tif")), GREY8)
    inverted = saved(tmp_path, tiff(65535 - GREY16, sample_format=1, black_is_zero=False), ".tif")
    np.testing.assert_array_equal(red_of(inverted), GREY8)


def test_a_pgm_of_12_bits_has_its_own_white(tmp_path: Path) -> None:
    values = (GREY16 >> 4).astype(">u2")
    path = saved(tmp_path, b"P5\n16 12\n4095\n" + values.tobytes(), ".pgm")
    np.testing.assert_allclose(red_of(path), values / 4095 * 255, atol=0.6)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha_are_within_a_level(tmp_path: Path, colour: int, channels: int) -> None:
    values = RANDOM.integers(0, 65536, (12, 16, channels), dtype=np.uint16)
    image = np.asarray(read_image(saved(tmp_path, png(values.reshape(12, -1, channels), colour), ".png")))
    expected = values[..., :3] if channels > 2 else values[..., :1].repeat(3, axis=2)
    np.testing.assert_allclose(image, expected / 257, atol=1)


def test_floats_of_0_to_1_are_read(tmp_path: Path) -> None:
    values = (GREY16 / 65535).astype(np.float32)
    np.testing.assert_allclose(red_of(saved(tmp_path, tiff(values, sample_format=3), ".tif")), values * 255, atol=0.51)


@pytest.mark.parametrize(
    ("values", "sample_format", "message"),
    [
        (GREY16.astype(np.float32), 3, "floating-point pixels from .* to .*: the value of white is unknown"),
        (np.full((12, 16), np.nan, np.float32), 3, "floating-point pixels from nan"),
        (GREY16.astype(np.int32), 2, "signed or 32-bit integer pixels"),
        (GREY16.astype(np.uint32), 1, "signed or 32-bit integer pixels"),
        ((GREY16 >> 1).astype(np.int16), 2, "signed or 32-bit integer pixels"),
        ((GREY16 >> 9).astype(np.int8), 2, "signed or 32-bit integer pixels"),
    ],
)
def test_pixels_without_a_known_white_are_refused(
    tmp_path: Path, values: NDArray[Any], sample_format: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_image(saved(tmp_path, tiff(values, sample_format=sample_format), ".tif"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_are_what_torchvision_loads(tmp_path: Path, mode: str) -> None:
    colours = Image.fromarray(RANDOM.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = colours.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(RANDOM.integers(0, 256, (12, 16), dtype=np.uint8)))
    path = tmp_path / "x.png"
    image.save(path, **({"transparency": bytes(range(200))} if mode == "P" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as opened:
            expected = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(read_image(path)), expected)
    if mode == "RGBA":  # alpha is dropped: the colours below it stay
        np.testing.assert_array_equal(expected, np.asarray(colours))


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for suffix in (".tif", ".webp", ".png"):
        frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        assert read_image(tmp_path / f"x{suffix}").getpixel((1, 1)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_found_and_applied_where_it_is_wanted(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    Image.fromarray(RANDOM.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path, exif=exif)
    with Image.open(path) as image:
        stored, shown = np.asarray(image.convert("RGB")), np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    ignored = decode(path, apply_orientation=False)
    np.testing.assert_array_equal(np.asarray(ignored.image), stored)
    assert ignored.turned == (orientation != 1)
    applied = decode(path, apply_orientation=True)
    np.testing.assert_array_equal(np.asarray(applied.image), shown)
    assert not applied.turned


def test_a_damaged_orientation_leaves_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 8), "white").save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.asarray(decode(path, apply_orientation=True).image).min() > 250


def test_every_pretrained_configuration_of_timm_gives_timms_pixels() -> None:
    """Over the whole list, once a setting: an enumeration that grows a value must not pass for a known one."""
    from edlab.torchvision_import import import_torchvision

    import_torchvision()
    import timm
    from timm.data import create_transform, resolve_data_config

    from edlab.config import PreprocessingConfig
    from edlab.models.network import override_preprocessing
    from edlab.models.timm_models import _preprocessing

    settings: dict[Any, dict[str, Any]] = {}
    for name in timm.list_pretrained():
        data = resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
        ratio = 1 if data["crop_pct"] == 1 else 2 if data["crop_pct"] > 1 else data["crop_pct"]
        size = data["input_size"][1] > 300  # one size below and one above the images is enough of each mode
        square = data["input_size"][1] == data["input_size"][2]
        settings.setdefault((size, square, data["interpolation"], ratio, data["crop_mode"]), data)
    assert {key[-1] for key in settings} >= {"center", "squash", "border"}
    images = [Image.effect_noise(size, 60).convert("RGB") for size in ((320, 181), (150, 203))]
    for data in settings.values():
        preprocessing = override_preprocessing(_preprocessing(data), PreprocessingConfig())
        transform = create_transform(**{**data, "mean": (0, 0, 0), "std": (1, 1, 1)})
        if data["crop_mode"] == "border":  # timm fills with the mean
            transform = create_transform(**{**data, "std": (1, 1, 1)})
        shift = np.array(data["mean"]) if data["crop_mode"] == "border" else 0
        for image in images:
            expected = (transform(image).numpy().transpose(1, 2, 0) + shift) * 255
            np.testing.assert_allclose(resize_and_crop(image, preprocessing), expected, atol=0.01, err_msg=str(data))


@pytest.mark.parametrize(
    "changes", [{"crop_mode": "border", "crop_pct": 0.9}, {"crop_mode": "tiles"}, {"input_size": (3, 48, 32)}]
)
def test_a_crop_mode_that_is_not_known_is_refused_by_name(changes: dict[str, Any]) -> None:
    from edlab.errors import ModelError
    from edlab.models.timm_models import _preprocessing

    data = {
        "input_size": (3, 32, 32), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.9,
        "crop_mode": "center", **changes,
    }  # fmt: skip
    with pytest.raises(ModelError, match=f"crop_mode '{data['crop_mode']}'") as caught:
        _preprocessing(data)
    assert "model.preprocessing.resize_mode" in caught.value.hint


@pytest.mark.parametrize("size", [(30, 41), (33, 21), (64, 64), (41, 40), (20, 90)])
def test_a_crop_larger_than_the_image_has_torchvisions_borders(size: tuple[int, int]) -> None:
    from edlab.torchvision_import import import_torchvision

    transforms = import_torchvision().transforms
    image = Image.fromarray(RANDOM.integers(1, 256, (*size, 3), dtype=np.uint8))
    reference = transforms.Compose([transforms.Resize(33), transforms.CenterCrop((48, 44))])
    preprocessing = Preprocessing(height=48, width=44, resize=33)
    np.testing.assert_array_equal(resize_and_crop(image, preprocessing), np.asarray(reference(image)))


def test_a_letterbox_keeps_the_aspect_ratio_and_the_border_its_colour() -> None:
    image = Image.new("RGB", (40, 20), "red")
    preprocessing = Preprocessing(height=32, width=32, resize_mode="letterbox", border=(114, 113, 112))
    pixels = resize_and_crop(image, preprocessing)
    assert (pixels[8:24] == (255, 0, 0)).all()
    assert (pixels[:8] == (114, 113, 112)).all()
    assert (pixels[24:] == (114, 113, 112)).all()


def test_an_aspect_ratio_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="20000 x 1 pixels would become"):
        resize_and_crop(Image.new("RGB", (20000, 1)), Preprocessing(height=224, width=224, resize=256))
