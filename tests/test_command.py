"""`edlab` itself: help, the version, and what a shell completes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workplace import Workplace

from edlab import __version__, completion
from edlab.cli import main


@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_alone_it_prints_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for command in ("run", "doctor", "show", "pull", "completion", "version"):
        assert f"\n    {command}" in printed
    assert "Start with `edlab run protocol=smoke`" in printed


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "run"]) == 0
    assert "KEY=VALUE" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["help", "pull"])
    assert caught.value.code == 0
    assert "--to DIR" in capsys.readouterr().out


def test_help_of_a_misspelt_command_suggests_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "pul"]) == 2
    assert "did you mean 'pull'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--versoin"], "did you mean '--version'? `edlab --help`"),
        (["runs", "--lats", "3"], "did you mean '--last'? `edlab runs --help`"),
        (["show"], "usage: edlab show [-h]"),
        (["pull", "a", "b"], "unexpected 'b'"),
        (["--"], "unknown option '--'"),
    ],
)
def test_a_misspelt_option_is_an_error_with_the_next_step(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"edlab {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("mod", "model="),
        ("protocol.thr", "protocol.throughput.max_batch="),
        ("device=jetson_o", "device=jetson_orin"),
        ("model=mnasnet,incep", "model=mnasnet,inception_v3"),
    ],
)
def test_overrides_are_completed(typed: str, wanted: str) -> None:
    assert wanted in [found for found in completion.overrides(typed) if found.startswith(typed)]


def test_a_shell_gets_completions(workplace: Workplace, tmp_path: Path) -> None:
    """As bash asks for them, through the script that it is given."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = workplace.edlab("completion", "bash").stdout
    (tmp_path / "completion.bash").write_text(script)
    ask = f"""
        . {tmp_path}/completion.bash
        COMP_LINE='edlab doctor device=jetson_o'; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_WORDBREAKS=' '
        _python_argcomplete edlab
        echo "${{COMPREPLY[@]}}"
    """
    environment = workplace.environment
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    found = subprocess.run([bash, "-c", ask], capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "device=jetson_orin", found.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_ARGCOMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["model.path=net.onnx"], "model=digits_cnn does not use it", "set model=file"),
        (["model=file"], "model=file needs model.path", "model.path=FILE"),
        (["model=timm"], "model=timm needs model.arch", "edlab models"),
        (["model=net.onnx"], "unknown model 'net.onnx'", "set model=file model.path=net.onnx"),
        (["model=file", "model.path=lost.onnx"], "model.path=lost.onnx does not exist", "relative to"),
        (["dataset=image_folder", "dataset.path=/lost"], "dataset.path=/lost does not exist", "fix dataset.path"),
        (["dataset=image_folder"], "dataset=image_folder needs dataset.path", "speed alone set dataset=synthetic"),
        (["model=mobilenet_v2", "dataset.kind=coco"], "dataset=imagenet needs dataset.path", "set dataset.path=PATH"),
        (["-m", "dataset=yolo,coco"], "needs dataset.path", "dataset=synthetic"),
        (["dataset.path=/tmp"], "dataset.path is unsupported for dataset.kind=digits", "remove it"),
        (["converter.options.percent=3"], "no option 'percent'", "did you mean 'percentile'"),
    ],
)
def test_what_cannot_run_is_an_error_before_anything_runs(
    workplace: Workplace, overrides: list[str], message: str, hint: str
) -> None:
    result = workplace.edlab("run", *overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert hint in result.stderr
    assert not result.stdout
    assert not (workplace.folder / "mlruns" / "sweeps").exists()


def test_a_pipe_gets_whole_lines(workplace: Workplace) -> None:
    """No command or id is wrapped that another program reads."""
    del workplace.environment["COLUMNS"]
    result = workplace.edlab("devices")
    assert "onnx by onnxruntime, openvino by openvino" in result.stdout
