"""Functions and templates that a person brings: found, loaded, and named with the sha256 of what they came from.

A function is the person's own code. It runs in this process with all that this process may do, as any module that the
person imports: only what models write goes to the sandbox.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_TEMPLATE_CHARS = 200_000


class UserCodeError(Exception):
    """A person's own function or template cannot be used; the message is one line and says where it is."""


@dataclass(frozen=True)
class UserFunction:
    """A person's function."""

    name: str
    """As it was asked for: `module:function`, or `file.py:function`."""
    sha256: str
    """Of the file in which it stands."""
    path: Path
    function: Callable[..., Any]

    def __call__(self, *args: object) -> Any:  # noqa: ANN401 - the caller checks it
        """Call it.

        Raises:
            UserCodeError: it raised; the message names its line.
        """
        try:
            return self.function(*args)
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = [frame for frame in frames if Path(frame.filename) == self.path]
            line = f" in line {where[-1].lineno}" if where else ""
            raise UserCodeError(
                f"{self.name} must return without an error, got {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}{line}; mend {self.path}"
            ) from error


def load_function(spec: str, *, option: str) -> UserFunction:
    """Load `module:function` or `path/to/file.py:function`, as an option such as `--reward` asks for it.

    A module is looked for in the working folder first, then where Python finds its own.

    Raises:
        UserCodeError: there is no such file, module or function, or it cannot be imported.
    """
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name.isidentifier():
        raise UserCodeError(
            f"{option} must be module:function or file.py:function, got {spec!r}; write it so"
        )
    path = _file_of(module_name, option)
    try:
        module = _module(module_name, path)
        found = getattr(module, name, None)
    except (Exception, SystemExit) as error:
        raise UserCodeError(
            f"{option} must name code that can be imported, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]} in {str(path)!r}; mend it"
        ) from error
    if not callable(found):
        public = {key: value for key, value in vars(module).items() if key[0] != "_"}
        known = [
            key
            for key, value in public.items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise UserCodeError(
            f"{option} must name a function of {str(path)!r}, got {name!r}; it has {', '.join(known[:8]) or 'none'}"
        )
    if inspect.iscoroutinefunction(found):
        raise UserCodeError(
            f"{option} must name a function that returns at once, got {name!r}, which is async; write it with `def`"
        )
    return UserFunction(spec, hashlib.sha256(path.read_bytes()).hexdigest(), path, found)


def _file_of(module: str, option: str) -> Path:
    is_path = module.endswith(".py") or "/" in module
    path = Path(module if is_path else module.replace(".", "/") + ".py")
    with contextlib.suppress(OSError):  # a name too long for a file
        if path.is_file():
            return path.resolve()
    if is_path:
        raise UserCodeError(
            f"{option} must name a file that is there, got {module!r}; correct its path"
        )
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserCodeError(
            f"{option} must name a module that Python finds, got {module!r}; name a file as path/to/file.py:function"
        )
    return Path(spec.origin).resolve()


def _module(name: str, path: Path) -> ModuleType:
    """Import the module; a file is imported under a name of its own, so that it stands for no other."""
    found = None
    if not name.endswith(".py") and "/" not in name:
        # A package of the working folder, which is not searched.
        with contextlib.suppress(ImportError):
            found = importlib.util.find_spec(name)
    if found is not None and found.origin is not None and Path(found.origin).resolve() == path:
        return importlib.import_module(name)
    own_name = f"_sdpo_bench_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if own_name in sys.modules:
        return sys.modules[own_name]
    spec = importlib.util.spec_from_file_location(own_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[own_name] = module
    # Last, so that what stands beside the file can be imported and stands for nothing of ours or of Python.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[own_name]
        raise
    return module


def read_template(path: Path, *, option: str) -> str:
    """Return the text of a template.

    Raises:
        UserCodeError: the file cannot be read, is no UTF-8, empty or far too long.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserCodeError(
            f"{option} must name a UTF-8 file, got {str(path)!r} ({error.reason}); save it as UTF-8"
        ) from error
    except (OSError, ValueError) as error:  # the second of a NUL in the name
        reason = getattr(error, "strerror", error)
        raise UserCodeError(
            f"{option} must name a readable file, got {str(path)!r} ({reason}); correct its path"
        ) from error
    if not text.strip() or len(text) > MAX_TEMPLATE_CHARS or "\0" in text:
        raise UserCodeError(
            f"{option} must name a text of 1 to {MAX_TEMPLATE_CHARS} characters without NUL, got {len(text)} in "
            f"{str(path)!r}; name another"
        )
    return text


def set_chat_template(tokenizer: Any, path: Path) -> None:  # noqa: ANN401 - of transformers
    """Give a tokenizer the chat template of a file.

    Raises:
        UserCodeError: it is no template that can write a conversation.
    """
    text = read_template(path, option="chat_template")
    before, tokenizer.chat_template = tokenizer.chat_template, text
    try:
        check_chat_template(tokenizer, place=repr(str(path)), advice="mend it")
    except UserCodeError:
        tokenizer.chat_template = before
        raise


def check_chat_template(
    tokenizer: Any,  # noqa: ANN401 - of transformers
    kwargs: Mapping[str, Any] | None = None,
    *,
    place: str = "the tokenizer",
    advice: str = "mend it, or give the file of another (chat_template)",
) -> None:
    """Refuse a chat template that cannot write a conversation of texts; `kwargs` are given to it beside the messages.

    Some that read parts of images write nothing of a text, without an error.

    Raises:
        UserCodeError: with one line for the user.
    """
    import jinja2

    probe = "a question that the template must write"
    try:
        written = tokenizer.apply_chat_template(
            [{"role": "user", "content": probe}],
            tokenize=False,
            add_generation_prompt=True,
            **(kwargs or {}),
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserCodeError(
            f"chat_template must be a Jinja template of a conversation, got {' '.join(str(error).split())[:200]} in "
            f"{place}; {advice}"
        ) from error
    if probe not in written:
        raise UserCodeError(
            f"chat_template must write the content of messages, got {written[:80]!r} from {place}; {advice}"
        )
