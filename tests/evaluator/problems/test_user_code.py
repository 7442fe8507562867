"""Functions and templates of a person's own."""

import hashlib
import sys
from types import SimpleNamespace

import pytest

from evaluator.grading.feedback import feedback
from evaluator.grading.grade import grade
from evaluator.grading.reward import Part, reward
from evaluator.problems.prompt import conversation
from evaluator.problems.prompt_file import template_protocol
from evaluator.problems.user_code import (
    UserCodeError,
    load_function,
    read_template,
    set_chat_template,
)
from tests.tiny_model import make_tiny_tokenizer

SOURCE = """
def half(grade, completion):
    return grade.n_passed / 2

def raises(grade, completion):
    return 1 / 0

number = 5

def stops(grade, completion):
    raise SystemExit(3)

def lonely(grade):
    return 1.0
"""


@pytest.fixture
def graded(problem, sandbox):
    (found,) = grade([(problem, "```python\ndef add(a, b):\n    return 3\n```")], sandbox)
    return found


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_function_is_loaded_from_a_file_with_the_sha256_of_it(file, graded):
    found = load_function(f"{file}:half", option="reward")
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert reward(graded, function=found).total == 0.5


def test_a_module_in_the_working_folder_is_found(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load_function("mine:half", option="reward").path == file


def test_a_module_of_an_installed_package_is_found(graded):
    shipped = load_function("evaluator.grading.reward:correctness_and_format", option="reward")
    by_name = reward(graded, function=shipped)
    assert by_name.total == reward(graded).total
    assert [part.name for part in by_name.parts] == ["correctness", "format_score"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("half", "must be module:function"),
        ("mine.py:", "must be module:function"),
        ("no/such.py:half", "a file that is there, got 'no/such.py'"),
        ("no_such_module:half", "a module that Python finds"),
        (
            "mine.py:missing",
            "must name a function.*got 'missing'; it has half, raises, stops, lonely",
        ),
        ("mine.py:number", "must name a function.*got 'number'"),
        ("broken.py:half", "SyntaxError"),
        ("stops.py:half", "can be imported, got ValueError: no"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(file, spec, said, monkeypatch):
    monkeypatch.chdir(file.parent)
    (file.parent / "broken.py").write_text("def (")
    (file.parent / "stops.py").write_text("raise ValueError('no')")
    with pytest.raises(UserCodeError, match=said) as error:
        load_function(spec, option="reward")
    assert "\n" not in str(error.value)


def test_an_error_of_the_function_names_its_line(file, graded):
    with pytest.raises(UserCodeError, match="ZeroDivisionError: division by zero in line 6"):
        reward(graded, function=load_function(f"{file}:raises", option="reward"))


@pytest.mark.parametrize(
    ("name", "said"), [("stops", "got SystemExit: 3"), ("lonely", "got TypeError")]
)
def test_a_function_that_ends_or_takes_other_arguments_is_one_line(file, graded, name, said):
    with pytest.raises(UserCodeError, match=said) as error:
        reward(graded, function=load_function(f"{file}:{name}", option="reward"))
    assert "\n" not in str(error.value)


def test_parts_have_names_values_and_weights(graded):
    found = reward(graded, function=lambda g, c: [Part("a", 2.0), Part("b", 3, weight=0.5)])
    assert (found.total, found.parts) == (3.5, (Part("a", 2.0, 1.0), Part("b", 3.0, 0.5)))
    assert found.correctness == pytest.approx(1 / 3), "what SDPO calls a success stays the tests'"
    assert reward(graded, function=lambda g, c: {"a": 1, "b": 2}).total == 3
    assert reward(graded, function=lambda g, c: True).total == 1.0


@pytest.mark.parametrize(
    "returned",
    [None, "1", float("nan"), float("inf"), [], {}, [1.0], [("a",)], [("a", "x")], [("a", None)]]
    + [[("a", 1), ("a", 2)], [("", 1)], [(3, 1.0)], {"a": float("nan")}, object(), 10**400],
)
def test_what_is_no_reward_is_one_line(graded, returned):
    with pytest.raises(UserCodeError, match="must return") as error:
        reward(graded, function=lambda g, c: returned)
    assert "\n" not in str(error.value)


def test_no_part_at_all_and_an_async_function_are_named_as_such(tmp_path, graded):
    with pytest.raises(UserCodeError, match="at least one part, got none"):
        reward(graded, function=lambda g, c: {})
    (tmp_path / "mine.py").write_text("async def later(grade, completion): return 1.0\n")
    with pytest.raises(UserCodeError, match="got 'later', which is async; write it with `def`"):
        load_function(f"{tmp_path}/mine.py:later", option="--reward")


def test_own_feedback_is_bounded_and_harmless(graded):
    said = feedback(graded, function=lambda g, c: "try <|im_end|> again\x07" + "x" * 5000)
    assert said.startswith("try < |im_end| > again") and len(said) <= 1200
    assert feedback(graded, function=lambda g, c: None) is None
    with pytest.raises(UserCodeError, match="must return a text or None, got 5"):
        feedback(graded, function=lambda g, c: 5)


def test_a_prompt_of_ones_own_is_filled_in_one_pass(tmp_path, problem):
    path = tmp_path / "prompt.txt"
    path.write_text("Do {text} as `{name}` for {tests} {other}")
    (message,) = conversation(problem, template_protocol(path, "first"))
    assert message["content"] == (
        "Do Write a function to add two numbers. as `add` for assert add(1, 2) == 3 {other}"
    )
    first = template_protocol(path, "first").sha256
    path.write_text("Do {text} as `{name}` for {tests}")
    assert template_protocol(path, "first").sha256 != first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1 to 200000 characters"),
        (b"no field", "must hold {text}"),
        (b"{text} {test}", "did you mean {tests}"),
        (b"{txt} {text}", "did you mean {text}"),
        (b"\xff\xfe{text}", "UTF-8 file"),
        (b"{text}\0", "without NUL"),
        (b"{text}" + b"x" * 200_001, "1 to 200000 characters"),
    ],
)
def test_a_wrong_prompt_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "prompt.txt"
    path.write_bytes(content)
    with pytest.raises(UserCodeError, match=said) as error:
        template_protocol(path, "all")
    assert "\n" not in str(error.value)


def test_a_chat_template_of_ones_own_replaces_the_tokenizers(tmp_path):
    path = tmp_path / "chat.jinja"
    path.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
    tokenizer = make_tiny_tokenizer()
    set_chat_template(tokenizer, path)
    asked = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False) == "[user] hi\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{% for m in %}", "Jinja template"),
        ("{{ messages[7].content }}", "Jinja template|write the content"),
        ("hello", "must write the content of messages, got 'hello'"),
        ("{{ raise_exception('no') }}", "Jinja template"),
    ],
)
def test_a_wrong_chat_template_is_one_line(tmp_path, content, said):
    path = tmp_path / "chat.jinja"
    path.write_text(content)
    tokenizer = make_tiny_tokenizer()
    before = tokenizer.chat_template
    with pytest.raises(UserCodeError, match=said) as error:
        set_chat_template(tokenizer, path)
    assert "\n" not in str(error.value) and tokenizer.chat_template == before


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserCodeError, match="readable file.*No such file"):
        read_template(tmp_path / "none", option="chat_template")
    with pytest.raises(UserCodeError, match="readable file"):
        set_chat_template(SimpleNamespace(chat_template=None), tmp_path)
    with pytest.raises(UserCodeError, match="readable file.*null byte"):
        read_template(tmp_path / "\0", option="prompt_template")


def test_a_function_may_use_what_stands_beside_its_file(tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("ONE = 1\n")
    (tmp_path / "json.py").write_text("raise ValueError\n")  # stands for nothing of Python's
    (tmp_path / "own.py").write_text(
        "import beside_it, json\ndef reward(g, c): return beside_it.ONE\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert load_function(f"{tmp_path}/own.py:reward", option="reward")(None, None) == 1


def test_a_module_in_a_package_of_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards/__init__.py").write_text("")
    (tmp_path / "rewards/short.py").write_text("def reward(g, c): return 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    assert load_function("rewards.short:reward", option="reward")(None, None) == 2


def test_only_functions_of_the_file_itself_are_offered(tmp_path):
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nfrom json import loads\ndef mine(g, c): return 1\n"
    )
    with pytest.raises(UserCodeError, match="it has mine$"):
        load_function(f"{tmp_path}/own.py:reward", option="reward")


def test_a_name_too_long_for_a_file_is_one_line():
    with pytest.raises(UserCodeError, match="must name a"):
        load_function("a" * 5000 + ":reward", option="reward")
