"""One `generate` call of transformers: its complete settings, padding, and rows that end one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluator.adapter import ModelError
from evaluator.memory import is_out_of_memory, what_was_asked
from evaluator.modes import evaluation_mode

if TYPE_CHECKING:
    import torch

StopRule = Callable[[str], bool]
"""Whether a completion as far as it goes is all that is needed."""


@dataclass(frozen=True)
class Generated:
    """The answer of one row."""

    text: str
    n_tokens: int
    """Without the end-of-text token."""
    truncated: bool
    """True when the length limit ended it."""


def generate_rows(
    model: Any,  # noqa: ANN401 - any causal model of transformers
    tokenizer: Any,  # noqa: ANN401
    token_ids: Sequence[Sequence[int]],
    *,
    rules: Sequence[StopRule] | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[Generated]:
    """Complete some prompts together; one answer each, in order.

    The model's training mode and the random state are afterwards as they were.

    Raises:
        ModelError: the tokenizer has no end-of-text token, or memory does not hold so many at once.
    """
    end_ids = _end_ids(model, tokenizer)
    settings = generation_settings(
        model, tokenizer, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p
    )
    input_ids, attention_mask = padded(model, tokenizer, token_ids)
    width = input_ids.shape[1]
    stopping = _Stopping(tokenizer, rules, width) if rules is not None else None
    with _sampling_mode(model, seed):
        try:
            output = model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=settings,
                stopping_criteria=[stopping] if stopping is not None else None,
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
        kept = ids[:n_stop]
        n_end = next((at for at, token in enumerate(kept) if token in end_ids), None)
        truncated = n_stop is None and n_end is None
        kept = kept[:n_end]
        answers.append(Generated(_text(tokenizer, kept), len(kept), truncated))
    return answers


def generation_settings(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> Any:  # noqa: ANN401 - transformers' GenerationConfig
    """Return the complete settings of one `generate` call; temperature 0 is greedy.

    Every field is set: what is left out would come from the model's own generation_config, and e.g.
    Qwen's holds a repetition penalty, which is not greedy decoding.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0.0,
        temperature=temperature if temperature > 0.0 else 1.0,
        top_p=top_p,
        top_k=0 if temperature > 0.0 else 50,  # transformers warns of another value when greedy
        num_beams=1,
        repetition_penalty=1.0,
        use_cache=True,
        eos_token_id=_end_ids(model, tokenizer),
        pad_token_id=_pad_id(model, tokenizer),
    )


def padded(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    token_ids: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return left-padded input ids and their attention mask, on the model's device."""
    import torch

    width = max(map(len, token_ids))
    input_ids = torch.full((len(token_ids), width), _pad_id(model, tokenizer), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(token_ids):
        input_ids[row, width - len(ids) :] = torch.tensor(ids, dtype=torch.long)
        attention_mask[row, width - len(ids) :] = 1
    device = next(model.parameters()).device
    return input_ids.to(device), attention_mask.to(device)


class _Stopping:
    """Stopping criterion of transformers' `generate`: a rule for each row of the batch."""

    def __init__(self, tokenizer: Any, rules: Sequence[StopRule], width: int) -> None:  # noqa: ANN401
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
            if ("`" in text or "]" in text) and self._rules[row](
                self._decoded(input_ids[row, self._width :].tolist())
            ):
                self.n_tokens[row] = n_tokens
        done = [row in self.n_tokens for row in range(len(tails))]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def _decoded(self, token_ids: list[int]) -> str:
        """Text of some tokens, as the answer will have it."""
        return _text(self._tokenizer, token_ids)


def _text(tokenizer: Any, token_ids: list[int]) -> str:  # noqa: ANN401
    """Text of tokens without end marks and the like; spaces stay as they are."""
    text: str = tokenizer.decode(
        token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


@contextlib.contextmanager
def _sampling_mode(model: Any, seed: int) -> Iterator[None]:  # noqa: ANN401 - any causal model
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


def _end_ids(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Token ids that end a text: the tokenizer's, and those the model's makers list."""
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])]
    known = [token for token in dict.fromkeys(ids) if token is not None]
    if not known:
        raise ModelError(
            "the tokenizer must have an end-of-text token, got none; set its eos_token"
        )
    return known


def _pad_id(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Token id that fills the left of shorter prompts."""
    pad_id = tokenizer.pad_token_id
    return int(pad_id if pad_id is not None else _end_ids(model, tokenizer)[0])
