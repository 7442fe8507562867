import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM

import trainer.step.common_prefix
from evaluator.models.shared_prompt import can_share
from trainer.step.common_prefix import Cut, best_cut
from trainer.step.forward import (
    GroupedRows,
    Rows,
    WithPositions,
    completion_hidden,
    completion_logits,
)

RELATIVE = {torch.float64: 1e-6, torch.float32: 1e-5}
"""Of the largest entry. What float32 rounds away differs between processors: the plain form itself is 1e-5 off."""

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def adapted(kind, **options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **options}))
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    # BLOOM's bias by distance is not finite in float64
    return get_peft_model(
        model.to(torch.float32 if kind == "bloom" else torch.float64), config
    ).train()


def padded(rows, side):
    tensors = [torch.tensor(row) for row in rows]
    ids = pad_sequence(tensors, batch_first=True, padding_side=side)
    return ids, (ids != 0).long()


def grouped(prompts, completions, groups):
    return GroupedRows.of(
        Rows(*padded(prompts, "left"), *padded(completions, "right")), torch.tensor(groups)
    )


LONG, SHORT = [9, 8, 7, 6, 5, 4, 3, 10, 11], [9, 20, 21, 22, 23, 24]
COMPLETIONS = [[30, 31, 32], [33], [34, 35], [36, 37, 38], [39, 40]]
EQUAL = grouped([LONG, SHORT, LONG, LONG, SHORT], COMPLETIONS, [0, 1, 0, 0, 1])
"""As the student's: two prompts of unlike length."""
ALIKE = grouped(
    [[*LONG, 12, 13], [*SHORT, 14], [*LONG, 15], LONG, [*SHORT, 16, 17, 18]],
    COMPLETIONS,
    [0, 1, 0, 0, 1],
)
"""As the teacher's: a problem in common, then each row's own; one row has nothing after it."""


def gradient(model, read, rows):
    """Of a function of all real tokens, by parameter; and what was read at them."""
    read_at = read(model, rows)[rows.completion_mask.bool()]
    weights = torch.linspace(-1, 1, read_at.numel()).view_as(read_at)
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad((read_at.tanh() * weights).sum(), parameters), read_at.detach()


def assert_equal(shared, plain):
    largest = max(float(g.abs().max()) for g in plain)
    assert largest > 0.1
    for ours, theirs in zip(shared, plain, strict=True):
        assert float((ours - theirs).abs().max()) <= RELATIVE[theirs.dtype] * largest


def n_computed(model, read, rows):
    n_tokens = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: n_tokens.append(inputs[0].numel())
    )
    with torch.no_grad():
        read(model, rows)
    hook.remove()
    return sum(n_tokens)


@pytest.mark.parametrize("rows", [EQUAL, ALIKE], ids=["equal", "alike"])
@pytest.mark.parametrize("read", [completion_hidden, completion_logits])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 4}),
        pytest.param("qwen3", {"head_dim": 8}, marks=pytest.mark.slow),
        ("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
        pytest.param("bloom", {}, marks=pytest.mark.slow),
    ],
)
def test_a_prompt_computed_once_gives_the_gradient_of_one_computed_for_each_row(
    kind, options, read, rows
):
    model = adapted(kind, **options)
    assert can_share(model) and model.training
    plain, values = gradient(model, read, Rows(*rows))
    shared, shared_values = gradient(model, read, rows)
    assert n_computed(model, read, rows) < 0.9 * n_computed(model, read, Rows(*rows))
    assert_equal([shared_values], [values])
    assert_equal(shared, plain)


def test_trls_pass_over_whole_rows_computes_equal_prompts_once():
    model = adapted("llama")
    ids = torch.cat([EQUAL.prompt_ids, EQUAL.completion_ids], dim=1)
    mask = torch.cat([EQUAL.prompt_mask, EQUAL.completion_mask], dim=1)

    def through(model, rows):
        asked = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": 4, "use_cache": False}
        return WithPositions(model, model)(**asked).logits[:, :-1][:, -3:]

    plain, values = gradient(model, completion_logits, Rows(*EQUAL))
    shared, shared_values = gradient(model, through, EQUAL)
    assert n_computed(model, through, EQUAL) < n_computed(model, completion_logits, Rows(*EQUAL))
    assert_equal([shared_values], [values])
    assert_equal(shared, plain)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda model: model.gradient_checkpointing_enable(),
        lambda model: setattr(model.model.layers[0].self_attn, "attention_dropout", 0.1),
        lambda model: setattr(model.config, "attn_pdrop", 0.1),
        lambda model: setattr(model.model.layers[0], "mlp", torch.nn.Sequential(
            model.model.layers[0].mlp, torch.nn.Dropout(0.1))),
    ],
    ids=["checkpointing", "attention dropout", "a number of the configuration", "dropout"],
)  # fmt: skip
def test_under_dropout_or_checkpointing_each_row_is_computed_until_evaluation(prepare):
    model = adapted("llama")
    prepare(model.get_base_model())
    assert can_share(model)
    whole = n_computed(model, completion_hidden, Rows(*EQUAL))
    assert n_computed(model, completion_hidden, EQUAL) == whole
    model.eval()
    assert n_computed(model, completion_hidden, EQUAL) < whole


@pytest.mark.parametrize(
    ("kind", "options", "rows"),
    [
        ("mistral", {"sliding_window": 32}, EQUAL),
        ("llama", {}, grouped([[9, 8, 7], [5, 4, 3]], [[30], [31, 32]], [0, 1])),
    ],
    ids=["a window", "unlike prompts"],
)
def test_rows_that_cannot_share_or_have_nothing_in_common_are_computed_whole(kind, options, rows):
    model = adapted(kind, **options)
    can_share(model)
    whole = n_computed(model, completion_hidden, Rows(*rows))
    assert n_computed(model, completion_hidden, rows) == whole


def test_the_cheaper_cut_is_taken_and_none_where_whole_rows_cost_as_little():
    problem, solution = [1, 2, 3, 4], [5, 6, 7, 8, 9, 10]
    shown = [*problem, *solution]
    assert best_cut([shown] * 3, [0] * 3, n_completion_tokens=2) == Cut(
        [shown[:-1]], [[10]] * 3, [0, 0, 0]
    )
    # equal prompts share the solution, too; cutting after the problem would leave it in each row
    by_prompt = best_cut([shown, shown, [*problem, 40], shown], [0] * 4, n_completion_tokens=2)
    assert by_prompt == Cut([shown[:-1], problem], [[10], [10], [40], [10]], [0, 0, 1, 0])
    feedback = [[*problem, *problem, 20 + i] for i in range(4)]
    assert best_cut(feedback, [0] * 4, n_completion_tokens=2) == Cut(
        [[*problem, *problem]], [[20], [21], [22], [23]], [0] * 4
    )
    # a short prompt beside two long ones is as wide as they are
    long = [*range(8)]
    assert best_cut([long, long, [9]], [0, 0, 1], n_completion_tokens=2) == Cut(
        [long[:-1], []], [[7], [7], [9]], [0, 0, 1]
    )
    assert best_cut([[1, 2, 3], [4, 5, 6]], [0, 1], n_completion_tokens=2) is None
    assert best_cut([[1, 2, 3], [4, 5, 6]], [0, 0], n_completion_tokens=2) is None
    assert best_cut([[1, 2], [1, 2]], [0, 0], n_completion_tokens=99) is None


def test_the_prompts_in_common_are_cut_where_the_first_token_is_still_predicted(monkeypatch):
    """One token of each prompt stays with its row: the completion's first token is predicted from it."""
    cuts = []
    original = best_cut
    monkeypatch.setattr(
        trainer.step.common_prefix,
        "best_cut",
        lambda *a, **k: cuts.append(original(*a, **k)) or cuts[-1],
    )
    completion_hidden(adapted("llama"), EQUAL)
    assert [len(rest) for rest in cuts[0].rests] == [1] * 5
