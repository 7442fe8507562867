"""Where bugs are planted, how many, and where the tests lie that must find them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.mutation.bugs import BUGS
from scripts.mutation.mutant import Mutant, chosen, numbered
from scripts.mutation.python_sites import python_mutants, required_keywords
from scripts.mutation.sql_sites import sql_mutants

ROOT = Path(__file__).parents[2]

PACKAGES = ("analysis", "evaluator", "sandbox", "trainer")


@dataclass(frozen=True)
class Area:
    """Files that answer one question together."""

    name: str
    files: tuple[str, ...]
    """Patterns from the root of the tree."""
    n: int
    """Mutants that are planted."""
    reached_through: str = ""
    """For files that are no Python: the Python file whose use stands for theirs."""


AREAS = (
    Area("losses", ("trainer/losses/*.py",), 60),
    Area("teacher", ("trainer/teacher.py", "trainer/teacher_prompt.py", "trainer/callbacks.py"), 45),
    Area(
        "rollouts",
        (
            "trainer/rollouts.py",
            "trainer/rollout_trainer.py",
            "trainer/adapter.py",
            "trainer/forward.py",
            "trainer/token_stats.py",
            "evaluator/decoding.py",
            "evaluator/generation.py",
            "evaluator/modes.py",
            "evaluator/padding.py",
        ),
        70,
    ),
    Area("rewards", ("evaluator/reward.py", "evaluator/grade.py", "evaluator/feedback.py"), 35),
    Area(
        "extraction",
        (
            "evaluator/extract.py",
            "evaluator/blocks.py",
            "evaluator/bare_code.py",
            "evaluator/definition.py",
            "evaluator/function_body.py",
            "evaluator/answer_text.py",
            "evaluator/answer_end.py",
        ),
        60,
    ),
    Area(
        "statistics",
        (
            "evaluator/stats.py",
            "evaluator/pass_at_k.py",
            "evaluator/compare.py",
            "evaluator/summary.py",
            "evaluator/suspicion.py",
        ),
        45,
    ),
    Area(
        "resume",
        (
            "trainer/resume.py",
            "trainer/position.py",
            "trainer/stopping.py",
            "trainer/supervise.py",
            "trainer/faults.py",
        ),
        35,
    ),
    Area("sql", ("analysis/schema.sql",), 60, reached_through="analysis/schema.py"),
)  # fmt: skip

TESTS = ("tests/trainer", "tests/evaluator", "tests/analysis")
"""Where tests may lie that find a mutant: the default ones, without a Docker engine."""


def sources(area: Area, root: Path = ROOT) -> dict[str, str]:
    """Path -> text of an area's files.

    Raises:
        ValueError: a pattern names no file.
    """
    found: dict[str, str] = {}
    for pattern in area.files:
        paths = sorted(path for path in root.glob(pattern) if path.name != "__init__.py")
        if not paths:
            raise ValueError(
                f"a pattern of the area {area.name} must name a file, got {pattern!r}; mend it in areas.py"
            )
        found |= {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in paths}
    return found


def all_mutants(area: Area, texts: dict[str, str]) -> list[Mutant]:
    """Every mutant that could be planted in an area by the operators."""
    required = required_keywords(
        path.read_text() for n in PACKAGES for path in (ROOT / n).rglob("*.py")
    )
    return numbered(
        mutant
        for path, text in texts.items()
        for mutant in (
            sql_mutants(area.name, path, text)
            if path.endswith(".sql")
            else python_mutants(area.name, path, text, required)
        )
    )


def listed_bugs(area: Area, root: Path = ROOT) -> list[Mutant]:
    """The bugs of the list that belong to an area.

    Raises:
        ValueError: the code that one of them changes is not there, or more than once.
    """
    files = [
        path
        for name in PACKAGES
        for path in sorted((root / name).rglob("*"))
        if path.suffix in (".py", ".sql")
    ]
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in files}
    found = []
    for bug in BUGS:
        if bug.area != area.name:
            continue
        places = [(p, t.index(bug.before)) for p, t in texts.items() if bug.before in t]
        if len(places) != 1 or texts[places[0][0]].count(bug.before) != 1:
            raise ValueError(
                f"the code of a listed bug must stand in one place, got {[p for p, _ in places]} for "
                f"{bug.what!r}: {bug.before!r}; mend it in bugs.py"
            )
        path, start = places[0]
        line = texts[path].count("\n", 0, start)
        text = texts[path].split("\n")[line].strip()
        end = start + len(bug.before)
        found.append(Mutant(area.name, path, start, end, bug.after, bug.what, "", line + 1, text))
    return numbered(found)


def planted(area: Area, texts: dict[str, str]) -> list[Mutant]:
    """The mutants that are planted: the list's, then the same choice for the same text of the files."""
    return listed_bugs(area) + chosen(all_mutants(area, texts), area.n)
