"""One new token's attention over shared keys and values, beside transformers' own function."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from evaluator.models import grouped_attention as module
from evaluator.sampling.model import load_base
from tests.tiny_model import make_tiny_model


@given(
    n_rows=st.integers(1, 3),
    n_key_heads=st.integers(1, 3),
    n_shared=st.integers(1, 4),
    n_keys=st.integers(1, 9),
    n_queries=st.sampled_from([1, 1, 1, 2]),
    kind=st.sampled_from(["none", "bool", "float", "of each head"]),
    scaling=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 99),
)
def test_it_is_transformers_own_attention(
    n_rows, n_key_heads, n_shared, n_keys, n_queries, kind, scaling, seed
):
    generator = torch.Generator().manual_seed(seed)
    n_heads, size = n_key_heads * n_shared, 8
    n_queries = min(n_queries, n_keys)

    def draw(n, length):
        return torch.randn(n_rows, n, length, size, generator=generator, dtype=torch.float64)

    query, key, value = (
        draw(n_heads, n_queries),
        draw(n_key_heads, n_keys),
        draw(n_key_heads, n_keys),
    )
    mask = torch.rand(
        n_rows, n_heads if kind == "of each head" else 1, n_queries, n_keys, generator=generator
    )
    mask = None if kind == "none" else mask.double() if kind == "float" else mask > 0.5
    if mask is not None and mask.dtype == torch.bool:
        mask[..., -1] = True
    layer = SimpleNamespace(num_key_value_groups=n_shared, is_causal=True)
    found, _ = module.grouped_attention(layer, query, key, value, mask, scaling=scaling)
    wanted, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=scaling)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "more", [{"dropout": 0.5}, {"position_bias": torch.zeros(1, 4, 1, 5)}], ids=lambda m: min(m)
)
def test_what_it_does_not_know_is_left_to_transformers(monkeypatch, more):
    given_on = []
    monkeypatch.setattr(
        "transformers.integrations.sdpa_attention.sdpa_attention_forward",
        lambda *args, **kwargs: given_on.append(kwargs) or (args[1], None),
    )
    query, key = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 5, 8)
    module.grouped_attention(SimpleNamespace(), query, key, key, None, **more)
    assert more.items() <= given_on[0].items()


def test_a_loaded_model_samples_this_way_and_the_tokens_are_the_same(tmp_path, monkeypatch):
    folder = make_tiny_model(tmp_path / "tiny")
    model, tokenizer = load_base(str(folder), device="cpu")
    assert model.config.num_attention_heads > model.config.num_key_value_heads
    tokenizer.padding_side = "left"
    inputs = tokenizer(["a", "a longer one"], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    shapes = []

    def seen(layer, query, key, *rest, **more):
        shapes.append((query.shape[2], key.shape[1]))
        return module.grouped_attention(layer, query, key, *rest, **more)

    def sampled(attention):
        monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", attention)
        return model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, do_sample=False)

    assert AttentionInterface._global_mapping["sdpa"] is module.grouped_attention
    ours, theirs = sampled(seen), sampled(sdpa_attention_forward)
    assert torch.equal(ours, theirs)
    assert (1, model.config.num_key_value_heads) in shapes
