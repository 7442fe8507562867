import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evaluator.models import shared_prompt
from evaluator.models.shared_prompt import can_share, prompts_once
from evaluator.sampling import generate
from evaluator.sampling.generate import generate_rows
from tests.tiny_model import make_tiny_tokenizer

SHAPE = {
    "vocab_size": 517, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def small(kind, **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, **options})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)  # a new model's would draw the same after any prompt
    return model


def draw(model, prompts, **options):
    """Rows, and how many tokens the model read for them."""
    n_read = []
    embeddings = model.get_input_embeddings()
    hook = embeddings.register_forward_hook(
        lambda module, inputs, out: n_read.append(inputs[0].numel())
    )
    asked = {"rules": None, "max_new_tokens": 9, "temperature": 1.0, "top_p": 1.0, "seed": 3}
    try:
        found = generate_rows(model, make_tiny_tokenizer(), prompts, **{**asked, **options})
    finally:
        hook.remove()
    return [row.text for row in found], sum(n_read)


A, B = [40, 41, 42, 43, 44, 45, 46, 47], [50, 51, 52]
PROMPTS = [A, B, A, A, B, A]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 4}),
        ("qwen2", {}),
        ("gpt2", {}),
        ("bloom", {}),
        ("gpt_neox", {}),
    ],
)
def test_equal_prompts_are_read_once_and_draw_what_each_would(monkeypatch, kind, options):
    model = small(kind, **options)
    can_share(model)
    shared, n_shared = draw(model, PROMPTS)
    monkeypatch.setattr(generate, "prefilled", lambda *args: {})
    plain, n_plain = draw(model, PROMPTS)
    assert shared == plain and len(set(plain)) == len(plain), "each row draws for itself"
    # 6 prompts of 8 tokens, padding included, become 2 of 7 and the last token of each row
    assert n_plain - n_shared == 6 * 8 - (2 * 7 + 6)


@pytest.mark.parametrize(
    "options", [{"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}]
)
def test_what_is_drawn_otherwise_is_left_to_transformers(options):
    from evaluator.models.shared_prompt import prefilled
    from evaluator.sampling.decoding import generation_settings

    model = small("llama")
    settings = generation_settings(
        model, make_tiny_tokenizer(), max_new_tokens=4, temperature=1.0, top_p=1.0
    )
    ids = torch.tensor([A, A])
    assert prefilled(model, ids, torch.ones_like(ids), settings)
    settings = copy.deepcopy(settings)
    settings.update(**options)
    assert prefilled(model, ids, torch.ones_like(ids), settings) == {}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mistral", {"sliding_window": 64}),  # wider than the trial
        ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8}),
        ("mamba", {"state_size": 8}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        pytest.param("recurrent_gemma", {"lru_width": 32, "attention_window_size": 64}, marks=pytest.mark.slow),
        pytest.param(
            "falcon_h1", {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_what_keeps_more_or_less_than_keys_and_values_computes_each_row(kind, options):
    model = small(kind, **options)
    was = torch.get_rng_state()
    assert not can_share(model)
    assert torch.equal(torch.get_rng_state(), was)


def test_a_forward_pass_that_is_not_transformers_own_computes_each_row():
    model = small("llama")
    layer = model.model.layers[1].mlp
    own = layer.forward

    def rewritten(hidden):
        return own(hidden)

    layer.forward = rewritten
    assert not can_share(model)


def test_a_model_without_a_padding_token_shares_too():
    assert can_share(small("llama", pad_token_id=None))


def test_a_model_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(shared_prompt, "_agrees", lambda model: not tried.append(model))
    model = small("llama")
    assert can_share(model) and can_share(model) and len(tried) == 1


def test_within_the_block_whoever_generates_computes_equal_prompts_once_and_not_after_it():
    from evaluator.sampling.decoding import generation_settings

    model = small("llama")
    settings = generation_settings(
        model, make_tiny_tokenizer(), max_new_tokens=4, temperature=1.0, top_p=1.0
    )
    ids = torch.tensor([A, A, A])
    asked = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "generation_config": settings,
    }
    n_read = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, out: n_read.append(inputs[0].numel())
    )

    def drawn(**more):
        n_read.clear()
        torch.manual_seed(0)
        return model.generate(**asked, **more).tolist(), sum(n_read)

    assert can_share(model)
    plain, n_plain = drawn()
    with prompts_once(model):
        shared, n_shared = drawn()
        assert drawn(output_scores=True) == (plain, n_plain), "whoever asks for more has it as ever"
    assert shared == plain and n_plain - n_shared == 2 * (len(A) - 1)
    assert drawn() == (plain, n_plain) and "generate" not in vars(model)
    model.generate = own = model.generate
    with pytest.raises(KeyboardInterrupt), prompts_once(model):
        raise KeyboardInterrupt
    assert vars(model)["generate"] is own


def test_prompts_that_are_all_unlike_or_of_one_token_are_left_to_transformers():
    from evaluator.models.shared_prompt import prefilled
    from evaluator.sampling.decoding import generation_settings

    model = small("llama")
    settings = generation_settings(
        model, make_tiny_tokenizer(), max_new_tokens=4, temperature=1.0, top_p=1.0
    )
    for ids, shares in (([A, A], True), ([A, A[::-1]], False), ([[40], [40]], False)):
        ids = torch.tensor(ids)
        assert bool(prefilled(model, ids, torch.ones_like(ids), settings)) == shares
