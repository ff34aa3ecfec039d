"""The example program of a converted model: a task's program with the loader of the runtime that ran it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from edlab import __version__
from edlab.agent.runtimes.onnxruntime import _NVIDIA
from edlab.agent.tasks.detection.heads import HEADS
from edlab.deployable import loaders
from edlab.deployable.bundle import Name, bundle, source
from edlab.deployable.examples import arrays, images
from edlab.devices import runtimes
from edlab.source import ArrayInput, SourceModel

_EXAMPLES = "edlab.deployable.examples"
_PROGRAMS = {"classification": ("classify.py", "Classify an image"), "detection": ("detect.py", "Find objects")}
_HEAD = "edlab.agent.tasks.detection.heads"


class Program(NamedTuple):
    """A file next to the model, and what its input is called in a command."""

    name: str
    input: str
    text: str


class NoProgramError(Exception):
    """Why there is no example program."""


def program(source: SourceModel, runtime: str, requirement: str) -> Program:
    """The program for a model of this source in this runtime; `requirement` is what pip installs for it.

    Raises `NoProgramError`.
    """
    head = source.reader.options.get("head", "")
    if source.task not in _PROGRAMS:
        raise NoProgramError(f"edlab has no example for the task {source.task}")
    if source.task == "detection" and head not in HEADS:
        raise NoProgramError(f"the head {head} is your own code: call it after the model")
    is_array = isinstance(source.preprocessing, ArrayInput)
    if is_array and source.task != "classification":
        raise NoProgramError(f"edlab has no example for {source.task} of arrays")
    return _program(source.task, head, is_array, runtime, requirement)


@cache
def _program(task: str, head: str, is_array: bool, runtime: str, requirement: str) -> Program:
    name, about = _PROGRAMS[task]
    given = arrays.INPUT if is_array else images.INPUT
    title = (
        f"{'Classify an array' if is_array else about} with the model in this folder: python {name} {given}\n\n"
        f"First: pip install numpy pillow {requirement}. Everything about the model is in edlab.json.\n"
        f"Made by edlab {__version__} (Apache-2.0) from the functions with which it ran the model itself.\n"
    )
    loader = _loader(runtime)
    instead = {
        Name("edlab.source", "Preprocessing"): Name(f"{_EXAMPLES}.images", "Preprocessing"),
        Name(f"{loaders.__name__}.onnxruntime", "Network"): Name(loader, "Network"),
    }
    if is_array:
        names = ("INPUT", "read", "tensor")
        instead |= {Name(f"{_EXAMPLES}.images", each): Name(f"{_EXAMPLES}.arrays", each) for each in names}
    if head:
        instead[Name(_HEAD, "yolov8")] = Name(_HEAD, HEADS[head].__name__)
    entry = Name(f"{_EXAMPLES}.{task}", "main")
    try:
        return Program(name, given, bundle(entry, title, instead, (loader.partition(".")[0],)))
    except ValueError as error:
        raise NoProgramError(f"the example cannot be made: {error}") from error


def _loader(runtime: str) -> str:
    """The module with the loader of a runtime. Raises `NoProgramError` if there is none."""
    module = runtimes.load(runtime).example or f"{loaders.__name__}.{runtime}"
    if source(module) is None:
        raise NoProgramError(f"the runtime {runtime} has no loader for an example")
    return module


def requirement(runtime: str, version: str, options: Mapping[str, Any]) -> str:
    """What pip installs for a runtime whose `version` the agent has reported: "onnxruntime==1.32.0"."""
    package = runtimes.load(runtime).packages
    if runtime == "onnxruntime" and set(_NVIDIA) & set(options.get("providers", ())):
        package = "onnxruntime-gpu"
    if version.startswith("tflite_runtime"):
        package = "tflite-runtime"
    stated = version.rpartition(package)[2] if package else version  # "3.15.1 on tensorflow 2.21.0"
    number = re.search(r"\d+(\.\d+)+", stated)
    return f"{package}=={number[0]}" if number else package
