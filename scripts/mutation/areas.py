"""Where bugs are planted, how many, and where the tests lie that must find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from scripts.mutation.figure_bugs import FIGURE_BUGS
from scripts.mutation.mutant import Mutant, chosen, numbered
from scripts.mutation.python_sites import is_python, python_mutants, required_keywords
from scripts.mutation.sql_sites import sql_mutants
from scripts.mutation.training_bugs import TRAINING_BUGS

ROOT = Path(__file__).parents[2]

PACKAGES = ("analysis", "evaluator", "sandbox", "trainer")


@dataclass(frozen=True)
class Area:
    """Files that answer one question together."""

    name: str
    files: tuple[str, ...]
    """Patterns from the root of the tree."""
    n: int
    """Mutants that are planted, beside those of the list."""
    tests: tuple[str, ...]
    """Patterns, from the folder of tests, of the files that must find them; of each the default tests."""
    reached_through: str = ""
    """For files that are no Python: the Python file whose use stands for theirs."""

    in_processes: Mapping[str, str] = field(default_factory=dict)
    """For a file that tests run in processes of their own, which no mark sees: its test file."""

    @property
    def heavy(self) -> bool:
        """Whether its tests need torch."""
        return any(pattern.startswith("trainer/") for pattern in self.tests)


AREAS = (
    Area(
        "losses",
        files=("trainer/losses/*.py", "trainer/audit/second_loss.py"),
        n=40,
        tests=("trainer/losses/test_*.py", "trainer/audit/test_second_loss.py"),
    ),
    Area(
        "teacher",
        files=(
            "trainer/teacher/weights.py",
            "trainer/teacher/prompt.py",
            "trainer/step/callbacks.py",
        ),
        n=30,
        tests=(
            "trainer/teacher/test_*.py",
            "trainer/step/test_callbacks.py",
        ),
    ),
    Area(
        "rollouts",
        files=(
            "trainer/rollouts/rollouts.py",
            "trainer/step/batch_trainer.py",
            "trainer/step/rollout_trainer.py",
            "trainer/step/loss_trainer.py",
            "trainer/step/forward.py",
            "trainer/rollouts/token_stats.py",
            "evaluator/sampling/decoding.py",
            "evaluator/sampling/generate.py",
            "evaluator/models/modes.py",
            "evaluator/models/padding.py",
        ),
        n=45,
        tests=(
            "trainer/rollouts/test_rollouts.py",
            "trainer/step/test_rollout_trainer.py",
            "trainer/step/test_loss_trainer.py",
            "trainer/training/test_sampling.py",
            "trainer/step/test_common_prefix.py",
            "trainer/step/test_forward.py",
            "trainer/step/test_micro_batches.py",
            "trainer/training/test_off_policy.py",
            "trainer/rollouts/test_token_stats.py",
            "evaluator/sampling/test_decoding.py",
            "evaluator/sampling/test_model.py",
            "evaluator/models/test_modes.py",
            "evaluator/models/test_padding.py",
        ),
    ),
    Area(
        "sharing",
        files=(
            "trainer/step/micro_batches.py",
            "trainer/step/common_prefix.py",
            "trainer/rollouts/merged_adapter.py",
            "evaluator/models/shared_prompt.py",
        ),
        n=30,
        tests=(
            "trainer/step/test_micro_batches.py",
            "trainer/step/test_common_prefix.py",
            "trainer/rollouts/test_merged_adapter.py",
            "trainer/step/test_rollout_trainer.py",
            "evaluator/models/test_shared_prompt.py",
        ),
    ),
    Area(
        "rewards",
        files=(
            "evaluator/grading/reward.py",
            "evaluator/grading/grade.py",
            "evaluator/grading/feedback.py",
            "sandbox/judge/explain.py",
        ),
        n=25,
        tests=(
            "evaluator/grading/test_reward.py",
            "evaluator/grading/test_grade.py",
            "evaluator/grading/test_feedback.py",
            "evaluator/problems/test_user_code.py",
        ),
    ),
    Area(
        "extraction",
        files=(
            "evaluator/answers/extract.py",
            "evaluator/answers/blocks.py",
            "evaluator/answers/bare_code.py",
            "evaluator/answers/definition.py",
            "evaluator/answers/function_body.py",
            "evaluator/answers/answer_text.py",
            "evaluator/sampling/answer_end.py",
        ),
        n=40,
        tests=(
            "evaluator/answers/test_extract*.py",
            "evaluator/answers/test_blocks.py",
            "evaluator/answers/test_answer_*.py",
            "evaluator/answers/test_function_body.py",
            "evaluator/grading/test_reward.py",
        ),
    ),
    Area(
        "statistics",
        files=(
            "analysis/statistics/conditions.py",
            "analysis/report/headline.py",
            "analysis/statistics/intervals.py",
            "analysis/statistics/paired.py",
            "analysis/statistics/pass_at_k.py",
            "analysis/statistics/verdict.py",
            "evaluator/results/compare.py",
            "evaluator/results/summary.py",
            "evaluator/results/plausibility.py",
        ),
        n=60,
        tests=(
            "analysis/statistics/test_conditions.py",
            "analysis/statistics/test_intervals*.py",
            "analysis/statistics/test_verdict.py",
            "analysis/statistics/test_paired.py",
            "analysis/report/test_headline.py",
            "evaluator/results/test_compare.py",
            "evaluator/results/test_stored.py",
            "evaluator/results/test_plausibility.py",
            "evaluator/results/test_summary.py",
            "analysis/warehouse/test_pass_at_k.py",
        ),
    ),
    Area(
        "suspects",
        files=(
            "analysis/reward_hacking/hard_coding.py",
            "analysis/reward_hacking/literals.py",
            "analysis/reward_hacking/program.py",
            "analysis/reward_hacking/spelled_pairs.py",
            "analysis/reward_hacking/suspects.py",
        ),
        n=30,
        tests=(
            "analysis/reward_hacking/test_hard_coding.py",
            "analysis/reward_hacking/test_literals.py",
            "analysis/reward_hacking/test_suspects.py",
        ),
    ),
    Area(
        "resume",
        files=(
            "trainer/endings/resume.py",
            "trainer/step/position.py",
            "trainer/endings/stop.py",
            "trainer/endings/supervise.py",
            "trainer/endings/faults.py",
        ),
        n=20,
        tests=(
            "trainer/endings/test_resume.py",
            "trainer/step/test_rollout_trainer.py",
            "trainer/step/test_loss_trainer.py",
            "trainer/step/test_position.py",
            "trainer/endings/test_stop.py",
            "trainer/endings/test_faults.py",
            "trainer/endings/test_supervise.py",
            "trainer/training/test_off_policy.py",
        ),
        in_processes={"trainer/endings/supervise.py": "tests/trainer/endings/test_supervise.py"},
    ),
    Area(
        "sql",
        files=("analysis/warehouse/views.sql",),
        n=45,
        tests=(
            "analysis/warehouse/test_*views.py",
            "analysis/warehouse/test_pass_at_k.py",
            "analysis/charts/test_chart_data.py",
        ),
        reached_through="analysis/warehouse/tables.py",
    ),
)


def test_files(area: Area, root: Path = ROOT) -> list[str]:
    """Paths of the test files that an area's mutants meet.

    Raises:
        ValueError: a pattern names no file.
    """
    found = {path for p in area.tests for path in _matching(area, f"tests/{p}", root)}
    return sorted(str(path.relative_to(root)) for path in found)


def sources(area: Area, root: Path = ROOT) -> dict[str, str]:
    """Path -> text of an area's files.

    Raises:
        ValueError: a pattern names no file.
    """
    paths = [path for pattern in area.files for path in _matching(area, pattern, root)]
    return {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in paths}


def _matching(area: Area, pattern: str, root: Path) -> list[Path]:
    found = sorted(path for path in root.glob(pattern) if path.name != "__init__.py")
    if not found:
        raise ValueError(
            f"a pattern of the area {area.name} must name a file, got {pattern!r}; mend it in areas.py"
        )
    return found


def all_mutants(area: Area, texts: dict[str, str]) -> list[Mutant]:
    """Every mutant that could be planted in an area by the operators."""
    return numbered(
        mutant
        for path, text in texts.items()
        for mutant in (
            sql_mutants(area.name, path, text)
            if path.endswith(".sql")
            else python_mutants(area.name, path, text, _required())
        )
    )


def listed_bugs(area: Area) -> list[Mutant]:
    """The bugs of the list that belong to an area.

    Raises:
        ValueError: the code that one of them changes is not there, or more than once.
    """
    texts = _package_texts()
    found = []
    for bug in (*TRAINING_BUGS, *FIGURE_BUGS):
        if bug.area != area.name:
            continue
        places = [(p, t.index(bug.before)) for p, t in texts.items() if bug.before in t]
        if len(places) != 1 or texts[places[0][0]].count(bug.before) != 1:
            raise ValueError(
                f"the code of a listed bug must stand in one place, got {[p for p, _ in places]} for "
                f"{bug.what!r}: {bug.before!r}; mend it in its list"
            )
        path, start = places[0]
        line = texts[path].count("\n", 0, start)
        text = texts[path].split("\n")[line].strip()
        end = start + len(bug.before)
        found.append(Mutant(area.name, path, start, end, bug.after, bug.what, "", line + 1, text))
    return numbered(found)


def planted(area: Area, texts: dict[str, str]) -> list[Mutant]:
    """The mutants that are planted: the list's, then the same choice for the same text of the files."""

    def is_code(mutant: Mutant) -> bool:
        return mutant.path.endswith(".sql") or is_python(mutant.applied(texts[mutant.path]))

    return listed_bugs(area) + chosen(all_mutants(area, texts), area.n, is_code)


@cache
def _required() -> dict[str, frozenset[str]]:
    return required_keywords(t for p, t in _package_texts().items() if p.endswith(".py"))


@cache
def _package_texts() -> dict[str, str]:
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*"))]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in files
        if path.suffix in (".py", ".sql")
    }
