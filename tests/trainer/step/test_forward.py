import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from evaluator.models.lora import ModelError
from evaluator.models.padding import check_padding
from trainer.step.forward import (
    Rows,
    UnusualHead,
    completion_hidden,
    completion_logits,
    output_head,
)

SAME = 1e-5
"""Float32 logits of size 1 from the same weights."""


def rows():
    prompt_ids = torch.tensor([[0, 0, 5, 9], [4, 5, 6, 7]])
    completion_ids = torch.tensor([[8, 9, 3], [1, 0, 0]])
    return Rows(prompt_ids, (prompt_ids != 0).long(), completion_ids, (completion_ids != 0).long())


def adapted(model):
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, config)


@pytest.mark.parametrize("wrap", [lambda model: model, adapted], ids=["full", "lora"])
def test_hidden_states_times_the_head_are_the_models_logits(tiny_model, wrap):
    model = wrap(AutoModelForCausalLM.from_pretrained(tiny_model)).eval()
    with torch.no_grad():
        logits = completion_logits(model, rows())
        hidden = completion_hidden(model, rows())
    assert logits.shape == (2, 3, model.config.vocab_size)
    assert torch.allclose(
        torch.nn.functional.linear(hidden, *output_head(model)), logits, atol=SAME
    )


def test_logits_stand_where_they_predict_the_completions_tokens(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        whole = model(torch.tensor([[4, 5, 6, 7, 1, 2, 3]])).logits
        r = Rows(
            torch.tensor([[4, 5, 6, 7]]),
            torch.ones(1, 4, dtype=torch.long),
            torch.tensor([[1, 2, 3]]),
            torch.ones(1, 3, dtype=torch.long),
        )
        assert torch.allclose(completion_logits(model, r), whole[:, 3:6], atol=SAME)


def test_an_adapter_on_the_head_is_unusual(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, tie_word_embeddings=False)
    with pytest.raises(UnusualHead, match="an adapter on it"):
        output_head(get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"])))


SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def small(kind, *, scale=1.0, **options):
    """A model of a kind with random weights; a head of small weights makes logits that a cap hardly moves."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE, **options)).float()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    return model


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8}),
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.0625}),
        (
            "recurrent_gemma",
            {"lru_width": 32, "logits_soft_cap": 30.0, "attention_window_size": 64},
        ),
        ("nanochat", {}),
    ],
)
def test_whatever_is_done_to_logits_after_the_head_makes_it_unusual(kind, options, scale):
    with pytest.raises(UnusualHead, match="logits must be"):
        output_head(small(kind, scale=scale, **options))


def test_whatever_is_done_to_hidden_states_before_the_head_makes_it_unusual():
    class Scaled(torch.nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden / 4)

    model = small("llama")
    head = model.get_output_embeddings()
    other = Scaled(head.in_features, head.out_features, bias=False)
    other.weight = head.weight
    model.set_output_embeddings(other)
    with pytest.raises(UnusualHead, match="through the output head"):
        output_head(model)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text", "phi", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_head_is_one_in_any_number_format(kind, dtype):
    model = small(kind).to(dtype)
    was = torch.get_rng_state()
    assert output_head(model).weight is model.get_output_embeddings().weight
    assert torch.equal(torch.get_rng_state(), was) and model.training


@pytest.mark.parametrize(
    "kind", ["llama", "gpt2", "gpt_bigcode", "gpt_neo", "xglm", "biogpt", "opt"]
)
def test_padding_on_the_left_changes_no_completions_logits(kind):
    extra = {"attention_types": [[["global"], 2]]} if kind == "gpt_neo" else {}
    model = small(kind, **extra).eval()
    check_padding(model)
    padded = rows()
    first = Rows(
        padded.prompt_ids[:1, 2:],
        padded.prompt_mask[:1, 2:],
        padded.completion_ids[:1],
        padded.completion_mask[:1],
    )
    with torch.no_grad():
        for read in (completion_logits, completion_hidden):
            assert torch.allclose(read(model, padded)[:1], read(model, first), atol=SAME), read


@pytest.mark.parametrize("kind", ["recurrent_gemma", "rwkv"])
def test_a_model_that_reads_padding_is_refused_in_one_line(kind):
    model = small(kind)
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 1.0  # the padding's, which is 0 in a new model
    with pytest.raises(
        ModelError, match="must not disturb each other, got logits that padding"
    ) as error:
        check_padding(model)
    assert "\n" not in str(error.value)
