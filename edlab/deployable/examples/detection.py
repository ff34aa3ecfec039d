"""The objects in each image."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edlab.agent.tasks.detection.boxes import Limits
from edlab.agent.tasks.detection.heads import facts
from edlab.agent.tasks.detection.heads import yolov8 as head
from edlab.deployable.examples.images import INPUT, Preprocessing, read, tensor
from edlab.deployable.examples.outputs import label, values
from edlab.deployable.loaders.onnxruntime import Network
from edlab.placement import place


def main() -> None:
    """Print the objects in each image: number of the class, name, score, and corners in pixels of the image."""
    parser = argparse.ArgumentParser(description="Print the objects: class, name, score, x1, y1, x2, y2, best first.")
    parser.add_argument("inputs", nargs="+", type=Path, metavar=INPUT)
    parser.add_argument("--min-score", type=float, default=0.25, help="default: 0.25")
    given = parser.parse_args()
    folder = Path(__file__).parent
    manifest = json.loads((folder / "edlab.json").read_text())
    options = manifest["detection"]
    if options["anchors"]:
        options["anchors"] = str(folder / options["anchors"])
    limits = Limits(
        options["score_threshold"],
        options["iou_threshold"],
        options["max_candidates"],
        options["max_detections"],
        options["label_offset"],
    )
    network = Network([str(folder / file["name"]) for file in manifest["files"]], manifest["runtime"]["options"])
    for path in given.inputs:
        try:
            image, size = read(path, manifest)
        except (OSError, ValueError) as error:
            sys.exit("cannot read %s: %s" % (path, error))
        if len(given.inputs) > 1:
            print("%s:" % path)
        found = head(values(network.run(tensor(image, manifest)), manifest), facts(options), limits)
        boxes = in_pixels(found.boxes, size, Preprocessing(manifest["preprocessing"]))
        for index, score, box in list(zip(found.classes, found.scores, boxes))[: limits.detections]:
            if score >= given.min_score:
                edges = "\t".join("%.1f" % edge for edge in box)
                print("%d\t%s\t%.4f\t%s" % (index, label(index, manifest), score, edges))


def in_pixels(boxes: np.ndarray, size: tuple[int, int], preprocessing: Any) -> np.ndarray:
    """Boxes (N, 4), fractions of the model's input, in pixels of an image of this width and height."""
    placed = place(size[0], size[1], preprocessing)
    inputs = np.array([preprocessing.width, preprocessing.height] * 2)
    offsets = np.array([placed.left, placed.top] * 2)
    scales = np.array([size[0] / placed.width, size[1] / placed.height] * 2)
    pixels: np.ndarray = (boxes * inputs + offsets) * scales
    return pixels
