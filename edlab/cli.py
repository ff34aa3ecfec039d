"""The `edlab` command: one line of argparse per subcommand; the modules that it imports do the work."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from edlab import __version__, cli_report, cli_results, durable
from edlab.errors import ConfigError, EdlabError
from edlab.registry import did_you_mean
from edlab.terminal import PatientConsole, counted, print_error

if TYPE_CHECKING:
    from edlab.reports.sheet import Sheet
    from edlab.tracking import Tracker

_RUN_HELP = """\
usage: edlab run [-m] [--debug] [KEY=VALUE ...]        (the same: python -m edlab.main)

Convert a model, run it on a device, measure it, and record everything in MLflow.

  edlab run                                             the embedded digits_cnn on this machine's CPU
  edlab run model=mobilenet_v2 quantization=int8 dataset=image_folder dataset.path=/data/photos
  edlab run -m model=mobilenet_v2,mnasnet converter=onnxruntime,openvino quantization=fp32,int8

  -m, --multirun   sweep: every combination of the comma-separated values becomes a run
  --cfg job        print the composed configuration and stop
  --debug          show Python tracebacks

groups (GROUP=NAME):
{groups}

Any key of the configuration can be set: device.threads=1, quantization.calibration.images=128,
model.weights=/path/state_dict.pt, protocol.seconds=30. `--cfg job` lists them all.

exit code: 0 at least one run was measured and none failed; 1 a run failed, or all were skipped; 2 the command is
invalid or runs cannot be recorded, and nothing ran; 130 interrupted"""


_FIRST_STEP = "Start with `edlab run protocol=smoke`, then `edlab doctor`. Guide: docs/quickstart.md"
_RUN = "a run's id, a unique prefix of the id, or a run's name (the latest)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `edlab` command and return its exit code. edlab's own errors are printed, not raised."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or bool(os.environ.get("HYDRA_FULL_ERROR"))
    console = PatientConsole(highlight=False)
    try:
        with durable.writing("a file"):
            return _dispatch([argument for argument in arguments if argument != "--debug"], console)
    except EdlabError as error:
        if debug:
            raise
        print_error(PatientConsole(stderr=True), error)
        return 2
    except BrokenPipeError:  # Hydra prints by itself: `edlab run --cfg job | head`
        console.on_broken_pipe()
        return 0
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return 130
    finally:
        gc.freeze()  # else the interpreter spends a second at exit to search all of MLflow for garbage


def _dispatch(arguments: list[str], console: Console) -> int:
    parser, commands = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        from argcomplete import autocomplete

        autocomplete(parser)  # ends the process
    if arguments[:1] == ["run"]:
        return _run(arguments[1:], console)
    if not arguments or arguments == ["help"]:
        parser.print_help()
        return 0
    if arguments[0] == "help":
        return _dispatch([*arguments[1:], "--help"], console)
    if not arguments[0].startswith("-") and arguments[0] not in commands:
        hint = f"{did_you_mean(arguments[0], commands)}commands: {', '.join(commands)}"
        raise ConfigError(f"unknown command '{arguments[0]}'", hint=hint)
    if command := commands.get(arguments[0]):
        command.check_options(arguments)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        commands.get(arguments[0], parser).refuse(unknown[0], arguments)
    if "action" not in options:
        parser.error("the command is missing")
    return int(options.action(options, console))


class _Parser(argparse.ArgumentParser):
    """Reports errors as edlab does."""

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError`."""
        raise ConfigError(message, hint=" ".join(self.format_usage().split()))

    def check_options(self, arguments: Sequence[str]) -> None:
        """Raise `ConfigError` for an unknown long option, before an error about those that seem to be missing."""
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument.startswith("--") and not any(each.startswith(name) for each in self._option_string_actions):
                self.refuse(argument, arguments)

    def refuse(self, unknown: str, arguments: Sequence[str]) -> NoReturn:
        """Raise `ConfigError` for an unknown one of these arguments, with near names."""
        from edlab.composition import quotes_for_program

        if not unknown.startswith("-"):
            self.error(f"unexpected '{unknown}'")
        near = did_you_mean(unknown, [option for option in self._option_string_actions if option.startswith("--")])
        hint = f"{quotes_for_program(arguments, unknown)}{near}`{self.prog} --help` lists the options"
        raise ConfigError(f"unknown option '{unknown}'", hint=hint)


def _parser() -> tuple[_Parser, Mapping[str, _Parser]]:
    """The parser and its commands."""
    parser = _Parser(prog="edlab", description="Benchmarks for edge deep learning accelerators.", epilog=_FIRST_STEP)
    parser.add_argument("--version", action="version", version=f"edlab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    run = commands.add_parser("run", help="convert, run, measure and record (see `edlab run --help`)")
    _add_overrides(run, "settings that differ from the defaults")
    commands.add_parser("help", help="print this, or the help of a command")
    commands.add_parser("version", help="print the version").set_defaults(action=_version)
    for name, listing in (("models", "models"), ("devices", "devices"), ("converters", "toolchains")):
        listed = commands.add_parser(name, help=f"list the {name}")
        cli_results.add_format(listed)
        listed.set_defaults(action=_list(listing))

    doctor = commands.add_parser("doctor", help="show what is installed, what is missing, and how to fix it")
    _add_overrides(doctor, "check only what a run with these overrides needs")
    cli_results.add_format(doctor)
    doctor.set_defaults(action=_doctor)

    runs = commands.add_parser("runs", help="list the latest runs")
    runs.add_argument("--last", type=int, default=20, metavar="N", help="how many (default: 20)")
    runs.add_argument("--sort", metavar="METRIC", help="the best value of this metric first")
    cli_results.add_format(runs)
    runs.set_defaults(action=_runs)

    show = commands.add_parser("show", help="show one run in detail, or compare the runs of a sweep")
    text = f"{_RUN}; or a sweep's id, or the beginning of it"
    cli_results.complete_runs(show.add_argument("run", metavar="RUN", help=text))
    show.add_argument("--sort", metavar="METRIC", help="of a sweep: the best value of this metric first")
    cli_results.add_format(show)
    show.set_defaults(action=_show)

    cli_results.add_parsers(commands)
    cli_report.add_parser(commands)

    profile = commands.add_parser("profile", help="show which layers of a run take the time; measures it if needed")
    text = f"{_RUN}; without a profile, it runs again as a new run"
    cli_results.complete_runs(profile.add_argument("run", metavar="RUN", help=text))
    profile.add_argument("--top", type=int, default=10, metavar="N", help="how many layers (default: 10)")
    _add_overrides(profile, "measure again, with other values of these keys")
    cli_results.add_format(profile)
    profile.set_defaults(action=_profile)

    accuracy = commands.add_parser("explain-accuracy", help="show the layers of a run that lose accuracy in int8")
    cli_results.complete_runs(accuracy.add_argument("run", metavar="RUN", help=f"{_RUN}; it must be quantized"))
    accuracy.add_argument("--worst", type=int, default=10, metavar="N", help="how many layers (default: 10)")
    accuracy.add_argument("--try", dest="try_it", action="store_true", help="measure it with these in floating point")
    _add_overrides(accuracy, "convert and measure again, with other values of these keys")
    cli_results.add_format(accuracy)
    accuracy.set_defaults(action=_explain_accuracy)

    pull = commands.add_parser("pull", help="copy a run's converted model to this machine")
    text = f"{_RUN}; or models:/NAME@ALIAS, models:/NAME/VERSION of `promote`"
    cli_results.complete_runs(pull.add_argument("run", metavar="RUN", help=text))
    pull.add_argument("--to", type=Path, metavar="DIR", help="the folder for it (default: NAME-ID of the run, here)")
    pull.add_argument("--force", action="store_true", help="overwrite existing files")
    pull.set_defaults(action=_pull)

    promote = commands.add_parser("promote", help="register a run's converted model in MLflow's model registry")
    cli_results.complete_runs(promote.add_argument("run", metavar="RUN", help=_RUN))
    promote.add_argument("--as", dest="name", required=True, metavar="NAME", help="the name of the registered model")
    promote.add_argument("--alias", default="", help="point this alias at it, such as champion")
    promote.set_defaults(action=_promote)

    cache = commands.add_parser("cache", help="list, check or clear the cache")
    cache.add_argument("what", choices=("list", "verify", "clear"))
    cache.set_defaults(action=_cache)

    sync = commands.add_parser("sync", help="send runs to MLflow that could not be sent while it was unavailable")
    sync.set_defaults(action=_sync)

    ui = commands.add_parser("ui", help="open MLflow's UI on the latest sweep; Ctrl-C ends it")
    ui.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1, this machine)")
    ui.add_argument("--port", type=int, default=5000, help="the first port to try (default: 5000)")
    ui.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print the address, without opening a browser"
    )
    ui.set_defaults(action=_ui)

    completion = commands.add_parser("completion", help="print a shell script that completes edlab's commands")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help='bash: eval "$(edlab completion bash)"')
    completion.set_defaults(action=_completion)
    return parser, commands.choices


def _add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    def complete(prefix: str, **context: object) -> list[str]:
        from edlab import completion

        return completion.overrides(prefix)

    argument = parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    argument.completer = complete  # type: ignore[attr-defined]


def _version(options: argparse.Namespace, console: Console) -> int:
    console.print(f"edlab {__version__}", highlight=False)
    return 0


def _completion(options: argparse.Namespace, console: Console) -> int:
    from edlab import completion

    print(completion.script(options.shell))  # noqa: T201  -- read by a shell, not by a person
    return 0


def _run(arguments: list[str], console: Console) -> int:
    if {"-h", "--help"} & set(arguments):
        console.print(run_help(), markup=False, soft_wrap=True)
        return 0
    from edlab.engine import command

    command.environment_without_telemetry()
    return command.run(arguments, console)


def run_help() -> str:
    """The text of `edlab run --help`, with the available names of each group."""
    from edlab.composition import groups, options

    return _RUN_HELP.format(groups="\n".join(f"  {group:<14}{', '.join(options(group))}" for group in groups()))


def _list(name: str) -> Callable[[argparse.Namespace, Console], int]:
    def action(options: argparse.Namespace, console: Console) -> int:
        from edlab import listings

        cli_results.print_sheet(getattr(listings, name)(), options.format, console)
        return 0

    return action


def _doctor(options: argparse.Namespace, console: Console) -> int:
    from edlab import doctor

    if options.format == "table":
        return doctor.run(console, options.overrides)
    sheet, code = doctor.sheet(options.overrides)
    cli_results.print_sheet(sheet, options.format, console)
    return code


def _runs(options: argparse.Namespace, console: Console) -> int:
    from edlab.reports.table import listing
    from edlab.tracking import Spool

    records = _tracker().latest(options.last)
    cli_results.print_sheet(listing(records, options.sort or ""), options.format, console)
    if options.format == "table" and (waiting := len(Spool().entries())):
        console.print(f"{counted(waiting, 'run')} in mlruns/spool, not in MLflow yet: `edlab sync` sends them")
    return 0


def _show(options: argparse.Namespace, console: Console) -> int:
    from edlab.reports.show import run_sheet, show
    from edlab.reports.table import table
    from edlab.results import Results

    results = Results()
    tracker = results.tracker
    if sweep := tracker.records(options.run):
        cli_results.print_sheet(table(sweep, options.sort or "", results.right), options.format, console)
        cli_results.report_problems(results)
    elif options.format == "table":
        console.print(show(tracker.record(options.run)))
    else:
        cli_results.print_sheet(run_sheet(tracker.record(options.run)), options.format, console)
    return 0


def _profile(options: argparse.Namespace, console: Console) -> int:
    from edlab.engine import command, explain

    command.environment_without_telemetry()
    messages, show = _messages_and_results(options.format, console)
    return explain.profile(_tracker().record(options.run), options.overrides, options.top, messages, show)


def _explain_accuracy(options: argparse.Namespace, console: Console) -> int:
    from edlab.engine import command, explain
    from edlab.results import Results

    command.environment_without_telemetry()
    messages, show = _messages_and_results(options.format, console)
    results = Results()
    record = results.tracker.record(options.run)
    right = results.right if options.try_it else None
    code = explain.accuracy(record, options.overrides, options.worst, messages, show, try_with=right)
    cli_results.report_problems(results)
    return code


def _messages_and_results(form: str, console: Console) -> tuple[Console, Callable[[Sheet], None]]:
    """Where to print messages, and how the result: for a program, the result alone is on standard output."""
    messages = console if form == "table" else PatientConsole(stderr=True)
    return messages, lambda sheet: cli_results.print_sheet(sheet, form, console)


def _pull(options: argparse.Namespace, console: Console) -> int:
    from edlab.tracking import retrieval

    paths = _tracker().pull(options.run, options.to, options.force)
    for line in [*map(str, paths), *retrieval.how_to_run(paths)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _promote(options: argparse.Namespace, console: Console) -> int:
    row, promoted = _tracker().promote(options.run, options.name, options.alias)
    tags = row.tags
    alias = f" (alias {options.alias})" if options.alias else ""
    known = ", registered before" if promoted.existed else ""
    lines = [f"{options.name} version {promoted.version}{alias}: {row.name}, run {row.run_id[:8]}{known}"]
    if promoted.alias_before not in ("", promoted.version):
        lines.append(f"alias {options.alias}: version {promoted.alias_before} -> {promoted.version}")
    if tags.get("edlab.status") != "ok":
        lines.append(f"warning: this run {tags.get('edlab.status')}: {tags.get('edlab.reason', '')}")
    elif tags.get("edlab.verdict") == "INVALID":
        reasons = tags.get("edlab.verdict_reasons", "")
        lines.append(f"warning: its verdict is INVALID ({reasons}): its figures are not reliable")
    lines += [
        f"copy it: edlab pull '{promoted.address}'",
        f"load it: MLFLOW_TRACKING_URI={promoted.uri} and mlflow.pyfunc.load_model('{promoted.address}')",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return 0


def _cache(options: argparse.Namespace, console: Console) -> int:
    from edlab import cache_command
    from edlab.cache import Cache

    actions = {"list": cache_command.show, "verify": cache_command.verify, "clear": cache_command.clear}
    return actions[options.what](Cache(), console)


def _sync(options: argparse.Namespace, console: Console) -> int:
    from edlab.composition import compose_config
    from edlab.tracking import Recorder

    recorder = Recorder(compose_config([]).tracking)
    recorder.open()
    waiting = recorder.flush()
    lines = [f"{counted(waiting, 'run')} still in mlruns/spool: {recorder.problem}"] if waiting else []
    if not waiting and (unsent := recorder.unsent_summaries()):
        lines.append(f"the summary of sweep {', '.join(unsent)} is not in MLflow: {recorder.problem}")
    for store, count in recorder.not_for_this_store().items():
        address, _, experiment = store.rpartition(" ")
        lines.append(
            f"{counted(count, 'run')} kept for {address} (experiment {experiment}): set MLFLOW_TRACKING_URI to that "
            "address, then run edlab sync"
        )
    for folder in recorder.damaged():
        lines.append(f"{folder} is damaged: the run is in mlruns/sweeps; remove the folder")
    console.print("\n".join(lines) or "MLflow has all runs", highlight=False, markup=False, soft_wrap=True)
    return 1 if lines else 0


def _ui(options: argparse.Namespace, console: Console) -> int:
    from edlab.tracking.ui import open_browser

    starting = console.status("starting MLflow's UI")  # on a terminal only

    def on_ready(page: str) -> None:
        starting.stop()
        console.print(page, highlight=False, markup=False, soft_wrap=True)
        if options.browser:
            open_browser(page)

    with starting:
        return _tracker().serve_ui(options.host, options.port, on_ready)


def _tracker() -> Tracker:
    from edlab.composition import compose_config
    from edlab.tracking import Tracker

    return Tracker(compose_config([]).tracking, create=False)


if __name__ == "__main__":
    sys.exit(main())
