"""The meter um25c, against PEERS that speak its protocol on pseudo-terminals: no meter is connected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from readings import next_answer
from um25c_peer import FRAME, UM24C, UM25C, UM34C, Peer, frame

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.um25c import Um25c
from edlab.testing.meter import MeterConformance


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
    sample = next_answer(meter)
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
    assert next_answer(meter).watts == pytest.approx(0.580, abs=1e-3)


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
    assert next_answer(meter).watts == pytest.approx(0.580, abs=1e-3)


def test_an_answer_that_comes_too_late_is_not_that_of_the_next_request(meter: Um25c, peer: Peer) -> None:
    next_answer(meter)
    peer.send(frame(UM25C, 20000, 50000))
    assert next_answer(meter).watts == pytest.approx(0.580, abs=1e-3)


def test_a_meter_that_never_answers_is_a_failed_reading_each_time_and_is_opened_again(
    meter: Um25c, peer: Peer, port: Path
) -> None:
    peer.answer = list
    for _ in range(10):
        with pytest.raises(TimeoutError, match="sent 0 bytes"):
            meter.read()
    other = Peer(port)
    try:
        assert next_answer(meter).watts == pytest.approx(0.580, abs=1e-3)
        assert other.requests
    finally:
        other.close()


def test_a_meter_that_is_unplugged_and_comes_back(meter: Um25c, peer: Peer, port: Path) -> None:
    next_answer(meter)
    peer.close()
    with pytest.raises(OSError, match="rfcomm0"):
        meter.read()
    with pytest.raises(OSError, match="rfcomm0"):  # and while it is away
        meter.read()
    back = Peer(port, lambda: [frame(UM25C, 5000, 20000)])
    try:
        assert next_answer(meter).watts == pytest.approx(10.0)
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
    next_answer(meter)
    meter.close()
    meter.close()
    assert next_answer(meter).watts == pytest.approx(0.580, abs=1e-3)


@pytest.mark.parametrize("options", [{"port": ""}, {"port": 0}, {"port": "/dev/rfcomm0", "boundary": "battery"}])
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        Um25c(**options)
    assert "meter.options" in refused.value.hint
