from types import SimpleNamespace

import torch

from evaluator.models.context_length import context_length
from evaluator.models.modes import evaluation_mode, switch_dropout_off


def test_each_module_comes_back_in_its_own_mode(tiny_policy):
    model = tiny_policy.model
    model.train()
    frozen, checkpointed = model.model.layers[0], model.model.layers[1]
    frozen.eval()
    checkpointed.gradient_checkpointing = True
    before = [(m.training, vars(m).get("gradient_checkpointing")) for m in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        checkpointed.gradient_checkpointing = False  # as Unsloth's generate does
        model._flag_for_generation = True
    assert before == [(m.training, vars(m).get("gradient_checkpointing")) for m in model.modules()]
    assert not hasattr(model, "_flag_for_generation")
    model.eval()


def test_modes_come_back_after_a_failure_and_so_does_the_use_of_the_cache(tiny_policy):
    model = tiny_policy.model
    model.train()
    model.config.use_cache = False
    try:
        with evaluation_mode(model):
            model.config.use_cache = True
            raise KeyError("stop")
    except KeyError:
        pass
    assert model.training and model.config.use_cache is False
    model.config.use_cache = True
    model.eval()


def test_what_is_called_after_dropping_and_is_no_share_stays():
    module = torch.nn.Module()
    others = {"drop_path": "linear", "dropout_kind": None, "drop_last": True}
    vars(module).update(others, dropout=0.5)
    switch_dropout_off(module)
    assert module.dropout == 0.0
    assert {name: vars(module)[name] for name in others} == others


def test_the_context_is_the_smaller_of_the_models_and_what_it_was_loaded_for():
    model = torch.nn.Module()
    model.config = SimpleNamespace(max_position_embeddings=100)
    assert context_length(model) == 100
    model.max_seq_length = 20
    assert context_length(model) == 20
    del model.config.max_position_embeddings
    assert context_length(model) == 20
    del model.max_seq_length
    assert context_length(model) is None
