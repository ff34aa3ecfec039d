"""docs/reference/cli.md: the commands of `edlab`, from its parser."""

from __future__ import annotations

import argparse

from docs_pages import markdown

from edlab import cli

_EXIT_CODES = (
    ("0", "The command succeeded. `edlab run`: no run failed, and at least one succeeded."),
    (
        "1",
        "The command worked and found a problem. `edlab run`: a run failed, or all were skipped. `edlab doctor`: "
        "something required is missing. `edlab cache verify`: an entry is damaged. `edlab sync`: some runs could not "
        "be sent.",
    ),
    ("2", "The command stopped with an error: a wrong argument, or one of the errors in [errors](errors.md)."),
    ("130", "Ctrl-C, or SIGINT, interrupted the command."),
)


def page() -> str:
    """The page."""
    parser, _ = cli._parser()
    return markdown.page(
        "Command line",
        "The commands of `edlab`, their arguments and exit codes.",
        "`edlab --help` lists the commands, `edlab COMMAND --help` the arguments of one. `--debug`, with any command, "
        "shows the Python traceback of an error.",
        markdown.table(
            ["command", "what it does"],
            [[f"[{markdown.code(f'edlab {name}')}](#edlab-{name})", about] for name, about in _abouts(parser).items()],
        ),
        *(_section(name, sub, _abouts(parser)[name]) for name, sub in commands(parser).items()),
        "## Exit codes\n\n" + markdown.table(["code", "meaning"], _EXIT_CODES),
    )


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command by its name."""
    return dict(_subparsers(parser).choices)


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _abouts(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {action.dest: markdown.prose(action.help or "") for action in _subparsers(parser)._choices_actions}


def _section(name: str, parser: argparse.ArgumentParser, about: str) -> str:
    title = f"## edlab {name}\n\n"
    if name == "run":
        return f"{title}```text\n{cli.run_help().strip()}\n```"
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    rows = [[markdown.code(_usage(action)), markdown.prose(_help(action))] for action in actions]
    arguments = markdown.table(["argument", "meaning"], rows) if rows else "It has no arguments."
    return f"{title}{about[:1].upper()}{about[1:]}.\n\n{arguments}"


def _usage(action: argparse.Action) -> str:
    value = action.metavar or (", ".join(action.choices) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"[{value} ...]" if action.nargs == "*" else str(value)
    if action.nargs == 0:  # a switch
        return ", ".join(action.option_strings)
    return f"{', '.join(action.option_strings)} {value}"


def _help(action: argparse.Action) -> str:
    stated = action.help or ("one of these" if action.choices else "")
    if action.option_strings and "default" not in stated and action.default not in (None, False):
        return f"{stated} (default: {action.default})".strip()
    return stated
