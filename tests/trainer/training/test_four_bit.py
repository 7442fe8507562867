"""Base weights in 4 bits on a CPU: the same NF4 as on a GPU, trained, resumed and evaluated."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from evaluator.models.four_bit import is_four_bit
from evaluator.sampling.model import load_base
from sdpo_bench import main
from tests.scale import scaled
from tests.tiny_model import make_tiny_qwen
from tests.trainer.killing import check_kills, train_in_a_fork
from trainer.options.config import ConfigError, parse_options
from trainer.step.forward import Rows, completion_hidden
from trainer.training.loading import check_weights
from trainer.training.train import resume, train

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory):
    return make_tiny_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def run(tiny_qwen, tmp_path):
    """Train with a shipped configuration file; only model, device and sizes are overridden."""
    sizes = {
        "model_name_or_path": tiny_qwen, "use_cpu": "true", "max_completion_length": 8,
        "dataset": "embedded/train", "eval_dataset": "embedded/test", "eval_max_problems": 2,
        "runs_dir": tmp_path / "runs", "allow_uncalibrated": "true", "sandbox": "process",
        "disable_tqdm": "true",
    }  # fmt: skip

    def start(file, algorithm, prepare=None, **overrides):
        words = [str(w) for k, v in {**sizes, **overrides}.items() for w in (f"--{k}", v)]
        options = parse_options(CONFIGS / file, words)
        return train(algorithm, options, say=lambda _: None, prepare=prepare)

    return start


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("sdpo", "sdpo"),
        *(
            pytest.param(name, name.partition("-")[0], marks=pytest.mark.slow)
            for name in (
                "grpo", "hybrid", "audit", "routed", "rlsd", "anchored", "sft", "sdpo-reference", "sdpo-pass-rate",
            )
        ),
    ],
)  # fmt: skip
def test_the_shipped_file_trains_two_steps_in_4_bits_without_unsloth(run, name, algorithm):
    seen = {}

    def look(trainer):
        seen["four_bit"] = is_four_bit(trainer.model)
        seen["dtypes"] = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
        if trainer.teacher is not None:
            seen["dtypes"] |= {t.dtype for t in trainer.teacher.state().values()}

    result = run(
        f"{name}.yaml", algorithm, look, max_steps=2, use_unsloth="false", load_in_4bit="true"
    )
    assert result.n_steps == 2 and seen == {"four_bit": True, "dtypes": {torch.float32}}
    assert all(layer.passed for layer in result.layers)


def rows(seed):
    torch.manual_seed(seed)
    ids = torch.randint(5, 250, (2, 6))
    return Rows(ids, torch.ones_like(ids), torch.randint(5, 250, (2, 4)), torch.ones(2, 4).long())


def gradients(model):
    """Of LoRA, after a forward pass without gradients, as an evaluation or the sampling makes it."""
    torch.manual_seed(0)
    model = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    model.eval()
    with torch.no_grad():
        completion_hidden(model, rows(1))
    model.train()
    completion_hidden(model, rows(2)).pow(2).sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def test_gradients_equal_those_of_the_same_weights_dequantised(tiny_qwen):
    import bitsandbytes.functional as bnb

    quantised, _ = load_base(str(tiny_qwen), device="cpu", dtype="float32", load_in_4bit=True)
    plain, _ = load_base(str(tiny_qwen), device="cpu", dtype="float32")
    with torch.no_grad():
        for name, module in quantised.named_modules():
            if type(module).__name__ == "Linear4bit":
                weight = bnb.dequantize_4bit(module.weight.data, module.weight.quant_state)
                plain.get_submodule(name).weight.copy_(weight)
    found, expected = gradients(quantised), gradients(plain)
    assert len(found) == 28
    for name, gradient in expected.items():
        # None where the pass went through a kernel that autograd does not see
        assert found[name] is not None and gradient.norm() > 0
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name


def test_no_4_bit_layer_may_pack_its_weights_for_a_kernel_without_gradients(tiny_qwen):
    model, _ = load_base(str(tiny_qwen), device="cpu", dtype="float32", load_in_4bit=True)
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert len(layers) == 14
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


@pytest.mark.slow
def test_at_the_benchmarks_learning_rate_the_trained_weights_move(run):
    kept = {}

    def look(trainer):
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                kept[name] = (parameter, parameter.detach().clone())

    run("smoke-cpu-4bit.yaml", "sdpo", look, max_steps=3, warmup_steps=0)
    # in bfloat16 under 5 %; here what does not move has a gradient of less than Adam's epsilon
    moved = [
        (after != before).float().mean()
        for name, (after, before) in kept.items()
        if "lora_A" in name
    ]
    assert len(moved) == 14 and sum(moved) / len(moved) > 0.3


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(run, tmp_path):
    whole = run("smoke-cpu-4bit.yaml", "sdpo", max_steps=3, save_strategy="steps", save_steps=1)
    weights = load_file(whole.adapter_dir / "adapter_model.safetensors")
    teacher = load_file(whole.run_dir / "teacher_adapter" / "adapter_model.safetensors")
    for left in (
        "adapter",
        "teacher_adapter",
        "checkpoints/checkpoint-2",
        "checkpoints/checkpoint-3",
    ):
        shutil.rmtree(whole.run_dir / left)
    resumed = resume(whole.run_dir, say=lambda _: None)
    again = load_file(resumed.adapter_dir / "adapter_model.safetensors")
    assert {n: t.numpy().tobytes() for n, t in again.items()} == {
        n: t.numpy().tobytes() for n, t in weights.items()
    }
    again = load_file(resumed.run_dir / "teacher_adapter" / "adapter_model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in teacher.items())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_4_bit_runs_killed_at_random_moments_end_as_if_they_had_not_been(tiny_qwen, tmp_path):
    sizes = {
        "model_name_or_path": tiny_qwen, "max_completion_length": 8, "dataset": "embedded/train",
        "sandbox": "process", "disable_tqdm": "true", "max_steps": 3, "save_strategy": "steps",
        "save_steps": 1, "save_total_limit": 2, "gradient_accumulation_steps": 1,
    }  # fmt: skip

    def start(runs):
        options = {**sizes, "runs_dir": runs}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        return train_in_a_fork("sdpo", CONFIGS / "smoke-cpu-4bit.yaml", words)

    check_kills(start, tmp_path, n_kills=scaled(20))


@pytest.mark.slow
def test_an_adapter_is_evaluated_on_the_base_it_was_trained_on(run, tiny_qwen, tmp_path):
    adapter = run("smoke-cpu-4bit.yaml", "grpo", max_steps=1).adapter_dir
    assert json.loads((adapter / "trained_on.json").read_text()) == {
        "model": str(tiny_qwen), "load_in_4bit": True,
    }  # fmt: skip

    def evaluate(*options):
        words = [
            "eval", "--model", str(tiny_qwen), "--adapter", str(adapter), "--device", "cpu",
            "--dataset", "embedded/test", "--limit", "1", "--max-new-tokens", "4", "--sandbox",
            "process", "--skip-harness-check", "--runs-dir", str(tmp_path / "evals"), *options,
        ]  # fmt: skip
        return CliRunner().invoke(main, words)

    refused = evaluate()
    assert refused.exit_code == 1 and "pass --load-in-4bit" in refused.output
    assert evaluate("--load-in-4bit").exit_code == 0
    assert evaluate("--allow-other-base").exit_code == 0

    said = json.loads((adapter / "trained_on.json").read_text()) | {"load_in_4bit": False}
    (adapter / "trained_on.json").write_text(json.dumps(said))
    refused = evaluate("--load-in-4bit")
    assert refused.exit_code == 1 and "leave --load-in-4bit out" in refused.output
    assert evaluate().exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--use_peft", "false", "--dtype", "bfloat16"], "must be float32, got dtype bfloat16"),
        (["--use_peft", "false", "--dtype", "float16"], "must be float32, got dtype float16"),
        (["--use_peft", "false", "--load_in_4bit", "true"], "cannot be trained themselves"),
        (["--load_in_8bit", "true"], "got load_in_8bit true; set load_in_4bit"),
    ],
)
def test_a_number_format_that_loses_the_steps_is_refused_in_one_line(config_file, options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        check_weights(parse_options(config_file(), options))
    assert "\n" not in str(caught.value)


def test_without_bitsandbytes_the_line_names_the_extra(tiny_qwen, monkeypatch):
    from evaluator.models.lora import ModelError

    monkeypatch.setattr("evaluator.sampling.model.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"bitsandbytes, got none; install the extra `train`"):
        load_base(str(tiny_qwen), device="cpu", load_in_4bit=True)
    with pytest.raises(
        ModelError, match=r"extra `gpu`: .*--constraint .*requirements.lock --editable .*\[gpu\]"
    ):
        load_base(str(tiny_qwen), device="cuda", unsloth=True)
