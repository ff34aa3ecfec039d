"""The built-in kinds of data set."""

from __future__ import annotations

from edlab.data.arrays import list_arrays, list_synthetic_arrays
from edlab.data.base import Dataset, Wanted
from edlab.data.catalogue import Catalogue
from edlab.data.coco import list_coco
from edlab.data.digit_scenes import list_digit_scenes
from edlab.data.digits import list_digits
from edlab.data.folders import list_image_folder, list_imagenet
from edlab.data.imagenette import list_imagenette
from edlab.data.synthetic import list_synthetic
from edlab.data.yolo import list_yolo
from edlab.registry import Group
from edlab.source import ArrayInput

_FOLDER = Dataset.options
_OWN_CALIBRATION = ("exif_orientation", "calibration_path")  # the orientation of the calibration images


class Arrays(Dataset):
    options = ("path", "calibration_fraction")
    needs_path = True

    def arrays(self, wanted: ArrayInput) -> Catalogue:
        return list_arrays(self.config, wanted)


class Coco(Dataset):
    task = "detection"
    options = (*_FOLDER, "annotations")
    needs_path = True

    def images(self, wanted: Wanted) -> Catalogue:
        return list_coco(self.config, wanted.num_classes, wanted.class_names)


class Digits(Dataset):
    options = _OWN_CALIBRATION

    def images(self, wanted: Wanted) -> Catalogue:
        return list_digits()


class DigitScenes(Dataset):
    task = "detection"
    options = _OWN_CALIBRATION

    def images(self, wanted: Wanted) -> Catalogue:
        return list_digit_scenes()


class ImageFolder(Dataset):
    options = (*_FOLDER, "labels", "class_order")
    needs_path = True

    def images(self, wanted: Wanted) -> Catalogue:
        return list_image_folder(self.config, wanted.classes, wanted.class_names)


class Imagenet(Dataset):
    options = (*_FOLDER, "labels")
    needs_path = True

    def images(self, wanted: Wanted) -> Catalogue:
        return list_imagenet(self.config, wanted.classes)


class Imagenette(Dataset):
    options = _FOLDER[1:]

    def images(self, wanted: Wanted) -> Catalogue:
        return list_imagenette(self.config, wanted.classes, wanted.cache, wanted.on_progress)


class Synthetic(Dataset):
    task = None
    options = _OWN_CALIBRATION

    def images(self, wanted: Wanted) -> Catalogue:
        return list_synthetic(self.config)

    def arrays(self, wanted: ArrayInput) -> Catalogue:
        return list_synthetic_arrays(self.config, wanted)


class Yolo(Dataset):
    task = "detection"
    options = (*_FOLDER, "labels")
    needs_path = True

    def images(self, wanted: Wanted) -> Catalogue:
        return list_yolo(self.config, wanted.num_classes, wanted.class_names)


DATASETS = Group(
    "datasets",
    Dataset,
    {
        "arrays": f"{__name__}:Arrays",
        "coco": f"{__name__}:Coco",
        "digits": f"{__name__}:Digits",
        "digit_scenes": f"{__name__}:DigitScenes",
        "image_folder": f"{__name__}:ImageFolder",
        "imagenet": f"{__name__}:Imagenet",
        "imagenette": f"{__name__}:Imagenette",
        "synthetic": f"{__name__}:Synthetic",
        "yolo": f"{__name__}:Yolo",
    },
)
