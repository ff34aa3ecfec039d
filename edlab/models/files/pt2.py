"""PyTorch's exported programs (.pt2)."""

from __future__ import annotations

import shutil
from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.complexity import count_torch
from edlab.models.files.base import ModelFile, classes_of, damaged, read_input


def read(config: ModelConfig, path: Path, copy: Path) -> ModelFile:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export's reader raises whatever its parts do
        raise damaged(path, "an exported program", error) from error
    examples = torch.utils._pytree.tree_leaves(program.example_inputs or ())
    if len(examples) != 1:
        raise ModelError(
            f"{path.name} was not exported with one example tensor",
            hint="torch.export.save(torch.export.export(model.eval(), (images,)), FILE)",
        )
    source = read_input(config, path, list(examples[0].shape))
    shutil.copyfile(path, copy)
    module = program.module()
    example = torch.zeros(examples[0].shape)
    with torch.no_grad():
        shape = list(module(example).shape)
    return ModelFile(
        format="pt2",
        path=copy,
        layout=source.layout,
        precision="fp32",
        num_classes=classes_of(path.name, shape),
        preprocessing=source.preprocessing,
        preprocessing_note=source.note,
        complexity=count_torch(module, example, cross_check=False),
    )
