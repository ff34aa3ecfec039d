"""Stand-ins for a vendor's tool, one per step. A separate module, so that the processes start quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def upper(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    print("upper was here")
    Path(out).write_text(Path(inputs[0]).read_text().upper() + options.get("suffix", ""))
    Path(out).with_suffix(".extra").write_text(f"{calibration}")


def reported(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    from edlab.artifact import StepReport

    Path(out).write_text(Path(inputs[0]).read_text())
    StepReport(figures={"mapped_fraction": 0.5}, accelerated_fraction=0.5).write_beside(out)


def hang(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    print("about to hang", flush=True)
    time.sleep(600)


def crash(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    print("about to crash", flush=True)
    os.abort()


def gorge(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    hoard = []
    while True:
        hoard.append(bytes(range(256)) * (1 << 18))  # 64 MB
        time.sleep(0.05)


def half_written(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    Path(out).write_text("half")
    raise ValueError("the vendor's tool said no")


def write_nothing(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    pass


def write_a_folder(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    Path(out).mkdir()


def leave_a_folder(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    Path(out).write_text("x")
    Path(out).with_name("scratch").mkdir()


def leave_a_link(inputs: list[str], out: str, options: dict[str, Any], calibration: Any) -> None:
    Path(out).symlink_to("/nowhere")
