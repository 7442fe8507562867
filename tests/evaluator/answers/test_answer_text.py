import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.answers.answer_text import answer_text, opened_by, without_thinking
from evaluator.answers.extract import extract, is_complete
from evaluator.sampling.completions import Answer

F = ("negate",)
GOOD = "def negate(x):\n    return -x"
BLOCK = f"```python\n{GOOD}\n```"
DRAFT = "```python\ndef negate(x):\n    return x\n```"

THOUGHT = [
    f"<think>{DRAFT}</think>{BLOCK}",
    f"<think>\n{DRAFT}\nno\n</think>\n\n{BLOCK}",
    f"maybe\n{DRAFT}\nno\n</think>\n\n{BLOCK}",
    f"<think>a</think><think>{DRAFT}</think>\n{BLOCK}",
    f"<think>a <think>{DRAFT}</think> b {DRAFT}</think>\n{BLOCK}",
    f"a <think>{DRAFT}</think> b {DRAFT}</think>\n{BLOCK}",
    f"<thinking>\n{DRAFT}\n</thinking>\n{BLOCK}",
    f"<THINK>{DRAFT}</THINK>\n{BLOCK}",
    f"<thought>{DRAFT}</thought>\n{BLOCK}",
    f"<reasoning>\n{DRAFT}\n</reasoning>\n<answer>\n{BLOCK}\n</answer>",
    f"<think>\n<think>\n{DRAFT}\n</think>\n{BLOCK}",
    f"<think>\n```python\ndef negate(x):\n    return x\n</think>\n{BLOCK}",
    f"<think>\n```python\ndef negate(x):\n    return x\n```</think>{BLOCK}",
    f"<think>\n{DRAFT}\n</thinking>\n{BLOCK}",
    f"[THINK]{DRAFT}[/THINK]{BLOCK}",
    f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{BLOCK}",
    f"<think >{DRAFT}</think >\n{BLOCK}",
    f"< think>{DRAFT}< /think>\n{BLOCK}",
    f"{BLOCK}\n<think>\nlet me check\n{DRAFT}",
    f"<think>a</think>{BLOCK}\n<think>\n{DRAFT}\n</think>",
    f"<think>\nI close with `</think>` later\n{DRAFT}\n</think>{BLOCK}",
    f"<think>I don't know {DRAFT} it isn't</think>{BLOCK}",
    f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{BLOCK}",
    f"<think>\ndef negate(x): return x ?\n</think>\n{GOOD}",
    f"one {DRAFT} two</think>three</think>\n{GOOD}",
]


@pytest.mark.parametrize("text", THOUGHT)
def test_thinking_is_never_graded_nor_shown(text):
    assert extract(text, F).code.strip() == GOOD
    assert "return x" not in without_thinking(text)
    assert GOOD in without_thinking(text)


@pytest.mark.parametrize("text", THOUGHT)
def test_thinking_never_ends_sampling(text):
    for end in range(len(text)):
        if is_complete(opened_by("<think>\n") * ("<" not in text[:1]) + text[:end], F):
            # Where it does end, the answer itself is what stands there.
            assert extract(text[:end], F).code == GOOD
            break


@pytest.mark.parametrize(
    "opening", ["<think>", "<thinking>\n", "<think>a<think>b</think>", "<THINK>\n"]
)
@pytest.mark.parametrize("draft", [DRAFT, "def negate(x):\n    return x", f"{DRAFT}\n{DRAFT}"])
def test_thinking_without_an_end_is_no_answer(opening, draft):
    extraction = extract(opening + draft, F)
    assert extraction.code is None
    assert extraction.reason == "thinking without an end"
    assert not is_complete(opening + draft, F)
    assert without_thinking(opening + draft) == ""


@pytest.mark.parametrize(
    "prompt", ["Ask.<think>", "Ask.<|im_start|>assistant\n<think>\n", "<thinking>\n\n"]
)
def test_a_prompt_that_opens_thinking_is_remembered(prompt, problem):
    answer = Answer(problem, DRAFT, prompt=prompt)
    assert extract(answer.graded_text, F).code is None
    assert (
        extract(Answer(problem, f"{DRAFT}</think>{BLOCK}", prompt=prompt).graded_text, F).code
        == GOOD
    )


@pytest.mark.parametrize(
    "prompt", [None, "", "Ask.", "<think>\n\n</think>\n\n", "Cut <think> out of a text."]
)
def test_other_prompts_open_nothing(prompt):
    assert opened_by(prompt) == ""


@pytest.mark.parametrize(
    "text",
    [
        "cut `<think>` here",
        'x = "</think>" + y',
        "re.sub(r'<think>.*?</think>', '', s)",
        's = "a </think> b"',
    ],
)
def test_a_tag_in_quotes_is_a_mention(text):
    assert without_thinking(text) == text
    assert answer_text(text).turns == (text,)


def test_a_token_that_ends_the_turn_divides_the_answer():
    assert answer_text("a<|im_end|>\n<|im_start|>user\nb</s>").turns == ("a", "\n\nuser\nb")


@given(st.text(alphabet="<>/think[]DONE|\"'`\\\n a", max_size=120))
def test_any_mix_of_tags_is_read_without_an_exception(text):
    answer_text(text)
    assert len(without_thinking(text)) <= len(text)


@given(st.lists(st.sampled_from(["<think>", "</think>", "w", "\n"]), max_size=12))
def test_what_thinking_leaves_holds_no_thinking(parts):
    left = without_thinking("".join(parts))
    assert "think>" not in left
    assert without_thinking(left) == left
