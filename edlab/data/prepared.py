"""A data set prepared for one model's input: decoded once, then mapped from disk."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from edlab.cache import Cache, digest
from edlab.config import DatasetConfig
from edlab.data.base import OPTIONS_OF_ALL, Wanted
from edlab.data.boxes import MISFIT_ADVICE, in_pixels, misfit_reason, misfits
from edlab.data.catalogue import Catalogue
from edlab.data.datasets import DATASETS
from edlab.data.folders import list_unlabelled
from edlab.data.pixels import Written, write_pixels
from edlab.errors import ConfigError, DataError
from edlab.source import ArrayInput, Preprocessing, Reason
from edlab.tasks.detection.annotations import Annotations
from edlab.wording import none_of, plural

_VERSION = 3  # increase it when the written data change
_APPLIED_LATER = {"channels", "mean", "std"}  # when an image is converted to the model's input
_DARK_PEAK = (1 << 14) - 1  # of 16-bit images: files of 10, 12 and 14 bits do not exceed it
_MAX_CALIBRATION = 4096  # images used from calibration_path, which may be a whole training set

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class PreparedData:
    """A data set as one array of pixels on disk, and the purpose of its rows.

    `images` and `calibration_images` are .npy files, uint8 (N, height, width, C), to be memory-mapped; they are the
    same file unless the calibration images are in a separate folder. `files` and `calibration_files` name
    their rows. `evaluation` (in seeded order, so that any first part is a fair sample) and `calibration_pool` are
    rows; `labels` are int64 (N,) class indices, or the objects of N images, None without labels; `classes` is the
    class index of each folder or category. `label_map` states the rule that maps the categories of a detection data
    set to the model's classes.

    `skipped` are (file, reason) of the images that cannot be read; `left_out` counts files that are not images,
    including hidden files, by suffix. `reasons` are what makes an accuracy over these images doubtful.
    `digest` identifies the pixels, independent of their source.
    """

    name: str
    kind: str
    images: Path
    labels: NDArray[np.int64] | Annotations | None
    files: list[str]
    skipped: list[tuple[str, str]]
    evaluation: NDArray[np.int64]
    calibration_images: Path
    calibration_files: list[str]
    calibration_pool: NDArray[np.int64]
    digest: str
    classes: dict[str, int] = field(default_factory=dict)
    label_map: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()

    def calibration_indices(self, count: int, seed: int) -> tuple[int, ...]:
        """`count` rows of `calibration_images` drawn from the pool; a smaller count is a prefix of a larger one.

        Raises `DataError` if the pool is smaller than `count`.
        """
        if count > len(self.calibration_pool):
            raise DataError(
                f"{count} calibration images are required, and {self.name} provides {len(self.calibration_pool)}",
                hint="lower quantization.calibration.images, raise dataset.calibration_fraction, or set "
                "dataset.calibration_path=FOLDER",
            )
        drawn = np.random.default_rng(seed).permutation(self.calibration_pool)[:count]
        return tuple(int(index) for index in drawn)


def prepare(
    config: DatasetConfig,
    preprocessing: Preprocessing | ArrayInput,
    cache: Cache,
    *,
    num_classes: int | None,
    class_names: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> PreparedData:
    """The data set decoded, resized and cropped for a model of `num_classes` classes; prepared once, then cached.

    `num_classes` does not count a background class; None if a detector's file does not state it. `class_names` are
    those that the model itself names, in order: folders and categories of these names are its classes.

    Which images calibrate and which are scored depends only on the configuration of the data set, so that every
    quantization is scored on the same images. Unreadable images are skipped and listed. `on_progress` receives the
    fraction done.

    Raises `DataError` for a data set that is missing, empty, all unreadable, or has another number of classes;
    `ConfigError` for a wrong setting.
    """
    check_options(config)
    report = on_progress or (lambda fraction: None)
    wanted = Wanted(num_classes, class_names, cache, report)
    catalogue = _list(config, preprocessing, wanted)
    if not catalogue.names:
        raise DataError(f"{config.name} is empty", hint="set dataset.path=... to a data set with images")
    _check_classes(config, catalogue, wanted)
    evaluation, pool = _split(config, catalogue)
    data, labels = _prepare_labelled(catalogue, np.union1d(evaluation, pool), preprocessing, cache, report)
    calibration, calibration_rows, others = data, data.rows_of(pool), None
    if config.calibration_path:
        others = list_unlabelled(config)
        drawn = np.random.default_rng(config.seed).permutation(len(others.names))[:_MAX_CALIBRATION]
        calibration = _prepare_rows(others, np.sort(drawn), preprocessing, cache, report)
        calibration_rows = calibration.rows_of(drawn)
    scored = data.rows_of(evaluation)
    if not len(scored):
        raise DataError(
            f"no image of {config.name} is left to score", hint="lower dataset.calibration_fraction, or add images"
        )
    sources = [(catalogue, data)] + ([(others, calibration)] if others else [])
    return PreparedData(
        name=config.name,
        kind=config.kind,
        images=data.images,
        labels=labels,
        files=[catalogue.names[index] for index in data.indices],
        skipped=[skipped for source, rows in sources for skipped in (*source.skipped, *rows.skipped)],
        evaluation=scored,
        calibration_images=calibration.images,
        calibration_files=calibration.files,
        calibration_pool=calibration_rows,
        digest=digest([rows.sha256 for _, rows in sources]),
        classes=catalogue.class_index,
        label_map=catalogue.label_map,
        left_out=dict(sum((Counter(source.left_out) for source, _ in sources), Counter())),
        reasons=(*catalogue.reasons, *data.reasons, *_calibration_reasons(catalogue, others, calibration)),
    )


def task_of(kind: str) -> str | None:
    """The task for which a data set of this kind has labels: "classification", "detection", or None without labels.

    Raises `ConfigError` for a kind that does not exist.
    """
    return DATASETS.load(kind).task


def check_options(config: DatasetConfig) -> None:
    """Raise `ConfigError` for an option that is set and that this kind of data set does not read."""
    read = {*OPTIONS_OF_ALL, *DATASETS.load(config.kind).options}
    for option in dataclasses.fields(config):
        if option.name in read or getattr(config, option.name) == option.default:
            continue
        kinds = [name for name in DATASETS.built_in if option.name in DATASETS.load(name).options]
        raise ConfigError(
            f"dataset.{option.name} is unsupported for dataset.kind={config.kind}",
            hint=f"remove it; it is for {', '.join(kinds)}",
        )


def check_path(config: DatasetConfig) -> None:
    """Raise `ConfigError` if `dataset.path` is not set and this kind of data set cannot be read without it."""
    if not config.path and DATASETS.load(config.kind).needs_path:
        raise ConfigError(
            f"dataset={config.name} needs dataset.path",
            hint="set dataset.path=PATH; to measure speed alone set dataset=synthetic",
        )


def _list(config: DatasetConfig, preprocessing: Preprocessing | ArrayInput, wanted: Wanted) -> Catalogue:
    dataset = DATASETS.load(config.kind)(config)
    if not isinstance(preprocessing, ArrayInput):
        return dataset.images(wanted)
    if config.calibration_path:
        raise ConfigError(
            "dataset.calibration_path is unsupported for arrays",
            hint="remove it: arrays are split with dataset.calibration_fraction",
        )
    return dataset.arrays(preprocessing)


def _check_classes(config: DatasetConfig, catalogue: Catalogue, wanted: Wanted) -> None:
    """Raises `DataError` if class indices are not the model's; objects have already been mapped by their label map."""
    if catalogue.labels is None or isinstance(catalogue.labels, Annotations):
        return
    num_classes = wanted.classes
    highest = int(catalogue.labels.max())
    if catalogue.classes == num_classes and highest < num_classes:
        return
    if catalogue.classes is not None and highest >= catalogue.classes:
        raise DataError(
            f"{config.name} has the label {highest}, and its {catalogue.classes} classes are 0 to "
            f"{catalogue.classes - 1}",
            hint="labels count from 0: check whether the labels file counts from 1",
        )
    classes = max(catalogue.classes or 0, highest + 1)
    hint = (
        "use the data set that the model was trained on, or set dataset.labels=FILE with all its classes, one per line"
    )
    if num_classes == classes + 1:
        hint = f"{hint}; if the model's class 0 is 'background', set model.label_offset=1"
    elif num_classes == classes - 1:
        hint = f"{hint}; if label_offset is 1 and the model's class 0 is not a background, set model.label_offset=0"
    empty = next((reason.message for reason in catalogue.reasons if reason.code == "empty_class_folders"), "")
    if empty and classes > num_classes:
        hint = f"remove the class folders without images, or {hint}"
    raise DataError(
        f"{config.name} has {classes} classes and the model has {num_classes}{f' ({empty})' if empty else ''}",
        hint=hint,
    )


def _split(config: DatasetConfig, catalogue: Catalogue) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to score, in seeded order, and indices reserved for calibration. They do not overlap."""
    if not 0 <= config.calibration_fraction < 1:
        raise ConfigError(
            f"dataset.calibration_fraction={config.calibration_fraction} must be 0 or more and less than 1",
            hint="0.1 is usual",
        )
    if config.images is not None and config.images < 1:
        raise ConfigError(
            f"dataset.images={config.images} is invalid: it must be positive",
            hint="set dataset.images=null to use all images",
        )
    order = np.random.default_rng(config.seed).permutation(len(catalogue.names))
    if catalogue.own_calibration is not None:
        pool = catalogue.own_calibration
    elif config.calibration_path:
        pool = order[:0]
    else:
        pool = order[: round(config.calibration_fraction * len(order))]
    return order[~np.isin(order, pool)][: config.images], np.sort(pool)


@dataclass(frozen=True)
class _Rows:
    """Images of a catalogue on disk: row i is the image `indices[i]`."""

    sha256: str  # of the pixels
    images: Path
    indices: NDArray[np.int64]  # ascending
    sizes: NDArray[np.int64]  # (N, 2), height and width as decoded
    files: list[str]
    skipped: list[tuple[str, str]]
    reasons: list[Reason]
    unused: frozenset[int] = frozenset()  # rows of images that do not match their labels

    def rows_of(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the images that could be read and used, in the order wanted."""
        readable = wanted[np.isin(wanted, self.indices)]
        rows = np.searchsorted(self.indices, readable).astype(np.int64)
        return rows[~np.isin(rows, list(self.unused))] if self.unused else rows


def _prepare_labelled(
    catalogue: Catalogue,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing | ArrayInput,
    cache: Cache,
    on_progress: OnProgress,
) -> tuple[_Rows, NDArray[np.int64] | Annotations | None]:
    """The rows with their labels. Raises `DataError` if the objects belong to images of other sizes."""
    rows = _prepare_rows(catalogue, indices, preprocessing, cache, on_progress)
    if catalogue.labels is None:
        return rows, None
    labels = catalogue.labels[rows.indices]
    if not isinstance(labels, Annotations):
        return rows, labels
    if catalogue.fractions:
        return rows, in_pixels(labels, rows.sizes)
    unfit = misfits(labels, rows.sizes)
    if not unfit:
        return rows, labels
    skipped = [(rows.files[row], reason) for row, reason in unfit.items()]
    shown = [f"{file}: {reason}" for file, reason in skipped]
    if len(unfit) == len(rows.files):
        raise DataError(f"no image has the size that its annotations state; {shown[0]}", hint=MISFIT_ADVICE)
    return (
        dataclasses.replace(
            rows,
            skipped=[*rows.skipped, *skipped],
            reasons=[*rows.reasons, misfit_reason(shown, len(rows.files))],
            unused=frozenset(unfit),
        ),
        labels,
    )


def _prepare_rows(
    catalogue: Catalogue,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing | ArrayInput,
    cache: Cache,
    on_progress: OnProgress,
) -> _Rows:
    if isinstance(preprocessing, ArrayInput):
        return _array_rows(catalogue, indices, cache)
    assert catalogue.open_image
    open_image = catalogue.open_image
    geometry = preprocessing.model_dump(exclude=_APPLIED_LATER)
    geometry["channels"] = preprocessing.channel_count
    identity = [catalogue.identity[index] for index in indices]
    key = digest([_VERSION, PIL.__version__, geometry, catalogue.origin, identity])

    def make(folder: Path) -> None:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            on_progress(done / len(indices))

        written = write_pixels(open_image, indices.tolist(), preprocessing, folder / "images.npy", on_image=count)
        if len(written.skipped) == len(indices):
            index, reason = next(iter(written.skipped.items()))
            raise DataError(
                f"{none_of(len(indices), 'image', 'can be read', 'cannot be read')}; {catalogue.names[index]}: "
                f"{reason}",
                hint="check that the files are images of 8 or 16 bits",
            )
        by_position = {int(np.searchsorted(indices, index)): reason for index, reason in written.skipped.items()}
        (folder / "written.json").write_text(json.dumps({**asdict(written), "skipped": by_position}))

    folder = cache.get_or_make("prepared", key, make)
    written = Written(**json.loads((folder / "written.json").read_text()))
    skipped = {int(position): reason for position, reason in written.skipped.items()}
    kept = np.delete(indices, list(skipped))
    return _Rows(
        sha256=written.sha256,
        images=folder / "images.npy",
        indices=kept,
        sizes=np.array(written.sizes, np.int64).reshape(-1, 2),
        files=[catalogue.names[index] for index in kept],
        skipped=[(catalogue.names[indices[position]], reason) for position, reason in skipped.items()],
        reasons=_pixel_reasons(written, len(kept)),
    )


def _array_rows(catalogue: Catalogue, indices: NDArray[np.int64], cache: Cache) -> _Rows:
    assert catalogue.arrays is not None
    identity = [catalogue.identity[index] for index in indices]
    key = digest([_VERSION, "arrays", identity])
    values = catalogue.arrays[indices]

    def make(folder: Path) -> None:
        np.save(folder / "images.npy", values)

    return _Rows(
        sha256=key,
        images=cache.get_or_make("prepared", key, make) / "images.npy",
        indices=indices,
        sizes=np.empty((0, 2), np.int64),
        files=[catalogue.names[index] for index in indices],
        skipped=[],
        reasons=[],
    )


def _calibration_reasons(scored: Catalogue, others: Catalogue | None, rows: _Rows) -> list[Reason]:
    """The reasons of a folder that is only used to calibrate."""
    if others is None:
        return []
    reasons = [
        reason.model_copy(update={"message": f"calibration images: {reason.message}"})
        for reason in (*others.reasons, *rows.reasons)
    ]
    files = {tuple(stamp) for _, *stamp in scored.identity}
    if shared := sum(tuple(stamp) in files for _, *stamp in others.identity):
        reasons.append(
            Reason(
                code="calibration_images_scored",
                message=f"{shared} of {plural(len(others.names), 'image', 'images')} in dataset.calibration_path are "
                "also scored",
                advice="set dataset.calibration_path to images that are not in dataset.path, or remove it",
            )
        )
    return reasons


def _pixel_reasons(written: Written, images: int) -> list[Reason]:
    reasons = []
    if written.turned:
        reasons.append(
            Reason(
                code="exif_orientation_ignored",
                message=f"{written.turned} of {plural(images, 'image has', 'images have')} an EXIF orientation that is "
                "not applied",
                advice="set dataset.exif_orientation=apply if the device's pipeline rotates images, as OpenCV does",
            )
        )
    if written.sixteen_bit and written.peak <= _DARK_PEAK:
        reasons.append(
            Reason(
                code="dark_16_bit_images",
                message=f"the brightest pixel of {written.sixteen_bit} 16-bit images is {written.peak} of 65535: they "
                "are almost black for the model",
                advice="if the files have fewer bits, multiply their values so that white is 65535",
            )
        )
    return reasons
