"""Samples through vLLM in this process; the only importer of vllm.

Tested with a stand-in for vLLM's interface (`LLM.generate` over token ids, `SamplingParams`, `LoRARequest`), and
with vLLM's CPU build itself by `make test-vllm`; on a GPU it has not been run.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from analysis.provenance import weights_of
from analysis.task_ids import TaskId, task_number
from evaluator.answers.answer_text import opened_by
from evaluator.engines.worker import Facts, Sampling, facts_of
from evaluator.models.lora import ModelError, base_name, rank
from evaluator.problems.problem import Problem
from evaluator.problems.prompt import conversation
from evaluator.problems.user_code import set_chat_template
from evaluator.sampling.answer_end import before_stop, stop_rule
from evaluator.sampling.batches import wanted
from evaluator.sampling.completions import Answer
from evaluator.sampling.policy import prompt_ids, prompt_text

_AT_ONCE = 256
"""Completions between two commits: vLLM makes its own batches, so this bounds only what a kill loses."""

CPU_CACHE_BYTES = 2 << 30
"""Room for keys and values on a CPU: 80,000 tokens of the 0.5B model. vLLM's own rule, 92 % of all memory, is
made for a card of its own and fails on a machine that does anything else."""


class VllmPolicy:
    """A model that vLLM holds, with its tokenizer."""

    def __init__(self, sampling: Sampling) -> None:
        """Load the model, with room for a LoRA adapter where there is one.

        Raises:
            ModelError: vLLM is not installed, is of another device's build, or cannot load it.
        """
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError as error:
            raise ModelError(
                f"--engine vllm must have vllm installed, got {error.msg!r}; install vllm, or serve "
                "the model with it and name the server by --api-base"
            ) from error
        self.vllm, self.platform = vllm, current_platform
        self.told: Callable[[int], None] | None = None
        """Who wants to know, while vLLM samples, how many completions it has finished."""
        self.sampling = sampling
        if sampling.device.partition(":")[0] not in ("auto", self.platform.device_type):
            raise ModelError(
                f"the device must be the one that this vLLM is built for, {self.platform.device_type or 'none'}, "
                f"got --device {sampling.device}; leave --device or --engine vllm out"
            )
        adapter = sampling.adapter
        self.name = base_name(sampling.model, adapter)
        options: dict[str, Any] = {"seed": sampling.decoding.seed, "dtype": sampling.dtype}
        if self.platform.device_type == "cpu":
            options["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
        if sampling.load_in_4bit:
            options["quantization"] = "bitsandbytes"
        if adapter is not None:
            options |= {"enable_lora": True, "max_lora_rank": rank(adapter)}
        try:
            self.llm = vllm.LLM(model=self.name, **options)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"the model must load in vLLM, got {self.name!r} ({' '.join(str(error).split())[:300]}); "
                "correct the name, or leave --engine vllm out"
            ) from error
        self.tokenizer = self.llm.get_tokenizer()
        if sampling.chat_template is not None:
            set_chat_template(self.tokenizer, sampling.chat_template)

    def facts(self, sandbox: str) -> Facts:
        """Return what is stored of this model and its place: where it is, not where it was wanted."""
        adapter = self.sampling.adapter
        device = self.platform.device_type
        placement = {
            "device": device,
            "dtype": str(self.llm.model_config.dtype).split(".")[-1],
            "engine": f"vllm {self.vllm.__version__}",
        }
        if device == "cuda":
            placement["gpu"] = self.platform.get_device_name()
        weights = weights_of(self.name, str(adapter) if adapter else None)
        return facts_of(sandbox, weights, placement)


def sample_with_vllm(
    problems: Sequence[Problem], policy: VllmPolicy, *, done: Collection[tuple[TaskId, int]] = ()
) -> Iterator[list[Answer]]:
    """Yield answers, up to 256 at a time; see `SamplingPlan`.

    vLLM cannot stop at the fence that ends the program, since an opening fence looks the same: an
    answer goes on to its end or the length limit, and counts as cut off only where its program was
    not complete by then.
    """
    sampling = policy.sampling
    protocol, decoding = sampling.protocol, sampling.decoding
    asked = wanted(problems, decoding, done)
    lora = None
    if sampling.adapter is not None:
        from vllm.lora.request import LoRARequest

        lora = LoRARequest("adapter", 1, str(sampling.adapter))
    for start in range(0, len(asked), _AT_ONCE):
        chosen = asked[start : start + _AT_ONCE]
        prompts, token_ids = [], []
        for problem, _ in chosen:
            conversed = conversation(problem, protocol, sampling.shots)
            prompts.append(prompt_text(policy.tokenizer, conversed, sampling.chat_template_kwargs))
            plain = isinstance(conversed, str)
            token_ids.append(prompt_ids(policy.tokenizer, prompts[-1], plain=plain))
        outputs = policy.llm.generate(
            [{"prompt_token_ids": ids} for ids in token_ids],
            [
                policy.vllm.SamplingParams(
                    max_tokens=decoding.max_new_tokens,
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    seed=decoding.seed + 1000 * task_number(problem.task_id) + sample_index,
                    stop=list(protocol.stop) or None,
                )
                for problem, sample_index in chosen
            ],
            lora_request=lora,
            use_tqdm=False if policy.told is None else _counter(policy.told),
        )
        yield [
            _answer(problem, sample_index, output.outputs[0], prompt, sampling)
            for (problem, sample_index), output, prompt in zip(
                chosen, outputs, prompts, strict=True
            )
        ]


def _answer(
    problem: Problem,
    sample_index: int,
    output: Any,  # noqa: ANN401 - vLLM's CompletionOutput
    prompt: str,
    sampling: Sampling,
) -> Answer:
    protocol = sampling.protocol
    is_done = stop_rule(problem, protocol)
    return Answer(
        problem=problem,
        completion=before_stop(output.text, protocol.stop),
        sample_index=sample_index,
        prompt=prompt,
        n_tokens=len(output.token_ids),
        truncated=output.finish_reason == "length" and not is_done(opened_by(prompt) + output.text),
    )


def _counter(told: Callable[[int], None]) -> Callable[..., Any]:
    """What vLLM may use in tqdm's place: it draws nothing and tells of each finished completion."""
    from tqdm import tqdm

    class Counter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> Any:  # noqa: ANN401 - as tqdm has it
            told(int(n or 0))
            return super().update(n)

    return Counter
