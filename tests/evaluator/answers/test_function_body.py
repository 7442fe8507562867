import pytest

from evaluator.answers.extract import extract
from evaluator.answers.function_body import function_beginning, returns
from evaluator.grading.grade import grade
from evaluator.problems.problem import normalised_row, problem_from_row

HEAD = (
    "from typing import List\n\n\ndef largest(xs: List[int]) -> int:\n"
    '    """Largest of a list.\n    >>> largest([1])\n    1\n    """\n'
)
BODY = "    best = xs[0]\n    for x in xs:\n        if x > best:\n            best = x\n    return best\n"
STRIPPED = BODY.strip()
LEFT = "\n".join(line[4:] for line in BODY.split("\n"))


def problem(text):
    return problem_from_row(
        normalised_row(
            {
                "task_id": 1,
                "text": text,
                "code": HEAD + BODY,
                "test_list": ["assert largest([1, 3, 2]) == 3"],
            }
        )
    )


def holds(completion, text=HEAD):
    asked = problem(text)
    code = extract(completion, asked.callables, asked.beginning).code
    if code is None:
        return False
    space = {}
    exec("from typing import List", space)  # noqa: S102
    try:
        exec(compile(code, "answer", "exec", dont_inherit=True), space)  # noqa: S102
        return space["largest"]([1, 3, 2]) == 3
    except (NameError, SyntaxError):
        return False


@pytest.mark.parametrize(
    "completion",
    [
        BODY, STRIPPED, LEFT, f"```python\n{BODY}```", f"```python\n{STRIPPED}\n```", f"```\n{LEFT}\n```",
        f"{BODY}\nThis function looks at each, I think.\n", f"{BODY}\n\nif __name__ == '__main__':\n    print(1)\n",
        f"{BODY}\n\ndef other(x):\n    return 1\n", f"{BODY}\n\ndef other(x):\n    retu",
        f"{BODY.rstrip()}<|endoftext|>",
        f"Here is the body:\n\n{BODY}", f"Here is the body:\n\n```python\n{BODY}```\nDone.", f"{BODY}[DONE]",
        f"<think>\n    return None\n</think>\n{BODY}", f"```python\n{BODY}", f"{BODY}```\nprose is here",
        f"```python\n{HEAD}```\nand its body\n```python\n{BODY}```", HEAD + BODY, f"```python\n{HEAD}{BODY}```",
        BODY.replace("    ", "\t"), BODY.replace("    ", "  "), "    return max(xs)", "return max(xs)",
        "\n\n    return max(xs)\n",
        f"<|im_start|>assistant\n{BODY}", BODY.replace("    for", "# each\n    for"),
        BODY.replace("    ", "  ").replace("  for", "# each\n  for"),
        "    def key(x):\n        return x\n    return max(xs, key=key)\n", "    # the largest\n    return max(xs)",
        "best = max(xs)\n\n    return best\n", "```python\nbest = max(xs)\n\n    return best\n```",
    ],
)  # fmt: skip
def test_a_body_completes_the_function_that_the_problem_begins(completion):
    assert holds(completion)


@pytest.mark.parametrize(
    "text",
    [
        "\n\ndef largest(xs):\n\t\"\"\"\n\tWrite a function for the largest.\n\t>>> largest([1])\n\t1\n\t\"\"\"\n",
        "def largest(xs):\n    # the largest of a list\n", "def largest(xs):",
        "Write a function for the largest.\n\ndef largest(xs):\n    \"\"\"Largest.\"\"\"\n",
        "Complete this:\n\n```python\ndef largest(xs):\n    '''Largest.'''\n```\n\nUse no builtin.",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "completion", [BODY, STRIPPED, LEFT, BODY.replace("    ", "\t"), f"```\n{BODY}```"]
)
def test_a_text_that_ends_in_a_signature_begins_the_function(text, completion):
    assert holds(completion, text)


@pytest.mark.parametrize(
    "completion", ["I cannot.", "Sorry", "pass", "    ...", "Yes, sure", "", "    xs"]
)
def test_prose_and_stubs_are_no_body(completion):
    asked = problem(HEAD)
    assert extract(completion, asked.callables, asked.beginning).code is None


@pytest.mark.parametrize(
    "text",
    ["Write a function.", "Use largest.", HEAD + BODY, "def other(x):\n", "def largest( and so on"],
)
def test_other_texts_begin_nothing(text):
    assert function_beginning(text, "largest") == ""
    assert not holds(BODY, text)


@pytest.mark.parametrize(
    "example", ["largest([1])", "print(largest([1]))", "best = largest([1])\nprint(best)", "assert largest([1]) == 1"]
)  # fmt: skip
def test_an_example_in_a_block_behind_the_body_is_no_body(example):
    assert holds(f"```python\n{BODY}```\n\nExample:\n```python\n{example}\n```")
    assert holds(f"{BODY}\n\nExample:\n```python\n{example}\n```")


def test_a_word_before_the_body_is_no_line_of_it():
    assert holds(f"python\n{BODY}")
    assert holds(f"Sure\n{BODY}")


def test_a_whole_function_counts_before_a_body():
    assert holds(f"    return None\n```python\n{HEAD}{BODY}```")


def test_a_body_is_graded(sandbox):
    (found,) = grade([(problem(HEAD), BODY)], sandbox)
    assert found.passed


def test_a_program_without_the_function_returns_nothing():
    assert returns("def f():\n    return 1\n", "f") and not returns("x = 1\n", "f")
