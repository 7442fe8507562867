"""What cannot work is refused in one clear line; what is merely empty trains on nothing and says so."""

import math

import pytest
import torch
from trl import GRPOTrainer

from trainer.options.config import ConfigError, parse_options
from trainer.training.loading import load_model
from trainer.training.train import train


@pytest.fixture
def run(config_file, hashed_grades):

    def go(algorithm="sdpo", **changes):
        from tests.trainer.training.test_train import Finished

        return Finished(train(algorithm, parse_options(config_file(**changes)), say=lambda _: None))

    return go


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_groups_of_one_are_refused(config_file):
    with pytest.raises(ConfigError) as error:
        parse_options(config_file(num_generations=1))
    assert "at least 2 generations" in one_line(error)


def test_a_batch_that_the_group_size_does_not_divide_is_refused(config_file):
    with pytest.raises(ConfigError) as error:
        parse_options(config_file(per_device_train_batch_size=3, num_generations=4))
    assert "divisible" in one_line(error)


def test_a_prompt_longer_than_the_context_is_refused_before_the_first_step(run):
    with pytest.raises(ConfigError) as error:
        run(max_completion_length=2040)
    assert "must fit the model's context of 2048 tokens" in one_line(error)


@pytest.mark.slow
def test_a_tokenizer_without_a_pad_token_trains(run, tiny_model, tmp_path, monkeypatch):
    def without_pad(options):
        model, tokenizer = load_model(options)
        tokenizer.pad_token = None
        return model, tokenizer

    monkeypatch.setattr("trainer.training.loading.load_model", without_pad)
    finished = run(max_steps=1)
    assert finished.metric("loss")[0] > 0.0


def test_no_model_is_named_as_the_mistake_it_is(run):
    with pytest.raises(ConfigError) as error:
        run(model_name_or_path=None)
    assert "model_name_or_path must name a model" in one_line(error)


@pytest.fixture
def completions(monkeypatch):
    """Sampling that returns what a test says: a function of the row to token ids."""

    def use(tokens):
        def generate(self, prompt_ids, *args, **kwargs):
            end = self.processing_class.eos_token_id
            return [tokens(row, end) for row in range(len(prompt_ids))], None

        monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", generate)

    return use


def test_equal_rewards_give_grpo_no_gradient_and_the_metrics_say_so(run, completions):
    completions(lambda row, end: [40, 41, 42, end])
    finished = run("grpo", max_steps=1)
    assert finished.metric("groups/no_reward_signal_fraction") == [1.0]
    assert finished.metric("groups/reward_std") == [0.0]
    assert finished.metric("grad_norm") == [0.0]


def test_no_success_and_no_feedback_anywhere_is_a_loss_of_zero_that_is_said(run):
    finished = run(max_steps=1, use_feedback=False, max_teacher_prompt_tokens=1)
    assert finished.metric("loss") == [0.0] and finished.metric("grad_norm") == [0.0]
    assert finished.metric("groups/no_teacher_signal_fraction") == [1.0]


@pytest.mark.parametrize(
    "algorithm",
    [
        "sdpo",
        pytest.param("grpo", marks=pytest.mark.slow),
        pytest.param("hybrid", marks=pytest.mark.slow),
    ],
)
def test_empty_completions_train_on_what_there_is(run, completions, algorithm):
    # no token at all, the end alone, and something
    completions(lambda row, end: [[], [end], [40, 41, end], [50, end]][row % 4])
    finished = run(algorithm, max_steps=1)
    rollouts = finished.rows["rollouts"]
    assert [r["completion"] for r in rollouts[:2]] == ["", ""]
    assert [r["n_completion_tokens"] for r in rollouts[:4]] == [1, 1, 3, 2]
    assert math.isfinite(finished.metric("loss")[0])
    assert math.isfinite(finished.metric("grad_norm")[0])


@pytest.mark.slow
def test_a_batch_of_nothing_but_empty_completions_has_no_policy_gradient(run, completions):
    completions(lambda row, end: [])
    finished = run("grpo", max_steps=1)
    assert finished.metric("loss") == [0.0] and finished.metric("grad_norm") == [0.0]


def test_vllm_and_continuous_batching_are_trls_own_switches(config_file):
    options = parse_options(
        config_file(),
        ["--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_gpu_memory_utilization", "0.2"],
    )
    training = options.training
    assert training.use_vllm and training.vllm_mode == "colocate"
    assert training.vllm_gpu_memory_utilization == 0.2
    options = parse_options(config_file(), ["--use_transformers_continuous_batching", "true"])
    assert options.training.use_transformers_continuous_batching


def test_four_bits_are_asked_of_bitsandbytes_without_unsloth(config_file, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "trainer.training.loading.load_base",
        lambda name, **kwargs: asked.update(kwargs) or (None, None),
    )
    load_model(parse_options(config_file(), ["--load_in_4bit", "true", "--use_unsloth", "false"]))
    assert asked["load_in_4bit"] is True and asked["unsloth"] is False


def test_an_error_of_our_own_lines_is_a_bug_and_keeps_its_traceback():
    from trainer.teacher.weights import make_teacher
    from trainer.training.assemble import raised_here

    with pytest.raises(AttributeError) as ours:
        make_teacher(None, "ema", ema_rate=0.1, trust_region_rate=0.1)
    assert raised_here(ours.value)
    with pytest.raises(AttributeError) as theirs:
        torch.nn.Linear(1, 1).no_such_part  # noqa: B018
    assert not raised_here(theirs.value)
