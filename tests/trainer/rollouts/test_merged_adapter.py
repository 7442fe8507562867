import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from trainer.rollouts.merged_adapter import merged_adapter

SAME = 1e-5
"""Float32 logits of size 1, summed in another order."""


def adapted(tiny_model, *, dtype=torch.float32, **options):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype)
    config = LoraConfig(
        **{"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **options}
    )
    return get_peft_model(model, config).eval()


def calls_of_the_adapter(model, read):
    calls = []
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        return read(), len(calls)


def test_a_merged_adapter_computes_the_same_without_its_layers_and_leaves_every_bit(tiny_model):
    model = adapted(tiny_model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    apart, n_apart = calls_of_the_adapter(model, lambda: model(ids).logits)
    with merged_adapter(model):
        merged, n_merged = calls_of_the_adapter(model, lambda: model(ids).logits)
    assert n_apart > 0 and n_merged == 0
    assert torch.allclose(merged, apart, atol=SAME)
    with torch.no_grad(), model.disable_adapter():
        assert not torch.allclose(model(ids).logits, apart, atol=100 * SAME), "the adapter counts"
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with torch.no_grad():
        assert torch.equal(model(ids).logits, apart)


def test_an_error_within_leaves_every_bit_too(tiny_model):
    model = adapted(tiny_model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), merged_adapter(model):
        raise KeyboardInterrupt
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.bfloat16},
        {"use_dora": True},
        {"lora_bias": True, "target_modules": ["lm_head"]},
    ],
    ids=["bfloat16", "dora", "bias"],
)
def test_what_a_sum_would_round_or_scale_stays_apart(tiny_model, options):
    model = adapted(tiny_model, **options)
    ids = torch.tensor([[5, 6, 7, 8]])
    with merged_adapter(model):
        _, n_calls = calls_of_the_adapter(model, lambda: model(ids).logits)
    assert n_calls > 0


def test_a_head_that_is_the_embeddings_too_is_not_changed_under_them(tiny_model):
    model = adapted(tiny_model, target_modules=["lm_head", "q_proj"])
    base = model.get_base_model()
    base.lm_head.base_layer.weight = base.model.embed_tokens.weight
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        apart = model(ids).logits
        with merged_adapter(model):
            assert torch.equal(model(ids).logits, apart)


def test_an_adapter_that_is_switched_off_stays_off(tiny_model):
    model = adapted(tiny_model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), model.disable_adapter():
        plain = model(ids).logits
        with merged_adapter(model):
            assert torch.equal(model(ids).logits, plain)


def test_of_two_adapters_none_is_merged(tiny_model):
    model = adapted(tiny_model)
    model.add_adapter(
        "other", LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    model.base_model.set_adapter(["default", "other"])
    weights = [p.data_ptr() for p in model.parameters()]
    with merged_adapter(model):
        assert [p.data_ptr() for p in model.parameters()] == weights


def test_a_merged_model_is_left_as_it_is(tiny_model):
    model = adapted(tiny_model)
    model.merge_adapter()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), merged_adapter(model):
        merged = model(ids).logits
    with torch.no_grad():
        assert torch.equal(model(ids).logits, merged)
    assert all(m.merged for m in model.modules() if hasattr(m, "lora_A"))


def test_a_model_without_an_adapter_is_left_as_it_is(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    weights = [p.data_ptr() for p in model.parameters()]
    with merged_adapter(model):
        assert [p.data_ptr() for p in model.parameters()] == weights


def test_where_one_layer_cannot_be_merged_none_is(tiny_model):
    model = adapted(tiny_model)
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    layers[-1].get_base_layer().bfloat16()
    weights = [p.data_ptr() for p in model.parameters()]
    with merged_adapter(model):
        assert [p.data_ptr() for p in model.parameters()] == weights
