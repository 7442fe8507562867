"""The options of `eval`: how they combine, which contradict each other, and which a resumed run keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from evaluator.engines.servers import check_urls
from evaluator.problems.prompt import (
    COMPLETE_FUNCTION,
    PROTOCOLS,
    Protocol,
    VisibleTests,
    protocol_for,
)
from evaluator.problems.prompt_file import template_protocol
from evaluator.sampling.policy import Decoding

_OF_THE_PLACE = frozenset(
    "resume runs_dir backend device batch_size json_path engine ray_address".split()
)
"""Options that say where and how fast: a resumed run takes them anew, the batch size if it is named."""


@dataclass(frozen=True)
class EvalOptions:
    """The command's options; their help says what each means."""

    model: str | None
    adapter: Path | None
    base_only: bool
    api_base: tuple[str, ...]
    """Addresses of servers of the same model."""
    engine: str
    ray_address: str | None
    completions: Path | None
    gold: bool
    label: str | None
    dataset: str
    mbpp_dir: Path | None
    limit: int | None
    visible_tests: VisibleTests | None
    protocol_name: str | None
    max_new_tokens: int
    n_samples: int
    temperature: float
    top_p: float
    seed: int
    batch_size: int
    timeout_s: float
    backend: str
    device: str
    dtype: str
    load_in_4bit: bool
    allow_other_base: bool
    chat_template_kwargs: dict[str, Any]
    chat_template: Path | None
    prompt_template: Path | None
    resume: str | None
    skip_harness_check: bool
    runs_dir: Path
    json_path: Path | None
    whole_programs: bool = False
    """Whether a problem of the data set asks for one: known once it is loaded."""
    completes: bool = False
    """Whether all of them begin a function."""

    @property
    def protocol(self) -> Protocol:
        """The prompt form that is asked for.

        Raises:
            UserCodeError: a file of one's own cannot be used.
        """
        if self.prompt_template is not None:
            return template_protocol(self.prompt_template, self.visible_tests or "all")
        if self.protocol_name is not None:
            return PROTOCOLS[self.protocol_name]
        if self.visible_tests is None and self.completes:
            return COMPLETE_FUNCTION
        return protocol_for(self.visible_tests or "all", whole_programs=self.whole_programs)

    @property
    def scores_a_model(self) -> bool:
        """Whether answers are sampled, in place of those of a file or the references."""
        return self.completions is None and not self.gold

    @property
    def decoding(self) -> Decoding:
        """How completions are sampled."""
        return Decoding(
            self.max_new_tokens, self.temperature, self.top_p, self.n_samples, self.seed
        )


def check_options(options: EvalOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        ApiError: the address of a server is none.
    """
    _check_source(options)
    _check_engine(options)
    if options.adapter is not None and options.base_only:
        raise click.UsageError(
            "--base-only must stand without an adapter, got --adapter as well; leave one out"
        )
    forms = {
        "--protocol": options.protocol_name,
        "--visible-tests": options.visible_tests,
        "--prompt-template": options.prompt_template,
    }
    named = [name for name, value in forms.items() if value is not None]
    if options.protocol_name is not None and len(named) > 1:
        raise click.UsageError(
            f"the prompt form must be named once, got {' and '.join(named)}; leave one out"
        )
    if options.n_samples > 1 and options.temperature == 0.0:
        raise click.UsageError(
            "several samples must be drawn at a temperature above 0, got --temperature 0 with "
            f"--n-samples {options.n_samples}; greedy ones would all be the same"
        )


def _check_source(options: EvalOptions) -> None:
    """Answers come from one place, and an engine needs something to sample."""
    recorded = {"--gold": options.gold, "--completions": options.completions}
    sampling = {
        "--model": options.model,
        "--adapter": options.adapter,
        "--base-only": options.base_only,
        "--api-base": options.api_base,
    }
    given = [name for name, value in recorded.items() if value]
    if len(given) > 1 or (given and any(sampling.values())):
        given += [name for name, value in sampling.items() if value]
        names = " and ".join(given)
        raise click.UsageError(f"answers must have one source, got {names}; leave one out")
    if options.engine == "vllm" and given:
        raise click.UsageError(
            f"--engine vllm must have something to sample, got {given[0]}; leave the engine out"
        )


def _check_engine(options: EvalOptions) -> None:
    """A server has its model, template and engine already."""
    if options.ray_address is not None and options.engine != "ray":
        raise click.UsageError(
            f"--ray-address must stand with --engine ray, got --engine {options.engine}; add it"
        )
    if not options.api_base:
        return
    beside = {
        "--adapter": (options.adapter, "serve the adapter under a name of its own and give that as --model"),
        "--chat-template-kwargs": (options.chat_template_kwargs, "the server has the template, set them there"),
        "--chat-template": (options.chat_template, "the server has the template"),
    }  # fmt: skip
    for name, (value, remedy) in beside.items():
        if value:
            raise click.UsageError(f"--api-base must stand without {name}, got both; {remedy}")
    if options.engine != "local":
        raise click.UsageError(
            f"--api-base must stand without --engine, got --engine {options.engine} as well; the "
            "server is the engine"
        )
    if options.model is None:
        raise click.UsageError(
            "--api-base must stand with --model, got no model; name it as the server does"
        )
    check_urls(options.api_base)


def stored_options(given: EvalOptions, config: Mapping[str, Any]) -> EvalOptions:
    """The options that a run began with, in the place that this command line names."""
    stored = {
        field.name: config[field.name]
        for field in fields(EvalOptions)
        if field.name in config and field.name not in _OF_THE_PLACE
    }
    for name in ("adapter", "completions", "mbpp_dir", "chat_template", "prompt_template"):
        if stored.get(name) is not None:
            stored[name] = Path(stored[name])
    # It decides the random numbers: another one is taken only where it is asked for.
    source = click.get_current_context().get_parameter_source("batch_size")
    if "batch_size" in config and source is not ParameterSource.COMMANDLINE:
        stored["batch_size"] = config["batch_size"]
    before = stored.get("api_base") or ()
    stored["api_base"] = (before,) if isinstance(before, str) else tuple(before)
    if given.api_base:
        if not before:
            raise click.UsageError(
                "--api-base must stand beside --resume of a run that asked a server, got one that did not; "
                "leave it out"
            )
        stored["api_base"] = given.api_base
    return replace(given, **stored)


# other servers of the same model may finish what one that died began
def refuse_options_beside_resume(
    allowed: Collection[str] = (*_OF_THE_PLACE, "api_base"),
) -> list[str]:
    """Return the options on the command line; a resumed run has its own of all that are not allowed.

    Raises:
        click.UsageError: another one is given.
    """
    context = click.get_current_context()
    given = [
        param
        for param in context.command.params
        if param.name in context.params
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    for param in given:
        if param.name not in allowed:
            raise click.UsageError(
                f"--resume must stand with options of place and speed only, got {param.opts[-1]} as well; "
                "leave it out, the run has its own"
            )
    return [str(param.name) for param in given]
