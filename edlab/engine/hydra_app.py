"""Hydra's own application: what it prints (`--cfg`, `--info`), and runs that a sweeper of its plugins chooses.

It has one state for the entire process (GlobalHydra, sys.argv, the environment); the rest of edlab does not use it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra import main as hydra_main
from hydra._internal.utils import get_args_parser  # Hydra's own parser of its flags; there is no public one
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from edlab.composition import config_dir, explain, quotes_for_program, register_configs, to_config
from edlab.config import EdlabConfig
from edlab.errors import ConfigError
from edlab.registry import did_you_mean


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and `overrides`. Raises `ConfigError` for a flag that it does not have."""
    parser: argparse.ArgumentParser = get_args_parser()
    flags, unknown = parser.parse_known_args(arguments)
    for flag in ("config_name", "config_path", "config_dir", "experimental_rerun"):
        if getattr(flags, flag):
            raise ConfigError(
                f"--{flag.replace('_', '-')} is unsupported: the configuration is edlab's own",
                hint="add yaml files from a package, with the entry point group edlab.conf (docs/adding-a-device.md)",
            )
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        hint = did_you_mean(unknown[0], [*known, "--debug"]).rstrip() or "`edlab run --help` lists the options"
        raise ConfigError(f"unknown option '{unknown[0]}'", hint=quotes_for_program(arguments, unknown[0]) + hint)
    return flags


class ForgetRuns(Callback):  # type: ignore[misc]
    """Hydra keeps the configuration of each run until the sweep has ended, without use: 0.3 MB per run."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """See `Callback.on_job_end`."""
        job_return.cfg = job_return.hydra_cfg = None


def show(arguments: Sequence[str]) -> None:
    """Print what Hydra's flags among these arguments request."""
    _start(arguments, lambda composed: None)


def sweep(arguments: Sequence[str], run: Callable[[int, list[str], EdlabConfig], None]) -> None:
    """Call `run` with number, overrides and configuration of each run that Hydra's sweeper chooses."""

    def task(composed: DictConfig) -> None:
        hydra = HydraConfig.get()
        number = 0 if "num" not in hydra.job or hydra.job.num is None else int(hydra.job.num)  # None: without -m
        run(number, list(hydra.overrides.task), to_config(composed))

    _start(arguments, task)


def _start(arguments: Sequence[str], task: Callable[[DictConfig], None]) -> None:
    register_configs()
    sys.argv = ["edlab", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its own error messages and exits
    try:
        hydra_main(version_base="1.3", config_path=str(config_dir()), config_name="config")(task)()
    except HydraException as error:
        raise explain(error) from error
