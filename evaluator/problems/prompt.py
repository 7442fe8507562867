"""What a policy is asked: the named prompt forms, and a problem's text in each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from evaluator.problems.mbpp import Problem, load_problems
from evaluator.problems.problem import DatasetError

VisibleTests = Literal["all", "first", "none"]
"""Which asserts the prompt shows; grading always uses all of them."""

_ASK = "Answer with one Python code block and nothing else."


@dataclass(frozen=True)
class Protocol:
    """One named, versioned prompt form. Its text is data: `{...}` fields are filled by value."""

    name: str
    version: int
    templates: Mapping[str, str]
    """Template texts by role; which fields each may hold is in `conversation`."""
    visible_tests: VisibleTests = "all"
    chat: bool = True
    """False: the prompt is plain text for a base model, without a chat template."""
    shots: tuple[int, ...] = ()
    """Task ids of solved examples that come first, in this order."""
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these texts."""

    def __post_init__(self) -> None:
        """Freeze the templates."""
        object.__setattr__(self, "templates", MappingProxyType(dict(self.templates)))

    @property
    def _content(self) -> tuple[object, ...]:
        """All fields, with templates that can be written down."""
        words = (self.name, self.version, dict(self.templates), self.visible_tests)
        return (*words, self.chat, self.shots, self.stop)

    @cached_property
    def sha256(self) -> str:
        """Of all fields: two runs with one sha256 asked in the same words."""
        text = json.dumps(self._content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __reduce__(self) -> tuple[type[Protocol], tuple[object, ...]]:
        """Travel to other nodes as what it was made from: a mapping that is read-only cannot be pickled."""
        return Protocol, self._content


MBPP = Protocol(
    "mbpp",
    version=1,
    templates={"user": "{text}\n\nYour code should pass these tests:\n\n{tests}\n\n" + _ASK},
)
MBPP_FIRST = Protocol(
    "mbpp-first",
    version=1,
    templates={
        "user": "{text}\n\nYour code should pass tests like this one:\n\n{tests}\n\n" + _ASK
    },
    visible_tests="first",
)
MBPP_NAME = Protocol(
    "mbpp-name",
    version=1,
    templates={"user": "{text}\n\nName the function `{name}`.\n\n" + _ASK},
    visible_tests="none",
)
DESCRIPTION_ONLY = Protocol(
    "description-only",
    version=1,
    templates={"user": "{text}\n\n" + _ASK},
    visible_tests="none",
)
"""Names no function, so hardly any answer can pass: kept to show that mistake, not to measure."""

MBPP_3SHOT = Protocol(
    "mbpp-3shot",
    version=1,
    templates={
        "task": (
            "You are an expert Python programmer, and here is your task: {text} "
            "Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
        ),
        "solution": "{code}\n[DONE]\n\n",
    },
    chat=False,
    shots=(2, 3, 4),
    stop=("[DONE]",),
)
"""Source: arXiv:2108.07732, section 3 (the authors' few-shot form with tasks 2, 3 and 4)."""

COMPLETE_FUNCTION = Protocol(
    "human-eval",
    version=1,
    templates={
        "user": (
            "Complete this Python function:\n\n```python\n{text}\n```\n\n"
            "Answer with the whole function in one Python code block and nothing else."
        ),
    },
    visible_tests="none",
)
"""For HumanEval, whose problems are the beginning of a file: signature and docstring."""

_WRITE = "Write a whole Python program that reads standard input and prints the answer."


def _whole_program(name: str, examples: str, visible_tests: VisibleTests) -> Protocol:
    """A prompt form for whole programs; in a set that also holds functions these are asked as in `mbpp`."""
    templates = {
        "user": _BY_VISIBLE_TESTS[visible_tests].templates["user"],
        "cases": "{text}\n\n" + _WRITE + examples + "\n\n" + _ASK,
    }
    return Protocol(name, version=1, templates=templates, visible_tests=visible_tests)


_BY_VISIBLE_TESTS = {"all": MBPP, "first": MBPP_FIRST, "none": MBPP_NAME}

IO = _whole_program("io", " Examples:\n\n{tests}", "all")
IO_FIRST = _whole_program("io-first", " An example:\n\n{tests}", "first")
IO_NAME = _whole_program("io-none", "", "none")

_IO_BY_VISIBLE_TESTS = {"all": IO, "first": IO_FIRST, "none": IO_NAME}

_ALL = (
    *(MBPP, MBPP_FIRST, MBPP_NAME, MBPP_3SHOT, DESCRIPTION_ONLY, COMPLETE_FUNCTION),
    *(IO, IO_FIRST, IO_NAME),
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})

Conversation = list[dict[str, str]]
"""Chat messages with `role` and `content`; the last is the user's."""


def messages(problem: Problem, *, visible_tests: VisibleTests = "all") -> Conversation:
    """Return the chat messages that ask for a problem's solution, without a system message.

    Some chat templates refuse a system message and others bring their own; leaving it out asks
    each model as its makers do.
    """
    return [{"role": "user", "content": _user_text(problem, _BY_VISIBLE_TESTS[visible_tests])}]


def protocol_for(visible_tests: VisibleTests, *, whole_programs: bool = False) -> Protocol:
    """Return the chat protocol that shows these tests, also where some problems ask for whole programs."""
    return (_IO_BY_VISIBLE_TESTS if whole_programs else _BY_VISIBLE_TESTS)[visible_tests]


def asks_for_programs(problems: Iterable[Problem]) -> bool:
    """Whether one of the problems is about input and output."""
    return any(problem.cases for problem in problems)


def asks_to_complete(problems: Iterable[Problem]) -> bool:
    """Whether each of the problems is the beginning of a function, as HumanEval's are."""
    beginnings = [problem.beginning for problem in problems]
    return bool(beginnings) and all(beginnings)


def check_protocol(protocol: Protocol, problems: Sequence[Problem]) -> None:
    """Refuse a prompt form that has no words for one of the problems.

    Raises:
        DatasetError: it completes functions and a problem begins none, or it asks for functions and a problem is
            about input and output.
    """
    complete = protocol == COMPLETE_FUNCTION
    functions = "cases" not in protocol.templates
    for problem in problems:
        if (complete and not problem.beginning) or (functions and problem.cases):
            wanted = "begin a function" if complete else "ask for a function"
            raise DatasetError(
                f"problems of the prompt form {protocol.name!r} must {wanted}, got task {problem.task_id!r} that "
                "does not; leave --protocol out, and the form is chosen for the problems"
            )


def usual_protocol(problems: Sequence[Problem], visible_tests: VisibleTests | None) -> Protocol:
    """Return the chat protocol in which some problems are asked; None for what is usual shows all tests.

    Where each problem is the beginning of a function and nothing is said of tests, none is shown.
    """
    if visible_tests is None and asks_to_complete(problems):
        return COMPLETE_FUNCTION
    return protocol_for(visible_tests or "all", whole_programs=asks_for_programs(problems))


def conversation(
    problem: Problem, protocol: Protocol, shots: tuple[Problem, ...] = ()
) -> Conversation | str:
    """Return a problem in a prompt form: chat messages; of a form without chat plain text, after its solved `shots`."""
    if protocol.chat:
        return [{"role": "user", "content": _user_text(problem, protocol)}]
    parts = []
    for shot in shots:
        parts.append(fill(protocol.templates["task"], _values(shot, protocol)))
        parts.append(fill(protocol.templates["solution"], {"code": shot.reference.rstrip()}))
    return "".join((*parts, fill(protocol.templates["task"], _values(problem, protocol))))


def load_shots(protocol: Protocol, **load_options: object) -> tuple[Problem, ...]:
    """Load the solved examples of a protocol from full MBPP; none where it has none.

    Raises:
        DatasetError: full MBPP could not be had.
    """
    if not protocol.shots:
        return ()
    prompt = load_problems("full/prompt", **load_options).problems  # type: ignore[arg-type]
    by_id = {problem.task_id: problem for problem in prompt}
    return tuple(by_id[task_id] for task_id in protocol.shots)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each `{name}` replaced by its value, in one pass.

    Unlike `str.format` it reads no other brace as syntax, and unlike repeated `replace` it never
    looks into a value: text of a problem or completion cannot act as a template.
    """
    parts = []
    rest = template
    while rest:
        position, name = min(
            ((found, name) for name in values if (found := rest.find(f"{{{name}}}")) >= 0),
            default=(len(rest), ""),
        )
        parts.append(rest[:position])
        if position == len(rest):
            break
        parts.append(values[name])
        rest = rest[position + len(name) + 2 :]
    return "".join(parts)


def visible(problem: Problem, visible_tests: VisibleTests) -> str:
    """Return the asserts that a prompt shows, after the setup code they rely on, or the cases; never hidden ones."""
    n_shown = min(
        {"all": problem.n_visible, "first": 1, "none": 0}[visible_tests], problem.n_visible
    )
    if problem.cases:
        return "\n\n".join(
            f"Input:\n{case.stdin.rstrip()}\nOutput:\n{case.expected.rstrip()}"
            for case in problem.cases[:n_shown]
        )
    shown = problem.asserts[:n_shown]
    setup = [problem.setup_code.strip()] if problem.setup_code.strip() and shown else []
    return "\n".join((*setup, *shown))


def _user_text(problem: Problem, protocol: Protocol) -> str:
    values = _values(problem, protocol)
    kind = "cases" if problem.cases and "cases" in protocol.templates else "user"
    usual = (*_BY_VISIBLE_TESTS.values(), *_IO_BY_VISIBLE_TESTS.values())
    if not values["tests"] and protocol in usual:
        # All of its tests are hidden: words that announce some would announce nothing.
        return fill(IO_NAME.templates[kind], values)
    return fill(protocol.templates[kind], values)


def _values(problem: Problem, protocol: Protocol) -> dict[str, str]:
    return {
        "text": problem.text,
        "tests": visible(problem, protocol.visible_tests),
        "name": problem.callables[0] if problem.callables else "",
    }
