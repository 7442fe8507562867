"""Tokenizers that lack a token, or put tokens of their own around a text: training asks and ends as `eval` does."""

import json
import shutil

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import LlamaForCausalLM

from evaluator.models.lora import ModelError
from evaluator.problems.prompt import MBPP_3SHOT
from evaluator.problems.user_code import UserCodeError
from evaluator.sampling.model import Policy, generate, load_policy
from evaluator.sampling.policy import plan_batches
from tests.tiny_model import make_tiny_tokenizer
from tests.trainer.finished import Finished
from trainer.options.config import parse_options
from trainer.options.prompting import plain_template
from trainer.training.train import train


@pytest.fixture
def model_with(tiny_model, tmp_path):
    """Writes the tiny model with a tokenizer that lacks some tokens, and end tokens that the model lists."""

    def write(*, lacks=(), ends=None):
        model, tokenizer = LlamaForCausalLM.from_pretrained(tiny_model), make_tiny_tokenizer()
        for name in lacks:
            setattr(tokenizer, name, None)
        model.config.eos_token_id = model.generation_config.eos_token_id = ends
        model.config.pad_token_id = model.generation_config.pad_token_id = None
        folder = tmp_path / "-".join(("model", *lacks))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.mark.parametrize(
    "lacks",
    [
        ["eos_token", "pad_token"],
        *(pytest.param([one], marks=pytest.mark.slow) for one in ("eos_token", "pad_token")),
    ],
)
@pytest.mark.parametrize("algorithm", [pytest.param("grpo", marks=pytest.mark.slow), "sdpo"])
def test_a_tokenizer_without_an_end_or_a_padding_token_trains_with_the_ends_that_the_model_lists(
    model_with, config_file, hashed_grades, algorithm, lacks
):
    end = make_tiny_tokenizer().eos_token_id
    ends = [end, *range(0, 256, 2)]
    options = parse_options(
        config_file(
            model_name_or_path=str(model_with(lacks=lacks, ends=ends)),
            max_steps=1,
            max_completion_length=16,
        )
    )
    rollouts = Finished(train(algorithm, options, say=lambda _: None)).rows["rollouts"]
    assert len(rollouts) == 8
    assert {rollout["truncated"] for rollout in rollouts} == {False}, "half of all bytes end one"
    assert all(1 <= rollout["n_completion_tokens"] <= 16 for rollout in rollouts)


def test_a_tokenizer_without_an_end_of_a_model_that_lists_none_is_one_line(
    model_with, config_file, hashed_grades
):
    folder = model_with(lacks=["eos_token"])
    options = parse_options(config_file(model_name_or_path=str(folder)))
    with pytest.raises(
        ModelError, match="an end-of-text token that the model has, got none; set its eos"
    ):
        train("sdpo", options, say=lambda _: None)


def with_own_tokens(single):
    tokenizer = make_tiny_tokenizer(chat_template=False)
    tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single,
        special_tokens=[
            (name, tokenizer.convert_tokens_to_ids(name))
            for name in ("<|bos|>", "<|end|>", "<|user|>")
        ],
    )
    return tokenizer


@pytest.mark.parametrize(
    ("single", "first"),
    [
        ("$A", []),
        ("<|bos|> $A", ["<|bos|>"]),
        ("<|bos|> $A <|end|>", ["<|bos|>"]),
        ("$A <|end|>", []),
        ("<|bos|> <|user|> $A", ["<|bos|>", "<|user|>"]),
    ],
)
def test_a_plain_prompt_begins_with_the_tokenizers_own_tokens_and_ends_where_the_answer_begins(
    tiny_policy_of, single, first
):
    tokenizer = with_own_tokens(single)
    policy = tiny_policy_of(tokenizer)
    (batch,) = plan_batches(policy, ["def f"], max_new_tokens=1, batch_size=1)
    assert tokenizer.convert_ids_to_tokens(list(batch.token_ids[0])) == [*first, "def", "Ġf"]
    tokenizer.chat_template = plain_template(tokenizer, MBPP_3SHOT)
    trained = tokenizer.apply_chat_template(
        [{"role": "user", "content": "def f"}], add_generation_prompt=False, return_dict=True
    )["input_ids"]
    assert trained == list(batch.token_ids[0]), "training reads what `eval` reads"


@pytest.fixture
def tiny_policy_of(tiny_model):
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(model.config.vocab_size + 1)
    return lambda tokenizer: Policy(model, tokenizer)


@pytest.fixture
def model_without(tiny_model, tmp_path):
    """Writes the tiny model with one token that only its tokenizer has: an end, padding, or one of the template."""

    def write(kind):
        model, tokenizer = LlamaForCausalLM.from_pretrained(tiny_model), make_tiny_tokenizer()
        if kind == "template":
            tokenizer.add_tokens(["<|who|>"], special_tokens=True)
            tokenizer.chat_template = tokenizer.chat_template.replace(
                "'<|assistant|>'", "'<|who|>'"
            )
        else:
            tokenizer.add_special_tokens({kind: "<|new|>"})
        assert len(tokenizer) == model.config.vocab_size + 1
        model.save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return write


@pytest.mark.parametrize("kind", ["pad_token", "eos_token"])
def test_a_padding_or_end_token_that_only_the_tokenizer_has_is_never_given_to_the_model(
    model_without, config_file, hashed_grades, kind
):
    folder = model_without(kind)
    options = parse_options(config_file(model_name_or_path=str(folder), max_steps=1))
    assert len(Finished(train("sdpo", options, say=lambda _: None)).rows["rollouts"]) == 8
    policy = load_policy(str(folder), device="cpu")
    ask = [[{"role": "user", "content": text}] for text in ("a", "a longer one")]
    assert len(generate(policy, ask, max_new_tokens=4)) == 2


def test_a_token_of_the_prompts_that_only_the_tokenizer_has_is_one_line(
    model_without, config_file, hashed_grades
):
    folder, message = model_without("template"), r"got '<\|who\|>' with id 517 for a model of 517;"
    options = parse_options(config_file(model_name_or_path=str(folder)))
    with pytest.raises(ModelError, match=message):
        train("sdpo", options, say=lambda _: None)
    with pytest.raises(ModelError, match=message):
        generate(
            load_policy(str(folder), device="cpu"),
            [[{"role": "user", "content": "a"}]],
            max_new_tokens=4,
        )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m['content'] }", "must be a Jinja template of a conversation"),
        ("{{ nope(messages) }}", "got 'nope' is undefined in the tokenizer; mend it, or give"),
        (
            "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
            "must write the content of messages, got '' from the tokenizer",
        ),
    ],
)
def test_a_model_whose_own_template_cannot_write_a_text_is_one_line(
    tiny_model, tmp_path, config_file, hashed_grades, template, message
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserCodeError, match=message):
        train("sdpo", parse_options(config_file(model_name_or_path=str(folder))), say=print)
    policy = load_policy(str(folder), device="cpu")
    with pytest.raises(UserCodeError, match=message):
        generate(policy, [[{"role": "user", "content": "a"}]], max_new_tokens=4)
    assert generate(policy, ["plain text"], max_new_tokens=4)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"pad_token_id": 9999}),
        ("config.json", {"hidden_size": "big"}),
        ("config.json", {"num_attention_heads": 5}),
        ("config.json", None),
        ("tokenizer.json", None),
        ("generation_config.json", None),
    ],
)
def test_files_of_a_model_with_impossible_content_are_one_line(tiny_model, tmp_path, name, change):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    content = [] if change is None else json.loads((folder / name).read_text()) | change
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="must load from its folder") as error:
        load_policy(str(folder), device="cpu")
    assert "\n" not in str(error.value)
