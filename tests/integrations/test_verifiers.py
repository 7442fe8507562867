"""The environment in verifiers' own classes; `make test-adapters` runs it in an environment of its own."""

import asyncio

import pytest

vf = pytest.importorskip("verifiers.v1", reason="verifiers is in an environment of its own")

from verifiers.v1.graph import MessageNode  # noqa: E402
from verifiers.v1.utils.loaders import load_taskset, taskset_config_type  # noqa: E402

from tests.integrations.conftest import CHEAT  # noqa: E402

ID = "mbpp-sandbox"
MODULE = """from evaluator.integrations.verifiers import MbppTaskset
__all__ = ["MbppTaskset"]
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """The tasks as verifiers itself finds them by a name."""
    (tmp_path / "mbpp_sandbox.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return list(load_taskset(taskset_config_type(ID)(id=ID, dataset="embedded/train")))


def scored(task, reply):
    node = MessageNode(message=vf.AssistantMessage(content=reply), sampled=True)
    recorded = vf.TraceTask(type=type(task).__name__, data=task.data)
    trace = vf.Trace(task=recorded, agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=[node])
    asyncio.run(task.score(trace))
    return trace


def test_each_problem_is_a_task_whose_prompt_does_not_hold_the_solution(tasks):
    assert len(tasks) > 5 and [task.data.idx for task in tasks] == list(range(len(tasks)))
    for task in tasks:
        assert task.data.test_list[0] in task.data.prompt
        assert task.data.code not in task.data.prompt


def test_the_reward_is_the_sandboxs_verdict(tasks):
    task = tasks[0]
    right = scored(task, f"```python\n{task.data.code}\n```")
    assert right.reward == 1.0 and right.metrics["passed"] == 1.0
    assert scored(task, CHEAT).reward == 0.0
    assert scored(task, "").reward == 0.0


@pytest.mark.usefixtures("lost_sandbox")
def test_a_sandbox_that_fails_is_an_error_and_no_reward(tasks):
    with pytest.raises(Exception, match="engine is gone"):
        scored(tasks[0], "```python\nx = 1\n```")
