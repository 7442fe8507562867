"""The private hooks of TRL and transformers that the adapter builds on: an upgrade that changes one fails here."""

import inspect

import pytest
from trl import GRPOTrainer
from trl.trainer import utils


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_compute_loss", ["self", "model", "inputs"]),
        ("_tokenize_prompts", ["self", "prompts"]),
        ("log", ["self", "logs", "start_time"]),
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("_prepare_inputs", ["self", "generation_batch"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
        ("_calculate_rewards", ["self", "inputs", "prompts", "completions", "completion_ids_list"]),
        (
            "_generate_single_turn",
            ["self", "prompt_ids", "images", "multimodal_fields", "has_tool_images"],
        ),
        ("_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
    ],
)
def test_a_hook_has_the_signature_that_the_adapter_overrides(name, parameters):
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("_prepare_inputs", "self._generate_and_score_completions(generation_batch)"),
        ("_prepare_inputs", "shuffle_sequence_dict(generation_batch)"),
        ("compute_loss", "return self._compute_loss(model, inputs)"),
        ("_calculate_rewards", "prompts=prompts, completions=completions"),
        ("_generate_and_score_completions", '"num_items_in_batch": num_items_in_batch'),
        ("_compute_loss", "self.current_gradient_accumulation_steps"),
        ("_compute_loss", 'inputs.get("old_per_token_logps")'),
        ("_generate_and_score_completions", 'output["sampling_per_token_logps"]'),
        ("log", "self._metrics[mode].items()"),
    ],
)
def test_trl_still_calls_the_hooks_in_the_way_the_adapter_relies_on(method, text):
    assert text in inspect.getsource(getattr(GRPOTrainer, method))


def test_extra_rows_of_a_batch_are_shuffled_and_split_with_the_others_and_scalars_are_shared():
    import torch

    batch = {"a": torch.arange(4).reshape(4, 1), "mine": torch.arange(4), "scalar": torch.tensor(9)}
    shuffled = utils.shuffle_sequence_dict(batch)
    assert torch.equal(shuffled["a"].squeeze(1), shuffled["mine"])
    parts = utils.split_tensor_dict(shuffled, 2)
    assert [len(part["mine"]) for part in parts] == [2, 2]
    assert all(part["scalar"] == 9 for part in parts)


def test_the_loss_is_not_scaled_again_for_gradient_accumulation():
    source = inspect.getsource(GRPOTrainer.__init__)
    assert 'compute_loss_func="non-None value to disable scaling"' in source
