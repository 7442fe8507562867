"""Code in other clothes than a fence, and what a block, an explanation or a helper may look like."""

import pytest

from evaluator.answers.extract import extract, is_complete
from evaluator.problems.problem import normalised_row, problem_from_row
from evaluator.problems.prompt import Protocol
from evaluator.sampling.answer_end import stop_rule

F = ("double_all",)
GOOD = "def double_all(xs):\n    return [2 * x for x in xs]"
LINE = "def double_all(xs): return [2 * x for x in xs]"
LAMBDA = "double_all = lambda xs: [2 * x for x in xs]"
TYPED = ">>> def double_all(xs):\n...     return [2 * x for x in xs]\n...\n>>> double_all([1])\n[2]"


def fenced(code, info="python"):
    return f"```{info}\n{code}\n```"


def quoted(text, mark="> "):
    return "\n".join(mark + line for line in text.split("\n"))


def check(text):
    extraction = extract(text, F)
    assert extraction.code is not None, extraction.reason
    space = {}
    exec(compile(extraction.code, "answer", "exec", dont_inherit=True), space)  # noqa: S102
    assert space["double_all"]([1, 2]) == [2, 4]


@pytest.mark.parametrize(
    "text",
    [
        TYPED, fenced(TYPED), fenced(TYPED, "pycon"), f"In a shell:\n\n{TYPED}\n\nThat is it.",
        fenced(">>> import math\n" + TYPED), fenced(f"{GOOD}\n\n# Example\n>>> double_all([1])\n[2]\n>>> 1\n1"),
        TYPED.replace(">>> ", ">>>"), quoted(TYPED), f"So:\n\n{quoted(TYPED)}\n\nDone.", TYPED.replace(">", "&gt;"),
        fenced("In [1]: def double_all(xs):\n   ...:     return [2 * x for x in xs]\n   ...:\n\nIn [2]: 1\nOut[2]: 1"),
    ],
)  # fmt: skip
def test_what_was_typed_into_an_interpreter_is_code(text):
    check(text)


@pytest.mark.parametrize(
    "before",
    [
        "Answer: ", "Answer:\t", "**Answer:** ", "[Answer] ", "Final answer: ", "Sure! ", "python ", "$ ", "1. ", "- ",
        "Code:", "Output: ", "The function is: ",
    ],
)  # fmt: skip
def test_a_definition_can_begin_behind_a_label(before):
    check(before + GOOD)
    check(f"Hello.\n\n{before}{LINE}\n\nIt doubles.")
    check(before + LAMBDA)


@pytest.mark.parametrize("code", [LINE, LAMBDA])
@pytest.mark.parametrize(
    "text", ["`{}`", "``{}``", "The answer is `{}`, as asked.", "Answer: `{}`"]
)
def test_a_whole_definition_in_a_code_span_counts_where_there_is_no_better_one(text, code):
    check(text.replace("{}", code))
    check(f"Not `{LINE.replace('2 * x', '0')}` but:\n\n{fenced(GOOD)}")


def numbered(form, first=1):
    lines = f"# doubles\n\n{GOOD}".split("\n")[2:]
    return "\n".join(form.format(n, line).rstrip() for n, line in enumerate(lines, first))


NUMBERS = ["{}  {}", "{}: {}", "{:>3} | {}", "{}\t{}", "{}. {}", "{}) {}", "{:03d}: {}", "{} {}"]


@pytest.mark.parametrize("form", NUMBERS)
def test_line_numbers_before_code_are_taken_off(form):
    check(fenced(numbered(form)))
    check(fenced(numbered(form, 9), ""))
    check(f"The code:\n\n{numbered(form)}\n\n{FENCED_CALL}\n\nThat is it.")


FENCED_CALL = fenced("double_all([1])")
ADDED = "\n".join("+" + line for line in GOOD.split("\n"))


@pytest.mark.parametrize(
    "change",
    [
        ADDED, f"--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,2 @@\n{ADDED}",
        " def double_all(xs):\n-    return xs\n+    return [2 * x for x in xs]",
        "-def double_all(ys):\n-    return ys\n" + ADDED, " import math\n \n" + ADDED,
    ],
)  # fmt: skip
def test_the_lines_that_a_change_leaves_are_code(change):
    check(fenced(change, "diff"))
    check(f"Change it so:\n{fenced(change, '')}\nand run it.")


UNREAD = [
    ("    ", "\u00a0\u00a0\u00a0\u00a0"), ("    ", "\u3000\u3000"), ("\n", "\n\u200b"), ("(xs)", "(xs\u200d)"),
    (" in", "\u202fin"), ("def", "\u2060def"), ("return", "re\u00adturn"), ("\n    ", "\n\ufeff    "),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "written"), UNREAD)
def test_spaces_and_characters_that_python_does_not_read_are_taken_off(seen, written):
    check(fenced(GOOD.replace(seen, written)))
    check(f"Here:\n\n{GOOD.replace(seen, written)}\n\nDone.")


@pytest.mark.parametrize(
    "block",
    [
        fenced(GOOD.replace(" in", "\u00a0in")), fenced(GOOD.replace("(xs)", "(xs\u200d)")),
        fenced(f"The answer:\n{GOOD}"), fenced(TYPED), fenced(f"{TYPED}\n>>> 1\n1"),
    ],
)  # fmt: skip
def test_sampling_ends_behind_a_closed_block_however_its_code_is_dressed(block):
    assert [end for end in range(len(block) + 1) if is_complete(block[:end], F)] == [len(block)]
    assert not is_complete(f"<think>\n{block}\n", F)


@pytest.mark.parametrize("info", ["diff", ""])
@pytest.mark.parametrize(
    "cited",
    [
        ADDED, f"--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,2 @@\n{ADDED}", "-def double_all(ys):\n-    return ys\n" + ADDED,
        " def double_all(xs):\n-    return xs\n+    return [3 * x for x in xs]",
        *(numbered(form).replace("2 *", "3 *") for form in NUMBERS),
    ],
)  # fmt: skip
def test_sampling_goes_on_behind_a_change_or_a_numbered_listing_until_a_program_stands_closed(
    cited, info
):
    text = f"{fenced(cited, info)}\n\nThe whole program:\n\n{fenced(GOOD)}"
    line_ends = [at for at in range(len(text) + 1) if text[at : at + 1] in ("", "\n")]
    assert [end for end in line_ends if is_complete(text[:end], F)] == [len(text)]
    check(text)


def test_what_a_whole_program_spells_is_left_as_it_is():
    for line in ("x = '&lt;'", "x = '\u200b\u00a0'", 'x = """\n+ 1\n1: def f():\n"""'):
        code = GOOD.replace("    return", f"    {line}\n    return")
        assert extract(fenced(code), F).code == code


@pytest.mark.parametrize(
    "text",
    [
        "<pre><code>{}</code></pre>", '<pre><code class="language-python">{}</code></pre>', '<pre lang="py">{}</pre>',
        "<pre>\n{}\n</pre>\nThat is it.", '<code id="a" class="b">\n{}\n</code>',
    ],
)  # fmt: skip
def test_code_in_html_is_read_without_its_entities(text):
    check(text.replace("{}", GOOD))
    check(
        text.replace(
            "{}", GOOD.replace("for x in xs", "for x in xs if 0 &lt; 1 &amp; 1 and &quot;a&quot;")
        )
    )


@pytest.mark.parametrize("quote", ["'''", '"""'])
@pytest.mark.parametrize("language", ["python", "Python", "py", " python3"])
def test_triple_quotes_that_name_the_language_can_stand_for_a_fence(quote, language):
    check(f"{quote}{language}\n{GOOD}\n{quote}")
    check(f"Sure:\n\n{quote}{language}\n{GOOD}\n{quote}\n\nThat is it.")


@pytest.mark.parametrize("mark", ["> ", ">", ">> ", " > "])
def test_quoted_code_needs_no_fence(mark):
    check(quoted(GOOD, mark))
    check(f"As I said:\n\n{quoted(GOOD, mark)}\n\nThat is it.")


@pytest.mark.parametrize("label", ["Answer:", "Solution: ", "Here is the code", "The program:"])
def test_prose_before_the_code_of_a_closed_block_is_left_out(label):
    check(fenced(f"{label}\n{GOOD}"))


@pytest.mark.parametrize(
    "info", ["python=", "python=1", "lang=python", "language-python", "lang-py"]
)
def test_an_opening_fence_can_name_its_language_in_other_ways(info):
    check(fenced(GOOD, info))


@pytest.mark.parametrize(
    "part",
    [
        "    total = 0", "    out = []\n    for x in xs:\n        y = 2 * x", "    n = len(xs)\n    return",
        "    while False:\n        break", "    def twice(x):\n        return 2 * x", "    a, b = 1, 2\n    a += b",
        "    try:\n        n = 1\n    except ValueError:\n        pass",
    ],
)  # fmt: skip
def test_the_first_part_of_a_function_that_an_explanation_cites_wins_over_no_whole_one(part):
    cited = fenced(f"def double_all(xs):\n{part}")
    check(f"{fenced(GOOD)}\n\nIt begins with\n{cited}\nand so on.")
    assert not is_complete(cited, F)


@pytest.mark.parametrize(
    "body",
    [
        "    xs.sort()", "    xs[0] = 1", "    xs.n = 1", "    yield 1", "    global n\n    n = 1", "    del xs[0]",
        "    raise ValueError(xs)", "    n = yield", "    with xs:\n        pass", "    print(xs)",
    ],
)  # fmt: skip
def test_a_function_that_changes_something_is_whole_without_a_result(body):
    code = f"def double_all(xs):\n{body}"
    assert is_complete(fenced(code), F)
    assert extract(f"{fenced(GOOD)}\n{fenced(code)}", F).code == code


USER = "def double_all(xs):\n    return list(map(partial(mul, 2), xs))"


@pytest.mark.parametrize(
    "text",
    [
        f"from functools import partial\nfrom operator import mul\n\n{fenced(USER)}",
        f"{fenced('from functools import *')}\n{fenced('from operator import mul')}\n{fenced(USER)}",
        f"Begin with\n\nfrom functools import partial\nfrom operator import mul\n\nthen\n\n{fenced(USER)}",
    ],
)
def test_imports_outside_of_the_block_and_of_everything_are_joined(text):
    check(text)


def test_sampling_goes_on_until_the_names_are_bound_that_the_program_needs():
    user = fenced("def double_all(xs):\n    return [twice(x) for x in xs]")
    helper = fenced("def twice(x):\n    return 2 * x")
    text = f"{user}\nwhere\n{helper}"
    done = [end for end in range(len(text) + 1) if is_complete(text[:end], F)]
    assert done == [len(text)]
    check(text)


def test_names_that_the_problem_lends_do_not_keep_sampling_going():
    problem = problem_from_row(
        normalised_row(
            {
                "task_id": 1,
                "text": "Double all.",
                "code": GOOD,
                "test_list": ["assert double_all([1]) == [2]"],
                "test_imports": ["import math"],
                "test_setup_code": "TWO = 2",
            }
        )
    )
    ends = stop_rule(problem, Protocol("own", 1, {"user": "{text}"}, "all", chat=True))
    assert ends(fenced("def double_all(xs):\n    return [TWO * math.floor(x) for x in xs]"))
    assert not ends(fenced("def double_all(xs):\n    return [THREE * x for x in xs]"))
