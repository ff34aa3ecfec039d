"""The output of `edlab models`, `edlab devices` and `edlab converters`: one table each, from the configuration."""

from __future__ import annotations

from edlab import converters, readiness
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.config import ConverterConfig
from edlab.errors import EdlabError
from edlab.reports.sheet import Cell, Heading, Note, Sheet

_SOURCES = {  # the names in the group `model` that stand for any model of a source -> what to set as well
    "timm": "model.arch=resnet18",
    "torchvision": "model.arch=resnet18",
    "keras": "model.arch=MobileNetV2",
    "file": "model.path=net.onnx",
    "python": "model.target=package.module:factory",
}


def models() -> Sheet:
    """The models by name, then how to choose any other model."""
    sheet = _sheet("model", "from", "claimed top-1", "data set")
    for name in options("model"):
        if name in _SOURCES:
            continue
        try:
            config = compose_config([f"model={name}"])
        except EdlabError as error:  # of a vendor package's yaml file: the others are still listed
            _add_invalid(sheet, name, error)
            continue
        model = config.model
        claimed = f"{100 * model.claimed_top1:.1f} %" if model.claimed_top1 is not None else ""
        _add(sheet, name, model.origin, claimed, config.dataset.name)
    sheet.notes = [Note("any other model, for example:")]
    sheet.notes += [Note(f"model={name} {setting}", "cyan", indent=2) for name, setting in _SOURCES.items()]
    return sheet


def devices() -> Sheet:
    """The devices by name, with the files that each runs."""
    sheet = _sheet("device", "reached as", "runs", "precisions")
    for name in sorted(options("device"), key=lambda name: (name != "cpu", name == "virtual_board", name)):
        try:
            device = compose_config([f"device={name}"]).device
        except EdlabError as error:
            _add_invalid(sheet, name, error)
            continue
        runs = ", ".join(f"{file} by {runtime}" for file, runtime in device.runtimes.items())
        _add(sheet, name, device.kind, runs, ", ".join(device.precisions))
    return sheet


def toolchains() -> Sheet:
    """The converters by name, with what each supports and whether its tool is installed here."""
    sheet = _sheet("converter", "input", "output", "quantization", "installed")
    for name in converters.available():
        (finding,) = readiness.converter(ConverterConfig(name=name), Cache())
        installed = Cell("yes", "green") if finding.ok else Cell(f"no: {finding.details}", "yellow")
        try:
            kind = converters.load(name)
        except EdlabError:  # of an outside package that cannot be imported: the finding shows the cause
            _add(sheet, name, "", "", "", installed)
            continue
        installed = Cell("on the device") if kind.on_target and finding.ok else installed
        _add(sheet, name, ", ".join(kind.takes), kind.format, ", ".join(kind.capabilities), installed)
    return sheet


def _sheet(*columns: str) -> Sheet:
    return Sheet([Heading(column, folds=True) for column in columns])


def _add(sheet: Sheet, *values: str | Cell) -> None:
    cells = [value if isinstance(value, Cell) else Cell(value) for value in values]
    sheet.rows.append([*cells])
    sheet.data.append({heading.text: cell.text for heading, cell in zip(sheet.headings, cells, strict=True)})


def _add_invalid(sheet: Sheet, name: str, error: EdlabError) -> None:
    """A row with the error instead of the facts."""
    _add(sheet, name, Cell(error.message, "yellow"), *[""] * (len(sheet.headings) - 2))
