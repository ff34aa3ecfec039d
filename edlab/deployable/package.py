"""Writes the files that are recorded next to a converted model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edlab.agent.messages import Opened
from edlab.artifact import Artifact
from edlab.config import DeviceConfig, EdlabConfig
from edlab.data import PreparedData
from edlab.deployable import manifest, mlmodel
from edlab.deployable.program import NoProgramError, Program, program, requirement
from edlab.devices import runtimes
from edlab.record import RunRecord
from edlab.sanitize import sanitized
from edlab.source import SourceModel


def write(
    folder: Path,
    record: RunRecord,
    config: EdlabConfig,
    source: SourceModel,
    data: PreparedData,
    artifact: Artifact,
    deployed: tuple[DeviceConfig, Opened] | None,
) -> list[Path]:
    """Write edlab.json, the example and MLmodel of this artifact into `folder`; return the files.

    `deployed` is the device that ran it, and the model as its runtime opened it; None if the run ended before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = deployed[1] if deployed else None
    options = _options(*deployed) if deployed else {}
    needed = requirement(opened.runtime, opened.version, options) if opened else ""
    example = _example(source, opened, needed, record)
    facts = sanitized(manifest.build(record, config, source, data, artifact, opened, options, needed, example))
    files = [folder / manifest.NAME]
    files[0].write_text(json.dumps(facts, indent=2, default=str) + "\n")
    if isinstance(example, Program):
        files.append(folder / example.name)
        files[-1].write_text(example.text)
    if anchors := source.reader.files.get("anchors"):
        files.append(folder / manifest.ANCHORS)
        shutil.copyfile(anchors, files[-1])
    return files + mlmodel.write(folder, facts)


def _options(device: DeviceConfig, opened: Opened) -> dict[str, object]:
    """The options of the runtime as it was opened, with the defaults."""
    given = opened.int8.options if opened.int8 else device.options.get(opened.runtime, {})
    return runtimes.load(opened.runtime).complete(dict(given))


def _example(source: SourceModel, opened: Opened | None, needed: str, record: RunRecord) -> Program | str:
    """The program, or why there is none."""
    if opened is None:
        return f"the run {record.status} at {record.stage}: no runtime has opened this file"
    try:
        return program(source, opened.runtime, needed)
    except NoProgramError as reason:
        return str(reason)
