"""The Edge TPU's runtime with the real LiteRT. A library stands in for libedgetpu: it offers the same functions, knows
one USB device, and takes no operator over, so the CPU computes. A model file with the compiler's mark stands in for a
compiled one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_runtimes import convert_to_tflite, keras_twin

from edlab import devices
from edlab.agent import messages
from edlab.agent.messages import Opened, Throughput
from edlab.cache import Cache
from edlab.devices import AgentSession, Pool
from edlab.errors import AgentError
from edlab.testing.runtime import PREPROCESSING, RuntimeConformance, tiny_network

# The functions that TensorFlow Lite's Python API calls in a delegate's library, and edgetpu_version of edgetpu_c.h.
STAND_IN = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Delegate {
  void *data;
  int (*prepare)(void *context, struct Delegate *delegate);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
} Delegate;

static int take_nothing(void *context, Delegate *delegate) { return 0; }

const char *edgetpu_version(void) { return "BuildLabel(stand-in), RuntimeVersion(14)"; }

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  for (size_t i = 0; i < count; ++i)
    if (!strcmp(keys[i], "device") && strcmp(values[i], "") && strcmp(values[i], "usb") && strcmp(values[i], "usb:0"))
      return NULL;
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = take_nothing;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
"""


class TestEdgeTpu(RuntimeConformance):
    runtime = "edgetpu"
    layout = "NHWC"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _library(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to make the stand-in for libedgetpu")
        folder = tmp_path_factory.mktemp("lib")
        (folder / "stand_in.c").write_text(STAND_IN)
        command = [compiler, "-shared", "-fPIC", "-o", folder / "libedgetpu.so.1", folder / "stand_in.c"]
        subprocess.run(command, check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_LIBRARY_PATH", f"{folder}{os.pathsep}{os.environ.get('LD_LIBRARY_PATH', '')}")
            yield

    def export(self, network: Any, folder: Path) -> list[Path]:
        pytest.importorskip("tensorflow")
        path = folder / "net_edgetpu.tflite"
        path.write_bytes(convert_to_tflite(keras_twin(network)) + b"edgetpu-custom-op")
        return [path]

    def test_the_library_tells_its_version(self, opened: Opened) -> None:
        assert "RuntimeVersion(14)" in opened.version

    def test_a_device_is_chosen_by_name(self, session: AgentSession, opened: Opened, artifact: Any) -> None:
        assert opened.options["device"] == "any"
        assert session.open(artifact, PREPROCESSING, self.device(device="usb:0")).options["device"] == "usb:0"

    def test_a_device_that_is_not_there_is_an_error(self, session: AgentSession, artifact: Any) -> None:
        with pytest.raises(AgentError, match=r"no Edge TPU is found \(device.options.edgetpu.device=pci\)") as caught:
            session.open(artifact, PREPROCESSING, self.device(device="pci"))
        assert "plugdev" in caught.value.hint

    def test_a_model_that_was_not_compiled_does_not_run_on_the_cpu(self, session: AgentSession, tmp_path: Path) -> None:
        (tmp_path / "net.tflite").write_bytes(convert_to_tflite(keras_twin(tiny_network())))
        with pytest.raises(AgentError, match="the whole model would run on the CPU") as caught:
            session.open(self.artifact_of([tmp_path / "net.tflite"]), PREPROCESSING, self.device())
        assert "converter=edgetpu" in caught.value.hint

    def test_the_batch_is_fixed(self, session: AgentSession, opened: Opened, pool: Pool) -> None:
        request = Throughput(
            pool, seconds=0.1, max_seconds=60, max_batch=2, max_in_flight=1, gain=0.0, trial_seconds=0.05
        )
        assert "batch 1" in session.measure(messages.THROUGHPUT, request).search[-1].note


def test_without_libedgetpu_the_error_says_what_to_install(cache: Cache, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    with devices.connect(TestEdgeTpu.device(), cache) as session:
        told = session.available(["edgetpu"])["edgetpu"]
        if told.version:
            pytest.skip("libedgetpu is installed here")
        assert "libedgetpu.so.1" in told.reason
        assert "libedgetpu1-std" in told.hint
        (tmp_path / "net.tflite").write_bytes(b"edgetpu-custom-op")
        with pytest.raises(AgentError, match="cannot be loaded") as caught:
            session.open(TestEdgeTpu.artifact_of([tmp_path / "net.tflite"]), PREPROCESSING, TestEdgeTpu.device())
    assert "libedgetpu1-std" in caught.value.hint
