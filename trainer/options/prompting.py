"""In which form a run asks its problems: by its options, and by whether the model's tokenizer knows conversations.

A tokenizer without a chat template gets a plain one: it writes the content of the messages as it is, then what stands
in the prompt form after the last field, where the answer begins. So the policy reads exactly the text that `eval`
gives a base model, and what the teacher is shown goes between the problem and that beginning.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from evaluator.models.objects import Tokenizer
from evaluator.problems.problem import DatasetError, Problem, ProblemSet
from evaluator.problems.prompt import (
    MBPP_3SHOT,
    Conversation,
    Protocol,
    VisibleTests,
    conversation,
    load_shots,
    usual_protocol,
)
from evaluator.problems.prompt_file import FIELDS, template_protocol
from evaluator.sampling.policy import first_ids
from trainer.options.config import BenchConfig

_FIELD = re.compile("|".join(rf"\{{{name}\}}" for name in FIELDS))


@dataclass(frozen=True)
class Asking:
    """The prompt form of a run, and its solved examples."""

    protocol: Protocol
    shots: tuple[Problem, ...] = ()

    def messages(self, problem: Problem) -> Conversation:
        """Return the chat messages that ask for a problem; for a plain form all but where the answer begins."""
        asked = conversation(problem, self.protocol, self.shots)
        if not isinstance(asked, str):
            return asked
        return [{"role": "user", "content": asked.removesuffix(_tail(self.protocol))}]

    def answered(self, completion: str) -> str:
        """Return a completion as it stands in a conversation that goes on; in a plain form as a solved example does."""
        if self.protocol.chat:
            return completion
        return f"{_tail(self.protocol)}{completion.rstrip()}\n{''.join(self.protocol.stop[:1])}\n\n"


def asking(bench: BenchConfig, problems: ProblemSet, *, plain: bool) -> Asking:
    """Return how a run asks some problems, see `form_of`."""
    return form_of(
        problems,
        plain=plain,
        visible_tests=bench.visible_tests,  # type: ignore[arg-type] # checked by BenchConfig
        prompt_template=None if bench.prompt_template is None else Path(bench.prompt_template),
        mbpp_dir=None if bench.mbpp_dir is None else Path(bench.mbpp_dir),
    )


def form_of(
    problems: ProblemSet,
    *,
    plain: bool,
    visible_tests: VisibleTests,
    prompt_template: Path | None,
    mbpp_dir: Path | None,
) -> Asking:
    """Return how some problems are asked, as `eval` asks them; `plain` of a model whose tokenizer has no chat template.

    Raises:
        DatasetError: the solved examples of the few-shot form could not be had.
        UserCodeError: the file of the prompt form cannot be used.
    """
    if prompt_template is not None:
        return Asking(template_protocol(prompt_template, visible_tests, chat=not plain))
    if plain:
        try:
            return Asking(MBPP_3SHOT, load_shots(MBPP_3SHOT, mbpp_dir=mbpp_dir))
        except DatasetError as error:
            raise DatasetError(
                f"a model without a chat template is asked with three solved problems of MBPP: {error}; or write a "
                "prompt of your own and name it by prompt_template"
            ) from error
    shown = None if visible_tests == "all" else visible_tests
    return Asking(usual_protocol(problems.problems, shown))


def ask_plainly(tokenizer: Tokenizer, form: Asking) -> None:
    """Give a tokenizer without a chat template the plain one of a form; another is left as it is."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = plain_template(tokenizer, form.protocol)


def plain_template(tokenizer: Tokenizer, protocol: Protocol) -> str:
    """Return a chat template that adds no words of a conversation.

    It begins with the tokens that the tokenizer puts before a text by itself, as `eval` lets it.
    """
    first = first_ids(tokenizer)
    text = tokenizer.decode(first)
    is_read_back = tokenizer(text, add_special_tokens=False)["input_ids"] == first
    begin = _literal(text) if is_read_back else ""
    return (
        begin
        + "{% for message in messages %}{{ message['content'] }}{% endfor %}"
        + "{% if add_generation_prompt %}"
        + _literal(_tail(protocol))
        + "{% endif %}"
    )


def _literal(text: str) -> str:
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""


def _tail(protocol: Protocol) -> str:
    """What stands after the last field of a plain form: where the answer begins."""
    template = protocol.templates["task"]
    ends = [found.end() for found in _FIELD.finditer(template)]
    return template[max(ends) :] if ends else ""
