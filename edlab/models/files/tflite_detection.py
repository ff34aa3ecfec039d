"""What the operator TFLite_Detection_PostProcess states about its outputs.

Source: tensorflow/lite/kernels/detection_postprocess.cc: its options are a flexbuffer, and its outputs are boxes,
classes, scores and their count. Classes are counted without the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_OPERATOR = b"TFLite_Detection_PostProcess"
_CLASSES, _SCORES = 1, 2  # among its outputs


def stated_detection(model: Any, positions: Sequence[int]) -> dict[str, Any]:
    """What a `ModelT` states about its outputs at these positions: see `edlab.tasks.detection`. Empty without the
    operator."""
    graph = model.subgraphs[0]
    codes = {place for place, code in enumerate(model.operatorCodes) if code.customCode == _OPERATOR}
    operator = next((operator for operator in graph.operators if operator.opcodeIndex in codes), None)
    outputs = [int(graph.outputs[position]) for position in positions]
    if operator is None or not set(map(int, operator.outputs)) <= set(outputs):
        return {}
    options = _options(operator)
    scores, classes = (outputs.index(int(operator.outputs[place])) for place in (_SCORES, _CLASSES))
    return {
        "head": "ssd",
        "num_classes": options["num_classes"],
        "label_offset": 0,
        "max_detections": options["max_detections"] * options.get("max_classes_per_detection", 1),
        "scores_first": scores < classes,
    }


def _options(operator: Any) -> dict[str, Any]:
    from flatbuffers import flexbuffers

    options: dict[str, Any] = flexbuffers.Loads(bytes(bytearray(operator.customOptions)))
    return options
