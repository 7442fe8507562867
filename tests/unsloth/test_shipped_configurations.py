"""The shipped configuration files through Unsloth's patched stack: only model, device and sizes are overridden."""

import json

import pytest
from safetensors.torch import load_file

from tests.tiny_model import make_tiny_qwen
from tests.unsloth.test_equal_to_stock import ask

pytestmark = [pytest.mark.unsloth, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model = make_tiny_qwen(folder / "qwen")
    sizes = {
        "model_name_or_path": model, "use_cpu": "true", "max_steps": 2, "max_completion_length": 12,
        "dataset": "embedded/train", "eval_dataset": "embedded/test", "eval_max_problems": 2,
        "runs_dir": folder / "runs", "allow_uncalibrated": "true", "sandbox": "process",
    }  # fmt: skip

    def run(stack, algorithm, **overrides):
        out = folder / "out.json"
        words = [w for k, v in {**sizes, **overrides}.items() for w in (f"--{k}", v)]
        ask("runs.py", stack, out, algorithm, *words)
        return json.loads(out.read_text()) | {"model": str(model)}

    return run


@pytest.mark.parametrize("algorithm", ["grpo", "sdpo", "hybrid"])
def test_the_shipped_file_trains_two_steps_through_unsloth_in_4_bits(train, algorithm):
    run = train("unsloth", algorithm)
    assert (run["steps"], run["evaluations"]) == (2, [0, 2])
    assert "Linear4bit" in run["layers"] and "LlamaRotaryEmbedding" in run["layers"]
    assert run["trained dtypes"] == ["torch.float32"]
    assert run["teacher dtypes"] == ([] if algorithm == "grpo" else ["torch.float32"])
    assert run["padding mask kept"] is True
    assert run["base"] == run["model"]
    # an evaluation before the first step and after the last: checkpointing is on all the same
    assert all(all(flags) for flags in run["checkpointing after the steps"])
    assert run["trl.GRPOTrainer is rewritten"] and run["changed"] == []


def test_an_audit_through_unsloth_passes_every_layer(train):
    run = train("unsloth", "audit", use_unsloth="true", load_in_4bit="true")
    assert run["steps"] == 2 and "Linear4bit" in run["layers"]
    assert len(run["layers of the audit"]) == 6 and all(run["layers of the audit"].values())


def test_two_steps_through_unsloth_leave_the_weights_that_stock_transformers_leaves(train):
    exact = {"dtype": "float32", "bf16": "false"}
    stock = train("stock", "sdpo", use_unsloth="false", **exact)
    patched = train("unsloth", "sdpo", **exact)
    weights, others = (
        load_file(f"{run['adapter']}/adapter_model.safetensors") for run in (stock, patched)
    )
    assert weights.keys() == others.keys()
    moved = max(float(w.abs().max()) for name, w in weights.items() if "lora_B" in name)
    assert moved > 1e-6
    for name, weight in weights.items():
        assert (weight - others[name]).abs().max() < 1e-4 * moved, name
