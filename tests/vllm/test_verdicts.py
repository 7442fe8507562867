"""vLLM itself against transformers: `make test-vllm`, in an environment of its own with vLLM's CPU build."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="no vLLM here; `make test-vllm` makes an environment with it")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import evaluator
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP, conversation
from trainer.demo.policy import END, make_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
N_PROBLEMS = 8


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A model that has learned eight answers by heart: right ones to half of the problems, wrong ones to the others."""
    problems = load_problems("embedded/test", limit=N_PROBLEMS).problems
    rows = map(
        json.loads,
        Path(evaluator.__file__)
        .with_name("problems")
        .joinpath("embedded", "problems.jsonl")
        .open(),
    )
    wrong = {row["task_id"]: row["wrong"] for row in rows}
    conversations = [conversation(problem, MBPP, ()) for problem in problems]
    programs = [p.reference if i % 2 == 0 else wrong[p.task_id] for i, p in enumerate(problems)]
    answers = [f"```python\n{program}\n```" for program in programs]
    tokenizer = make_tokenizer([*(m["content"] for c in conversations for m in c), *answers])
    asked = [
        tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True)
        for c in conversations
    ]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked]
    targets = [tokenizer(text + END, add_special_tokens=False)["input_ids"] for text in answers]
    folder = tmp_path_factory.mktemp("policy")
    learned_by_heart(tokenizer, prompts, targets).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learned_by_heart(tokenizer, prompts, targets):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,  # 32 columns a head, the fewest that vLLM's CPU attention takes
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    rows = [torch.tensor(p + t) for p, t in zip(prompts, targets, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad(rows, batch_first=True, padding_value=-100)
    for row, prompt in zip(labels, prompts, strict=True):
        row[: len(prompt)] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = model(
            input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    assert loss.item() < 0.1
    return model


def evaluated(runs, policy, *options):
    """One evaluation by the command itself: its results, and what is stored of the run."""
    words = ["eval", "--model", str(policy), "--dataset", "embedded/test", "--sandbox", "process"]
    words += ["--limit", str(N_PROBLEMS), "--max-new-tokens", "256", "--dtype", "float32"]
    done = subprocess.run(
        [sys.executable, "-m", "sdpo_bench", *words, "--runs-dir", str(runs), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    rows = [json.loads(line) for file in runs.rglob("*.jsonl") for line in file.open()]
    results = {row["row"]["task_id"]: row["row"] for row in rows if row["table"] == "eval_results"}
    (manifest,) = runs.glob("*/run.json")
    return results, json.loads(manifest.read_text())


def test_vllm_and_transformers_give_the_same_verdicts(policy, tmp_path):
    ours, _ = evaluated(tmp_path / "transformers", policy)
    theirs, run = evaluated(tmp_path / "vllm", policy, "--engine", "vllm")
    assert len(ours) == N_PROBLEMS and ours.keys() == theirs.keys()
    for task_id, row in ours.items():
        same = ("prompt", "code", "outcome", "passed", "n_passed")
        assert {k: row[k] for k in same} == {k: theirs[task_id][k] for k in same}, task_id
    # half of the answers that were learned are wrong: the verdicts say something
    assert {row["passed"] for row in ours.values()} == {True, False}
    assert (run["hardware"]["device"], run["hardware"]["dtype"]) == ("cpu", "float32")
    assert run["hardware"]["engine"].startswith("vllm 0.")
