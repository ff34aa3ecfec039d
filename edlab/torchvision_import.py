"""Imports torchvision even if it was built for CUDA and torch for the CPU."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_kept: list[Any] = []  # the schemas live as long as the library object that defined them


def import_torchvision() -> ModuleType:
    """The torchvision package. Call it before anything that imports torchvision itself (timm does).

    Its compiled operators do not load with a torch of another build; then `operator torchvision::nms does not exist` is
    raised while it registers their shapes. Classification needs none of them: declaring them is enough.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        import torchvision
    module: ModuleType = torchvision
    return module
