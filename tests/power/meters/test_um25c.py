"""The meter um25c, against PEERS that speak its protocol on pseudo-terminals: no meter is connected."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from edlab.agent.sensors.base import Sample
from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.um25c import Um25c
from edlab.testing.meter import MeterConformance

UM24C, UM25C, UM34C = 0x0963, 0x09C9, 0x0D4C
# What a UM34C's checksum covers (libsigrok, src/hardware/rdtech-um/protocol.c).
COVERED = [1, 3, 7, 9, 15, 17, 19, 23, 31, 39, 41, 45, 49, 53, 55, 57, 59, 63, 67, 69, 73, 79, 83, 89, 97, 99, 109, 111]
COVERED += [113, 119, 121, 127]


def frame(model: int, volts: int, amperes: int) -> bytes:
    """An answer, with the voltage and the current in the model's steps."""
    data = bytearray(130)
    struct.pack_into(">3H", data, 0, model, volts, amperes)
    struct.pack_into(">H", data, 10, 25)  # degrees Celsius
    if model == UM34C:
        for place in COVERED:
            data[129] ^= data[place]
    else:
        data[128:] = b"\xff\xf1"
    return bytes(data)


FRAME = frame(UM25C, 5062, 1146)  # the example of rdserialtool's README: 5.062 V, 0.1146 A, 0.580 W


class Peer:
    """A meter on a pseudo-terminal, which `path` points at: `answer` returns the pieces that it sends for a request."""

    def __init__(self, path: Path, answer: Callable[[], list[bytes]] = lambda: [FRAME]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self._own, self._other = os.openpty()
        tty.setraw(self._other)
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(self._other))
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            os.write(self._stopping, b"x")
            self._thread.join()
            for number in (self._own, self._other, self._stop, self._stopping):
                os.close(number)

    def send(self, piece: bytes) -> None:
        """Send without a request, and wait until it has arrived."""
        os.write(self._own, piece)
        select.select([self._other], [], [])

    def _serve(self) -> None:
        while self._stop not in (ready := select.select([self._own, self._stop], [], [])[0]):
            assert ready
            for byte in os.read(self._own, 100):
                self.requests.append(bytes([byte]))
                for piece in self.answer():
                    os.write(self._own, piece)
                    time.sleep(0.001)


@pytest.fixture
def port(tmp_path: Path) -> Path:
    return tmp_path / "rfcomm0"


@pytest.fixture
def peer(port: Path) -> Iterator[Peer]:
    peer = Peer(port)
    yield peer
    peer.close()


@pytest.fixture
def meter(port: Path, peer: Peer) -> Iterator[Um25c]:
    meter = Um25c(port=str(port))
    yield meter
    meter.close()


def next_sample(meter: Um25c) -> Sample:
    """On a busy machine, the peer may answer too late."""
    end = time.monotonic() + 30
    while True:
        try:
            return meter.read()
        except TimeoutError:
            if time.monotonic() > end:
                raise


class TestConformance(MeterConformance):
    meter = "um25c"
    options: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, port: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"port": str(port)})


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("um25c") is Um25c


@pytest.mark.parametrize(
    ("answer", "watts", "resolution_w", "accuracy"),
    [
        (frame(UM24C, 508, 248), 5.08 * 0.248, 5.08e-3, None),
        (FRAME, 5.062 * 0.1146, 5.062e-4, 0.0015),
        (frame(UM34C, 2000, 3999), 20.0 * 3.999, 20e-3, None),
        (frame(UM25C, 0, 0), 0.0, 0.0, 0.0015),
    ],
)
def test_the_model_decides_the_scales(
    meter: Um25c, peer: Peer, answer: bytes, watts: float, resolution_w: float, accuracy: float | None
) -> None:
    peer.answer = lambda: [answer]
    before_ns = time.perf_counter_ns()
    sample = next_sample(meter)
    assert before_ns < sample.t_ns < time.perf_counter_ns()
    assert sample.watts == pytest.approx(watts)
    assert meter.resolution_w == pytest.approx(resolution_w)
    assert meter.accuracy == accuracy
    assert set(peer.requests) == {b"\xf0"}


def test_the_watts_are_of_usb_unless_set(port: Path) -> None:
    assert Um25c(port=str(port)).boundary == "usb"
    assert Um25c(port=str(port), boundary="board_dc").boundary == "board_dc"


def test_an_answer_may_come_in_pieces_and_after_garbage(meter: Um25c, peer: Peer) -> None:
    peer.answer = lambda: [b"\x09\xc9 noise ", FRAME[:1], FRAME[1:70], FRAME[70:]]
    assert next_sample(meter).watts == pytest.approx(0.580, abs=1e-3)


@pytest.mark.parametrize(
    "answer",
    [
        FRAME[:129],
        FRAME[:-1] + b"\x00",
        frame(0x1234, 5062, 1146),
        frame(UM34C, 500, 100)[:-1] + b"\x7f",
        bytes(range(256)),
    ],
    ids=["half", "end", "model", "checksum", "garbage"],
)
def test_a_bad_answer_fails_and_the_next_reading_succeeds(meter: Um25c, peer: Peer, answer: bytes) -> None:
    peer.answer = lambda: [answer]
    with pytest.raises(TimeoutError, match=r"sent \d+ bytes, not an answer of 130"):
        meter.read()
    peer.answer = lambda: [FRAME]
    assert next_sample(meter).watts == pytest.approx(0.580, abs=1e-3)


def test_an_answer_that_comes_too_late_is_not_that_of_the_next_request(meter: Um25c, peer: Peer) -> None:
    next_sample(meter)
    peer.send(frame(UM25C, 20000, 50000))
    assert next_sample(meter).watts == pytest.approx(0.580, abs=1e-3)


def test_a_meter_that_never_answers_is_a_failed_reading_each_time_and_is_opened_again(
    meter: Um25c, peer: Peer, port: Path
) -> None:
    peer.answer = list
    for _ in range(10):
        with pytest.raises(TimeoutError, match="sent 0 bytes"):
            meter.read()
    other = Peer(port)
    try:
        assert next_sample(meter).watts == pytest.approx(0.580, abs=1e-3)
        assert other.requests
    finally:
        other.close()


def test_a_meter_that_is_unplugged_and_comes_back(meter: Um25c, peer: Peer, port: Path) -> None:
    next_sample(meter)
    peer.close()
    with pytest.raises(OSError, match="rfcomm0"):
        meter.read()
    with pytest.raises(OSError, match="rfcomm0"):  # and while it is away
        meter.read()
    back = Peer(port, lambda: [frame(UM25C, 5000, 20000)])
    try:
        assert next_sample(meter).watts == pytest.approx(10.0)
    finally:
        back.close()


def test_a_port_that_does_not_exist_or_is_none_is_a_failed_reading(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        Um25c(port=str(tmp_path / "absent")).read()
    (tmp_path / "file").write_text("no port")
    with pytest.raises(OSError, match="file is not a serial port"):
        Um25c(port=str(tmp_path / "file")).read()


def test_it_can_be_closed_twice_and_read_again(meter: Um25c) -> None:
    meter.close()
    next_sample(meter)
    meter.close()
    meter.close()
    assert next_sample(meter).watts == pytest.approx(0.580, abs=1e-3)


@pytest.mark.parametrize("options", [{"port": ""}, {"port": 0}, {"port": "/dev/rfcomm0", "boundary": "battery"}])
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        Um25c(**options)
    assert "power.meter_options" in refused.value.hint
