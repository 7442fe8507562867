"""What is drawn follows from our settings; of the model's own generation_config only its end tokens count."""

import re

import pytest
from transformers import GenerationConfig

from evaluator.answers.extract import extract
from evaluator.sampling.decoding import (
    Filters,
    alone,
    answer_text,
    end_ids,
    generation_settings,
    stored,
    up_to_end,
)
from evaluator.sampling.policy import generate
from tests.tiny_model import make_tiny_tokenizer

ASK = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "hello there"}]]

LEAKING = {
    "repetition_penalty": 0.01, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(200)),
    "begin_suppress_tokens": list(range(200)), "min_new_tokens": 18, "bad_words_ids": [[70], [71]],
    "exponential_decay_length_penalty": [1, 1.5], "sequence_bias": [[[70], 50.0]], "forced_eos_token_id": 1,
    "forced_bos_token_id": 70, "encoder_repetition_penalty": 2.0, "num_beams": 2, "do_sample": True,
    "temperature": 0.01, "top_p": 0.1, "top_k": 2, "min_p": 0.9, "typical_p": 0.1, "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1, "top_h": 0.1, "max_time": 1e-6, "max_length": 3, "stop_strings": ["a", "b", "e"],
    "renormalize_logits": True, "remove_invalid_values": True, "guidance_scale": 3.0,
}  # fmt: skip


PLAIN = {}
"""Temperature -> what is drawn without any of them."""


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 0.8])
@pytest.mark.parametrize("name", LEAKING)
def test_no_field_of_the_models_own_generation_config_changes_what_is_drawn(
    tiny_policy, monkeypatch, name, temperature
):
    asked = {"max_new_tokens": 20, "temperature": temperature}
    if temperature not in PLAIN:
        PLAIN[temperature] = generate(tiny_policy, ASK, **asked)
    own = GenerationConfig(eos_token_id=1)
    monkeypatch.setattr(tiny_policy.model, "generation_config", own)
    setattr(own, name, LEAKING[name])
    assert generate(tiny_policy, ASK, **asked) == PLAIN[temperature]
    assert tiny_policy.model.generation_config is own, "put back"


@pytest.mark.parametrize(
    "filters",
    [
        Filters(top_k=1),
        Filters(min_p=0.99),
        Filters(repetition_penalty=0.01),
        Filters(further={"suppress_tokens": list(range(128))}),
    ],
)
def test_what_a_person_asks_for_changes_what_is_drawn(tiny_policy, filters):
    asked = {"max_new_tokens": 20, "temperature": 0.8}
    assert generate(tiny_policy, ASK, filters=filters, **asked) != generate(
        tiny_policy, ASK, **asked
    )


@pytest.mark.parametrize("listed", [None, 7, [7], [7, 1], (7, 9)])
def test_the_tokenizers_end_and_all_that_the_model_lists_end_an_answer(
    tiny_policy, monkeypatch, listed
):
    monkeypatch.setattr(
        tiny_policy.model, "generation_config", GenerationConfig(eos_token_id=listed)
    )
    own = tiny_policy.tokenizer.eos_token_id
    expected = {own, *([] if listed is None else [listed] if isinstance(listed, int) else listed)}
    found = end_ids(tiny_policy.model, tiny_policy.tokenizer)
    assert found[0] == own and set(found) == expected and len(found) == len(expected)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("<think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
        ("◁think▷", "◁/think▷"),
        ("<|channel|>analysis", "<|channel|>final"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
    ],
)
def test_tags_of_thinking_stay_in_the_text_although_they_are_special_tokens(begin, end):
    tokenizer = make_tiny_tokenizer()
    tags = [re.sub(r"(?<=>)\w+", "", tag) for tag in (begin, end)]
    further = ["<|message|>", "<|im_start|>", "<|tool|>", "<s>"]
    tokenizer.add_special_tokens({"extra_special_tokens": [*dict.fromkeys(tags), *further]})
    wrong, right = ("\n```python\ndef f(): return " + n + "\n```\n" for n in "12")
    text = f"<s>{begin}<|message|>{wrong}{end}<|message|><|tool|>{right}<|end|>"
    ids = tokenizer(text)["input_ids"]
    assert any(tag not in tokenizer.decode(ids, skip_special_tokens=True) for tag in tags)
    found = answer_text(tokenizer, ids)
    assert found == f"{begin}{wrong}{end}{right}"
    assert extract(found, ["f"]).code == "def f(): return 2"
    assert answer_text(tokenizer, ids[:3]) in found, "as it goes, token by token"


def test_an_answer_goes_to_its_first_end_whichever_that_is():
    assert up_to_end([5, 7, 6, 1], ends=[1, 7]) == ([5], True)
    assert up_to_end([5, 6], ends=[1, 7]) == ([5, 6], False)
    assert up_to_end([], ends=[1]) == ([], False)


def test_the_settings_that_are_stored_hold_every_field_that_is_set(tiny_policy):
    settings = generation_settings(
        tiny_policy.model, tiny_policy.tokenizer, max_new_tokens=5, temperature=0.7, top_p=0.9,
        filters=Filters(top_k=3),
    )  # fmt: skip
    found = stored(settings)
    assert found["temperature"] == 0.7 and found["top_p"] == 0.9 and found["top_k"] == 3
    assert found["eos_token_id"] == end_ids(tiny_policy.model, tiny_policy.tokenizer)
    assert None not in found.values() and "transformers_version" not in found
    assert not any(name.startswith("_") for name in found)
    with alone(tiny_policy.model, settings):
        assert tiny_policy.model.generation_config is settings
