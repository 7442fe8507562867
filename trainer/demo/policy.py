"""A policy of our own for the demo: no download, under a minute of CPU, kept in a cache.

A Llama-architecture decoder of 0.3 million parameters and a byte-level BPE tokenizer made for it. The
cache's key is everything that decides the weights; on one machine the same key gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sandbox.client import Sandbox
from trainer.demo.pretraining import Encoded, teach
from trainer.demo.pretraining_texts import Lesson, lessons
from trainer.demo.problems import check_references, make_problems, write_problems

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 768
PIECES = r" ?[A-Za-z_]+| ?[0-9]+| ?[^\sA-Za-z0-9_]+|\s+"
"""A name or number is one piece, the same in prompt and code, so that it can be copied as one token.

With GPT-2's pieces, which part a name at each underscore, the policy had not learned to copy.
"""
_SOURCES = ("arguments", "families", "problems", "pretraining_texts", "pretraining", "policy")
"""Modules of this folder whose text decides the weights."""


@dataclass(frozen=True)
class Recipe:
    """What the warm start does."""

    reprompts: bool = True
    """Whether re-prompts are among the lessons; without them the policy cannot use one."""
    n_problems: int = 2000
    n_steps: int = 840
    batch_size: int = 16
    """Many small steps: 420 of 32 take as long and learn half as well to copy what a re-prompt shows."""
    width: int = 96
    mlp: int = 264
    n_layers: int = 2
    n_heads: int = 6
    seed: int = 42
    n_threads: int = 2
    """On two idle cores two take a quarter less than one; beside a busy process they wait for each other."""

    def key(self) -> str:
        """A hash of all that decides the weights on one machine."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for name in _SOURCES:
            digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
        digest.update(f"{torch.__version__} {transformers.__version__}".encode())
        return digest.hexdigest()[:16]


def warm_start(
    cache: Path, recipe: Recipe, sandbox: Sandbox, *, progress: Callable[[int], None] | None = None
) -> Path:
    """The policy's folder in the cache; made where it is not there, whole or not at all.

    `progress` is called with the number of optimizer steps made.
    """
    folder = cache / recipe.key()
    if folder.is_dir():
        return folder
    staged = folder.with_name(folder.name + ".part")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    n_threads = torch.get_num_threads()
    # A fixed number: how sums are split depends on it, and on nothing else that the machine does.
    torch.set_num_threads(recipe.n_threads)
    try:
        _make(staged, recipe, sandbox, progress)
    finally:
        torch.set_num_threads(n_threads)
    staged.rename(folder)
    return folder


def _make(
    folder: Path, recipe: Recipe, sandbox: Sandbox, progress: Callable[[int], None] | None
) -> None:
    made = make_problems(recipe.n_problems, held_out=False, seed=recipe.seed)
    problem_set = write_problems(folder / "taught.jsonl", made)
    check_references(problem_set, sandbox)
    taught = lessons(
        made, problem_set.problems, sandbox, seed=recipe.seed, reprompts=recipe.reprompts
    )
    tokenizer = make_tokenizer(
        [text for x in taught for text in (x.messages[-1]["content"], x.answer)]
    )
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(_config(recipe, tokenizer))
    teach(
        model,
        [_encode(tokenizer, x) for x in taught],
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        progress=progress,
    )
    transformers.utils.logging.disable_progress_bar()  # one shard, written at once
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` entries with a chat template."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def _encode(tokenizer: PreTrainedTokenizerFast, lesson: Lesson) -> Encoded:
    prompt = tokenizer.apply_chat_template(
        lesson.messages, tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return Encoded(ids, tokenizer(lesson.answer + END, add_special_tokens=False)["input_ids"])
