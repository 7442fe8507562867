import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from trainer.forward import Rows, UnusualHead, completion_hidden, completion_logits, output_head

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


def test_capped_logits_are_unusual():
    config = Gemma2Config(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    with pytest.raises(UnusualHead, match="final_logit_softcapping"):
        output_head(Gemma2ForCausalLM(config))
