import shutil

import pytest
import torch

from evaluator.sampling.decoding import Filters
from evaluator.sampling.model import (
    Decoding,
    ModelError,
    Policy,
    choose_device,
    generate,
    load_base,
    load_policy,
)
from tests.tiny_model import make_tiny_model

PROMPTS = ["a", "a longer one, with more to read", "bb", "hello there", "x" * 40]
CONVERSATIONS = [[{"role": "user", "content": text}] for text in PROMPTS]


def test_results_come_in_input_order_whatever_the_batches(tiny_policy):
    together = generate(tiny_policy, CONVERSATIONS, max_new_tokens=6, batch_size=2)
    alone = [
        generate(tiny_policy, [conversation], max_new_tokens=6)[0] for conversation in CONVERSATIONS
    ]
    assert together == alone
    assert [PROMPTS[i] in sample.prompt for i, sample in enumerate(together)] == [True] * 5


def test_the_prompt_is_templated_once_and_asks_for_an_answer(tiny_policy):
    (sample,) = generate(tiny_policy, CONVERSATIONS[:1], max_new_tokens=1)
    assert sample.prompt == "<|user|>a<|end|><|assistant|>"


def test_greedy_equals_the_arg_max_of_the_models_own_logits(tiny_policy):
    (sample,) = generate(tiny_policy, CONVERSATIONS[:1], max_new_tokens=5)
    ids = tiny_policy.tokenizer(sample.prompt, add_special_tokens=False)["input_ids"]
    written = []
    for _ in range(5):
        with torch.no_grad():
            logits = tiny_policy.model(torch.tensor([ids + written])).logits[0, -1]
        written.append(int(logits.argmax()))
        if written[-1] == tiny_policy.tokenizer.eos_token_id:
            break
    assert sample.text == tiny_policy.tokenizer.decode(written, skip_special_tokens=True)


def test_the_models_own_sampling_defaults_do_not_leak_into_greedy(tiny_folder):
    policy = load_policy(str(tiny_folder), device="cpu")
    (plain,) = generate(policy, CONVERSATIONS[1:2], max_new_tokens=20)
    policy.model.generation_config.repetition_penalty = 5.0
    policy.model.generation_config.do_sample = True
    assert generate(policy, CONVERSATIONS[1:2], max_new_tokens=20) == [plain]


def test_one_seed_gives_one_result_and_another_seed_another(tiny_policy):
    def draw(seed):
        return generate(
            tiny_policy, CONVERSATIONS, max_new_tokens=12, temperature=1.0, seed=seed, batch_size=5
        )

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_training_mode_and_random_state_are_put_back(tiny_policy):
    tiny_policy.model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generate(tiny_policy, CONVERSATIONS, max_new_tokens=3, temperature=1.0)
    assert torch.equal(torch.rand(3), expected)
    assert tiny_policy.model.training
    tiny_policy.model.eval()


def test_mode_is_put_back_after_a_failure(tiny_policy):
    tiny_policy.model.train()

    def rule(text):
        raise KeyError(text)

    with pytest.raises(KeyError):
        generate(tiny_policy, CONVERSATIONS[:1], max_new_tokens=300, stop=[rule], temperature=5.0)
    assert tiny_policy.model.training
    tiny_policy.model.eval()


def test_a_completion_that_meets_the_limit_is_truncated(tiny_policy):
    samples = generate(tiny_policy, CONVERSATIONS, max_new_tokens=4)
    assert all(sample.n_tokens == 4 for sample in samples if sample.truncated)
    assert any(sample.truncated for sample in samples)


def test_text_ends_at_the_end_token_which_counts_as_in_training(tiny_policy):
    ids = iter([72, 73, tiny_policy.tokenizer.eos_token_id, 70])
    config = tiny_policy.model.config

    class Scripted(torch.nn.Module):
        """Writes `i`, `j`, the end token; rows after it are padding."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = config
            self.get_input_embeddings = tiny_policy.model.get_input_embeddings

        def generate(self, input_ids, **options):
            return torch.cat([input_ids, torch.tensor([list(ids)])], dim=1)

    (sample,) = generate(Policy(Scripted(), tiny_policy.tokenizer), CONVERSATIONS[:1])
    assert (sample.n_tokens, sample.truncated) == (3, False)
    assert sample.text == tiny_policy.tokenizer.decode([72, 73])


def test_a_rule_ends_each_completion_on_its_own(tiny_policy):
    rules = [lambda text: "K" in text, lambda text: False]
    samples = generate(
        tiny_policy,
        CONVERSATIONS[:2],
        max_new_tokens=400,
        temperature=3.0,
        stop=rules,
        batch_size=2,
        seed=3,
    )
    assert samples[0].text.count("K") <= 1
    assert not samples[0].truncated
    assert samples[1].n_tokens >= samples[0].n_tokens or not samples[1].truncated


def test_plain_text_is_read_without_a_template(tiny_policy):
    (sample,) = generate(tiny_policy, ["def f("], max_new_tokens=2)
    assert sample.prompt == "def f("


def test_progress_counts_every_completion(tiny_policy):
    counts = []
    generate(tiny_policy, CONVERSATIONS, max_new_tokens=1, batch_size=2, progress=counts.append)
    assert counts == [2, 2, 1]


def test_nothing_to_ask_gives_nothing(tiny_policy):
    assert generate(tiny_policy, []) == []


def test_a_missing_chat_template_is_one_line(tmp_path):
    folder = make_tiny_model(tmp_path, chat_template=False)
    policy = load_policy(str(folder), device="cpu")
    with pytest.raises(ModelError, match=r"must have a chat template .*; use an instruct model"):
        generate(policy, CONVERSATIONS)
    assert len(generate(policy, ["plain"], max_new_tokens=1)) == 1


def test_a_tokenizer_without_padding_pads_with_the_end_token(tiny_folder):
    policy = load_policy(str(tiny_folder), device="cpu")
    expected = generate(policy, CONVERSATIONS, max_new_tokens=5)
    policy.tokenizer.pad_token = None
    assert generate(policy, CONVERSATIONS, max_new_tokens=5) == expected


def test_a_prompt_that_does_not_fit_the_context_is_one_line(tiny_policy):
    long = [[{"role": "user", "content": "x" * 3000}]]
    with pytest.raises(ModelError, match="model's context of 2048 tokens, got 3003 \\+ 8"):
        generate(tiny_policy, long, max_new_tokens=8)


def test_an_unknown_folder_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="must be an existing folder or a hub name") as caught:
        load_policy(str(tmp_path / "none"))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="must hold config.json"):
        load_policy(str(tmp_path))


def test_a_damaged_config_is_one_line(tmp_path, tiny_folder):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="must load from its folder") as caught:
        load_policy(str(folder))
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_one_line(tmp_path, tiny_folder):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="must load from its folder") as caught:
        load_policy(str(folder))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_not_filled_with_random_numbers(tmp_path, tiny_folder):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="without 'model.layers.1.mlp.up_proj.weight' and 0 more"):
        load_policy(str(folder), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_cuda_its_options_are_refused(tiny_folder):
    with pytest.raises(ModelError, match="device must exist"):
        choose_device("cuda")
    with pytest.raises(ModelError, match="must run on CUDA"):
        load_policy(str(tiny_folder), device="cpu", unsloth=True)


def test_on_cuda_attention_is_not_left_to_cudnn(tiny_folder, monkeypatch):
    from evaluator.sampling import model

    found = []
    monkeypatch.setattr(model, "_check_extras", lambda *_, **__: None)
    monkeypatch.setattr(
        model,
        "_load_with_transformers",
        lambda *_, **__: found.append(torch.backends.cuda.cudnn_sdp_enabled()),
    )
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        for device in ("cpu", "cuda", "cuda:1"):
            torch.backends.cuda.enable_cudnn_sdp(True)
            load_base(str(tiny_folder), device=device)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
    assert found == [True, False, False]


def test_decoding_names_itself():
    assert Decoding().name == "greedy, 256 tokens"
    assert Decoding(64, 0.7, 0.9, 4).name == "temperature 0.7, top_p 0.9, n 4, 64 tokens"
    # what is computed in another way is drawn from the same
    machine = {
        "disable_compile": True,
        "cache_implementation": None,
        "typical_p": 0.9,
        "top_h": None,
    }
    narrow = Filters(top_k=5, repetition_penalty=1.2, further=machine)
    said = (
        "temperature 0.7, top_p 0.9, top_k 5, repetition_penalty 1.2, typical_p 0.9, n 4, 64 tokens"
    )
    assert Decoding(64, 0.7, 0.9, 4, filters=narrow).name == said
    assert Decoding(64, 0.7, 0.9, 4, filters=Filters(min_p=0.1)).name.count("min_p 0.1") == 1


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. Of the allocated memory 7.00 GiB is",
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to",
    ],
)
def test_answers_that_memory_cannot_hold_are_one_line(tiny_policy, monkeypatch, message):
    def exhausted(**kwargs):
        raise RuntimeError(message)

    monkeypatch.setattr(tiny_policy.model, "generate", exhausted)
    with pytest.raises(
        ModelError, match="memory must hold 2 completions of 8 tokens at once"
    ) as caught:
        generate(tiny_policy, ["a", "b"], max_new_tokens=8)
    assert "--batch-size" in str(caught.value) and "Of the allocated" not in str(caught.value)
    assert tiny_policy.model.training is False
    message = "shape mismatch"
    with pytest.raises(RuntimeError, match="shape mismatch"):
        generate(tiny_policy, ["a"], max_new_tokens=8)


def test_a_model_that_memory_cannot_hold_is_one_line(tiny_folder, monkeypatch):
    def exhausted(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", exhausted)
    with pytest.raises(ModelError, match="memory must hold the model .* 4-bit"):
        load_policy(str(tiny_folder), device="cpu")
