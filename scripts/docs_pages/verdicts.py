"""docs/reference/verdicts.md: the codes of a verdict's reasons, with their messages and advice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from docs_pages import markdown
from docs_pages.fields import classes
from docs_pages.texts import Scope, called, calls, expansions, has_words, longest, modules, texts

_EITHER = "DEGRADED or INVALID"
_STATES = {"degraded": "DEGRADED", "invalid": "INVALID", "graded": _EITHER, "Reason": "DEGRADED"}


@dataclass
class Code:
    """A reason's code, and the texts that a record can have with it."""

    states: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The verdict that it causes."""
        return self.states.pop() if len(self.states) == 1 else _EITHER


def page() -> str:
    """The page."""
    found = codes()
    state = classes("edlab/record.py")["VerdictState"]
    return markdown.page(
        "Verdict codes",
        "Every reason that makes a run's verdict DEGRADED or INVALID, with what to change.",
        f"{markdown.prose(state.doc)} The verdict is the worst that a reason causes; without a reason it is VALID. The "
        "codes are in the MLflow tag `edlab.verdict_reasons` and in `verdict.reasons` of "
        "[result.json](result-json.md). A part in angle brackets, such as `<count>`, is filled in when the run ends. "
        "[What the numbers mean](../metrics.md#verdict) states the rule and the threshold of each.",
        *(_section(code, found[code]) for code in sorted(found)),
    )


def _section(code: str, reason: Code) -> str:
    messages = [f"- {markdown.code(text)}" for text in longest(reason.messages)]
    advice = [f"- Fix: {markdown.code(text)}" for text in longest(reason.advice)]
    return "\n".join([f"## {code}\n\nState: {reason.state}.\n", *messages, *advice])


def codes() -> dict[str, Code]:
    """The texts that a record can have with each code."""
    found: dict[str, Code] = defaultdict(Code)
    for call, scope, state in _made():
        message, advice = _argument(call, 1, "message"), _argument(call, 2, "advice")
        code = _argument(call, 0, "code")
        for bound in expansions(scope, [each for each in (code, message, advice) if each]):
            for name in texts(code, bound):
                if re.fullmatch(r"\w+", name):
                    found[name].states.add(state)
                    found[name].messages += filter(has_words, texts(message, bound))
                    found[name].advice += filter(has_words, texts(advice, bound))
    return found


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    stated = {keyword.arg: keyword.value for keyword in call.keywords}
    return stated.get(name, call.args[position] if len(call.args) > position else None)


def _made() -> Iterator[tuple[ast.Call, Scope, str]]:
    """Where a reason is created, and the verdict that it causes."""
    for module in modules():
        for call, scope in calls(module):
            within = scope.function.name if scope.function else ""
            if called(call) in _STATES and within not in _STATES:
                yield call, scope, _STATES[called(call)]
