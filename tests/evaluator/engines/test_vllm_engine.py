"""The vLLM engine asks vLLM as its documentation says; vLLM itself is a stand-in here."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from evaluator.engines.vllm_engine import VllmPolicy, sample_with_vllm
from evaluator.engines.worker import Sampling
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import PROTOCOLS
from evaluator.sampling.model import ModelError
from evaluator.sampling.policy import Decoding
from tests.tiny_model import make_tiny_tokenizer

PROBLEMS = load_problems("embedded/test").problems


@pytest.fixture
def vllm(monkeypatch):
    """A module of vLLM's shape whose model answers `<prompt tokens> <seed>`."""
    module = ModuleType("vllm")
    module.__version__ = "0.0"
    module.calls = []
    module.finish_reason = "stop"
    module.text = None

    class LLM:
        def __init__(self, *, model, **options):
            if model == "broken":
                raise ValueError("no config\nat all")
            module.loaded = (model, options)
            self.model_config = SimpleNamespace(dtype="torch.bfloat16")

        def get_tokenizer(self):
            return make_tiny_tokenizer()

        def generate(self, prompts, params, *, lora_request, use_tqdm):
            assert len(prompts) == len(params)
            module.calls.append((prompts, params, lora_request))
            if use_tqdm:  # as vLLM's own loop does
                bar = use_tqdm(total=len(prompts), desc="Processed prompts", dynamic_ncols=True)
                for _ in prompts:
                    bar.postfix = f"{bar.format_dict['elapsed']:.2f} s"
                    bar.update(1)
                bar.refresh()
                bar.close()
            return [
                SimpleNamespace(
                    outputs=[
                        SimpleNamespace(
                            text=module.text or f"{len(prompt['prompt_token_ids'])} {param.seed}",
                            token_ids=(1, 2, 3),
                            finish_reason=module.finish_reason,
                        )
                    ]
                )
                for prompt, param in zip(prompts, params, strict=True)
            ]

    module.LLM = LLM
    module.SamplingParams = lambda **options: SimpleNamespace(**options)
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = lambda *args: args
    platforms = ModuleType("vllm.platforms")
    module.platform = platforms.current_platform = SimpleNamespace(
        device_type="cuda", get_device_name=lambda: "Card 9"
    )
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setitem(sys.modules, "vllm.lora", ModuleType("vllm.lora"))
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    return module


def sampling(**changes):
    options = {
        "model": "org/model",
        "adapter": None,
        "protocol": PROTOCOLS["mbpp"],
        "shots": (),
        "decoding": Decoding(max_new_tokens=9, temperature=0.5, top_p=0.9, n_samples=2),
        "batch_size": 4,
    }
    return Sampling(**{**options, **changes})


def answers(vllm, done=(), **changes):
    policy = VllmPolicy(sampling(**changes))
    return [a for batch in sample_with_vllm(PROBLEMS, policy, done=done) for a in batch]


def test_every_completion_is_asked_for_with_its_own_prompt_and_seed(vllm):
    found = answers(vllm)
    assert [(a.problem.task_id, a.sample_index) for a in found] == [
        (problem.task_id, index) for problem in PROBLEMS for index in range(2)
    ]
    assert len({a.completion.split()[1] for a in found}) == 32, "seeds differ"
    tokenizer = make_tiny_tokenizer()
    for answer in found:
        ids = tokenizer(answer.prompt, add_special_tokens=False)["input_ids"]
        assert answer.completion.split()[0] == str(len(ids)), "the prompt stored is the one read"
        assert answer.prompt.startswith("<|user|>") and answer.prompt.endswith("<|assistant|>")
    (param, *_) = vllm.calls[0][1]
    assert (param.max_tokens, param.temperature, param.top_p) == (9, 0.5, 0.9)


def test_finished_completions_are_told_of_while_it_samples_and_nothing_is_drawn(vllm, capsys):
    policy = VllmPolicy(sampling())
    told = []
    policy.told = told.append
    found = list(sample_with_vllm(PROBLEMS, policy))
    assert sum(told) == sum(map(len, found)) == len(told)
    assert capsys.readouterr() == ("", "")


def test_what_is_done_is_not_asked_again(vllm):
    found = answers(vllm, done={(PROBLEMS[0].task_id, 0)})
    assert len(found) == 31


def test_an_answer_at_the_length_limit_is_cut_off_unless_its_program_is_complete(vllm):
    vllm.finish_reason = "length"
    assert all(a.truncated for a in answers(vllm))
    name = PROBLEMS[0].callables[0]
    vllm.text = f"```python\ndef {name}():\n    return 1\n```\nand on and on"
    assert [a.truncated for a in answers(vllm)[:2]] == [False, False]


def test_the_plain_text_protocol_ends_at_its_mark(vllm):
    vllm.text = "def f(): pass\n[DONE]\nnext task"
    found = answers(vllm, protocol=PROTOCOLS["mbpp-3shot"])
    assert found[0].completion == "def f(): pass\n"
    assert vllm.calls[0][1][0].stop == ["[DONE]"]


def test_an_adapter_is_requested_with_its_rank(vllm, tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"r": 32, "base_model_name_or_path": "org/base"})
    )
    answers(vllm, model=None, adapter=tmp_path)
    assert vllm.loaded[0] == "org/base"
    assert vllm.loaded[1]["max_lora_rank"] == 32
    assert vllm.calls[0][2] == ("adapter", 1, str(tmp_path))


@pytest.mark.parametrize("device", ["cpu", "xpu", "cuda"])
def test_what_is_stored_is_where_the_model_is_and_its_number_format(vllm, device):
    vllm.platform.device_type = device
    facts = dict(VllmPolicy(sampling(dtype="auto")).facts("docker").placement)
    assert (facts["device"], facts["dtype"]) == (device, "bfloat16")
    assert facts.get("gpu") == ("Card 9" if device == "cuda" else None)


def test_on_a_cpu_it_does_not_take_nearly_all_memory(vllm):
    vllm.platform.device_type = "cpu"
    VllmPolicy(sampling())
    assert vllm.loaded[1]["kv_cache_memory_bytes"] <= 4 << 30
    vllm.platform.device_type = "cuda"
    VllmPolicy(sampling())
    assert "kv_cache_memory_bytes" not in vllm.loaded[1]


@pytest.mark.parametrize(("built", "asked"), [("cuda", "cpu"), ("cpu", "cuda"), ("cpu", "cuda:1")])
def test_another_device_than_vllms_own_is_refused(vllm, built, asked):
    vllm.platform.device_type = built
    with pytest.raises(ModelError, match=rf"built for, {built}, got --device {asked}; leave"):
        VllmPolicy(sampling(device=asked))


def test_without_vllm_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"must have vllm installed[\s\S]*--api-base"):
        VllmPolicy(sampling())


def test_a_model_that_vllm_cannot_load_is_one_line(vllm):
    with pytest.raises(ModelError, match=r"got 'broken' \(no config at all\)"):
        VllmPolicy(sampling(model="broken"))
