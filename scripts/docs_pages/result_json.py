"""docs/reference/result-json.md: the contents of a run's result.json, from the classes that it is written from."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from docs_pages import markdown
from docs_pages.fields import ROOT, Class, classes, type_in_words

_RECORD, _SOURCE, _ARTIFACT = "edlab/record.py", "edlab/source.py", "edlab/artifact.py"
_MESSAGES = "edlab/agent/messages.py"
_WRITERS = ("edlab/benchmark.py", "edlab/stages/record.py", "edlab/tracking/recorder.py")
_NESTED = {
    _RECORD: ("Verdict",),
    _SOURCE: ("Reason", "SourceModel", "Preprocessing", "ArrayInput", "Complexity", "OutputReader"),
    _ARTIFACT: ("Artifact", "StepRecord", "StepReport"),
    _MESSAGES: (
        "Opened", "TensorSpec", "Int8Kernels", "KnobSet", "Machine", "State", "IdleReport", "WarmupReport",
        "LatencyReport", "ThroughputReport", "Trial", "HostWorkReport", "PredictReport", "Activity",
    ),
}  # fmt: skip
_SHOWN = {name for names in _NESTED.values() for name in names} | {"Status", "Stage", "VerdictState"}

DETAILS = {
    "power_sources": "further sources of power: `source`, `boundary`, `accuracy`, how often it renews its readings "
    "(`refresh_s`), its own `metrics`, and why others are `missing`",
    "artifact": "the converted model: [Artifact](#artifact)",
    "cache_dropped": "damaged cache entries that this run removed and created again",
    "intermediate": "if the conversion failed after its first step: the file of the last step that ended, which "
    "`edlab pull` copies",
    "calibration_files": "the images on which the activation ranges of an int8 conversion were measured",
    "conversion_check": "agreement of the converted model with the source model, measured on this machine, by metric",
    "dataset": "the data set: `name`, `digest` (of its contents), `evaluation_images`, `calibration_pool` (number of "
    "images), `classes`, `skipped` (unreadable files with the reason), `left_out`, `problem` (why accuracy was not "
    "measured)",
    "files_lost": "a file that was removed before it could be recorded",
    "knobs": "what was set on the device for this run, by the name of the knob: [KnobSet](#knobset)",
    "no_package": "why edlab.json and the example next to the converted model could not be written",
    "no_pictures": "why the plots could not be drawn",
    "phases": "what the agent reported about each phase, by name: `idle` ([IdleReport](#idlereport)), `warmup` "
    "([WarmupReport](#warmupreport)), `latency` ([LatencyReport](#latencyreport)), `throughput` "
    "([ThroughputReport](#throughputreport), with `watts_by_second` if power was measured), `search` (its "
    "[Activity](#activity)), `host_work` ([HostWorkReport](#hostworkreport)), `accuracy` "
    "([PredictReport](#predictreport)); with `protocol.profile`, `profile`: its `rows` (the time and the work of each "
    "layer, or the `reason` why there are none), the number of queries `runs`, the `macs` of the model, `query_ms` of "
    "a query right before it, and `latency_ms` of the run (docs/explaining.md)",
    "repeats": "with `protocol.repeats`: `phases` of each further process, in order",
    "runs": "with `protocol.repeats`: the metrics of each process, the first one included",
    "runtime": "the model as the target's runtime opened it: [Opened](#opened)",
    "source": "the source model: [SourceModel](#sourcemodel)",
    "throttled": "what the tag `throttled` is based on",
    "weights": "number of weights of each type in the converted file",
}
TAGS = {
    "artifact_sha256": "SHA-256 of the converted files",
    "batch_one_only": "why only batch 1 could be measured",
    "int8_arithmetic": "description of the int8 kernels that ran",
    "int8_kernels": "whether the int8 kernels that ran are exact or saturate",
    "power_accuracy": "the largest error of a reading as the instrument's maker states it, or `not stated`: then the "
    "intervals of power are without it",
    "power_boundary": "what the power sensor measures: the part of the device or board",
    "power_source": "the power sensor, or the source of the estimate",
    "scored_digest": "identifies the scored images and labels: runs with another one are not compared in accuracy",
    "predictions_sha256": "of `predictions.npz`: the predictions for the scored images, and which are right",
    "sampling_cost_with": "the model and runtime with which the cost of reading the power sources was measured",
    "stand_in": "what was measured instead of the device; all metrics are then `emulated_*`",
    "task": "what the model does: classification, detection, or a plugin's task",
    "throttled": "whether the target throttled: `yes`, `no` or `cannot tell`",
    "weights": "source of the weights: `pretrained`, `file`, `given` (by your module or factory) or `untrained`",
}
ENVIRONMENT = {
    "after": "the target after the last timed phase: [State](#state)",
    "before": "the target before the first phase: [State](#state)",
    "host": "this machine: `python`, `platform` and the `command` that was run",
    "packages": "version of each Python package that is installed on this machine",
    "target": "the target: [Machine](#machine), without fields that are empty there",
}


def page() -> str:
    """The page."""
    record = classes(_RECORD)
    nested = [classes(path)[name] for path, names in _NESTED.items() for name in names]
    return markdown.page(
        "result.json",
        "The contents of `result.json`: the same record as in the MLflow run and in `edlab.run`.",
        "Each run has a `result.json` in its folder, `mlruns/sweeps/<sweep>/<number>/`. Metrics and their units are "
        "explained in [What the numbers mean](../metrics.md).",
        "## Record\n\n" + _fields(record["RunRecord"]),
        *(_values(record[name]) for name in ("Status", "Stage", "VerdictState")),
        "## details\n\nA failed run has those that it reached.\n\n"
        + _keys(DETAILS, _written("record.details"), "details"),
        "## tags\n\nMLflow has each as `edlab.<tag>`.\n\n" + _keys(TAGS, _written("record.tags"), "tags"),
        "## environment\n\n" + _keys(ENVIRONMENT, _returned("_environment"), "environment"),
        "## Objects\n\nThe objects in the keys above.",
        *(f"### {cls.name}\n\n{_fields(cls)}" for cls in nested),
    )


def _fields(cls: Class) -> str:
    """The table of a class's fields. Exits if one has no comment, which is its meaning."""
    if bare := [field.name for field in cls.fields if field.name != "model_config" and not field.comment]:
        raise SystemExit(f"{cls.name}.{bare[0]} has no meaning: add a comment to its line")
    rows = [
        [markdown.code(field.name), _type(field.type), markdown.with_null(field.comment)]
        for field in cls.fields
        if field.name != "model_config"
    ]
    return f"{markdown.docstring(cls.doc)}\n\n{markdown.table(['key', 'type', 'meaning'], rows)}"


def _type(node: ast.expr) -> str:
    text = type_in_words(node)
    for name in _SHOWN:
        text = text.replace(f"`{name}`", f"[{name}](#{name.lower()})")
    return text.replace("`Self`", "[Artifact](#artifact)")


def _values(cls: Class) -> str:
    return f"## {cls.name}\n\n{markdown.prose(cls.doc)}\n\n" + ", ".join(
        markdown.code(value) for value, _ in cls.members
    )


def _keys(meanings: Mapping[str, str], written: set[str], place: str) -> str:
    """The table of the keys. Exits if one has no meaning, or a meaning has no key."""
    if unknown := sorted(written - set(meanings)):
        raise SystemExit(f"{place}.{unknown[0]} is written: add its meaning to scripts/docs_pages/result_json.py")
    if unused := sorted(set(meanings) - written):
        raise SystemExit(f"nothing writes {place}.{unused[0]}: remove it from scripts/docs_pages/result_json.py")
    return markdown.table(["key", "meaning"], [[markdown.code(key), meanings[key]] for key in sorted(meanings)])


def _written(mapping: str) -> set[str]:
    """The keys that are assigned in this mapping of a record."""
    nodes = [node for path in _WRITERS for node in ast.walk(ast.parse((ROOT / path).read_text()))]
    return {
        node.slice.value
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant)
        if ast.unparse(node.value) == mapping
    }


def _returned(function: str) -> set[str]:
    """The keys of the mapping that a function of the last stage returns."""
    tree = ast.parse((ROOT / "edlab/stages/record.py").read_text())
    definition = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    value = next(node.value for node in ast.walk(definition) if isinstance(node, ast.Return))
    assert isinstance(value, ast.Dict)
    return {key.value for key in value.keys if isinstance(key, ast.Constant)}
