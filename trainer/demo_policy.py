"""A policy of our own for the demo: no download, a minute of CPU.

A Llama-architecture decoder of about half a million parameters and a byte-level BPE tokenizer, taught the
embedded training problems with their reference AND their wrong answer, half and half. It then answers
them in a mixture of right and wrong programs: what reinforcement learning needs, and nothing that says
anything about other problems. It is also taught to answer rightly when it is shown a correct solution or
what went wrong: without that its teacher knows no more than itself, and SDPO leads nowhere
(12 of 24 to 0 of 24 in 18 steps, where GRPO went to 17).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evaluator.feedback import feedback
from evaluator.grade import Grade, grade
from evaluator.mbpp import Problem, load_problems
from evaluator.prompt import messages
from sandbox.client import Sandbox
from trainer.teacher_prompt import Attempt, TeacherRules, teacher_prompts

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 1024
BATCH = 16


@dataclass(frozen=True)
class Lesson:
    """One conversation of the warm start: chat messages and the answer to learn."""

    messages: list[dict[str, str]]
    answer: str


def make_demo_policy(
    folder: Path,
    sandbox: Sandbox,
    *,
    n_steps: int,
    seed: int = 42,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Train the policy and its tokenizer; write both to `folder`, complete or not at all.

    `sandbox` runs the wrong answers once, for the feedback that they deserve.
    """
    lessons = demo_lessons(sandbox)
    torch.manual_seed(seed)
    tokenizer = _tokenizer(
        [text for x in lessons for text in (x.messages[-1]["content"], x.answer)]
    )
    model = LlamaForCausalLM(_config(tokenizer))
    _teach(model, [_encode(tokenizer, x) for x in lessons], n_steps=n_steps, progress=progress)
    staged = folder.with_name(folder.name + ".part")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    staged.rename(folder)
    return folder


def demo_lessons(sandbox: Sandbox) -> list[Lesson]:
    """Each embedded training problem asked plainly, answered both ways, and re-prompted, answered rightly."""
    embedded = resources.files("evaluator") / "embedded" / "problems.jsonl"
    rows = [json.loads(line) for line in embedded.read_text(encoding="utf-8").splitlines()]
    wrong = {row["task_id"]: _answer(row["wrong"]) for row in rows}
    problems = load_problems("embedded/train").problems
    failures = grade([(problem, wrong[problem.task_id]) for problem in problems], sandbox)
    return [
        lesson
        for problem, failure in zip(problems, failures, strict=True)
        for lesson in _lessons(problem, failure)
    ]


def _lessons(problem: Problem, failure: Grade) -> Iterator[Lesson]:
    question, right = messages(problem), _answer(problem.reference)
    yield Lesson(question, right)
    yield Lesson(question, failure.completion)
    failed = Attempt(failure.completion, success=False, feedback=feedback(failure))
    solved = Attempt(right, success=True, feedback=None)
    for group in ([failed, solved], [failed]):
        prompt = teacher_prompts(question, group, TeacherRules())[0]
        if prompt is not None:
            yield Lesson(list(prompt.messages), right)


def _answer(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def _tokenizer(texts: Sequence[str]) -> Any:  # noqa: ANN401
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = [PAD, END, USER, ASSISTANT]
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _config(tokenizer: Any) -> LlamaConfig:  # noqa: ANN401
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def _encode(tokenizer: Any, lesson: Lesson) -> tuple[list[int], list[int]]:  # noqa: ANN401
    prompt = tokenizer.apply_chat_template(
        lesson.messages, tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids, tokenizer(lesson.answer + END, add_special_tokens=False)["input_ids"]


def _teach(
    model: Any,  # noqa: ANN401
    lessons: Sequence[tuple[list[int], list[int]]],
    *,
    n_steps: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Supervised learning of the answers, with a cosine schedule."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step in range(n_steps):
        warm = min(1.0, (step + 1) / 20)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * step / n_steps)) / 2)
        chosen = torch.randperm(len(lessons))[:BATCH].tolist()
        ids, labels, mask = _batch([lessons[i] for i in chosen], model.config.pad_token_id)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(1)


def _batch(
    lessons: Sequence[tuple[list[int], list[int]]], pad_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Input ids, labels (-100 outside the answers) and attention mask, right-padded."""
    width = max(len(prompt) + len(answer) for prompt, answer in lessons)
    ids = torch.full((len(lessons), width), pad_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(lessons):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    return ids, labels, mask
