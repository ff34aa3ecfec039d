"""What scripts/bench/quickstarts accepts as an existing sweep. Here `edlab --help` is the quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edlab.record import RunRecord


@pytest.fixture
def quickstarts(script: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = script("quickstarts")
    monkeypatch.setattr(found, "WORDS", ["--help"])
    return found


def write_sweep(folder: Path, name: str, rows: int) -> Path:
    sweep = folder / "mlruns" / "sweeps" / name
    for job in range(rows):
        (sweep / str(job)).mkdir(parents=True)
        record = RunRecord(name="run", sweep_id=name, started_at="2026-01-01T00:00:00+00:00")
        record.write(sweep / str(job) / "result.json")
    return sweep


def test_a_whole_sweep_after_one_that_was_cut_off_is_kept(quickstarts: Any, tmp_path: Path) -> None:
    write_sweep(tmp_path, "20260101-1", 2)
    whole = write_sweep(tmp_path, "20260101-2", 6)
    assert quickstarts.sweep_in(tmp_path) == whole
    assert not (tmp_path / "output.txt").exists()


def test_a_sweep_that_was_cut_off_last_is_run_again(quickstarts: Any, tmp_path: Path) -> None:
    write_sweep(tmp_path, "20260101-1", 6)
    write_sweep(tmp_path, "20260101-2", 2)
    quickstarts.sweep_in(tmp_path)
    assert (tmp_path / "output.txt").exists()


def test_an_empty_folder_is_run_and_a_run_without_a_sweep_is_an_error(quickstarts: Any, tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "sweeps").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"output\.txt"):
        quickstarts.sweep_in(tmp_path)
    assert (tmp_path / "output.txt").exists()
