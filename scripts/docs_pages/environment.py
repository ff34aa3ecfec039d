"""docs/reference/environment.md: the environment variables, found in the sources; each must have a meaning here."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from docs_pages import markdown
from docs_pages.fields import ROOT

_USER, _DEVICES, _THEIRS, _INTERNAL, _TESTS = "user", "devices", "theirs", "internal", "tests"
_SECTIONS = {
    _USER: ("edlab", "Set these to change where edlab keeps files, what it reads and how it reports errors."),
    _DEVICES: ("Addresses of boards", "Each is the default of `device.address` of one device."),
    _THEIRS: (
        "Libraries that edlab uses",
        "edlab sets these for the libraries that it loads. A value that is already set is kept, unless the table says "
        "otherwise.",
    ),
    _INTERNAL: ("Internal", "edlab's own processes pass these to each other. Do not set them."),
    _TESTS: ("Tests and development", "The tests and the programs in `scripts/` read these."),
}
_BOARDS = {
    "EDLAB_ARM_LINUX_HOST": "arm_linux", "EDLAB_CORAL_HOST": "coral", "EDLAB_JETSON_HOST": "jetson",
    "EDLAB_JETSON_NANO_HOST": "jetson_nano", "EDLAB_JETSON_ORIN_HOST": "jetson_orin",
    "EDLAB_JETSON_XAVIER_HOST": "jetson_xavier", "EDLAB_RASPBERRY_PI_HOST": "raspberry_pi",
}  # fmt: skip
_THREADS = "number of threads of the agent's libraries: always set to the number of cores of `device.threads`"
_NO_TELEMETRY = "`true`: no usage statistics are sent"

MEANINGS: dict[str, dict[str, str]] = {
    _USER: {
        "BROWSER": "browser that `edlab ui` opens, as Python's webbrowser module reads it",
        "DISPLAY": "`edlab ui` opens a browser on Linux only if this, `WAYLAND_DISPLAY` or `BROWSER` is set",
        "EDLAB_CACHE": "folder for converted models, prepared images and tool environments; default: `edlab` in "
        "`$XDG_CACHE_HOME`, which is `~/.cache` if it is not set",
        "EDLAB_IMAGENET": "folder of the ImageNet validation images, for `dataset=imagenet` without `dataset.path`",
        "EDLAB_LOCK_DIR": "folder for the lock that keeps two runs from measuring on one machine at the same time; "
        "for a board set it with `device.env.EDLAB_LOCK_DIR`",
        "EDLAB_RECORDING": "folder of a recording, for `device.kind=record` and `device.kind=replay`; set it with "
        "`device.env.EDLAB_RECORDING`",
        "EDLAB_SSH_CONFIG": "ssh configuration file to use instead of `~/.ssh/config`",
        "EDLAB_SYSFS": "folder to read instead of `/sys`, so that files can stand in for power sensors and clocks; "
        "power that is read this way makes the verdict INVALID",
        "HYDRA_FULL_ERROR": "any value: show the Python traceback of an error, as `--debug` does",
        "MLFLOW_EXPERIMENT_NAME": "MLflow experiment for the runs (`tracking.experiment`); default: `edlab`",
        "MLFLOW_TRACKING_URI": "MLflow server or database for the runs (`tracking.uri`); default: "
        "`sqlite:///mlruns/mlflow.db` in the current folder",
        "PATH": "where external programs such as `ssh`, `nvpmodel` and `edgetpu_compiler` are searched",
        "TMPDIR": "folder for temporary files; each command creates one folder there and removes it when it ends",
        "USER": "user name in hints about sudo rules on a Jetson",
        "WAYLAND_DISPLAY": "see `DISPLAY`",
        "XDG_CACHE_HOME": "the user's cache folder, if `EDLAB_CACHE` is not set",
        "XDG_RUNTIME_DIR": "folder for the sockets of shared ssh connections; default: the temporary folder",
    },
    _DEVICES: {name: f"address of `device={device}`" for name, device in _BOARDS.items()},
    _THEIRS: {
        "CI": "always `true` in conversions with OpenVINO, which keeps OpenVINO from sending usage statistics",
        "GIT_PYTHON_REFRESH": "`quiet`: MLflow does not warn if git is missing",
        "HF_ENDPOINT": "address of the Hugging Face Hub; edlab tests whether it can be reached",
        "HF_HUB_DISABLE_TELEMETRY": _NO_TELEMETRY,
        "HF_HUB_OFFLINE": "`1` if the Hugging Face Hub cannot be reached, so that downloads fail immediately",
        "MKL_NUM_THREADS": _THREADS,
        "MLFLOW_DISABLE_TELEMETRY": _NO_TELEMETRY,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "`false`: MLflow shows no progress bars",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "`1`: how fast MLflow's wait between two attempts grows",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "`0`: a failed request is not repeated; edlab keeps the run and sends "
        "it later",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "`20`: seconds that a request to an MLflow server may take",
        "MLFLOW_LOGGING_LEVEL": "`CRITICAL`: edlab reports MLflow's errors itself; always `ERROR` in `edlab ui`",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "always `false` in `edlab ui`",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "`true`: MLflow prints no addresses",
        "NNCF_CI": "always `1` in conversions with OpenVINO, which keeps NNCF from sending usage statistics",
        "OMP_NUM_THREADS": _THREADS,
        "OPENBLAS_NUM_THREADS": _THREADS,
        "OPENVINO_TELEMETRY_DISABLED": _NO_TELEMETRY,
        "PYTHONHASHSEED": "always `0` in conversion steps, so that the same model is converted to the same file",
        "PYTHONUNBUFFERED": "always `1` in the program of `meter=command`, so that it prints each reading at once",
        "PYTHONWARNINGS": "`ignore` in `edlab ui`: warnings of MLflow's own code are hidden",
        "PYTHONPATH": "always edlab's own import path in the processes that load and convert models",
    },
    _INTERNAL: {
        "EDLAB_AGENT": "marks the processes of an agent, so that edlab can end those that an agent leaves behind",
        "EDLAB_PROCESS": "marks the processes that load and convert models, so that edlab can end them all",
    },
    _TESTS: {
        "EDLAB_CUDA_PYTHON": "Python interpreter with CUDA builds of torch and onnxruntime, for the tests on a GPU",
        "EDLAB_FAULT_FOLDER": "set by `scripts/faults`: the folder in which writing fails",
        "EDLAB_FAULT_POINT": "set by `scripts/faults`: marks the processes of a test point",
        "EDLAB_FAULT_SWITCH": "set by `scripts/faults`: the file that turns the failures on",
        "EDLAB_FUZZ_CASES": "number of cases of each fuzz test; default: 50",
        "EDLAB_OPENVINO_2022_PYTHON": "Python interpreter with OpenVINO 2022.3, for the tests of its MYRIAD plugin",
        "EDLAB_RACES": "number of rounds of each test of a race; default: 20",
        "EDLAB_STANDIN_REFUSES": "set by the tests: the method that the TensorRT stand-in refuses",
        "EDLAB_STANDIN_TENSORRT": "set by the tests: the version of TensorRT that a stand-in simulates",
        "EDLAB_TENSORRT_RTX_PYTHON": "Python interpreter with tensorrt_rtx, for the tests that build an engine",
        "EDLAB_TEST_DATA": "folder with `imagenet_samples/`, `weights/` and `detection/`, for the tests with real data",
    },
}


@dataclass(frozen=True)
class Use:
    """A variable that a file reads or sets."""

    name: str
    path: str


def page() -> str:
    """The page."""
    places = check(uses(ROOT), {name: text for section in MEANINGS.values() for name, text in section.items()})
    sections = []
    for section, (title, intro) in _SECTIONS.items():
        rows = [
            [markdown.code(name), text, ", ".join(map(markdown.code, places[name]))]
            for name, text in sorted(MEANINGS[section].items())
        ]
        table = markdown.table(["variable", "meaning", "used in"], rows)
        sections.append(f"## {title}\n\n{intro}\n\n{table}")
    return markdown.page(
        "Environment variables",
        "Every environment variable that edlab reads or sets, with its meaning.",
        "A variable for a board is set with `device.env.NAME=VALUE`: the agent on the board does not inherit the "
        "environment of this machine.",
        *sections,
    )


def check(found: list[Use], meanings: Mapping[str, str]) -> dict[str, list[str]]:
    """The files of the product that use each variable, else those of the tests and scripts.

    Exits if a variable has no meaning, or a meaning has no variable.
    """
    places = defaultdict(list)
    for use in found:
        if use.path not in places[use.name]:
            places[use.name].append(use.path)
    if unknown := sorted(set(places) - set(meanings)):
        name = unknown[0]
        raise SystemExit(f"{places[name][0]} uses {name}: add its meaning to scripts/docs_pages/environment.py")
    if unused := sorted(set(meanings) - set(places)):
        raise SystemExit(f"nothing uses {unused[0]}: remove its meaning from scripts/docs_pages/environment.py")
    product = {name: [path for path in paths if path.startswith(("edlab/", "conf/"))] for name, paths in places.items()}
    return {name: product[name] or paths for name, paths in places.items()}


def uses(root: Path) -> list[Use]:
    """The variables that the sources use: all of them in edlab and conf, edlab's own in scripts and tests."""
    modules = {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in _python(root / "edlab")}
    found = [Use(name, path) for path, tree in modules.items() for name in names(path, tree, modules)]
    for path in sorted((root / "conf").rglob("*.yaml")):
        found += [Use(name, _relative(path, root)) for name in re.findall(r"\{oc\.env:(\w+)", path.read_text())]
    for path in sorted([*(root / "scripts").rglob("*"), *(root / "tests").rglob("*.py")]):
        if path.is_file() and path.suffix in ("", ".py", ".c") and "docs_pages" not in path.parts:
            own = re.findall(r"""["'{$](EDLAB_[A-Z0-9_]+)\b""", path.read_text())
            found += [Use(name, _relative(path, root)) for name in dict.fromkeys(own)]
    return found


def _python(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def names(path: str, tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """The variables that a module reads or sets. Exits if it cannot identify one."""
    own = re.compile(r"EDLAB_[A-Z0-9_]+")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and own.fullmatch(node.value):
            yield node.value
        if isinstance(node, ast.Dict) and any(_is_environ(value) for value in node.values):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant))
        if isinstance(node, ast.keyword) and node.arg == "environment" and isinstance(node.value, ast.Dict):
            yield from (key.value for key in node.value.keys if isinstance(key, ast.Constant))
        if (key := _key(node)) is not None:
            yield from _resolved(key, path, tree, modules)


def _is_environ(node: ast.expr) -> bool:
    return ast.unparse(node) == "os.environ"


def _key(node: ast.AST) -> ast.expr | None:
    """What `node` looks up or sets in `os.environ`."""
    if isinstance(node, ast.Subscript) and _is_environ(node.value):
        return node.slice
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.getenv":
        return node.args[0]
    methods = ("get", "setdefault", "pop")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
        return node.args[0] if _is_environ(node.func.value) else None
    return None


def _resolved(key: ast.expr, path: str, tree: ast.Module, modules: Mapping[str, ast.Module]) -> list[str]:
    if isinstance(key, ast.Constant):
        return [key.value]
    if isinstance(key, ast.Name) and (values := _values(key.id, tree, modules)):
        return values
    raise SystemExit(f"{path}:{key.lineno}: cannot identify the environment variable {ast.unparse(key)}")


def _values(name: str, tree: ast.Module, modules: Mapping[str, ast.Module]) -> list[str]:
    """The possible values of a name: a constant, the variable of a loop over constants, or an imported constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            return _texts(node.value, tree, modules)
        if isinstance(node, ast.For) and name in ast.unparse(node.target).strip("()").split(", "):
            return _texts(node.iter, tree, modules)
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            ending = (node.module or "").removeprefix("edlab.").replace(".", "/")
            homes = [home for path, home in modules.items() if path.endswith((f"{ending}.py", f"{ending}/__init__.py"))]
            return [value for home in homes for value in _values(name, home, modules)]
    return []


def _texts(node: ast.expr, tree: ast.Module, modules: Mapping[str, ast.Module]) -> list[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # MAPPING.items()
        return _texts(node.func.value, tree, modules)
    if isinstance(node, ast.Name):
        return _values(node.id, tree, modules)
    parts = node.elts if isinstance(node, ast.Tuple) else node.keys if isinstance(node, ast.Dict) else [node]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
