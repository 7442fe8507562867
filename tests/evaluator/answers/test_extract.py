import ast
import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.answers.extract import MAX_CODE_CHARS, extract, is_complete, parse
from tests.scale import examples, scaled

CODE = "def add(a, b):\n    return a + b"
F = ("add",)


@pytest.mark.parametrize(
    "completion",
    [
        f"```python\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"```py\n{CODE}\n```\n",
        f"~~~python\n{CODE}\n~~~",
        f"````python\n{CODE}\n````",
        f"Here it is:\n\n```python\n{CODE}\n```\nIt adds.",
        f"```python\r\n{CODE}\r\n```".replace("\n    ", "\r\n    "),
        f"```python\n{CODE}",
        f"Sure!\n```python\n{CODE}\n",
        f"```bash\npip install x\n```\n```python\n{CODE}\n```",
        f"```python\nprint(add(1, 2))\n```\nand\n```python\n{CODE}\n```",
        f"```python\n{CODE}\n```\n```python\nadd = None\n```",
        f"1. Do this:\n   ```python\n   {CODE.replace(chr(10), chr(10) + '   ')}\n   ```",
        CODE,
        f"{CODE}\n\nThis function adds two numbers.",
        f"Here is the function:\n\n{CODE}\n\nIt works because addition is easy.",
        f"{CODE}\n```\nThis is the end.",
        f"```python\n{CODE}\n``` ",
    ],
)
def test_the_program_is_found(completion):
    extraction = extract(completion, F)
    assert extraction.code is not None
    assert extraction.code.strip() == CODE
    assert extraction.reason is None


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "empty completion"),
        (" \n\t\r\n", "empty completion"),
        ("I cannot help with that.", "no code in the text"),
        ("```python\n```", "empty code block"),
        ("```", "empty code block"),
        ("hello", "no code in the text"),
        ("```python\nx = '\ud800'\n```", "program holds characters that are not Unicode text"),
        (
            "```python\n" + "x = 1\n" * MAX_CODE_CHARS + "```",
            f"program longer than {MAX_CODE_CHARS} characters",
        ),
    ],
)
def test_there_is_a_reason_when_there_is_no_code(completion, reason):
    extraction = extract(completion, F)
    assert extraction.code is None
    assert extraction.reason == reason


def test_unclosed_fence_is_said():
    assert not extract(f"```python\n{CODE}", F).closed
    assert extract(f"```python\n{CODE}\n```", F).closed


def test_without_a_definition_the_longest_block_is_taken():
    extraction = extract("```\nx = 1\n```\n```\ndef sub(a, b):\n    return a - b\n```", F)
    assert extraction.code == "def sub(a, b):\n    return a - b"
    assert extraction.n_blocks == 2


def test_a_call_or_longer_name_is_no_definition():
    text = (
        "```\nadd(1, 2)\ndef adder(): pass\nx = 'a much longer block'\n```\n```\n" + CODE + "\n```"
    )
    assert extract(text, F).code == CODE


def test_helpers_before_the_function_stay():
    code = "import math\n\nLIMIT = 3\n\n\ndef add(a, b):\n    return a + b\n\n\nadd(1, 2)"
    assert extract(f"The answer:\n{code}\nGood luck to you.", F).code.strip() == code


def test_fence_marks_inside_a_longer_fence_are_code():
    code = 'def add(a, b):\n    """\n```\n    """\n    return a + b'
    assert extract(f"````python\n{code}\n````", F).code == code


def test_nul_bytes_pass_through_to_be_judged():
    extraction = extract("```python\ndef add(a, b):\n    return '\x00'\n```", F)
    assert "\x00" in extraction.code


@given(st.text(alphabet=st.characters(), max_size=400))
def test_any_text_is_read_without_an_exception(text):
    extraction = extract(text, F)
    assert (extraction.code is None) != (extraction.reason is None)


@given(st.text(alphabet="`~ \npyadef():=\r\t#(", max_size=200))
def test_any_mix_of_fences_is_read_without_an_exception(text):
    extract(text, F)
    is_complete(text, F)


UNITS = [
    "```python\ndef add(a, b):\n",
    "`",
    "```\n",
    " ",
    "(",
    "``` ",
    "a",
    "def add(a, b):\n    return a\n",
    "def x\n",
    "x = [\n",
    "\x00",
    "\t```\n",
    "a.b[",
]
N_QUICK = 2


@pytest.mark.parametrize(
    "unit", [*UNITS[:N_QUICK], *(pytest.param(u, marks=pytest.mark.slow) for u in UNITS[N_QUICK:])]
)
def test_time_grows_linearly_up_to_two_megabytes(unit):
    def seconds(size):
        text = unit * (size // len(unit))
        started = time.process_time()
        extract(text, F)
        return time.process_time() - started

    # Quadratic time would be 64 times as much for 8 times the text.
    assert seconds(2_000_000) < 24 * seconds(250_000) + 0.2


FRAGMENTS = [
    *"` \t\"'\\#<([{)]>:=,.*0x\n\r\x00", "```", "```\n", "```python\n", "```python def add(a): return a", "~~~\n",
    "    ", "def add(a, b):\n", "def add(", "    return a\n", "add = ", "lambda x: x\n", '"""', "'''", "<think>",
    "</think>", "<|im_end|>", "[DONE]", "word ", "x=1\n", "import add\n", "from a import b\n", "@a\n", "class A:\n",
    "if x:\n", "> ", "- ", "1. ", "add", "f'{", "if ", "for x in ", "else:\n", "try:\n", "a.b", "a b", "print(",
]  # fmt: skip
BEGINNING = 'def add(a, b):\n    """Add."""\n'


@pytest.mark.slow
@settings(max_examples=scaled(examples(150)), deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=2),
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6),
)
def test_a_text_of_any_shape_takes_time_in_proportion_to_its_length(before, parts):
    unit = "".join(parts)

    def seconds(read, n_chars):
        text = "".join(before) + unit * (n_chars // len(unit))
        started = time.process_time()
        read(text)
        return time.process_time() - started

    # eight times the text: quadratic time would be 64 times as much
    for read in (lambda text: extract(text, F, BEGINNING), lambda text: is_complete(text, F)):
        assert seconds(read, 2_000_000) < 24 * seconds(read, 250_000) + 0.2


@pytest.mark.alone
def test_an_answer_costs_a_few_times_what_parsing_its_program_once_does():
    line = "    total = sum(value for value in values if value > 0)\n"
    code = f"def add(a, b):\n{line * 12}    return a + b"
    prose = "This function adds two numbers, and it is simple.\n" * 5
    answers = [
        f"{prose}```python\n{code}\n```\n{prose}",
        f"{prose}```python\n{code}\n```\n{prose}```python\n{code}\n```",
        f"{code}\n\n{prose}",
        f"<think>\n{prose}```python\n{code}\n```\n</think>\n```python\n{code}\n```",
    ] * 60

    def seconds(read):
        started = time.process_time()
        for answer in answers:
            assert read(answer)
        return time.process_time() - started

    gc.disable()  # it would walk what thousands of other tests have left
    try:
        ratios = [
            seconds(lambda answer: extract(answer, F).code) / seconds(lambda _: ast.parse(code))
            for _ in range(5)
        ]
    finally:
        gc.enable()
    assert min(ratios) < 5  # 2.5 measured; the answers hold 1.5 such programs each


def test_two_megabytes_of_prose_around_a_block_do_not_matter():
    prose = "word " * 200_000
    assert extract(f"{prose}\n```python\n{CODE}\n```\n{prose}", F).code == CODE


@pytest.mark.parametrize(
    "code", ["\x00", "'\ud800'", "-" * 50_000 + "1", "(" * 5_000, "1" + "+1" * 30_000, "x" * 10**6]
)
def test_hostile_code_is_parsed_without_an_exception(code):
    parse(code)


def test_parsing_prints_no_warning(recwarn):
    assert parse("x = '\\d'") is not None
    assert not recwarn


@pytest.mark.parametrize(
    ("text", "done"),
    [
        (f"```python\n{CODE}\n```", True),
        (f"```python\n{CODE}", False),
        ("```python\nprint(1)\n```", False),
        (CODE, False),
        (f"```python\nprint(1)\n```\n```python\n{CODE}\n```", True),
    ],
)
def test_an_answer_is_complete_when_a_closed_block_defines_the_function(text, done):
    assert is_complete(text, F) is done


@given(
    st.text(alphabet="`~ \npyadef(b,):retun+=", max_size=60), st.text(alphabet="`\nx", max_size=9)
)
def test_an_answer_is_complete_only_with_the_program_that_is_graded(text, rest):
    text = f"{text}\n```python\n{CODE}\n```\n{rest}"
    for end in range(len(text) + 1):
        if is_complete(text[:end], F):
            extraction = extract(text[:end], F)
            assert extraction.closed
            assert parse(extraction.code) is not None
            return
