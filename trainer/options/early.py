"""Finds a wrong path or a misspelt option in a moment: the parser that knows them all takes ten seconds to import.

The names of the options are read off the classes' sources, ours, TRL's and transformers'; nothing is imported.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import yaml

from trainer.options.shipped import advice, config_path

_CLASSES = (
    ("trainer", "options/config.py", "BenchConfig"),
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/model_config.py", "ModelConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
"""Package, file and class of all that `trainer.options.config` hands to the parser, what they inherit included."""
_CALLED_ELSEWHERE = {
    "model": "model_name_or_path",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "max_new_tokens": "max_completion_length",
    "n_samples": "num_generations",
    "limit": "max_problems",
    "backend": "sandbox",
}
"""Names that our other commands and other trainers give to an option, where the likest name is another one."""
_FETCHED = ("full/", "sanitized/")
"""Data sets that may come from the hub, which takes its time."""


def check_experiment(
    given: Path,
    overrides: Sequence[str] = (),
    *,
    needs_model: bool = True,
    model: str | None = None,
    set_otherwise: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Return the file that `--config` means, once it and the words beside it name what can be there.

    Without `needs_model` the command names the model itself, or `model` is it. `set_otherwise` has the options that a
    command sets for each of its runs, and what a person gives in their place.

    Raises:
        click.ClickException: a file, a key or a path is wrong, in one line.
        ModuleNotFoundError: the extra `train` is not installed.
    """
    config = config_path(given)
    content = read_mapping(config, given)
    if overrides and not overrides[0].startswith("-"):
        raise click.ClickException(stray(overrides[0]))
    if "config" in _keys(overrides):  # of two, the parser would take the last
        raise click.ClickException(
            f"the configuration must be named once, got --config beside {str(given)!r}; leave it out, and set "
            "single options, or in `reproduce` --configs FOLDER"
        )
    known = known_options()
    if known is not None:
        for where, keys in ((str(given), content), ("the command line", _keys(overrides))):
            for key in keys:
                if not {key, key.removeprefix("no_")} & {*known, "env"}:
                    raise click.ClickException(unknown(key, known, where=where))
    _check_once(overrides, known or set())
    for name in _keys(overrides):
        if name in set_otherwise:
            raise click.ClickException(
                f"{name} must be left out, got --{name}: the command sets it for each run; use {set_otherwise[name]}"
            )
    options = {**content, **values_of(overrides)}
    if model is not None:
        options["model_name_or_path"] = model
    if needs_model and options.get("model_name_or_path") is None:
        raise click.ClickException(
            "model_name_or_path must name a model, got none; set it to a folder or hub name"
        )
    _check_paths(options)
    return config


def check_run_folder(run_dir: Path) -> None:
    """Refuse a folder that holds no training run.

    Raises:
        click.ClickException: with one line for the user.
    """
    if not (run_dir / "experiment.json").is_file():
        what = "without experiment.json" if run_dir.is_dir() else "which is not there"
        raise click.ClickException(
            f"--resume must name the folder of a training run, got {str(run_dir)!r} {what}; "
            "`sdpo-bench runs` lists them"
        )


def known_options() -> set[str] | None:
    """Return the name of every option; None where a class is not where it was, and only the parser knows.

    Raises:
        ModuleNotFoundError: a package of the extra `train` is not installed.
    """
    names = {"config"}
    for place in _CLASSES:
        found = _fields(*place)
        if found is None:
            return None
        names |= found
    return names


@functools.cache
def _fields(package: str, file: str, name: str) -> frozenset[str] | None:
    """The fields of a class that is not imported; None where it is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    try:
        tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            declared = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
            return frozenset(target.id for target in declared if isinstance(target, ast.Name))
    return None


def read_mapping(config: Path, given: Path) -> dict[str, Any]:
    """Return what a configuration holds; `given` is how the person named it.

    Raises:
        click.ClickException: it cannot be read, is no mapping or has a key twice, in one line.
    """
    try:
        content = yaml.load(config.read_text(encoding="utf-8"), Loader=_EachKeyOnce)  # noqa: S506
    except OSError as error:
        raise click.ClickException(
            f"--config must be a readable YAML file, got {str(given)!r} ({error.strerror}); {advice()}"
        ) from error
    # a date that is none, or far too many brackets, are faults of other types
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise click.ClickException(
            f"--config must be a readable YAML file, got {str(given)!r} ({' '.join(str(error).split())}); "
            "mend it"
        ) from error
    if not isinstance(content, dict):
        raise click.ClickException(
            f"--config must hold `key: value` lines, got {str(given)!r}; {advice()}"
        )
    return {str(key): value for key, value in content.items()}


class _EachKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, which of two equal keys would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's, of a mapping without a key twice."""
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"{key.value!r} stands in lines {lines[key.value]} and {line}, leave one"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _keys(words: Sequence[str]) -> list[str]:
    """The options among words of the command line, as the parser names them."""
    return [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]


def _check_once(words: Sequence[str], known: set[str]) -> None:
    """Refuse an option that is given twice, of which the parser would take the last without a word."""
    found: dict[str, list[str]] = {}
    for words_of_one in _split(words):
        found.setdefault(_option(words_of_one[0], known), []).append(" ".join(words_of_one))
    for name, given in found.items():
        if len(given) > 1:
            raise click.ClickException(
                f"an option must be given once, got {name} {len(given)} times ({', '.join(given)}); leave one"
            )


def last_of_each(words: Sequence[str]) -> list[str]:
    """Return the words of several lists of options in a row; of an option that stands in several, the last."""
    known = known_options() or set()
    last = {_option(words_of_one[0], known): words_of_one for words_of_one in _split(words)}
    return [word for words_of_one in last.values() for word in words_of_one]


def _split(words: Sequence[str]) -> list[list[str]]:
    """The words of each option: its name and what follows up to the next one."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not found:
            found.append([])
        found[-1].append(word)
    return found


def _option(word: str, known: set[str]) -> str:
    """The name of the option that a word begins: the parser takes `--no_x` for `--x false`."""
    key = word.removeprefix("--").partition("=")[0].replace("-", "_")
    return key if key in known else key.removeprefix("no_")


def values_of(words: Sequence[str]) -> dict[str, str]:
    """The value of each option that is given as `--key value` or `--key=value`."""
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and (equals or place + 1 < len(words)):
            found[key.replace("-", "_")] = value if equals else words[place + 1]
    return found


def _check_paths(options: Mapping[str, Any]) -> None:
    """Refuse what names a file or folder that is not there."""
    from evaluator.models.lora import ModelError
    from evaluator.models.named import check_model_name
    from evaluator.problems.mbpp import load_problems
    from evaluator.problems.problem import DatasetError
    from sandbox.client import check_backend
    from sandbox.program import SandboxError

    for name, what, is_there in (
        ("prompt_template", "file", Path.is_file),
        ("chat_template", "file", Path.is_file),
        ("mbpp_dir", "folder", Path.is_dir),
    ):
        value = options.get(name)
        if isinstance(value, str) and not is_there(Path(value)):
            raise click.ClickException(
                f"{name} must be a {what} that is there, got {value!r}; correct its name"
            )
    model, backend = options.get("model_name_or_path"), options.get("sandbox")
    try:
        if isinstance(model, str):
            check_model_name(model)
        if isinstance(backend, str):
            check_backend(backend)
        for name in ("dataset", "eval_dataset"):
            value = options.get(name)
            if isinstance(value, str) and not value.removeprefix("mbpp/").startswith(_FETCHED):
                load_problems(value, sandbox=str(backend or "auto"))
    except (DatasetError, ModelError, SandboxError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def unknown(key: str, known: set[str], *, where: str) -> str:
    """Say in one line that nothing is called so."""
    hint = near_miss(key, known) or "see `sdpo-bench train --options`"
    return f"{where} must hold known options only, got {key!r}; {hint}"


def stray(word: str) -> str:
    """Say in one line that a word is neither an option nor an option's value."""
    return (
        f"a word on the command line must follow an option, got {word!r}; write --name before it, "
        "or put a value that holds blanks in quotes"
    )


def near_miss(key: str, known: Iterable[str]) -> str | None:
    """A question after the known name that is meant; None where none is like it."""
    names = list(known)
    meant = _CALLED_ELSEWHERE.get(key)
    close = [meant] if meant in names else difflib.get_close_matches(key, names, n=1)
    return f"did you mean {close[0]!r}?" if close else None
