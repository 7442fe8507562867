"""The settings by which rollouts are drawn, from TRL's configuration."""

from __future__ import annotations

from trl import GRPOConfig

from evaluator.models.objects import CausalModel, GenerationSettings, Tokenizer
from evaluator.sampling.decoding import Filters, generation_settings


def training_settings(
    model: CausalModel, tokenizer: Tokenizer, args: GRPOConfig
) -> GenerationSettings:
    """The settings by which rollouts are drawn."""
    return generation_settings(
        model,
        tokenizer,
        max_new_tokens=args.max_completion_length,
        temperature=args.temperature,
        top_p=args.top_p,
        filters=filters_of(args),
    )


def filters_of(args: GRPOConfig) -> Filters:
    """What narrows the distribution of a rollout's tokens beside temperature and top_p."""
    return Filters(
        top_k=args.top_k or 0,
        min_p=args.min_p or 0.0,
        repetition_penalty=args.repetition_penalty,
        further={
            "cache_implementation": args.cache_implementation,
            "disable_compile": True,
            **(args.generation_kwargs or {}),
        },
    )
