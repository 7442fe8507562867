"""What is tried on a model, and what it is tried against."""

from types import SimpleNamespace

import pytest
import torch

from evaluator.models.padding import (
    _counted,
    _tolerance,
    causal_model,
    example,
    filler,
    undisturbed,
)


def test_an_example_is_one_row_of_different_tokens_that_the_model_has(tiny_policy):
    found = example(tiny_policy.model, 10)
    assert found.shape == (1, 10) and len(set(found[0].tolist())) == 10
    assert int(found.max()) < tiny_policy.model.get_input_embeddings().weight.shape[0]


def test_a_forward_apart_from_training_has_no_gradient_and_no_dropout(tiny_policy):
    model = tiny_policy.model.train()
    with undisturbed(model):
        assert not torch.is_grad_enabled() and not model.training
    assert torch.is_grad_enabled() and model.training
    model.eval()


def test_positions_count_tokens_and_not_the_padding():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert _counted(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_rounding_is_forgiven_by_the_number_format(tiny_policy):
    class Model:
        def __init__(self, dtype):
            self.weight = torch.zeros(1, dtype=dtype)

        def get_input_embeddings(self):
            return self

    assert _tolerance(Model(torch.float32)) == 1e-3
    assert _tolerance(Model(torch.bfloat16)) == 16 * 2**-7


def test_only_an_adapters_wrapper_is_taken_off():
    class Wrapper:
        def get_base_model(self):
            return "inner"

    plain = Wrapper()
    assert causal_model(plain) is plain
    plain.peft_config = {}
    assert causal_model(plain) == "inner"


@pytest.mark.parametrize(("named", "used"), [(3, 3), (7, 7), (8, 0), (-1, 0), (None, 0), (0, 0)])
def test_a_place_that_is_not_read_is_filled_with_a_token_that_the_model_has(named, used):
    embeddings = torch.nn.Embedding(8, 2)
    config = SimpleNamespace(pad_token_id=named)
    model = SimpleNamespace(config=config, get_input_embeddings=lambda: embeddings)
    assert filler(model) == used
