import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.problems.prompt import (
    MBPP,
    MBPP_3SHOT,
    PROTOCOLS,
    Protocol,
    conversation,
    fill,
    messages,
    protocol_for,
)


@pytest.mark.parametrize(("visible", "n_shown"), [("all", 3), ("first", 1), ("none", 0)])
def test_prompt_shows_the_asked_asserts_and_always_names_the_function(problem, visible, n_shown):
    (message,) = messages(problem, visible_tests=visible)
    assert message["role"] == "user"
    assert problem.text in message["content"]
    assert [text in message["content"] for text in problem.asserts].count(True) == n_shown
    assert "add" in message["content"].replace(problem.text, "")


def test_description_only_does_not_name_the_function(problem):
    (message,) = conversation(problem, PROTOCOLS["description-only"])
    assert "add(" not in message["content"]
    assert "`add`" not in message["content"]


def test_setup_code_stands_before_the_asserts_that_need_it(problem):
    from dataclasses import replace

    with_setup = replace(problem, setup_code="root = Node(1)\n")
    (message,) = messages(with_setup)
    assert "root = Node(1)\nassert add(1, 2) == 3" in message["content"]


def test_braces_in_a_problem_are_text(problem):
    from dataclasses import replace

    odd = replace(
        problem, text="Fill {tests} and {name} {0} {{}} %s $x", asserts=("assert {text}",)
    )
    (message,) = messages(odd)
    assert message["content"].startswith("Fill {tests} and {name} {0} {{}} %s $x\n")
    assert "assert {text}" in message["content"]


@given(st.text(), st.text())
def test_fill_never_reads_a_value_as_template(first, second):
    assert fill("<{a}|{b}>", {"a": first, "b": second}) == f"<{first}|{second}>"


def test_three_shot_shows_solved_tasks_then_the_problem(problem):
    from dataclasses import replace

    shot = replace(problem, text="Shot.", reference="def add(a, b):\n    return b + a\n")
    text = conversation(problem, MBPP_3SHOT, (shot,))
    assert isinstance(text, str)
    assert text.count("[DONE]") == 1
    assert text.index("return b + a") < text.index("[DONE]") < text.index(problem.text)
    assert text.endswith("[BEGIN]\n")


def test_protocol_sha256_changes_with_the_words_only():
    assert MBPP.sha256 == Protocol(MBPP.name, MBPP.version, MBPP.templates).sha256
    changed = Protocol(MBPP.name, MBPP.version, {"user": MBPP.templates["user"] + " "})
    assert changed.sha256 != MBPP.sha256
    assert len({protocol.sha256 for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_templates_cannot_be_changed_afterwards():
    with pytest.raises(TypeError):
        MBPP.templates["user"] = "other"


def test_visible_tests_name_protocols():
    assert [protocol_for(v).name for v in ("all", "first", "none")] == [
        "mbpp",
        "mbpp-first",
        "mbpp-name",
    ]
