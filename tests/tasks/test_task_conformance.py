"""Built-in tasks pass the suite that third parties subclass; tasks that break a rule do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conformance import Part

from edlab.tasks.detection.annotations import Annotations, Boxes
from edlab.testing.task import TaskConformance, Tensors


class TestClassification(TaskConformance):
    task = "classification"
    outputs = (("logits", (1, 10)),)

    def labels(self) -> np.ndarray:
        return np.arange(10)

    def perfect(self) -> Sequence[Tensors]:
        return [[row[None]] for row in 9 * np.eye(10, dtype=np.float32)]


class TestDetection(TaskConformance):
    """A YOLO v8 head of 5 classes on 64 x 64 pixels: 84 cells of centre, size and scores."""

    task = "detection"
    outputs = (("output0", (1, 9, 84)),)
    corners = tuple((4.0 * image, 8.0, 4.0 * image + 24, 40.0) for image in range(10))

    def labels(self) -> Annotations:
        images = tuple(
            Boxes((64, 64), np.array([corners]), np.array([image % 5]), np.array([False]), np.array([24.0 * 32.0]))
            for image, corners in enumerate(self.corners)
        )
        return Annotations(images, tuple("abcde"))

    def perfect(self) -> Sequence[Tensors]:
        images = []
        for image, (x1, y1, x2, y2) in enumerate(self.corners):
            cells = np.zeros((1, 9, 84), np.float32)
            cells[0, :4, image] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            cells[0, 4 + image % 5, image] = 0.95
            images.append([cells])
        return images


TASK = Part(
    name="acme_shapes",
    source="""
from edlab.agent.tasks import classification as agent
from edlab.metrics import Figures
from edlab.tasks import OutputFacts
from edlab.tasks import classification as host


class Task(agent.Task):
    pass
    # agent


class HostTask(host.Task):
    name = "acme_shapes"
    # host
""",
    entries=("edlab.tasks: acme_shapes = acme_shapes:HostTask", "edlab.agent_tasks: acme_shapes = acme_shapes"),
    suite="""
import numpy as np

from edlab.testing.task import TaskConformance


class TestShapes(TaskConformance):
    task = "acme_shapes"
    outputs = (("logits", (1, 10)),)

    def labels(self):
        return np.arange(10)

    def perfect(self):
        return [[row[None]] for row in 9 * np.eye(10, dtype=np.float32)]
""",
)

_READ = "def read_outputs(self, *given): return OutputFacts(10, "

# What is put into the task, which without it is right, and the test of the suite that must see it.
BROKEN = [
    ("# host", "name = 'another'", "test_it_is_known_by_one_name_on_both_sides"),
    ("# host", _READ + "{'x': object()})", "test_outputs_are_chosen_and_tell_json"),
    ("# host", _READ + "{'x': 1})", "test_what_the_host_says_is_what_the_agent_takes"),
    ("# host", _READ + "{})", "test_outputs_that_cannot_be_its_own_are_refused_with_a_hint"),
    (
        "# host",
        "def difference(self, *given): return 'other outputs'",
        "test_nothing_is_wrong_with_what_is_the_same",
    ),
    ("# host", "agreement = ('agreement_of_shapes',)", "test_a_comparison_gives_the_figures_that_are_named"),
    ("# host", "def find_problem(self, *given): return ''", "test_nan_is_a_problem"),
    ("# host", "def find_problem(self, *given): return ''", "test_predictions_of_other_images_are_a_problem"),
    ("# host", "def difference(self, *given): return ''", "test_another_answer_is_a_difference"),
    (
        "# host",
        "def score(self, predictions, *given, **baseline): return super().score(0 * predictions, *given, **baseline)",
        "test_what_is_right_scores_best_and_costs_nothing",
    ),
    (
        "# host",
        "def drop(self, *given): return Figures({'accuracy_drop': 0.0, 'accuracy_drop_converter': 0.0})",
        "test_a_drop_is_the_headline_of_one_minus_that_of_the_other",
    ),
    (
        "# host",
        "def score(self, predictions, *given, **baseline):\n"
        "        predictions *= 0.5\n"
        "        return super().score(predictions, *given, **baseline)",
        "test_scoring_changes_neither_predictions_nor_labels",
    ),
    ("# host", "def doubts(self, *given): return iter(())", "test_what_is_right_is_not_doubted_and_what_is_wrong_is"),
    ("# host", "def kept(self, predictions): return predictions[:1]", "test_one_row_of_each_image_is_kept"),
    (
        "# agent",
        "def read(self, outputs): return super().read(outputs).astype(float)",
        "test_predictions_are_float32_of_one_shape_and_the_tensors_stay",
    ),
]


def test_the_suite_fails_tasks_that_break_a_rule(tmp_path: Path) -> None:
    TASK.check_suite(tmp_path, BROKEN)
