"""The scorer in Inspect's own evaluation; `make test-adapters` runs it in an environment of its own."""

import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is in an environment of its own")

from inspect_ai import Task  # noqa: E402
from inspect_ai.dataset import Sample  # noqa: E402
from inspect_ai.model import ModelOutput  # noqa: E402
from inspect_ai.solver import solver  # noqa: E402

from evaluator.integrations.inspect_ai import sandbox_scorer  # noqa: E402
from tests.integrations.conftest import ADD, CHEAT, HALF, RIGHT  # noqa: E402


@solver
def said():
    """Gives each sample the answer that it names: no model, whose tokens would be counted with a download."""

    async def solve(state, generate):
        state.output = ModelOutput.from_content("none", state.metadata["answer"])
        return state

    return solve


def evaluated(tmp_path, *answers):
    task = Task(
        dataset=[
            Sample(input="add", target="", metadata={**ADD, "answer": text}) for text in answers
        ],
        solver=said(),
        scorer=sandbox_scorer(),
    )
    (log,) = inspect_ai.eval(
        task, model="mockllm/model", log_dir=str(tmp_path), display="none", max_samples=1
    )
    return log


def test_an_evaluation_counts_what_passes_and_says_what_fails(tmp_path):
    log = evaluated(tmp_path, RIGHT, HALF, CHEAT, "no idea")
    assert log.status == "success"
    scores = [sample.scores["sandbox_scorer"] for sample in log.samples]
    assert [score.value for score in scores] == ["C", "I", "I", "I"]
    assert scores[0].answer == "def add(a, b):\n    return a + b"
    assert "gave 0, expected 3" in scores[1].explanation
    assert scores[2].metadata["outcome"] == "crashed"
    assert log.results.scores[0].metrics["accuracy"].value == 0.25


@pytest.mark.usefixtures("lost_sandbox")
def test_a_sandbox_that_fails_is_an_error_and_no_wrong_answer(tmp_path):
    log = evaluated(tmp_path, RIGHT)
    assert log.status == "error" and "engine is gone" in log.error.message
