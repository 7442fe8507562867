"""What a run would ignore, or could not work with, is one line before anything is loaded."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from trainer.cli.train import train as train_command
from trainer.options.checks import (
    adapter_config,
    check_float32_head,
    check_length,
    check_targets,
    check_trackers,
    check_values,
)
from trainer.options.config import ConfigError, parse_options
from trainer.options.unread import check_use

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def options(config_file):
    def parse(**changes):
        return parse_options(config_file(**changes))

    return parse


@pytest.fixture(autouse=True)
def without_deepspeed():
    """transformers remembers in the whole process what it could not read."""
    yield
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1), ("learning_rate", 0), ("temperature", 0), ("temperature", -0.5),
        ("temperature", float("nan")), ("max_completion_length", 0), ("max_completion_length", 12.5),
        ("per_device_train_batch_size", 0), ("per_device_train_batch_size", 3), ("num_generations", 0),
        ("num_generations", 1), ("num_generations", 3), ("gradient_accumulation_steps", 0),
        ("steps_per_generation", 0), ("num_iterations", 0), ("max_steps", 0), ("max_steps", -2),
        ("num_train_epochs", 0), ("max_problems", 0), ("max_problems", -1), ("lora_r", 0), ("lora_alpha", 0),
        ("lora_dropout", 1.0), ("lora_dropout", -0.1), ("top_p", 0), ("top_p", 1.1), ("top_k", -1), ("min_p", 2),
        ("repetition_penalty", 0), ("adam_beta1", 1.0), ("max_grad_norm", -1), ("seed", -1), ("eval_batch", 0),
        ("loss_type", "grop"), ("scale_rewards", "sometimes"), ("importance_sampling_level", "word"),
        ("dtype", "float99"), ("save_strategy", "often"), ("optim", "sgdd"), ("lr_scheduler_type", "zigzag"),
        ("save_strategy", "best"), ("accelerator_config", "absent.json"), ("use_peft", "perhaps"),
        ("generation_kwargs", "text"), ("generation_kwargs", {"num_beam": 2}),
        ("gradient_checkpointing_kwargs", {"nope": True}), ("gradient_checkpointing_kwargs", {"preserve_rng_state": 0}),
        ("learning_rate", "fast"), ("chat_template_kwargs", "{nope"), ("aggregation", "median"),
        ("deepspeed", "absent.json"), ("bf16", 3), ("logging_steps", float("inf")),
        ("timeout_s", float("inf")), ("timeout_s", 3601), ("timeout_s", 1e-9),
        ("format_weight", float("inf")), ("anchor_weight", float("nan")),
        ("importance_clip", float("inf")), ("mismatch_clip", float("nan")), ("seed", 2**32), ("seed", 10**30),
        ("max_problems", 10**30), ("dataloader_num_workers", -1), ("delta", -0.1), ("epsilon_high", float("nan")),
        ("sapo_temperature_pos", -1), ("ref_model_mixup_alpha", float("inf")), ("ddp_timeout", -1),
        ("dataset", None), ("dataset", 5), ("dataset", ["a"]), ("mbpp_dir", 5), ("runs_dir", {"a": 1}), ("reward", 7),
        ("prompt_template", True), ("visible_tests", None), ("model_name_or_path", 5), ("sandbox", date(2026, 11, 26)),
        ("report_to", None), ("report_to", [3]), ("report_to", {"a": 1}), ("report_to", "no.such"),
        ("lora_target_modules", [1]), ("lora_modules_to_save", 5), ("chat_template_kwargs", 3),
        ("max_problems", 1.5), ("max_problems", "two"), ("ema_rate", "slow"), ("evaluate_every", 0.5),
    ],
)  # fmt: skip
def test_a_value_that_cannot_work_is_one_line(options, name, value):
    with pytest.raises(ConfigError) as error:
        parsed = options(**{name: value})
        check_values(parsed)
        check_trackers(parsed)
    assert "\n" not in str(error.value) and str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_generations", None),
        ("max_completion_length", None),
        ("parallelism_config", {"tp_size": 2}),
        ("teacher_template", ""),
        ("vllm_importance_sampling_mode", "sequence"),
    ],
)
def test_an_option_that_its_class_stumbles_over_is_named(options, name, value):
    with pytest.raises(ConfigError, match=f"^{name} must "):
        check_values(options(**{name: value}))


@pytest.mark.parametrize("name", ["report_to", "save_strategy", "optim", "lora_target_modules"])
def test_a_bare_no_in_a_file_is_said_to_be_false(options, name):
    with pytest.raises(ConfigError, match=f"^{name} must be .*, got False; .* in quotes$"):
        options(**{name: False})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_pass_every_check(config_file, path):
    given = yaml.safe_load(path.read_text())
    # this machine may have no GPU
    given |= {"bf16": False, "use_cpu": True}
    algorithm = path.stem if path.stem in ("grpo", "hybrid", "audit") else "sdpo"
    options = parse_options(config_file(**given))
    check_values(options)
    check_use(algorithm, options)
    check_trackers(options)


def test_the_configurations_that_are_compared_differ_in_the_algorithm_alone():
    of_the_distillation = {
        "support", "distill_top_k", "divergence", "alpha", "importance_clip", "ema_rate", "success_threshold",
        "hybrid_lambda",
    }  # fmt: skip
    common = []
    for name in ("grpo", "sdpo", "hybrid"):
        given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        common.append({k: v for k, v in given.items() if k not in of_the_distillation})
    assert common[0] == common[1] == common[2]
    assert "scale_rewards" not in common[0] and common[0]["model_name_or_path"]


POLICY = {
    "beta": 0.1, "loss_type": "luspo", "top_entropy_quantile": 0.2, "off_policy_mask_threshold": 0.1,
    "epsilon": 0.3, "epsilon_high": 0.4, "delta": 2.0, "importance_sampling_level": "sequence",
    "use_bias_correction_kl": False, "sapo_temperature_pos": 2.0, "vespo_k_pos": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", POLICY)
def test_an_option_of_the_policy_loss_is_refused_where_there_is_none(options, name):
    chosen = options(**{name: POLICY[name]})
    for algorithm in ("sdpo", "audit"):
        with pytest.raises(ConfigError, match=f"^{name} must be left out .*train grpo or hybrid$"):
            check_use(algorithm, chosen)
    for algorithm in ("grpo", "hybrid"):
        check_use(algorithm, chosen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vllm_importance_sampling_mode", "token_mask"),
        ("vllm_importance_sampling_clip_max", 2.0),
        ("vllm_importance_sampling_clip_min", 0.5),
    ],
)
def test_vllms_correction_is_one_of_the_policy_loss(options, name, value):
    chosen = options(use_vllm=True, **{name: value})
    for algorithm in ("sdpo", "audit", "sft"):
        with pytest.raises(ConfigError, match=f"^{name} must be left out .*train grpo or hybrid$"):
            check_use(algorithm, chosen)
    for algorithm in ("grpo", "hybrid", "rlsd"):
        check_use(algorithm, chosen)


@pytest.mark.parametrize(
    ("name", "value"),
    [("entropy_coef", 1.0), ("use_adaptive_entropy", True), ("router_aux_loss_coef", 0.1)],
)
def test_an_option_of_trls_own_forward_pass_is_grpos_alone(options, name, value):
    chosen = options(**{name: value})
    for algorithm in ("sdpo", "hybrid", "audit"):
        with pytest.raises(ConfigError, match=f"^{name} must be left out .*train grpo$"):
            check_use(algorithm, chosen)
    check_use("grpo", chosen)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("reward_weights", [1.0, 5.0], "use format_weight"),
        ("attn_implementation", "eager", "use the model's own"),
        ("model_revision", "v2", "folder of that revision"),
        ("push_to_hub", True, "by hand"),
        ("torch_compile", True, "no compilation"),
        ("load_best_model_at_end", True, "evaluate_every"),
        ("eval_steps", 5, "evaluate_every"),
        ("per_device_eval_batch_size", 4, "eval_batch"),
        ("data_seed", 3, "use seed"),
        ("data_seed", 0, "use seed"),
        ("log_completions", True, "the journal holds every completion"),
        ("include_num_input_tokens_seen", True, "n_prompt_tokens"),
        ("train_sampling_strategy", "sequential", "use shuffle_dataset"),
        ("bf16_full_eval", True, "use bf16"),
        ("optim_target_modules", ["q_proj"], "use lora_target_modules"),
        ("use_transformers_continuous_batching", True, "use use_vllm"),
        ("include_for_metrics", ["loss"], "use evaluate_every"),
        ("hub_model_id", "a/b", "upload of runs/RUN/adapter"),
        ("use_cache", True, "use generation_kwargs"),
        ("vllm_gpu_memory_utilization", 0.2, "set use_vllm to true"),
    ],
)
def test_an_option_that_no_run_reads_names_what_there_is_in_its_place(
    options, name, value, instead
):
    with pytest.raises(ConfigError, match=rf"^{name} must be left out.*{instead}"):
        check_use("grpo", options(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("save_only_model", True, "from its optimizer's state, too"),
        ("ignore_data_skip", True, "would begin its problems again"),
        ("dataloader_in_order", False, "another order in each run"),
        ("accelerator_config", {"split_batches": True}, "as the default spreads them"),
        ("fsdp", "full_shard", "whole weights in each process"),
        ("remove_unused_columns", True, "the number of its problem"),
    ],
)
def test_an_option_that_would_change_a_run_unseen_is_refused_with_the_reason(
    options, name, value, why
):
    with pytest.raises(ConfigError, match=rf"^{name} must be left out, got .*; .*{why}"):
        check_use("sdpo", options(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("temperature", 2.0, "set temperature, by which the loss divides, too"),
        ("do_sample", False, "set temperature"),
        ("max_new_tokens", 3, "set max_completion_length"),
        ("num_return_sequences", 2, "set num_generations"),
        ("eos_token_id", 5, "generation_config.json"),
        ("num_beams", 2, "leave it out"),
        ("return_dict_in_generate", True, "leave it out"),
    ],
)
def test_a_field_of_the_decoding_that_the_loss_would_not_know_of_is_refused(
    options, name, value, instead
):
    with pytest.raises(ConfigError, match=rf"got '{name}'; .*{instead}"):
        check_values(options(generation_kwargs={name: value}))
    check_values(options(generation_kwargs={"typical_p": 0.9, "no_repeat_ngram_size": 3}))


def test_a_folder_for_the_checkpoints_is_the_runs_own_affair(config_file):
    for changes, words in (({"output_dir": "x"}, []), ({}, ["--output_dir=x"])):
        with pytest.raises(ConfigError, match="^output_dir must be left out.* runs_dir"):
            parse_options(config_file(**changes), words)


def test_a_misspelt_field_of_the_decoding_is_named_with_the_one_that_is_meant(options):
    with pytest.raises(ConfigError, match="got 'num_beam'; did you mean 'num_beams'"):
        check_values(options(generation_kwargs={"num_beam": 2}))


def test_an_option_at_its_default_is_no_choice(options):
    check_use("sdpo", options(beta=0.0, loss_type="dapo", entropy_coef=0.0, reward_weights=None))


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], {"q_proj"}),
        ("q_proj", {"q_proj"}),
        (["self_attn.q_proj"], {"self_attn.q_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        (["all-linear"], "all-linear"),
        ([r".*\.q_proj"], r".*\.q_proj"),
    ],
)
def test_one_name_of_a_module_is_a_name_and_no_pattern(options, targets, expected):
    assert adapter_config(options(lora_target_modules=targets).model).target_modules == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_target_modules": ["nope"]},
        {"lora_target_modules": ["q_proj", "nope"]},
        {"lora_modules_to_save": ["nope"]},
    ],
)
def test_a_module_that_the_model_has_not_is_named_with_those_it_has(options, tiny_model, changes):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(ConfigError, match="'nope'; it has .*q_proj") as error:
        check_targets(model, adapter_config(options(**changes).model))
    assert "\n" not in str(error.value)


def test_a_head_that_trl_cannot_cast_is_named_with_what_to_do(options):
    shared, own = (SimpleNamespace(config=SimpleNamespace(tie_word_embeddings=t)) for t in (1, 0))
    with pytest.raises(
        ConfigError, match="^cast_lm_head_to_fp32 must be left out .*set dtype to float32$"
    ):
        check_float32_head(shared, options(cast_lm_head_to_fp32=True))
    check_float32_head(own, options(cast_lm_head_to_fp32=True))
    check_float32_head(shared, options(cast_lm_head_to_fp32=True, use_peft=False))
    check_float32_head(shared, options())


def test_a_run_of_fewer_problems_than_a_batch_asks_is_refused(options):
    check_length(options(), 2)
    for n_problems in (0, 1):
        with pytest.raises(ConfigError, match=f"must find 2 problems, got {n_problems}"):
            check_length(options(), n_problems)


def test_a_tracker_that_is_not_installed_is_named(options, monkeypatch):
    monkeypatch.setattr("trainer.options.checks.importlib.util.find_spec", lambda name: None)
    check_trackers(options(report_to="none"))
    with pytest.raises(ConfigError, match="got 'wandb'; install it"):
        check_trackers(options(report_to="wandb"))


@pytest.mark.parametrize(
    "words", [["--max_problems", "1"], ["--temperature", "0"], ["--beta", "0.1"]]
)
def test_the_command_says_it_in_one_line_and_makes_no_run(
    config_file, tmp_path, monkeypatch, words
):
    monkeypatch.setattr("trainer.cli.train.needs_supervisor", lambda: False)
    monkeypatch.setattr("trainer.cli.train.die_with_supervisor", lambda: None)
    monkeypatch.setattr("trainer.cli.train.tell", lambda **_: None)
    found = CliRunner().invoke(train_command, ["sdpo", "--config", str(config_file()), *words])
    assert found.exit_code == 1
    assert found.output.startswith("Error: ") and found.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()
