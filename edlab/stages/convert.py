"""Stage 2: the artifact that the target accepts, checked against the source model on this machine."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from edlab import converters
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import DeviceConfig, EdlabConfig, Execution, Precision
from edlab.converters.base import TARGET, CalibrationData, Converter
from edlab.converters.inspect import reader
from edlab.devices import runtimes
from edlab.errors import ConversionError, UnsupportedError
from edlab.isolation import run_isolated
from edlab.source import SourceModel
from edlab.stages import reference
from edlab.stages.load import Inputs, OnProgress
from edlab.stages.workshops import on_this_machine
from edlab.tasks import Comparison


def ensure_supported(device: DeviceConfig, converter: Converter, source: SourceModel, precision: Precision) -> None:
    """Refuse what the device does not support, before anything is converted.

    Raises `UnsupportedError` with the nearest supported choice, and `ConfigError` if a package's runtime is not found.
    """
    if precision not in device.precisions:
        raise UnsupportedError(
            f"{device.name} does not support quantization={precision}",
            hint=f"set quantization to one of: {', '.join(device.precisions)}",
        )
    target = converter.target_format(source)
    if target not in device.runtimes:
        able = [name for name in converters.available() if converters.targets(name, source) in device.runtimes]
        raise UnsupportedError(
            f"{device.name} cannot run {target} files, the output of converter={converter.name}",
            hint=f"it runs {', '.join(device.runtimes)}" + (f": set converter={able[0]}" if able else ""),
        )
    if device.execution is Execution.native:
        runtimes.ensure_found(device.runtimes[target])


def convert(
    config: EdlabConfig,
    inputs: Inputs,
    cache: Cache,
    on_progress: OnProgress,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Artifact:
    """Convert the source model by the configuration, each step in its workshop and cached.

    Steps that run on the target are left to `deploy`; if this machine's CPU stands in for it, so are all steps whose
    output the CPU cannot open. `on_made` is called with the output of each step.
    """
    converter = converters.get(config.converter)
    ensure_supported(config.device, converter, inputs.source, config.quantization.precision)
    with on_this_machine(converter, config.converter, cache, on_progress) as workshops:
        return converters.convert(
            inputs.source,
            config.quantization,
            config.converter,
            calibration=lambda: calibration_data(config, inputs),
            cache=cache,
            portable=reference.this_machine().runtimes,
            only_portable=config.device.execution is Execution.emulated,
            workshops=workshops,
            on_progress=lambda step: on_progress("convert", None, step),
            on_made=on_made,
        )


def is_complete(artifact: Artifact, config: EdlabConfig, source: SourceModel) -> bool:
    """Whether all steps of its conversion have run, also those on the target; False: it is an intermediate file."""
    steps = converters.get(config.converter).plan(source, config.quantization)
    if config.device.execution is Execution.emulated:
        portable = reference.this_machine().runtimes
        steps = tuple(itertools.takewhile(lambda step: step.format in portable and step.workshop != TARGET, steps))
    return len(artifact.steps) >= len(steps)


def calibration_data(config: EdlabConfig, inputs: Inputs) -> CalibrationData:
    """The images from which activation ranges are computed: drawn with the seed, never scored."""
    calibration = config.quantization.calibration
    assert calibration.images is not None  # `composition.decide`
    return CalibrationData(
        images=inputs.data.calibration_images,
        indices=inputs.data.calibration_indices(calibration.images, calibration.seed),
        preprocessing=inputs.source.preprocessing,
        digest=inputs.data.digest,
    )


def check(
    artifact: Artifact, inputs: Inputs, device: DeviceConfig, cache: Cache, on_progress: OnProgress
) -> Comparison:
    """Compare the artifact with the source model on a few images. Raises `ConversionError` for invalid outputs.

    A file that only its target can open is compared in its last portable form.
    """
    on_progress("check", None, "against the source model")
    rows = reference.check_images(inputs.data)
    unconverted = reference.baseline(inputs.source, inputs.data, rows, cache, on_progress)
    converted = reference.predictions(
        artifact.on_host, inputs.source, inputs.data, rows, reference.host(device), cache, on_progress
    )
    if problem := inputs.task.find_problem(unconverted, converted):
        raise ConversionError(
            f"the converted model outputs {problem}",
            hint="use another quantization or converter, or read the conversion's log",
        )
    return inputs.task.compare(unconverted, converted)


def read_weights(artifact: Artifact, precision: Precision, cache: Cache) -> dict[str, int]:
    """How many weights of each dtype the file of this precision really contains; empty if no converter can read it.

    This is the artifact's file or, if its format cannot be read, its last portable form. Raises `ConversionError` if
    int8 was requested and no weight is int8.
    """
    forms = (form for form in (artifact, artifact.on_host) if form.precision == precision)
    read, by = next(((form, found) for form in forms if (found := reader(form.format))), (None, ""))
    if read is None:
        return {}

    def make(folder: Path) -> None:
        arguments = {"path": str(read.files[0]), "reader": by}
        counts = run_isolated("edlab.converters.inspect:count_weights", arguments, log=folder / "inspect.log")
        (folder / "weights.json").write_text(json.dumps(counts))

    folder = cache.get_or_make("weights", read.sha256, make)
    weights: dict[str, int] = json.loads((folder / "weights.json").read_text())
    if read.precision.startswith("int8") and not {"int8", "uint8"} & set(weights):
        raise ConversionError(
            f"the file should be {read.precision}, and has no int8 weights ({', '.join(weights) or 'none at all'})",
            hint="exclude fewer nodes (quantization.exclude), or use another converter",
        )
    return weights
