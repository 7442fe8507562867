"""Reads what evaluation harnesses write: lm-eval's results and samples, evalplus' results.

lm-eval writes `results_<time>.json` (figures of each task) and, with --log_samples, one
`samples_<task>_<time>.jsonl` a task (a line an answer). evalplus writes `*eval_results.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from analysis.journal.journal import StoreError
from analysis.records import Eval, EvalResult, Metric, Record
from analysis.render import visible
from analysis.statistics.intervals import wilson
from analysis.task_ids import TaskId

R = TypeVar("R", bound=Record)

_UNSAID = "imported"
_VERDICTS = ("pass_at_1", "pass@1", "exact_match", "acc")
"""Figures of lm-eval that say of each answer whether it is right, the first that is there."""
_OF_EACH_ANSWER = ("pass_at_1", "pass@1")
"""Of these the ones that say it of each of several answers to one problem where they are 0 or 1."""
_SAMPLES_NAME = re.compile(r"samples_(.+?)_\d{4}-\d\d-\d\dT.*")


@dataclass
class Imported:
    """What a file held."""

    form: str
    """metrics, completions or evaluation."""
    records: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is not stored and why, as a person knows it: `note: no numbers`."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the rows has to know, a line each."""
    model: str | None = None
    """The model that the file names."""


class Answer(NamedTuple):
    """One answer of an evaluation."""

    task_id: TaskId
    passed: bool
    completion: str = ""
    outcome: str | None = None
    prompt: str | None = None


def logged(kind: type[R], **told: object) -> R:
    """Return a row of which a log tells only this; the rest is NULL."""
    return kind.model_validate({**dict.fromkeys(kind.model_fields), **told})


def evaluation(
    eval_id: str, answers: Iterable[Answer], *, label: str, dataset: str, decoding: str = _UNSAID
) -> Iterable[Record]:
    """Yield the rows of one evaluation: each answer, then the summary of the first ones."""
    seen: dict[TaskId, int] = {}
    n_passed = 0
    for answer in answers:
        sample = seen[answer.task_id] = seen.get(answer.task_id, -1) + 1
        n_passed += answer.passed and sample == 0
        yield logged(
            EvalResult,
            eval_id=eval_id,
            task_id=answer.task_id,
            sample_index=sample,
            execution_id=f"imported-{eval_id}-{answer.task_id}-{sample}",
            prompt=answer.prompt,
            completion=answer.completion,
            outcome=answer.outcome or ("passed" if answer.passed else "imported"),
            passed=answer.passed,
        )
    yield _summary(eval_id, n_passed, len(seen), label=label, dataset=dataset, decoding=decoding)


def harness_reader(content: object) -> str | None:
    """Return which harness wrote a JSON file: lm-eval, evalplus, or None for neither."""
    if not isinstance(content, dict):
        return None
    results, graded = content.get("results"), content.get("eval")
    if isinstance(results, dict) and {"configs", "versions", "n-shot", "config"} & set(content):
        return "lm-eval"
    if isinstance(graded, dict) and graded and all(map(_is_graded, graded.values())):
        return "evalplus"
    return None


def is_lm_eval_sample(row: Mapping[str, Any]) -> bool:
    """Whether a line is one that lm-eval's --log_samples writes."""
    return {"doc_id", "resps"} <= set(row)


def lm_eval_results(
    path: Path, content: Mapping[str, Any], *, label: str, dataset: str | None
) -> Imported:
    """Read `results_*.json`: each figure as a metric, whole numbers as counts. StoreError: it holds no figures."""
    found = Imported("evaluation", model=_model(content))
    tasks = {name: row for name, row in content["results"].items() if isinstance(row, dict)}
    for task, figures in tasks.items():
        n = _n_samples(content, task) if _n_repeats(content, task) == 1 else None
        counted = set()
        for name, value in figures.items():
            metric, _, chosen = name.partition(",")
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if metric.endswith("_stderr"):
                continue
            eval_id = _eval_id(task, chosen)
            called = f"{task}/{metric}" + ("" if chosen in ("", "none") else f",{chosen}")
            found.records.append(Metric(step=0, name=called, value=float(value)))
            k = round(value * n) if n and math.isfinite(value) else -1
            if metric in _VERDICTS and eval_id not in counted and n:
                if 0 <= k <= n and math.isclose(k / n, value, abs_tol=1e-9):
                    counted.add(eval_id)
                    named = (
                        dataset if dataset and len(tasks) == 1 else f"{dataset or 'lm-eval'}/{task}"
                    )
                    read_by = _decoding(chosen)
                    found.records.append(
                        _summary(eval_id, k, n, label=label, dataset=named, decoding=read_by)
                    )
        if not counted:
            found.notes.append(f"{task}: figures only, no number of problems solved")
    if not found.records:
        raise _none(path, "no figures")
    return found


def lm_eval_samples(
    path: Path, rows: Sequence[Mapping[str, Any]], *, label: str, dataset: str | None
) -> Imported:
    """Read `samples_*.jsonl`: answers with verdicts, an evaluation a filter. StoreError: one has none, or several."""
    named = _SAMPLES_NAME.fullmatch(path.stem)
    task = named[1] if named else path.stem
    found = Imported("evaluation")
    by_filter: dict[str, list[tuple[Mapping[str, Any], list[Answer]]]] = {}
    for number, row in enumerate(rows, 1):
        of_row = list(_answers(path, number, row))
        by_filter.setdefault(str(row.get("filter", "none")), []).append((row, of_row))
    for chosen, graded in by_filter.items():
        ids = [_task_id(row.get("doc")) for row, _ in graded]
        if None in ids or len(set(ids)) < len(ids):
            ids = [_whole(path, number, row["doc_id"]) for number, (row, _) in enumerate(graded, 1)]
        answers = [
            answer._replace(task_id=task_id or 0)
            for task_id, (_, of_row) in zip(ids, graded, strict=True)
            for answer in of_row
        ]
        found.records += evaluation(
            _eval_id(task, chosen),
            answers,
            label=label,
            dataset=dataset or f"lm-eval/{task}",
            decoding=_decoding(chosen),
        )
    return found


def evalplus_results(
    path: Path, content: Mapping[str, Any], *, label: str, dataset: str | None
) -> Imported:
    """Read evalplus' results: what passes base, and what passes plus, too. StoreError: a problem has no number."""
    first = str(next(iter(content["eval"])))
    named = dataset or f"evalplus/{first.partition('/')[0].lower()}"
    found = Imported("evaluation")
    base: list[Answer] = []
    plus: list[Answer] = []
    for name, graded in content["eval"].items():
        task_id = _number_in(name)
        if task_id is None:
            raise _none(path, f"a problem called {name!r}")
        if not graded or graded == {"base": []}:
            found.left_out.append(f"{name}: no answer")
        for text, of_base, of_plus in _statuses(path, graded):
            base.append(_graded(task_id, text, of_base))
            if of_plus is not None:
                # What evalplus counts: an answer that fails a base test does not pass plus.
                plus.append(_graded(task_id, text, of_plus if of_base == "pass" else of_base))
    if not base:
        raise _none(path, "no answer")
    found.records += evaluation("base", base, label=label, dataset=named)
    if len(plus) == len(base):
        found.records += evaluation("plus", plus, label=label, dataset=f"{named}-plus")
    elif plus:
        found.left_out.append("plus: not every answer has one")
    return found


def _summary(eval_id: str, k: int, n: int, *, label: str, dataset: str, decoding: str) -> Eval:
    interval = wilson(k, n)
    return logged(
        Eval,
        eval_id=eval_id,
        label=label,
        dataset=dataset,
        protocol="imported",
        decoding=decoding,
        n=n,
        k=k,
        interval_low=interval.low,
        interval_high=interval.high,
    )


def _eval_id(task: str, chosen: str) -> str:
    """Name an evaluation; results and samples of one task and filter get the same."""
    return (task if chosen in ("", "none") else f"{task}-{chosen}")[:100]


def _decoding(chosen: str) -> str:
    """What took the answer out of the text: figures of two filters are two figures of one evaluation."""
    return _UNSAID if chosen in ("", "none") else f"{_UNSAID}, {chosen[:100]}"


def _n_samples(content: Mapping[str, Any], task: str) -> int | None:
    """How many problems a task asked; None where the file does not say."""
    counts = content.get("n-samples")
    found = counts.get(task) if isinstance(counts, dict) else None
    n = found.get("effective") if isinstance(found, dict) else None
    return n if isinstance(n, int) and n > 0 else None


def _n_repeats(content: Mapping[str, Any], task: str) -> int:
    """How many answers a problem got: of several the mean says no number of problems solved."""
    configs = content.get("configs")
    config = configs.get(task) if isinstance(configs, dict) else None
    n = config.get("repeats") if isinstance(config, dict) else None
    return n if isinstance(n, int) else 1


def _model(content: Mapping[str, Any]) -> str | None:
    if isinstance(name := content.get("model_name"), str) and name:
        return name
    config = content.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    if isinstance(arguments, dict):
        return str(arguments["pretrained"]) if "pretrained" in arguments else None
    found = re.search(r"(?:^|,)pretrained=([^,]+)", str(arguments or ""))
    return found[1] if found else None


def _answers(path: Path, number: int, row: Mapping[str, Any]) -> Iterable[Answer]:
    """The answers of one line with their verdict; the problem's id is filled in later."""
    listed = row.get("metrics")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    choices = [*(name for name in _VERDICTS if name in row), *names]
    responses = _flat(row["resps"])
    if len(responses) > 1 and len(chosen := _flat(row.get("filtered_resps"))) == 1:
        responses = chosen  # the first, or what most of them say: the verdict is on that
    if len(responses) > 1:
        choices = [name for name in _OF_EACH_ANSWER if name in row]
    verdict = next((row[name] for name in choices if _is_verdict(row.get(name))), None)
    if verdict is None or not responses:
        several = len(responses) > 1 or any(isinstance(row.get(name), float) for name in choices)
        raise StoreError(
            "a sample must have one verdict, 0 or 1, "
            f"got {'a share of several' if several else 'none'} in line {number} of {str(path)!r}; "
            "import the results_*.json of that run instead"
        )
    for text in responses:
        yield Answer(0, bool(verdict), text, prompt=_prompt(row.get("arguments")))


def _is_verdict(value: object) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _flat(responses: object) -> list[str]:
    """Responses as texts; those of a choice by likelihood as JSON."""
    if isinstance(responses, str):
        return [responses]
    if isinstance(responses, list) and all(isinstance(item, str) for item in responses):
        return list(responses)
    if isinstance(responses, list) and len(responses) == 1 and isinstance(responses[0], list):
        return _flat(responses[0])
    return [json.dumps(responses)] if responses else []


def _prompt(arguments: object) -> str | None:
    """The prompt among what a request was given, in the forms of several versions."""
    match arguments:
        case {"gen_args_0": {"arg_0": str(text)}}:
            return text
        case [[str(text), *_], *_]:
            return text
    return None


def _task_id(doc: object) -> int | None:
    return _number_in(doc["task_id"]) if isinstance(doc, dict) and "task_id" in doc else None


def _number_in(name: object) -> int | None:
    """`7` of 7, `7`, `Mbpp/7` and `HumanEval/7`."""
    found = re.fullmatch(r"(?:.*/)?(\d{1,15})", str(name))
    return int(found[1]) if found else None


def _whole(path: Path, number: int, value: object) -> int:
    if isinstance(value, int):
        return value
    raise _none(path, f"doc_id {value!r} in line {number}")


def _is_graded(value: object) -> bool:
    """Whether evalplus wrote this of a problem: a list of answers, or counts in its first versions."""
    if isinstance(value, dict):
        return isinstance(value.get("base"), list)
    return isinstance(value, list) and all(
        isinstance(item, dict) and "base_status" in item for item in value
    )


def _statuses(path: Path, graded: Any) -> Iterable[tuple[str, str, str | None]]:  # noqa: ANN401 - JSON
    """Text, base status and plus status of each answer to one problem."""
    if isinstance(graded, list):
        for item in graded:
            plus = item.get("plus_status")
            text = str(item.get("solution") or "")
            yield text, _status(path, item["base_status"]), plus and _status(path, plus)
        return
    of_base, of_plus = graded["base"], graded.get("plus") or [None] * len(graded["base"])
    if not isinstance(of_plus, list) or len(of_plus) != len(of_base):
        raise _none(path, "another number of answers for plus than for base")
    for base, plus in zip(of_base, of_plus, strict=True):
        yield "", _status(path, base), None if plus is None else _status(path, plus)


def _status(path: Path, value: object) -> str:
    """A status, or the first part of what the first versions wrote of an answer."""
    status = value[0] if isinstance(value, list) and value else value
    if not isinstance(status, str):
        raise _none(path, f"a status {visible(repr(value), 60)}")
    return "pass" if status == "success" else status  # the first versions' word


def _graded(task_id: int, text: str, status: str) -> Answer:
    outcomes = {"pass": "passed", "fail": "wrong_answer", "failed": "wrong_answer"}
    return Answer(task_id, status == "pass", text, outcomes.get(status, status))


def _none(path: Path, what: str) -> StoreError:
    return StoreError(
        "a log of an evaluation harness must hold answers or figures with their problems, "
        f"got {what} in {str(path)!r}; name another file"
    )
