"""Shapes in which models write one answer: the program must be found in each, and do what it should."""

import pytest

from evaluator.answers.extract import extract, is_complete

F = ("double_all",)
GOOD = "def double_all(xs):\n    return [2 * x for x in xs]"
DRAFT = "def double_all(xs):\n    return []"


def fenced(code, info="python"):
    return f"```{info}\n{code}\n```"


def indented(text, by=4):
    return "\n".join(" " * by + line if line.strip() else line for line in text.split("\n"))


def quoted(text, mark="> "):
    return "\n".join(mark + line for line in text.split("\n"))


def with_docstring(text):
    return GOOD.replace("    return", indented(f'"""{text}"""') + "\n    return")


def doubles(code):
    space = {}
    exec(compile(code, "answer", "exec", dont_inherit=True), space)  # noqa: S102
    return space["double_all"]([1, 2]) == [2, 4] and space["double_all"]([]) == []


def check(text):
    extraction = extract(text, F)
    assert extraction.code is not None, extraction.reason
    assert doubles(extraction.code)


FENCED, DRAFTED = fenced(GOOD), fenced(DRAFT)

CLOSINGS = [
    "```<|im_end|>", "```</s>", "```<|eot_id|>", "``` It doubles.", "```\nIt doubles.", "`````", "  ```  ",
    "        ```", "```**", "```.", "```\n```", "~~~\n```",
]  # fmt: skip


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("opening", ["```python", "Sure:\n\n```", "````py"])
def test_a_closing_fence_can_have_any_length_place_and_company(opening, closing):
    check(f"{opening}\n{GOOD}\n{closing}")
    check(f"{opening}\n{GOOD}\n{closing}\n\nThat is it.")
    assert is_complete(f"{opening}\n{GOOD}\n{closing}\n", F)


@pytest.mark.parametrize(
    "end", ["```", "```\nand prose", "```<|im_end|>", "  # done```", " ```", "``` and prose"]
)
def test_a_closing_fence_can_be_glued_to_code(end):
    check(f"```python\n{GOOD}{end}")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("````python", "```"),
        ("```python", "````"),
        ("~~~", "~~~~"),
        ("~~~~py", "~~~~"),
        ("~~~py", "```"),
    ],
)
def test_the_two_fences_can_differ(opening, closing):
    check(f"{opening}\n{GOOD}\n{closing}")


@pytest.mark.parametrize(
    "before",
    [
        "Here is the code: ",
        "Code:",
        "**Solution:** ",
        "Answer - ",
        "- ",
        "* ",
        "1. ",
        "12) ",
        "   ",
    ],
)
def test_an_opening_fence_can_follow_text_and_bullets(before):
    margin = len(before) if not before.strip(" -*12.)") else 0
    check(before + indented(FENCED, margin).lstrip())
    check(f"Text.\n\n{before}{indented(FENCED, margin).lstrip()}\n\nMore text.")
    check(f"{before}Do it:\n{indented(FENCED, margin + 1)}")


@pytest.mark.parametrize(
    "text",
    [
        quoted(FENCED), "> Hi\n" + quoted(FENCED) + "\nbye", quoted(fenced(GOOD, "")), quoted(FENCED, "> > "),
        quoted(FENCED, ">"), "- " + indented(fenced(with_docstring("A\n```\nx\n```\n")), 2).lstrip(),
    ],
)  # fmt: skip
def test_a_block_can_be_quoted_or_in_a_list(text):
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        f"```python {GOOD}\n```", f"```{GOOD}\n```", f"``` {GOOD}\n```", f"```python import math\n{GOOD}\n```",
        "```python def double_all(xs): return [2 * x for x in xs]```",
        "```def double_all(xs): return [2 * x for x in xs]```",
        "Use ```python double_all = lambda xs: [2 * x for x in xs]``` or not.",
        "Set ```x``` first, then ```double_all = lambda xs: [2 * x for x in xs]```",
        "- ```python " + GOOD.replace("\n", "\n  ") + "\n  ```",
    ],
)  # fmt: skip
def test_code_can_stand_on_the_line_of_its_fence(text):
    check(text)
    assert is_complete(text, F)


@pytest.mark.parametrize(
    "info",
    [
        "python", "Python", "py", "python3", "PYTHON", "python:double.py", 'python title="x.py"', "{.python}",
        "python {1,3}", "python linenums", "{python}", "python, ignore", "ipython3", "text", "code", "bash",
        "Python 3", "python x.py", "python3.11", "  python  ", " python", "",
    ],
)  # fmt: skip
def test_an_opening_fence_can_say_anything(info):
    check(f"```{info}\n{GOOD}\n```")
    check(f"Hello.\n\n```{info}\n{GOOD}\n```\nGoodbye.")


@pytest.mark.parametrize(
    "text",
    [
        f"```\npython\n{GOOD}\n```", f"```\n\npython\n{GOOD}\n```", f"```\nPython\n{GOOD}\n```",
        f"```\npy\n\n{GOOD}\n```", f"```python\npython\n{GOOD}\n```",
        f"python\n{GOOD}", f"\ufeff{FENCED}", f"\ufeff{GOOD}", f"```py\n\ufeff{GOOD}\n```",
        f"{FENCED}".replace("\n", "\r\n"), GOOD.replace("\n", "\r"),
    ],
)  # fmt: skip
def test_a_language_on_its_own_line_a_byte_order_mark_and_line_ends_do_not_matter(text):
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        f"```markdown\n# Solution\n{FENCED}\n```", f"````markdown\ntext\n{FENCED}\n````\nbye",
        f"```md\n{FENCED}\n```", f"````\n{FENCED}\n````", f"```\n{FENCED}\n```", f"~~~markdown\n{FENCED}\n~~~",
        f"```\n~~~python\n{GOOD}\n~~~\n```", f"```markdown\n````python\n{GOOD}\n````\n```",
        f"```markdown\nHi\n\n{fenced('x = 1')}\n\n{FENCED}\n```\n",
    ],
)  # fmt: skip
def test_a_block_can_stand_inside_of_another(text):
    check(text)


@pytest.mark.parametrize(
    "code",
    [
        with_docstring("Doubles.\n\n```\n>>> double_all([2])\n[4]\n```\n"),
        with_docstring("Doubles.\n\n```python\n>>> double_all([2])\n```\n"),
        with_docstring("```\nx\n```"), with_docstring("A ```x``` here"), with_docstring("Example:\n\n```\n>>> f\n"),
        with_docstring("~~~\nx\n~~~\n"), with_docstring("```\n" * 5),
        'def double_all(xs):\n    """\n```\n>>> double_all([2])\n```\n    """\n    return [2 * x for x in xs]',
        "def double_all(xs):\n    '''\n```python\ndouble_all([2])\n```\n    '''\n    return [2 * x for x in xs]",
        "FENCE = '```'\n" + GOOD, "# write ```x``` here\n" + GOOD,
        'class Box:\n    def open(self):\n        """\n        ```\n        x\n        ```\n        """\n' + GOOD,
    ],
)  # fmt: skip
def test_fences_inside_strings_and_comments_are_code(code):
    check(fenced(code))
    check(f"Text.\n\n{fenced(code)}\n\n{fenced('print(1)')}")
    assert is_complete(fenced(code), F)


@pytest.mark.parametrize(
    "rest",
    [
        "", "\n\nThis function doubles.", "\n\nExplanation:\n- It is fine.\n- ok", "\nHope it helps!",
        "\n\n# Explanation\nThe function doubles.", "\n\n**Note**: this is it", "\n\n1. First\n2. Second",
        "\n\nExample usage:\nprint(double_all([1, 2]))", "\nOutput: 6\n", "\n[/PYTHON]", "\n\nfor the list it works",
        "\n\nThis.\n```python\nprint(double_all([1]))\n```",
    ],
)  # fmt: skip
def test_prose_after_a_block_that_is_never_closed_is_left_out(rest):
    check(f"```python\n{GOOD}{rest}")
    assert not is_complete(f"```python\n{GOOD}{rest}".split("\n```python\nprint")[0], F)


def test_code_that_breaks_off_stays_broken():
    assert extract(f"```python\n{GOOD}\n\nprint(double_all([1,", F).code.endswith("[1,")
    assert extract(f"{GOOD}\n\nprint double_all([1])", F).code.endswith("([1])")
    assert extract("```python\ndef double_all(xs):\n    return [", F).code.endswith("[")


UNUSABLE = [
    "def double_all(xs):", "def double_all(xs):\n    pass", "def double_all(xs):\n    ...",
    'def double_all(xs):\n    """Doc."""', "def double_all(xs):\n    raise NotImplementedError('soon')",
    "def double_all(xs):\n    # TODO\n    return None", "def double_all(xs)\n    return xs",
    'def double_all(xs):\n    """Not closed\n    return 1', "double_all = ord('A')", "double_all = [1]",
    "double_all = double_all([1, 2])", "double_all: int = 3", "def double_all(xs):\nreturn 0", "double_all = f'{1}'",
    "function double_all(xs) {\n  return 0;\n}", "int double_all(int* n) { return 0; }",
    "FUNCTION double_all(xs)\n  y <- 0\nEND", "from answer import double_all\nprint(double_all([1]))",
    "def double_all(xs): ...", "def double_all(xs):  # your code here", "double_all(xs) -> list",
    "double_all([1, 2])\n# [2, 4]", "[2, 4]", "def double_all(xs):\n    return [x for",
]  # fmt: skip


@pytest.mark.parametrize("block", UNUSABLE)
def test_a_block_that_is_no_whole_program_wins_over_none_before_or_after_it(block):
    check(f"{fenced(block)}\nSo:\n{FENCED}")
    check(f"{FENCED}\nAs in:\n{fenced(block)}")
    check(f"{fenced(block, '')}\nSo:\n\n{GOOD}\n")
    assert not is_complete(fenced(block), F)


@pytest.mark.parametrize(
    "block",
    [
        "import math\n" + GOOD, "double_all = lambda xs: [2 * x for x in xs]",
        "double_all: object = lambda xs: [2 * x for x in xs]", GOOD.replace("double_all", "f") + "\ndouble_all = f",
        "if True:\n" + indented(GOOD), "try:\n    import numpy\nexcept ImportError:\n    pass\n" + GOOD,
        "class double_all(list):\n    def __init__(self, xs):\n        super().__init__(2 * x for x in xs)",
        "from functools import lru_cache, partial\ndef g(n, xs):\n    return [n * x for x in xs]\n"
        "double_all = partial(g, 2)",
    ],
)  # fmt: skip
def test_every_way_to_define_a_function_counts(block):
    check(f"{fenced('double_all = 3')}\n{fenced(block)}\n{fenced('double_all = [4]')}")


def test_the_last_of_several_whole_programs_counts():
    check(f"{DRAFTED}\nWait, corrected:\n{FENCED}")
    check(f"{DRAFT}\n\nActually:\n\n{GOOD}")
    check(f"{DRAFTED}\n\nActually:\n\n{GOOD}")


HELPER = "def twice(n):\n    return 2 * n"
USER = "def double_all(xs):\n    return [twice(x) for x in xs]"


@pytest.mark.parametrize(
    "text",
    [
        f"{fenced(HELPER)}\nThen\n{fenced(USER)}", f"{fenced(USER)}\nwith\n{fenced(HELPER)}",
        f"{HELPER}\n\nNow the main function:\n\n{USER}",
        fenced("import math") + fenced(GOOD.replace("2 * x", "math.floor(2 * x)")).join("\n\n"),
        fenced("TWO = 2") + "\n" + fenced(GOOD.replace("2", "TWO")),
        fenced(HELPER + "\nprint(twice(2))\nassert double_all([1]) == [2]") + "\n" + fenced(USER),
        fenced("TWO = 2") + "\n" + fenced(HELPER.replace("2", "TWO")) + "\n" + fenced(USER),
        fenced("from typing import List") + "\nand\n" + fenced(GOOD.replace("(xs)", "(xs: List[int])")),
        fenced("class Two:\n    n = 2") + "\n" + fenced(GOOD.replace("2", "Two.n")),
        "import math\n\nHere it is:\n\n" + GOOD.replace("2 * x", "math.floor(2 * x)"),
        fenced(HELPER + "\n\n" + DRAFT) + "\nBetter:\n" + fenced(USER),
        fenced(HELPER) + "\n" + fenced("from __future__ import annotations\n" + USER.replace("(xs)", "(xs: L)")),
    ],
)  # fmt: skip
def test_names_that_the_program_lacks_come_from_other_blocks(text):
    check(text)


def test_blocks_that_the_program_does_not_need_are_left_out():
    assert extract(f"{fenced(HELPER)}\n{FENCED}\n{fenced('import os')}", F).code == GOOD


BARE = [
    "TWO = 2\n{}\nHope it helps!", "import math\nwith one more import that I left out\nfrom math import tan\n\n{}",
    "Here is the program,\nfrom the definition above:\n\n{}\n",
    "My program is below\nimport math\n\n{}\n\nThanks a lot.",
    "x: int = 3\n{}\nDone.", "import the list first\n\n{}", "{}\n\nExplanation:\nThe function doubles.",
    "{}<|endoftext|>", "{}</s>", "{}<|im_end|>\n", "<|im_start|>assistant\n{}<|im_end|>", "{}<end_of_turn>",
    "[BEGIN]\n{}\n[DONE]", "{}\n[DONE]", "{}[DONE]", "[BEGIN]{}[DONE]", "[PYTHON]\n{}\n[/PYTHON]\nThe code",
    "<code>{}</code>", "<answer>\n{}\n</answer>", "{}<|endoftext|>def double_all(x):\n    return 0",
    "{}\n\nprint(double_all([1, 2]))  # [2, 4]", "{}\nOutput: 6", "TABLE = [\n1,\n2,\n]\n{}\nThe end is here.",
    "from collections import Counter  # needed\n{}\nfrom here on it is easy",
    "class A:\n    x = 1\n\n{}\nclass is over",
    "Note: this works\n{}", "Sure\n\n{}", "# Solution\n\n{}\n\n## Explanation\nText goes here.",
    "{}\n\ndouble_all([1]) -> [2]", "{}\n\n>>> double_all([2])\n[4]",
    "{}\n\nif __name__ == '__main__':\n    print(1)\nThanks!",
    "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n{}\nThat is it.", "1. Loop\n2. Double\n\n{}",
    "A = 1; B = 2\n{}\nIt is done.", "(a, b) = 1, 2\n{}", "{}\n---\nText", "{}\n\n| a | b |\n|---|---|",
    "def is the keyword for functions.\n\n{}\n\ndef can be nested, too.", "class is another one\n{}",
    "return the doubled ones:\n{}", "if you like:\n{}", "for example, with 1:\n{}\nwhile this is easy, try it",
    "{}\n\nprint the result to see", "{}\nassert that it works", '"""Module."""\nimport os\n\n{}\nBye now.',
    "async def g():\n    pass\n\n{}\nThe end.", "{}\n\nTime complexity: O(n)\nSpace: O(1)", "Let x = 3.\n{}",
    "{}\n\n- bullet one\n- bullet two", "@staticmethod: not needed\n{}", "{}\r\nIt works.\r\n",
]  # fmt: skip


@pytest.mark.parametrize("form", BARE)
def test_prose_and_tokens_around_bare_code_are_left_out(form):
    check(form.replace("{}", GOOD))
    check(form.replace("{}", "double_all = lambda xs: [2 * x for x in xs]"))
    check(
        form.replace(
            "{}",
            'def double_all(xs):\n    """\nDouble all\nof them.\n    """\n    return [2 * x for x in xs]',
        )
    )


def test_syntax_of_later_pythons_is_code():
    code = f"type Numbers = list[int]\ntype Pair[T] = tuple[T, T]\n\n{GOOD.replace('(', '[T](', 1)}"
    assert extract(f"See:\n\n{code}\n\ntype it in and run it.", F).code == code


def test_bare_code_can_be_indented_below_prose():
    check(f"Here is the function:\n\n{indented(GOOD)}\n\nIt works.")
    check(f"* as follows:\n\n{indented(GOOD, 2)}")


def test_text_that_spells_a_mark_in_a_string_or_as_a_name_is_code():
    for line in (
        "s = '<think>'",
        's = r"</think>.*"',
        "s = '<|im_end|>'",
        "DONE = 0\n    y = [1][DONE]",
    ):
        code = GOOD.replace("    return", f"    {line}\n    return")
        assert extract(code, F).code == code
        assert extract(fenced(code), F).code == code
