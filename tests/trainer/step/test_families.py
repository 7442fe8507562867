"""Every causal language model that transformers can build tiny: padding and the head, found by trying."""

import inspect

import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from evaluator.models.lora import ModelError
from evaluator.models.padding import check_padding
from evaluator.models.shared_prompt import can_share
from evaluator.sampling.generate import generate_rows
from tests.tiny_model import make_tiny_tokenizer
from trainer.step.common_prefix import shared_inputs
from trainer.step.forward import (
    GroupedRows,
    Rows,
    UnusualHead,
    completion_hidden,
    completion_logits,
    output_head,
)

SAME = 1e-4
"""Float32 logits of size 10 over two layers."""

SMALL = {
    "vocab_size": 517, "hidden_size": 32, "n_embd": 32, "d_model": 32, "word_embed_proj_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2, "decoder_layers": 2, "encoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 8,
    "intermediate_size": 64, "n_inner": 64, "ffn_dim": 64, "ffn_hidden_size": 64, "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64, "max_position_embeddings": 512, "n_positions": 512, "state_size": 8,
    "num_local_experts": 2, "num_experts": 2, "n_routed_experts": 2, "num_experts_per_tok": 1,
    "moe_intermediate_size": 32, "is_decoder": True, "attention_types": [[["global"], 2]],
    "lru_width": 32, "attention_window_size": 64, "mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8,
    "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_expand": 2, "mamba_num_heads": 8, "mamba_head_dim": 8,
    "ssm_state_size": 16, "n_groups": 1,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
NOT_CAUSAL = {"xlnet": "samples with a dummy token that sees both sides"}
TOO_LARGE = 2e7
"""Parameters: the family has sizes of other names."""


def build(kind):
    """A tiny model of a family, or a skip that says why there is none."""
    if kind in NOT_CAUSAL:
        pytest.skip(NOT_CAUSAL[kind])
    config_class = CONFIG_MAPPING[kind]
    names = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    try:
        config = AutoConfig.for_model(kind, **{n: v for n, v in SMALL.items() if n in names})
        with torch.device("meta"):
            n_parameters = sum(
                p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()
            )
        if n_parameters > TOO_LARGE:
            pytest.skip(f"{n_parameters:.0e} parameters")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        model(input_ids=torch.tensor([[5, 6, 7]]))
    except Exception as error:  # noqa: BLE001 - whatever a configuration of small numbers lacks
        pytest.skip(f"cannot be built tiny: {type(error).__name__}")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                parameter.normal_(0, 0.2)
    return model


def rows():
    torch.manual_seed(1)
    ids = torch.randint(10, 250, (2, 12))
    mask = torch.ones_like(ids)
    ids[0, :5], mask[0, :5] = 0, 0
    return Rows(ids[:, :8], mask[:, :8], ids[:, 8:], mask[:, 8:])


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_a_family_is_read_right_under_padding_and_through_its_head_or_refused(kind):
    model = build(kind)
    padded = rows()
    alone = Rows(
        padded.prompt_ids[:1, 5:], padded.prompt_mask[:1, 5:], *[x[:1] for x in padded[2:]]
    )
    with torch.no_grad():
        logits = completion_logits(model, padded)
        off = float(
            (logits[0] - completion_logits(model, alone)[0]).abs().max() / logits.abs().max()
        )
        try:
            check_padding(model)
        except ModelError:
            assert off > SAME, "refused for nothing"
            return
        assert off < SAME
        try:
            head = output_head(model)
        except UnusualHead:
            pass  # the loss reads logits
        else:
            through = linear(completion_hidden(model, padded), *head)
            assert float((through - logits).abs().max() / logits.abs().max()) < SAME
    check_sharing(model)
    check_sampling(model)


def check_sharing(model):
    """A prompt that is computed once gives what one computed for each row does, or it is not."""
    if not can_share(model):
        return
    padded = rows()
    order = [0, 1, 0, 1, 1]
    whole = Rows(*[x[order] for x in padded])
    whole = whole._replace(completion_ids=whole.completion_ids + torch.arange(5).unsqueeze(1))
    with torch.no_grad():
        grouped = GroupedRows.of(whole, torch.tensor(order))
        assert shared_inputs(model, grouped) is not None
        plain, shared = completion_logits(model, whole), completion_logits(model, grouped)
    assert float((shared - plain).abs().max() / plain.abs().max()) < SAME


def check_sampling(model):
    """A prompt answers the same alone and beside a longer one."""
    tokenizer = make_tiny_tokenizer()
    prompts = [[40, 41, 42, 43, 44, 45, 46], [50, 51, 52]]
    try:
        model.generate(input_ids=torch.tensor(prompts[1:]), max_new_tokens=2)
    except Exception as error:  # noqa: BLE001 - some need more layers than two to keep a cache
        pytest.skip(f"cannot sample when tiny: {type(error).__name__}")
    asked = {"rules": None, "max_new_tokens": 6, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    together = generate_rows(model, tokenizer, prompts, **asked)
    apart = [generate_rows(model, tokenizer, [prompt], **asked)[0] for prompt in prompts]
    assert together == apart
