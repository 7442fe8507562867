from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click import ClickException

from trainer.options.config import BenchConfig, ConfigError, parse_options
from trainer.options.early import check_experiment

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("name", ["grpo", "sdpo"])
def test_the_benchmarks_configuration_is_four_prompts_and_sixteen_completions_a_step(name):
    training = parse_options(CONFIGS / f"{name}.yaml", ["--bf16", "false"]).training
    completions = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert completions == training.generation_batch_size == 16
    assert completions // training.num_generations == 4
    assert training.steps_per_generation == training.gradient_accumulation_steps == 4


def test_grpo_and_sdpo_differ_only_in_what_sdpo_adds():
    grpo, sdpo = (
        parse_options(CONFIGS / f"{n}.yaml", ["--bf16", "false"]) for n in ("grpo", "sdpo")
    )
    assert grpo.resolved() == sdpo.resolved(), "both files spell out the same defaults"


def test_the_benchmarks_figures_are_in_the_file():
    options = parse_options(CONFIGS / "sdpo.yaml", ["--bf16", "false"])
    training, bench = options.training, options.bench
    assert (training.learning_rate, training.max_steps, training.seed) == (5e-6, 200, 42)
    assert (training.temperature, training.max_completion_length) == (0.7, 256)
    assert training.get_warmup_steps(200) == 10 and training.lr_scheduler_type == "cosine"
    assert (options.model.lora_r, options.model.load_in_4bit) == (16, True)
    assert (bench.distill_top_k, bench.alpha, bench.importance_clip, bench.ema_rate) == (
        100,
        0.5,
        2.0,
        0.05,
    )
    assert bench.evaluate_every == 50 and bench.dataset == "full/train"


def test_the_command_line_wins_over_the_file(config_file):
    options = parse_options(config_file(), ["--learning_rate", "0.5", "--ema_rate", "0.3"])
    assert (options.training.learning_rate, options.bench.ema_rate) == (0.5, 0.3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_configuration_for_a_gpu_names_the_one_for_a_cpu_where_there_is_none():
    with pytest.raises(ConfigError) as caught:
        parse_options(CONFIGS / "grpo.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("bf16 must have a GPU that torch can use, got none for ")
    assert "`--config configs/smoke-cpu.yaml` trains on a CPU" in line
    assert parse_options(CONFIGS / "smoke-cpu.yaml").training.use_cpu


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"support": "top"}, "support must be in range, got 'top'"),
        ({"alpha": 1.0}, "alpha must lie strictly between 0 and 1, got 1.0"),
        ({"ema_rate": 2.0}, "ema_rate must be in range, got 2.0"),
        ({"solution_template": "no field"}, "solution_template must contain"),
        ({"num_generations": 3}, "must be divisible by num_generations"),
        ({"max_steps": "many"}, "invalid"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(config_file, change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_options(config_file(**change))
    assert "\n" not in str(caught.value)


def test_a_misspelt_option_on_the_command_line_is_named(config_file):
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        parse_options(config_file(), ["--temperatur", "1"])


@pytest.mark.parametrize("content", ["- a list", "a: [", "\x00", "label: 2026-13-40", "[" * 1000])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    for read in (parse_options, check_experiment):
        with pytest.raises((ConfigError, ClickException), match="--config must") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--config must be a readable YAML file"):
        parse_options(tmp_path / "none.yaml")


def test_every_field_says_what_it_is():
    config = BenchConfig()
    for name, field in BenchConfig.__dataclass_fields__.items():
        assert field.metadata["help"], name
    with pytest.raises(ConfigError):
        replace(config, hybrid_lambda=1.5)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_read(path):
    parse_options(path, ["--bf16", "false"])


def test_hybrid_is_the_papers_mixture_for_weak_models_on_the_benchmarks_configuration():
    hybrid, sdpo = (
        parse_options(CONFIGS / f"{name}.yaml", ["--bf16", "false"]) for name in ("hybrid", "sdpo")
    )
    assert hybrid.bench.hybrid_lambda == 0.9
    assert hybrid.training.scale_rewards == sdpo.training.scale_rewards == "group", "as grpo.yaml"
    assert hybrid.bench == sdpo.bench and hybrid.model == sdpo.model


def test_the_audits_configuration_is_float32_without_dropout_and_has_something_to_add_up():
    options = parse_options(CONFIGS / "audit.yaml")
    assert (options.model.dtype, options.model.lora_dropout) == ("float32", 0.0)
    assert not options.training.bf16 and options.training.gradient_accumulation_steps > 1
    assert options.training.max_steps == 5


@pytest.mark.parametrize("name", ["dokcer", "", "http://", "http://me:secret@host:1", "ftp://host"])
def test_a_sandbox_that_is_none_is_refused_with_the_options(name):
    with pytest.raises(ConfigError, match="sandbox"):
        BenchConfig(sandbox=name)
    assert BenchConfig(sandbox="http://host:8765").sandbox == "http://host:8765"
