"""What comes out of the target's own runtime is checked, whatever the file says on this machine."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from workplace import Workplace

from edlab.record import RunRecord, Stage, Status

RUNTIME = """
    import numpy as np

    from edlab.agent.runtimes import onnxruntime


    class Request(onnxruntime._Request):
        mode = "right"

        def get_outputs(self):
            (output,) = super().get_outputs()
            generator = np.random.default_rng(abs(hash(output.tobytes())) % 2**32)
            return [{
                "right": output,
                "undefined": np.full_like(output, np.nan),
                "shape": output[:, :3],
                "random": generator.normal(size=output.shape).astype(np.float32),
                "constant": np.ones_like(output),
                "swapped": output[:, ::-1],
            }[self.mode]]


    class Runtime(onnxruntime.Runtime):
        options = dict(onnxruntime.Runtime.options, mode="right")

        def compile(self, in_flight, batch):
            compiled = super().compile(in_flight, batch)
            for request in compiled.requests:
                request.__class__ = Request
                request.mode = self.options["mode"]
            return compiled
"""


def install(site: Path) -> None:
    """The runtime as an outside package: a module, and the entry point that names it."""
    (site / "doubtful.dist-info").mkdir(parents=True)
    (site / "doubtful.py").write_text(textwrap.dedent(RUNTIME))
    (site / "doubtful.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: doubtful\nVersion: 1.0\n")
    (site / "doubtful.dist-info" / "entry_points.txt").write_text("[edlab.runtimes]\ndoubtful = doubtful\n")


def test_garbage_out_of_the_targets_runtime_fails_the_row(workplace: Workplace, tmp_path: Path) -> None:
    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), workplace.environment.get("PYTHONPATH", "")]
    workplace.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    expected = {
        "right": "",
        "undefined": "NaN or infinity",
        "shape": "the shape",
        "random": "different values",
        "constant": "the same values for every image",
        "swapped": "different values",
    }
    words = ["device.runtimes.onnx=doubtful", f"device.options.doubtful.mode={','.join(expected)}"]
    result = workplace.run("-m", "converter=onnxruntime", "quantization=fp32", "dataset.images=60", *words)
    records: dict[str, RunRecord] = dict(zip(expected, workplace.records(), strict=True))
    assert records["right"].status is Status.ok, result.stdout + result.stderr
    for mode, message in list(expected.items())[1:]:
        record = records[mode]
        assert (record.status, record.stage) == (Status.failed, Stage.measure), mode
        assert message in record.reason
        assert "doubtful" in record.reason  # NaN is found by the agent, in the warm-up
        assert "accuracy_top1" not in record.metrics


def test_a_row_is_never_named_after_a_precision_that_does_not_run(workplace: Workplace) -> None:
    """Implicit int8 is made by TensorRT on the target: this machine's CPU would run the fp32 file."""
    words = ["device=jetson_orin", "device.execution=emulated", "quantization=int8", "dataset.images=60"]
    workplace.run("-m", "converter.options.int8=implicit,explicit", *words)
    implicit, explicit = workplace.records()
    assert (implicit.status, implicit.stage) == (Status.skipped, Stage.deploy)
    assert "is fp32" in implicit.reason
    assert "converter.options.int8=explicit" in implicit.hint
    assert explicit.status is Status.ok
    assert explicit.metrics["emulated_accuracy_top1"] > 0.9
    assert explicit.tags["int8_kernels"] == "exact"
