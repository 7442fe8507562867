"""Unsloth's patched Qwen2 against stock transformers on one batch; each stack in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny_model import make_tiny_qwen

pytestmark = [pytest.mark.unsloth, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
EXACT = 1e-6
"""Of a tensor's norm. Both stacks compute in float32; sums in another order differ by some 1e-7."""


def ask(script, *arguments, timeout_s=600):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="session")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts")
    model = make_tiny_qwen(folder / "qwen")
    known = {}

    def of(stack, bits):
        if (stack, bits) not in known:
            out = folder / f"{stack}-{bits}.pt"
            ask("facts.py", stack, model, bits, out)
            known[stack, bits] = torch.load(out)
        return known[stack, bits]

    return of


@pytest.mark.parametrize("bits", [16, 4])
@pytest.mark.parametrize("stack", ["unsloth", "fused"])
def test_every_tensor_equals_that_of_stock_transformers(facts, stack, bits):
    stock, patched = facts("stock", bits), facts(stack, bits)
    assert patched["layer"] == stock["layer"] == ("Linear4bit" if bits == 4 else "Linear")
    tensors = [name for name, value in stock.items() if isinstance(value, torch.Tensor)]
    assert sum(name.startswith("gradient") for name in tensors) == 28  # A and B of 7 layers, twice
    for name in tensors:
        distance = (stock[name] - patched[name]).norm() / stock[name].norm()
        assert distance < EXACT, (name, float(distance))


@pytest.mark.parametrize("bits", [16, 4])
def test_greedy_tokens_equal_those_of_stock_transformers(facts, bits):
    assert facts("unsloth", bits)["greedy answers"] == facts("stock", bits)["greedy answers"]


@pytest.mark.parametrize("bits", [16, 4])
def test_an_evaluation_leaves_every_flag_of_every_module_as_it_was(facts, bits):
    found = facts("unsloth", bits)
    assert found["flags before an evaluation"] == found["flags after it"]
    assert any(checkpointing for _, checkpointing, _ in found["flags after it"])


def test_a_sequence_longer_than_the_model_was_loaded_for_is_refused(facts):
    found = facts("unsloth", 16)
    assert found["at the length"] == "accepted"
    assert "must fit the 22 tokens that the model takes, got 23" in found["beyond the length"]
