"""One `generate` call of transformers: padding, and rows that end one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluator.models.lora import ModelError
from evaluator.models.memory import is_out_of_memory, what_was_asked
from evaluator.models.modes import evaluation_mode
from evaluator.models.objects import CausalModel, Tokenizer
from evaluator.models.padding import check_padding
from evaluator.models.shared_prompt import prefilled
from evaluator.sampling.decoding import (
    Filters,
    alone,
    answer_text,
    end_ids,
    generation_settings,
    pad_id,
    up_to_end,
)

if TYPE_CHECKING:
    import torch

StopRule = Callable[[str], bool]
"""Whether a completion as far as it goes is all that is needed."""


@dataclass(frozen=True)
class Generated:
    """The answer of one row."""

    text: str
    n_tokens: int
    """What the model wrote, its end token counted."""
    truncated: bool
    """True when the length limit ended it."""


def generate_rows(
    model: CausalModel,
    tokenizer: Tokenizer,
    token_ids: Sequence[Sequence[int]],
    *,
    rules: Sequence[StopRule] | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    filters: Filters | None = None,
) -> list[Generated]:
    """Complete some prompts together; one answer each, in order.

    The model's training mode and the random state are afterwards as they were.

    Raises:
        ModelError: the tokenizer has no end-of-text token, memory does not hold so many at once, or the
            model reads the padding of shorter prompts.
    """
    if len({len(ids) for ids in token_ids}) > 1:
        check_padding(model)
    ends = end_ids(model, tokenizer)
    settings = generation_settings(
        model,
        tokenizer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        filters=filters,
    )
    input_ids, attention_mask = padded(model, tokenizer, token_ids)
    width = input_ids.shape[1]
    stopping = _Stopping(tokenizer, rules, width) if rules is not None else None
    with _sampling_mode(model, seed), alone(model, settings):
        try:
            output = model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=settings,
                stopping_criteria=[stopping] if stopping is not None else None,
                **prefilled(model, input_ids, attention_mask, settings),
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"memory must hold {len(token_ids)} completions of {max_new_tokens} tokens at once, got "
                f"{what_was_asked(error)}; sample fewer together (--batch-size, in training eval_batch) or "
                "shorter ones"
            ) from error
    answers = []
    for row, ids in enumerate(output[:, width:].tolist()):
        n_stop = stopping.n_tokens.get(row) if stopping is not None else None
        kept, has_end = up_to_end(ids[:n_stop], ends)
        truncated = n_stop is None and not has_end
        answers.append(Generated(answer_text(tokenizer, kept), len(kept) + has_end, truncated))
    return answers


def padded(
    model: CausalModel,
    tokenizer: Tokenizer,
    token_ids: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return left-padded input ids and their attention mask, on the model's device."""
    import torch

    width = max(map(len, token_ids))
    input_ids = torch.full((len(token_ids), width), pad_id(model, tokenizer), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(token_ids):
        input_ids[row, width - len(ids) :] = torch.tensor(ids, dtype=torch.long)
        attention_mask[row, width - len(ids) :] = 1
    device = next(model.parameters()).device
    return input_ids.to(device), attention_mask.to(device)


class _Stopping:
    """Stopping criterion of transformers' `generate`: a rule for each row of the batch."""

    def __init__(self, tokenizer: Tokenizer, rules: Sequence[StopRule], width: int) -> None:
        self._tokenizer, self._rules, self._width = tokenizer, rules, width
        self.n_tokens: dict[int, int] = {}
        """Row -> completion tokens where its rule first held."""

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: object,
        **_: object,
    ) -> torch.Tensor:
        """Return which rows are done."""
        import torch

        tails = input_ids[:, max(self._width, input_ids.shape[1] - 4) :].tolist()
        n_tokens = input_ids.shape[1] - self._width
        for row, tail in enumerate(tails):
            if row in self.n_tokens:
                continue
            # Decoding everything at each token would take quadratic time; the last few tokens
            # tell whether something that can end an answer has just been written.
            text = self._decoded(tail)
            if any(mark in text for mark in "`~]") and self._rules[row](
                self._decoded(input_ids[row, self._width :].tolist())
            ):
                self.n_tokens[row] = n_tokens
        done = [row in self.n_tokens for row in range(len(tails))]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def _decoded(self, token_ids: list[int]) -> str:
        return answer_text(self._tokenizer, token_ids)


@contextlib.contextmanager
def _sampling_mode(model: CausalModel, seed: int) -> Iterator[None]:
    """Evaluation mode and a seeded random state; both are put back."""
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(),
        evaluation_mode(model),
    ):
        torch.manual_seed(seed)
        yield
