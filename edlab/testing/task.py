"""The requirements of every task, on the host and in the agent, as tests that a third party's test class inherits.

    class TestAcmeKeypoints(TaskConformance):
        task = "acme_keypoints"  # the name of its entry points in edlab.tasks and edlab.agent_tasks
        outputs = (("heatmaps", (1, 17, 64, 48)),)  # of a model that it reads

        def labels(self):
            return ...  # the ground truth of eight or more images, all different

        def perfect(self):
            return [...]  # for each image the output tensors of a perfect model

Wrong answers are generated from right ones: each image gets the answer of another.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab import tasks
from edlab.agent.messages import TensorSpec
from edlab.agent.tasks import Task as Reader
from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.registry import plugins
from edlab.source import Preprocessing, Reason, SourceModel
from edlab.tasks import OutputFacts, Outputs, Predictions, Task

Tensors = list[NDArray[Any]]


class TaskConformance:
    """Subclass with `task`, `outputs`, `labels` and `perfect`."""

    task: ClassVar[str]
    outputs: ClassVar[Outputs]  # names and shapes
    unusable: ClassVar[Outputs] = (("flag", (1,)),)  # outputs that cannot be of this task
    size: ClassVar[tuple[int, int]] = (64, 64)  # of the model's input: height and width

    def labels(self) -> Any:
        """The ground truth of each image, as the data set provides it: eight or more images, all different."""
        raise TypeError(f"{type(self).__name__} must define labels")

    def perfect(self) -> Sequence[Tensors]:
        """For each image the output tensors, batch 1, of a perfect model."""
        raise TypeError(f"{type(self).__name__} must define perfect")

    def config(self) -> ModelConfig:
        """The configuration of the model. Override it for a task that needs more options."""
        return ModelConfig(name="conformance", origin="file", task=self.task)

    @pytest.fixture
    def host(self) -> Task:
        return tasks.get(self.task)

    @pytest.fixture
    def facts(self, host: Task) -> OutputFacts:
        return self._facts(host, self.outputs)

    @pytest.fixture
    def reader(self, host: Task, facts: OutputFacts) -> Reader:
        """The agent's half, as the agent creates it."""
        return self._kind()(self._specs(host), {**facts.options, **facts.arrays})

    @pytest.fixture
    def right(self, host: Task, reader: Reader) -> Predictions:
        return self._read(host, reader, self.perfect())

    @pytest.fixture
    def wrong(self, right: Predictions) -> Predictions:
        """Each image has the answer of the one before it."""
        return np.roll(right, 1, axis=0)

    @pytest.fixture
    def source(self, facts: OutputFacts) -> SourceModel:
        height, width = self.size
        return SourceModel(
            name="conformance",
            format="onnx",
            path=Path("conformance.onnx"),
            sha256="0" * 64,
            layout="NCHW",
            preprocessing=Preprocessing(height=height, width=width, mean=(0,) * 3, std=(1,) * 3),
            num_classes=facts.num_classes,
            task=self.task,
            weights="file",
        )

    def test_it_is_known_by_one_name_on_both_sides(self, host: Task) -> None:
        assert host.name == self.task
        assert issubclass(self._kind(), Reader)
        assert host.headline in host.scores
        assert "accuracy_drop" in host.scores
        assert host.agreement

    def test_outputs_are_chosen_and_tell_json(self, host: Task, facts: OutputFacts) -> None:
        positions = self._positions(host)
        assert positions
        assert set(positions) <= set(range(len(self.outputs)))
        assert facts.num_classes is None or facts.num_classes > 1
        json.dumps(facts.options)

    def test_what_the_host_says_is_what_the_agent_takes(self, facts: OutputFacts) -> None:
        assert {*facts.options, *facts.arrays} <= self._kind().options.keys()

    def test_outputs_that_cannot_be_its_own_are_refused_with_a_hint(self, host: Task) -> None:
        with pytest.raises(ModelError) as caught:
            self._facts(host, self.unusable)
        assert caught.value.hint

    def test_predictions_are_float32_of_one_shape_and_the_tensors_stay(self, host: Task, reader: Reader) -> None:
        images = [self._chosen(host, tensors) for tensors in self.perfect()]
        before = copy.deepcopy(images)
        read = [np.array(reader.read(tensors)) for tensors in images]
        assert {each.dtype for each in read} == {np.dtype(np.float32)}
        assert len({each.shape for each in read}) == 1
        reader.postprocess(images[0])
        for tensors, kept in zip(images, before, strict=True):
            for tensor, value in zip(tensors, kept, strict=True):
                np.testing.assert_array_equal(tensor, value)

    def test_nothing_is_wrong_with_what_is_the_same(self, host: Task, right: Predictions) -> None:
        assert host.find_problem(right, right.copy()) == ""
        assert host.difference(right, right.copy(), "fp32") == ""
        assert host.difference(right, right.copy(), "int8") == ""

    def test_a_comparison_gives_the_figures_that_are_named(self, host: Task, right: Predictions) -> None:
        figures = host.compare(right, right.copy()).figures()
        assert {*host.agreement} <= {*figures.values, *figures.missing}
        assert figures.values
        assert np.isfinite(list(figures.values.values())).all()

    def test_nan_is_a_problem(self, host: Task, reader: Reader, right: Predictions) -> None:
        broken = [
            [np.full_like(tensor, np.nan) if tensor.dtype.kind == "f" else tensor for tensor in tensors]
            for tensors in self.perfect()
        ]
        assert host.find_problem(right, self._read(host, reader, broken))

    def test_predictions_of_other_images_are_a_problem(self, host: Task, right: Predictions) -> None:
        assert host.find_problem(right, right[:-1])

    def test_another_answer_is_a_difference(self, host: Task, right: Predictions, wrong: Predictions) -> None:
        assert host.difference(right, wrong, "fp32")

    def test_what_is_right_scores_best_and_costs_nothing(
        self, host: Task, right: Predictions, wrong: Predictions, source: SourceModel
    ) -> None:
        labels = self.labels()
        best = host.score(right, labels, source, baseline=right.copy())
        assert {*host.scores} <= {*best.values, *best.missing}
        assert best.values[host.headline] == pytest.approx(1)
        assert best.values["accuracy_drop"] == pytest.approx(0)
        worse = host.score(wrong, labels, source)
        assert worse.values[host.headline] < best.values[host.headline]

    def test_a_drop_is_the_headline_of_one_minus_that_of_the_other(
        self, host: Task, right: Predictions, wrong: Predictions, source: SourceModel
    ) -> None:
        labels = self.labels()
        lost = 1 - host.score(wrong, labels, source).values[host.headline]
        assert host.drop(wrong, right, labels, source).values["accuracy_drop"] == pytest.approx(lost)
        named = host.drop(wrong, right, labels, source, "converter").values
        assert named["accuracy_drop_converter"] == pytest.approx(lost)

    def test_scoring_changes_neither_predictions_nor_labels(
        self, host: Task, right: Predictions, source: SourceModel
    ) -> None:
        before = right.copy()
        labels = self.labels()
        first = host.score(right, labels, source)
        assert host.score(right, labels, source) == first
        np.testing.assert_array_equal(right, before)

    def test_what_is_right_is_not_doubted_and_what_is_wrong_is(
        self, host: Task, right: Predictions, wrong: Predictions, source: SourceModel
    ) -> None:
        def doubts(predictions: Predictions) -> list[Reason]:
            figures = host.score(predictions, self.labels(), source).values
            return list(host.doubts(figures, host.compare(right, predictions), source, "fp32", "do better"))

        assert doubts(right.copy()) == []
        found = doubts(wrong)
        assert found
        assert all(reason.code and reason.message and reason.advice for reason in found)

    def test_one_row_of_each_image_is_kept(self, host: Task, right: Predictions) -> None:
        assert len(host.kept(right)) == len(right)

    def _kind(self) -> type[Reader]:
        entry = plugins("agent_tasks").get(self.task)
        module = importlib.import_module(entry.value if entry else f"edlab.agent.tasks.{self.task}")
        kind: type[Reader] = module.Task
        return kind

    def _facts(self, host: Task, outputs: Outputs) -> OutputFacts:
        config = self.config()
        positions = host.choose_outputs(config, config.name, outputs, self.size)
        return host.read_outputs(config, config.name, [outputs[each] for each in positions], self.size, {})

    def _chosen(self, host: Task, tensors: Tensors) -> Tensors:
        return [tensors[position].copy() for position in self._positions(host)]

    def _specs(self, host: Task) -> list[TensorSpec]:
        chosen = [self.outputs[position] for position in self._positions(host)]
        return [TensorSpec(name, tuple(shape), "float32") for name, shape in chosen]

    def _positions(self, host: Task) -> tuple[int, ...]:
        config = self.config()
        return host.choose_outputs(config, config.name, self.outputs, self.size)

    def _read(self, host: Task, reader: Reader, images: Sequence[Tensors]) -> Predictions:
        return np.stack([np.array(reader.read(self._chosen(host, tensors))) for tensors in images])
