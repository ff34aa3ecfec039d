"""Rules on the model and its input images."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import Facts, Finding, degraded
from edlab.record import VerdictState
from edlab.wording import plural


def input_rules(facts: Facts) -> Iterator[Finding]:
    """Whether the inputs match the model's training."""
    for reason in facts.stated:
        yield VerdictState.degraded, reason
    if not facts.trained:
        yield degraded(
            "untrained_weights",
            "the weights are random: the speed is valid for the architecture, the accuracy is withheld",
            "set model.weights=PATH, a state dict, or connect to the network once so that model.weights=pretrained can "
            "download them",
        )
    if not facts.real_inputs:
        yield degraded(
            "synthetic_inputs",
            "the model was fed noise, not real samples",
            "use real images: dataset=image_folder dataset.path=FOLDER",
        )
    elif facts.assumed_preprocessing:
        keys = facts.assumed_preprocessing
        yield degraded(
            "assumed_preprocessing",
            f"the model does not state its preprocessing; assumed: {', '.join(keys)}",
            f"set the values used in training: {', '.join(f'model.preprocessing.{key}' for key in keys)}",
        )
    if facts.images_skipped:
        yield degraded(
            "images_skipped",
            plural(
                facts.images_skipped,
                "image could not be read and was not scored",
                "images could not be read and were not scored",
            ),
            plural(
                facts.images_skipped,
                "image could not be read: `edlab show RUN` lists it",
                "images could not be read: `edlab show RUN` lists them",
            ),
        )
