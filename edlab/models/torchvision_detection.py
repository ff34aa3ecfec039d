"""Detection models of torchvision, as their raw heads: coded boxes and class scores, which the agent decodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import Network
from edlab.models.weights import choose, load_state_dict, seed_torch
from edlab.source import Preprocessing

_FAMILIES = ("ssd", "retinanet")
_FIXED_SIZE = 800  # of models that accept any size: torchvision's shorter side


def build(config: ModelConfig, models: Any, arch: str, published: Any) -> Network:
    """SSD and RetinaNet; `published` are the weights to use. Raises `ModelError` for other detectors."""

    if not arch.startswith(_FAMILIES):
        raise ModelError(
            f"{arch} is unsupported: of torchvision's detectors edlab decodes SSD and RetinaNet; others have a "
            "second stage that depends on the image, or further outputs",
            hint="set model.arch to ssdlite320_mobilenet_v3_large, ssd300_vgg16, retinanet_resnet50_fpn or "
            "retinanet_resnet50_fpn_v2; or export it to ONNX, and set model.head=package.module:function",
        )

    def create(weights: Any) -> Any:
        seed_torch()
        return models.get_model(arch, weights=weights, weights_backbone=None, **config.arguments)

    weights = choose(
        config, pretrained=lambda: create(published), untrained=lambda: create(None), load_file=load_state_dict
    )
    module = weights.network
    names = tuple(published.meta["categories"])
    preprocessing, read = _preprocessing(module, config)
    size = (config.preprocessing.height or preprocessing.height, config.preprocessing.width or preprocessing.width)
    return Network(
        weights=dataclasses.replace(weights, network=_raw_head(module)),
        preprocessing=preprocessing,
        preprocessing_read=read,
        label_offset=1,  # class 0 is the background
        class_names=names if config.arguments.get("num_classes", len(names)) == len(names) else (),
        task="detection",
        outputs={
            "head": "ssd_raw",
            "activation": "softmax" if arch.startswith("ssd") else "sigmoid",
            "box_weights": list(module.box_coder.weights),
            "box_order": "xywh",
            "score_threshold": module.score_thresh,
            "iou_threshold": module.nms_thresh,
            "max_detections": module.detections_per_img,
            "anchors": _anchors(module, *size),
        },
        license="BSD-3-Clause",
    )


def _raw_head(module: Any) -> Any:
    """The network without resizing, anchors and decoding: images to coded boxes (1, A, 4) and scores (1, A, C)."""
    import torch

    class RawHead(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = module.backbone, module.head

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.head(list(self.backbone(images).values()))
            return found["bbox_regression"], found["cls_logits"]

    return RawHead()


def _anchors(module: Any, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (A, 4): centre x, centre y, width, height as fractions of the input."""
    import torch
    from torchvision.models.detection.image_list import ImageList

    images = torch.zeros(1, 3, height, width)
    module.eval()
    with torch.no_grad():
        features = list(module.backbone(images).values())
        (corners,) = module.anchor_generator(ImageList(images, [(height, width)]), features)
    fractions = corners.double().numpy() / [width, height, width, height]
    sides = fractions[:, 2:] - fractions[:, :2]
    return np.concatenate([fractions[:, :2] + sides / 2, sides], axis=1).astype(np.float32)


def _preprocessing(module: Any, config: ModelConfig) -> tuple[Preprocessing, set[str]]:
    """That of GeneralizedRCNNTransform, and the keys that it states. torch's interpolate does not antialias."""
    transform = module.transform
    values: dict[str, Any] = {
        "mean": tuple(transform.image_mean),
        "std": tuple(transform.image_std),
        "antialias": False,
        "interpolation": "bilinear",
        "channels": "rgb",
    }
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        values |= {"height": height, "width": width, "resize_mode": "squash"}
        return Preprocessing(**values), {*values, "resize"}
    read = set(values)
    values |= {"height": _FIXED_SIZE, "width": _FIXED_SIZE, "resize_mode": "letterbox"}
    return Preprocessing(**values), read
