"""The file with the predictions of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edlab import predictions_file
from edlab.errors import StorageError
from edlab.record import RunRecord


def _record(folder: Path, right: np.ndarray) -> RunRecord:
    """A run whose file is in this folder."""
    folder.mkdir()
    path = folder / predictions_file.FILE
    np.savez_compressed(path, right=right)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = RunRecord(name="a", sweep_id="s", started_at="2026-01-01T00:00:00+00:00")
    record.tags["predictions_sha256"] = digest
    return record


def test_the_files_of_a_sweep_are_found_by_their_digest(tmp_path: Path) -> None:
    first, second = _record(tmp_path / "0", np.ones(3, bool)), _record(tmp_path / "1", np.zeros(3, bool))
    right = predictions_file.below(tmp_path)
    assert [right(each) is not None and right(each).sum() for each in (first, second)] == [3, 0]
    assert right(RunRecord(name="b", sweep_id="s", started_at="2026-01-01T00:00:00+00:00")) is None
    (tmp_path / "0" / predictions_file.FILE).write_bytes(b"PK damaged")
    assert predictions_file.below(tmp_path)(first) is None


@pytest.mark.parametrize("content", [b"PK damaged", b""])
def test_a_damaged_file_is_an_error_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / predictions_file.FILE
    path.write_bytes(content)
    with pytest.raises(StorageError, match="was changed"):
        predictions_file.read(path, "0" * 64)
    with pytest.raises(StorageError, match="cannot read"):
        predictions_file.read(path, hashlib.sha256(content).hexdigest())
