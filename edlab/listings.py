"""The output of `edlab models`, `edlab devices` and `edlab converters`: one table each, from the configuration."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edlab import converters, readiness
from edlab.cache import Cache
from edlab.composition import compose_config, options
from edlab.config import ConverterConfig
from edlab.errors import EdlabError

_SOURCES = {  # the names in the group `model` that stand for any model of a source -> what to set as well
    "timm": "model.arch=resnet18",
    "torchvision": "model.arch=resnet18",
    "keras": "model.arch=MobileNetV2",
    "file": "model.path=net.onnx",
    "python": "model.target=package.module:factory",
}


def models() -> Group:
    """The models by name, then how to choose any other model."""
    table = _table("model", "from", "claimed top-1", "data set")
    for name in options("model"):
        if name in _SOURCES:
            continue
        try:
            config = compose_config([f"model={name}"])
        except EdlabError as error:  # of a vendor package's yaml file: the others are still listed
            table.add_row(name, f"[yellow]{escape(error.message)}[/]")
            continue
        model = config.model
        claimed = f"{100 * model.claimed_top1:.1f} %" if model.claimed_top1 is not None else ""
        table.add_row(name, model.origin, claimed, config.dataset.name)
    others = "\n".join(f"model={name} {setting}" for name, setting in _SOURCES.items())
    return Group(table, "", "Any other model, for example:", Padding(Text(others, "cyan"), (0, 0, 0, 2), expand=False))


def devices() -> Table:
    """The devices by name, with the files that each runs."""
    table = _table("device", "reached as", "runs", "precisions")
    for name in sorted(options("device"), key=lambda name: (name != "cpu", name == "virtual_board", name)):
        try:
            device = compose_config([f"device={name}"]).device
        except EdlabError as error:
            table.add_row(name, f"[yellow]{escape(error.message)}[/]")
            continue
        runs = ", ".join(f"{file} by {runtime}" for file, runtime in device.runtimes.items())
        table.add_row(name, device.kind, runs, ", ".join(device.precisions))
    return table


def toolchains() -> Table:
    """The converters by name, with what each supports and whether its tool is installed here."""
    table = _table("converter", "input", "output", "quantization", "installed")
    for name in converters.available():
        (finding,) = readiness.converter(ConverterConfig(name=name), Cache())
        installed = "[green]yes[/]" if finding.ok else f"[yellow]no: {escape(finding.details)}[/]"
        try:
            kind = converters.load(name)
        except EdlabError:  # of an outside package that cannot be imported: the finding shows the cause
            table.add_row(name, "", "", "", installed)
            continue
        installed = "on the device" if kind.on_target and finding.ok else installed
        table.add_row(name, ", ".join(kind.takes), kind.format, ", ".join(kind.capabilities), installed)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
