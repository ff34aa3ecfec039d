"""TFLite files as objects of their schema (tensorflow/lite/schema/schema.fbs), read and written completely."""

from __future__ import annotations

from typing import Any

import numpy as np


def parse(content: bytes) -> Any:
    """The `ModelT` of a file, with the data of all its buffers; large files store some after the flatbuffer."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.size:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any) -> bytes:
    """The file of a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
