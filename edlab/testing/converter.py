"""The requirements of every converter, as tests that a third party's test class inherits.

    class TestAcmeConverter(ConverterConformance):
        converter = "acme"  # the name of its entry point in edlab.converters

        def predict(self, artifact, images):
            return acme_sdk.Network(artifact.files[0]).run(images)

The model and the images are small and created here. torch is needed; for a converter that does not support torch models
override the fixture `source`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edlab import converters
from edlab.agent.preprocess import normalise
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import (
    CalibrationConfig,
    CalibrationMethod,
    ConverterConfig,
    Granularity,
    Precision,
    QuantizationConfig,
    Symmetry,
)
from edlab.converters import CalibrationData
from edlab.converters.inspect import reader, weight_dtypes
from edlab.errors import ConfigError, ConversionError, UnsupportedError
from edlab.source import USUAL_CALIBRATION_IMAGES, Preprocessing, SourceModel
from edlab.stages.reference import this_machine
from edlab.stages.workshops import on_this_machine
from edlab.tasks.classification import Task

if TYPE_CHECKING:
    import torch

PREPROCESSING = Preprocessing(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLASSES = 10


def small_network() -> torch.nn.Module:
    """Random weights, seeded: the blocks of a mobile network, on (1, 3, 32, 32) -> (1, 10)."""
    import torch

    nn = torch.nn
    torch.manual_seed(0)

    class Block(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.pointwise = nn.Conv2d(channels, channels, 1)
            self.activation = nn.ReLU6()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = x + self.pointwise(self.activation(self.depthwise(x)))
            return out

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        Block(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    ).eval()


def small_source(folder: Path) -> SourceModel:
    """`small_network` as an exported program in `folder`."""
    import torch

    path = folder / "small.pt2"
    torch.export.save(torch.export.export(small_network(), (torch.zeros(1, 3, 32, 32),)), path)
    return SourceModel(
        name="small",
        format="pt2",
        path=path,
        sha256=sha256_files([path]),
        layout="NCHW",
        preprocessing=PREPROCESSING,
        num_classes=CLASSES,
        weights="untrained",
    )


def small_calibration(folder: Path, images: int, seed: int = 0) -> CalibrationData:
    """Seeded images of smooth gradients, all different, as a calibration selection in `folder`."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 255, (images, 2, 2, 3))
    ramp = np.linspace(0, 1, 32)
    pixels = np.einsum("nijc,iy,jx->nyxc", corners, np.stack([1 - ramp, ramp]), np.stack([1 - ramp, ramp]))
    path = folder / f"images-{images}-{seed}.npy"
    np.save(path, pixels.astype(np.uint8))
    return CalibrationData(path, tuple(range(images)), PREPROCESSING, sha256_files([path]))


def quantization(
    precision: Precision,
    *,
    images: int = 16,
    method: CalibrationMethod = CalibrationMethod.minmax,
    granularity: Granularity = Granularity.per_channel,
    activations: Symmetry = Symmetry.asymmetric,
    exclude: tuple[str, ...] = (),
) -> QuantizationConfig:
    """A quantization configuration, as from the command line."""
    return QuantizationConfig(
        name=precision.value,
        precision=precision,
        granularity=granularity,
        activations=activations,
        exclude=list(exclude),
        calibration=CalibrationConfig(images=images, method=method),
    )


class ConverterConformance:
    """Subclass with `converter`, and `predict` if the artifact runs on this machine."""

    converter: ClassVar[str]  # the name of its entry point
    tolerance: ClassVar[float] = 1e-4  # of float32 logits, whose magnitude is about 1

    def __init_subclass__(cls) -> None:
        if not isinstance(getattr(cls, "converter", ""), str):
            raise TypeError(f"{cls.__name__}.converter is the name of an entry point in edlab.converters, not a class")

    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (N, classes) of normalised images in the artifact's layout, float32 whatever the file's type."""
        pytest.skip("predict is not overridden")

    # Class-scoped, so that all tests of a class share one conversion: they contain files that tests only read.

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("conformance")

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, folder: Path) -> SourceModel:
        return small_source(folder)

    @pytest.fixture(scope="class")
    @classmethod
    def convert(cls, folder: Path, source: SourceModel) -> Callable[..., Artifact]:
        """`convert(quantization, cache=...)`; without `cache` the class's own."""

        def run(wanted: QuantizationConfig, cache: Cache | None = None) -> Artifact:
            return _convert(
                cls.converter,
                source,
                wanted,
                lambda: small_calibration(folder, wanted.calibration.images or USUAL_CALIBRATION_IMAGES),
                cache or Cache(folder / "cache"),
            )

        return run

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls, folder: Path) -> NDArray[np.uint8]:
        """Eight images that are not used for calibration."""
        pixels: NDArray[np.uint8] = np.load(small_calibration(folder, 8, seed=1).images)
        return pixels

    def _logits(self, artifact: Artifact, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.predict(artifact, normalise(images, PREPROCESSING.mean, PREPROCESSING.std, artifact.layout))

    def reference(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The source model's logits of the images. Override together with `source`."""
        import torch

        batch = normalise(images, PREPROCESSING.mean, PREPROCESSING.std, "NCHW")
        with torch.no_grad():
            logits: NDArray[np.float32] = small_network()(torch.from_numpy(batch)).numpy()
        return logits

    def test_each_precision_declared_gives_a_sane_artifact(
        self, convert: Callable[..., Artifact], images: NDArray[np.uint8]
    ) -> None:
        expected = self.reference(images)
        for precision in converters.load(self.converter).capabilities:
            artifact = convert(self._plain(precision))
            assert artifact.precision == precision
            assert artifact.format == converters.load(self.converter).format
            logits = self._logits(artifact, images)
            if precision is Precision.fp32:
                np.testing.assert_allclose(logits, expected, atol=self.tolerance)
            else:
                sqnr = Task().compare(expected, logits).sqnr_db
                assert sqnr is None or sqnr > 15, f"{precision}: {sqnr} dB"

    @pytest.mark.parametrize("precision", [Precision.int8, Precision.int8_dynamic])
    def test_int8_means_that_the_files_weights_are_int8(
        self, convert: Callable[..., Artifact], precision: Precision
    ) -> None:
        self._needs(precision)
        artifact = convert(self._plain(precision))
        if not reader(artifact.format):
            pytest.skip(f"{self.converter} has no weight_readers for {artifact.format} files")
        dtypes = weight_dtypes(artifact.files[0], artifact.format)
        assert set(dtypes) == {"int8"}

    def test_a_precision_that_is_not_declared_is_refused_by_name(self, convert: Callable[..., Artifact]) -> None:
        able = converters.load(self.converter).capabilities
        for precision in set(Precision) - set(able):
            _assert_refused(convert, quantization(precision), precision)

    def test_a_setting_that_is_not_declared_is_refused_by_name(self, convert: Callable[..., Artifact]) -> None:
        self._needs(Precision.int8)
        able = converters.load(self.converter).capabilities[Precision.int8]
        plain = self._plain(Precision.int8)
        for granularity in set(Granularity) - set(able.granularities):
            _assert_refused(convert, dataclasses.replace(plain, granularity=granularity), granularity)
        for activations in set(Symmetry) - set(able.activations):
            _assert_refused(convert, dataclasses.replace(plain, activations=activations), activations)
        for method in set(CalibrationMethod) - set(able.methods):
            _assert_refused(convert, _with_method(plain, method), method)

    def test_every_calibration_setting_declared_changes_the_artifact(self, convert: Callable[..., Artifact]) -> None:
        self._needs(Precision.int8)
        able = converters.load(self.converter).capabilities[Precision.int8]
        plain = self._plain(Precision.int8)
        variants = [
            *(
                dataclasses.replace(plain, calibration=CalibrationConfig(images=images, method=method))
                for method in able.methods
                for images in (8, 16)
            ),
            *(dataclasses.replace(plain, granularity=value) for value in able.granularities[1:]),
            *(dataclasses.replace(plain, activations=value) for value in able.activations[1:]),
        ]
        digests = [convert(variant).sha256 for variant in variants]
        assert len(set(digests)) == len(variants)

    def test_a_node_that_does_not_exist_cannot_be_excluded(self, convert: Callable[..., Artifact]) -> None:
        self._needs(Precision.int8)
        if not converters.load(self.converter).capabilities[Precision.int8].exclude:
            pytest.skip("this converter does not support exclude")
        with pytest.raises(ConfigError, match="no_such_node") as caught:
            convert(dataclasses.replace(self._plain(Precision.int8), exclude=["no_such_node"]))
        assert caught.value.hint

    def test_the_second_conversion_is_served_from_the_cache(self, convert: Callable[..., Artifact]) -> None:
        wanted = self._plain(self._last_precision())
        first, second = convert(wanted), convert(wanted)
        assert all(step.cached for step in second.steps)
        assert second.sha256 == first.sha256
        assert second.conversion_s == first.conversion_s

    def test_the_same_conversion_gives_the_same_bytes(self, convert: Callable[..., Artifact], tmp_path: Path) -> None:
        wanted = self._plain(self._last_precision())
        assert convert(wanted, cache=Cache(tmp_path)).sha256 == convert(wanted).sha256

    def test_a_step_that_fails_leaves_nothing_but_its_log(self, source: SourceModel, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache")
        broken = source.path.with_name(f"broken{source.path.suffix}")
        broken.write_bytes(source.path.read_bytes()[:200])
        damaged = source.model_copy(update={"path": broken, "sha256": sha256_files([broken])})
        config = ConverterConfig(name=self.converter)
        wanted = self._plain(next(iter(converters.load(self.converter).capabilities)))
        if not converters.get(config).plan(damaged, wanted):
            pytest.skip("this converter passes the source through")
        with pytest.raises(ConversionError) as caught:
            _convert(self.converter, damaged, wanted, pytest.fail, cache)
        assert caught.value.log
        assert caught.value.hint
        assert not [path for path in cache.root.glob("steps/*") if path.suffix != ".lock"]
        assert list(cache.root.glob("logs/*.log"))

    def test_an_option_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="no_such_option"):
            converters.get(ConverterConfig(name=self.converter, options={"no_such_option": 1}))

    def test_the_options_declared_reach_the_plan(self, source: SourceModel) -> None:
        defaults = converters.load(self.converter).default_options
        if not defaults:
            pytest.skip("this converter has no options")
        config = ConverterConfig(name=self.converter)
        able = converters.load(self.converter).capabilities
        wanted = [
            _with_method(self._plain(precision), method)
            for precision, capability in able.items()
            for method in capability.methods or (CalibrationMethod.minmax,)
        ]
        for key, value in defaults.items():
            changed = dataclasses.replace(config, options={key: _another(value)})
            assert any(
                converters.get(config).plan(source, one) != converters.get(changed).plan(source, one) for one in wanted
            ), f"no plan depends on option {key}"

    def _needs(self, precision: Precision) -> None:
        if precision not in converters.load(self.converter).capabilities:
            pytest.skip(f"{self.converter} does not support {precision}")

    def _plain(self, precision: Precision) -> QuantizationConfig:
        """The first value of every setting that the converter declares at this precision."""
        able = converters.load(self.converter).capabilities[precision]
        return quantization(
            precision,
            granularity=next(iter(able.granularities), Granularity.per_channel),
            activations=next(iter(able.activations), Symmetry.asymmetric),
            method=next(iter(able.methods), CalibrationMethod.minmax),
        )

    def _last_precision(self) -> Precision:
        return list(converters.load(self.converter).capabilities)[-1]


def _convert(
    name: str,
    source: SourceModel,
    wanted: QuantizationConfig,
    calibration: Callable[[], CalibrationData],
    cache: Cache,
) -> Artifact:
    """Converts as in a run; uses the tool environment of runs, because installing it can take minutes."""
    config = ConverterConfig(name=name)
    with on_this_machine(converters.get(config), config, Cache(), lambda phase, fraction, message: None) as workshops:
        return converters.convert(
            source,
            wanted,
            config,
            calibration=calibration,
            cache=cache,
            portable=this_machine().runtimes,
            workshops=workshops,
        )


def _with_method(wanted: QuantizationConfig, method: CalibrationMethod) -> QuantizationConfig:
    return dataclasses.replace(wanted, calibration=dataclasses.replace(wanted.calibration, method=method))


def _assert_refused(convert: Callable[..., Artifact], wanted: QuantizationConfig, value: str) -> None:
    with pytest.raises(UnsupportedError, match=f"={value}") as caught:
        convert(wanted)
    assert caught.value.hint


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    return f"{value}x"
