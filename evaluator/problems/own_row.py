"""Turns a row of a person's file into a problem, or says all that keeps it from being one.

Columns (others do not matter, unless they read like a misspelt one of these):

- `task_id` (or `id`): an integer or a name such as `mine/1`; `text` (or `prompt`): what is asked.
- `tests` (or `test_list`), `hidden_tests`: asserts, one statement each; only the first are ever shown.
- `function`: what an answer must define; found in the asserts where it is not given.
- `reference` (or `code`): a solution. `setup` (`test_setup_code`), `imports` (`test_imports`): statements that the
  asserts need, run after and before the answer. `tags`: words to choose problems by.
- `cases`, `hidden_cases`: in place of asserts, objects with `input` and `output` for programs that read standard
  input; with `tolerance`, `checker`, `time_limit_s`, `memory_limit_mb`.

A cell of a table holds a list as JSON, or one assert, case or import a line, or tags parted by commas.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.task_ids import checked_task_id
from evaluator.answers.definition import top_level_names
from evaluator.problems.problem import Problem, called_names, find_callables, lf, needed_imports
from evaluator.problems.row_file import ALIASES, KNOWN, misnamed
from sandbox.judge.asserts import parse
from sandbox.program import Case, Comparison

_OF_CASES = ("tolerance", "checker", "time_limit_s", "memory_limit_mb")

MAX_TEXT_CHARS = 100_000
"""Of a problem's text, an assert or a piece of code."""
MAX_TESTS = 10_000
MAX_OUTPUT_CHARS = 1_500_000
"""Of what a case expects: an output comes back compressed through a pipe of one MiB."""
MAX_INPUT_CHARS = 15_000_000


class RowError(ValueError):
    """What keeps a row from being a problem, all of it."""

    def __init__(self, *faults: str) -> None:
        super().__init__(faults[0])
        self.faults = faults


def problem_of(values: Mapping[str, Any]) -> Problem:
    """Build the problem of a row.

    Raises:
        RowError: with every fault that was found.
    """
    if not any(name in values for name in KNOWN):
        shown = ", ".join(sorted(values)[:6]) or "none"
        raise RowError(
            f"it must have task_id, text and tests or cases, got the columns {shown:.200}"
        )
    row = _Row(values)
    problem = row.problem()
    if row.faults:
        raise RowError(*row.faults)
    return problem


def content_of(problem: Problem) -> dict[str, Any]:
    """Return what identifies a problem, as plain data for its set's sha256; what is left out is empty."""
    content = {
        "task_id": problem.task_id,
        "text": problem.text,
        "code": problem.reference,
        "test_list": list(problem.asserts),
        "test_setup_code": problem.setup_code,
        "test_imports": list(problem.imports),
        "n_hidden": problem.n_hidden,
        "callables": list(problem.callables),
        "cases": [[case.stdin, case.expected] for case in problem.cases],
        "comparison": list(vars(problem.comparison).values()) if problem.cases else [],
        "limits": [x for x in (problem.time_limit_s, problem.memory_bytes) if x is not None],
    }
    return {name: value for name, value in content.items() if value or name == "task_id"}


class _Row:
    """One row while it is read: every cell leaves a value, sensible or not, or a fault."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self._values = values
        self.faults += misnamed(values)

    def problem(self) -> Problem:
        """The problem; only to be used where there are no faults."""
        task_id = self._task_id()
        text = self._code("text").strip()
        n_faults = len(self.faults)
        visible, hidden = self._lines("tests"), self._lines("hidden_tests")
        shown, unshown = self._cases("cases"), self._cases("hidden_cases")
        reference, setup = self._code("reference"), self._code("setup")
        imports, tags = self._lines("imports"), self._tags()
        if not text:
            self.faults.append("text must say what is asked, got none")
        asserts, cases = (*visible, *hidden), (*shown, *unshown)
        self._check_kind(asserts, cases)
        sources = [("reference", reference), ("setup", setup), *(("imports", i) for i in imports)]
        sound = len(self.faults) == n_faults
        for name, source in sources:
            sound = self._check_python(name, source) and sound
        callables = self._callables(asserts, reference, setup, imports) if asserts and sound else ()
        self._check_asserts(asserts, callables, n_visible=len(visible))
        limits = {name: self._number(name) for name in ("time_limit_s", "memory_limit_mb")}
        memory = limits["memory_limit_mb"]
        if reference and not self.faults:
            imports = needed_imports(imports, asserts, reference)
        return Problem(
            task_id=task_id,
            text=text,
            asserts=asserts,
            setup_code=setup,
            imports=imports,
            reference=reference,
            callables=callables,
            n_hidden=len(hidden) + len(unshown),
            tags=tags,
            cases=cases,
            comparison=self._comparison(),
            time_limit_s=limits["time_limit_s"],
            memory_bytes=None if memory is None else int(memory * (1 << 20)),
        )

    # columns

    def _cell(self, field: str) -> Any:  # noqa: ANN401 - whatever the file holds
        """The value of the first filled column."""
        return next((self._values[n] for n in ALIASES[field] if n in self._values), None)

    # cells

    def _task_id(self) -> int | str:
        value = self._cell("task_id")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # tables of pandas make floats of integers beside an empty cell
        if value is None or value == "":
            self.faults.append("task_id must be given, got none; add the column task_id")
            return 0
        try:
            return checked_task_id(value)
        except ValueError as error:
            self.faults.append(str(error).replace("a task id", "task_id", 1))
            return 0

    def _code(self, field: str) -> str:
        value = self._cell(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.faults.append(f"{field} must be text, got {type(value).__name__}")
            return ""
        return self._checked(field, lf(value))

    def _checked(self, field: str, text: str, limit: int = MAX_TEXT_CHARS) -> str:
        """The text, if it can be stored, sent and read."""
        if len(text) > limit:
            fault = f"hold at most {limit} characters, got {len(text)}"
        elif "\0" in text:
            fault = f"hold no NUL, got one at character {text.index(chr(0))}"
        elif not _is_unicode(text):
            fault = "be Unicode text, got half of a surrogate pair"
        else:
            return text
        self.faults.append(f"{field} must {fault}")
        return ""

    def _list(self, field: str, split: Callable[[str], list[Any]] = str.splitlines) -> list[Any]:
        """A cell that holds a list: as it is, as JSON, or as text that `split` takes apart."""
        value = self._cell(field)
        if value is None:
            return []
        if isinstance(value, str):
            if value.lstrip()[:1] != "[":
                return [part for part in split(lf(value)) if part.strip()]
            value = _read_list(value)
            if value is None:
                self.faults.append(
                    f"{field} must be a list in JSON, or lines of text, got {self._cell(field)!r:.60}"
                )
                return []
        if not isinstance(value, list | tuple):
            self.faults.append(f"{field} must be a list, got {type(value).__name__}")
            return []
        if len(value) > MAX_TESTS:
            self.faults.append(f"{field} must hold at most {MAX_TESTS}, got {len(value)}")
            return []
        return list(value)

    def _lines(self, field: str) -> tuple[str, ...]:
        found = self._list(field)
        for item in found:
            if not isinstance(item, str):
                self.faults.append(f"{field} must be a list of texts, got {type(item).__name__}")
                return ()
        checked = (self._checked(field, lf(item).strip()) for item in found if item.strip())
        return tuple(item for item in checked if item)

    def _tags(self) -> tuple[str, ...]:
        found = self._list("tags", lambda text: [part.strip() for part in text.split(",")])
        for item in found:
            if not isinstance(item, str) or not re.fullmatch(r"\w[\w .:+#-]{0,39}", item.strip()):
                self.faults.append(f"tags must be words of at most 40 characters, got {item!a:.60}")
                return ()
        return tuple(dict.fromkeys(item.strip() for item in found))

    def _cases(self, field: str) -> tuple[Case, ...]:
        found = []
        for number, item in enumerate(self._list(field), start=1):
            match item:
                case {"input": str(given), "output": str(expected), **other} if not other:
                    place = f"{field} {number}"
                    given = self._checked(f"{place} input", given, MAX_INPUT_CHARS)
                    expected = self._checked(f"{place} output", expected, MAX_OUTPUT_CHARS)
                    found.append(Case(given, expected))
                case _:
                    self.faults.append(
                        f"each of {field} must be an object with the texts input and output, got "
                        f"{item!r:.80} as number {number}"
                    )
                    return tuple(found)
        return tuple(found)

    def _number(self, field: str) -> float | None:
        value = self._cell(field)
        if value is None:
            return None
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        largest = {"time_limit_s": 3600.0, "memory_limit_mb": 1e6, "tolerance": 1e9}[field]
        low = field == "tolerance"
        if not (0.0 <= number if low else 0.0 < number) or not number <= largest:
            self.faults.append(
                f"{field} must be a number {'from' if low else 'above'} 0 to {largest:g}, got {value!r:.60}"
            )
            return None
        return number

    def _comparison(self) -> Comparison:
        checker, tolerance = self._code("checker"), self._number("tolerance")
        if checker:
            if self._check_python("checker", checker) and not _takes_three(ast.parse(checker)):
                self.faults.append(
                    "checker must define a function check(stdin, output, expected), got none"
                )
            if tolerance is not None:
                self.faults.append("a checker decides alone, got a tolerance as well")
        return Comparison(tolerance=tolerance, checker=checker)

    # what a row is as a whole

    def _check_kind(self, asserts: Sequence[str], cases: Sequence[Case]) -> None:
        if asserts and cases:
            self.faults.append("it must have tests or cases, got both")
        elif not asserts and not cases and not self.faults:
            self.faults.append("it must have at least one test or case, got none")
        given = [name for name in _OF_CASES if self._cell(name) is not None]
        if asserts and given:
            self.faults.append(f"{given[0]} must stand with cases, got tests")

    def _check_python(self, field: str, source: str) -> bool:
        reason = _python_fault(source)
        if reason is not None:
            self.faults.append(f"{field} must be Python, got {reason}")
        return reason is None

    def _callables(
        self, asserts: Sequence[str], reference: str, setup: str, imports: Sequence[str]
    ) -> tuple[str, ...]:
        """Names that an answer must define, the tested function first."""
        named = tuple(part for part in re.split(r"[\s,]+", self._code("function")) if part)
        for name in named:
            if not name.isidentifier():
                self.faults.append(f"function must be the name of a function, got {name[:60]!r}")
                return ()
        readable = [text for text in asserts if _python_fault(text) is None]
        if named or not readable:
            return named
        if reference:
            found = find_callables(reference, readable, setup)
            if not found:
                self.faults.append(
                    "the asserts must call a function that the reference defines, got none"
                )
            return found
        elsewhere = set(dir(builtins)).union(
            *(top_level_names(ast.parse(text).body) for text in (setup, *imports))
        )
        found = tuple(dict.fromkeys(n for n in called_names(readable) if n not in elsewhere))
        if not found:
            self.faults.append(
                "the asserts must call a function of the answer, got none; name it as function"
            )
        return found

    def _check_asserts(
        self, asserts: Sequence[str], callables: tuple[str, ...], *, n_visible: int
    ) -> None:
        """Each must be judged outside of the sandbox, or it could never earn anything."""
        for index, source in enumerate(asserts):
            hidden = index - n_visible
            where = f"tests {index + 1}" if hidden < 0 else f"hidden_tests {hidden + 1}"
            try:
                parsed = parse(source, callables)
            except SyntaxError as error:
                reason = str(error.msg)[:80]
                why = "" if reason.startswith("an assert must be") else f" ({reason})"
                self.faults.append(
                    f"{where} must be one assert statement, got {source[:80]!r}{why}"
                )
                continue
            if callables and not parsed.trusted:
                self.faults.append(
                    f"{where} must be one that is judged outside the solution, got {source[:80]!r}: {parsed.reason}"
                )


def plain_text(column: str, value: object) -> str:
    """Return a cell of text with LF line ends.

    Raises:
        RowError: it is none that can be stored, sent and read.
    """
    if not isinstance(value, str) or "\0" in value or not _is_unicode(value):
        raise RowError(f"{column} must be Unicode text without NUL, got {value!a:.60}")
    return lf(value)


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: JSON can spell half of a pair that no tokenizer and no file takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _python_fault(source: str) -> str | None:
    """Why a text is no Python; None where it is."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"{error.msg} in line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)[:80] or type(error).__name__
    return None


def _read_list(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """A list as JSON or as Python writes it, as tables of pandas do; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _takes_three(tree: ast.Module) -> bool:
    """Whether a program defines `check`, and as far as can be seen it takes three arguments."""
    for node in reversed(tree.body):
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            least = len(node.args.args) - len(node.args.defaults)
            return node.args.vararg is not None or least <= 3 <= len(node.args.args)
    return "check" in top_level_names(tree.body, imports=False)
