"""What may be written and sent."""

from __future__ import annotations

import pytest

from edlab.sanitize import MAX_CHARACTERS, sanitized, text


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://ann:hunter22@db/mlflow",
        "postgresql://ann:hunter22@hunter22@db/mlflow",
        "cannot reach http://hunter22@host:5000/api: refused",
        "https://host/x?user=ann&password=hunter22&a=b",
        "curl -H token=hunter22",
        "Traceback ... {'password': 'x'} mysql+pymysql://ann:hunter22@h",
        "postgresql://ann:hunt/hunter22@db/mlflow",
        "device.env={DB_PASSWORD:hunter22}",
        "device.env.AWS_SECRET_ACCESS_KEY=hunter22",
        '{"password": "hunter22 and more"}',
        "PGPASSWORD='hunter22 x' psql",
        "Authorization: Bearer hunter22",
    ],
)
def test_a_password_is_left_out_wherever_an_address_stands(given: str) -> None:
    assert "hunter22" not in text(given)
    assert sanitized({"a": [given, {given: given}]}) == {"a": [text(given), {text(given): text(given)}]}


def test_what_the_environment_keeps_secret_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "AZURE_STORAGE_CONNECTION_STRING")
    for number, name in enumerate(names):
        monkeypatch.setenv(name, f"hunter{number}")
        assert text(f"the server refused 'hunter{number}', ok?") == "the server refused '***', ok?"
    monkeypatch.setenv("SHORT_TOKEN", "ok")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "warning")
    assert text("warning: ok") == "warning: ok"


def test_what_is_called_a_password_is_one() -> None:
    given = {"device.env.VENDOR_TOKEN": "hunter22", "password": "x", "tokens": "12", "monkey": "ape", "pin_token": 1234}
    hidden = {"device.env.VENDOR_TOKEN": "***", "password": "***", "pin_token": "***"}
    assert sanitized(given) == {**given, **hidden}


def test_names_that_are_not_utf_8_can_be_written() -> None:
    assert text("b\udcff.png").encode() == b"b?.png"


def test_ten_megabytes_of_an_error_are_cut_in_the_middle() -> None:
    cut = text("begin" + "x" * 10_000_000 + "end")
    assert len(cut) < MAX_CHARACTERS + 100
    assert cut.startswith("beginx")
    assert cut.endswith("xend")
    assert "characters omitted" in cut


def test_numbers_and_nothing_stay_as_they_are() -> None:
    assert sanitized({"a": 1, "b": None, "c": (1.5, True)}) == {"a": 1, "b": None, "c": [1.5, True]}
