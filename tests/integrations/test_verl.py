"""verl's own code with our score, and with our server in the place of SandboxFusion; `make test-adapters` runs it."""

import asyncio
import json

import pytest

from sandbox.client import open_pool
from tests.integrations.conftest import ADD, HALF, RIGHT

pytest.importorskip("verl", reason="verl is in a folder of its own")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.reward_score import sandbox_fusion

TOKEN = "token-of-these-tests"  # noqa: S105
CONFIG = OmegaConf.create(
    {
        "reward": {
            "custom_reward_function": {
                "path": "pkg://evaluator.integrations.verl",
                "name": "compute_score",
                "reward_kwargs": {"timeout_s": 2.0},
            }
        }
    }
)


class Tokenizer:
    """Characters are tokens."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids.tolist()))


@pytest.mark.parametrize(("answer", "score"), [(RIGHT, 1.0), (HALF, 0.5), ("", 0.0)])
def test_verls_reward_manager_scores_with_our_function(answer, score):
    import numpy as np
    import torch

    ids = torch.tensor([[ord(c) for c in answer] or [32]])
    data = DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={
            "data_source": np.array(["mbpp"], dtype=object),
            "reward_model": np.array([{"ground_truth": json.dumps(ADD)}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
        },
    )

    async def scored():
        manager = NaiveRewardManager(CONFIG, Tokenizer(), get_custom_reward_fn(CONFIG))
        manager.loop = asyncio.get_running_loop()
        return await manager.run_single(data)

    found = asyncio.run(scored())
    assert found["reward_score"] == score
    assert found["reward_extra_info"]["acc"] == (score == 1.0)


@pytest.fixture(scope="module")
def run_code_url():
    from sandbox.http.server import Server

    with open_pool("process", own=True) as pool, Server(pool, token=TOKEN) as server:
        yield server.url.replace("http://", f"http://any:{TOKEN}@") + "/run_code"


CASES = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}


@pytest.mark.parametrize(
    ("code", "cases", "score", "status"),
    [
        ("print(sum(map(int, input().split())))", CASES, 1.0, "success"),
        ("print(3)", CASES, 0.5, "success"),
        ("print(1 / 0)", CASES, 0.0, "runtime_error"),
        ("import sys\nsys.exit(1)", CASES, 0.0, "runtime_error"),
        ("while True: pass", CASES, 0.0, "timeout"),
        ("def f(", CASES, 0.0, "runtime_error"),
        (
            "def add(a, b):\n    return a + b",
            {"fn_name": "add", "inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"]},
            1.0,
            "success",
        ),
        (
            "class Solution:\n    def pair(self, a, b):\n        return [a, b]",
            {"fn_name": "pair", "inputs": ["1\n2"], "outputs": ["[1, 2]"]},
            1.0,
            "success",
        ),
        (
            "def f(x): return x",
            {"assert_case": ["assert f(1) == 1", "assert f(1) == 2"]},
            0.5,
            None,
        ),
    ],
)
def test_verls_client_of_sandbox_fusion_works_unchanged(run_code_url, code, cases, score, status):
    found, told = sandbox_fusion.compute_score(
        run_code_url, None, 1024, f"```python\n{code}\n```", dict(cases), timeout=3
    )
    assert found == score, told
    if status is not None:
        assert told[0]["status"] == status
