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
    f"{BLOCK}\n<think>\n\n<think>\n{DRAFT}\n</think>\n</think>\n",
    f"<think>{DRAFT}</think></think>\n{BLOCK}",
    f"<think>don't do 'it, and not</think> here's the answer:\n{BLOCK}",
    f"<think/>{BLOCK}",
    f"maybe\n{DRAFT}\n...done thinking.\n\n{BLOCK}",
]


TAGS = [
    ("<reflection>", "</reflection>"), ("<analysis>", "</analysis>"), ("<thought_process>", "</thought_process>"),
    ("<plan>", "</plan>"), ("<inner_monologue>", "</inner_monologue>"), ("<longcat_think>", "</longcat_think>"),
    ("<seed:think>", "</seed:think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("<think\n>", "</think\n>"),
    ("<|think_start|>", "<|think_end|>"), ("<|begin_think|>", "<|end_think|>"), ("<|think|>", "<|/think|>"),
    ("<|start_of_thinking|>", "<|end_of_thinking|>"), ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"), ("&lt;think&gt;", "&lt;/think&gt;"), ("\\<think\\>", "\\</think\\>"),
    ("[THINKING]", "[/THINKING]"), ('<thinking mode="on">', "</thinking>"), ("<cot>", "</cot>"),
    ("<inner thoughts>", "</inner thoughts>"), ("<my_thinking>", "</my_thinking>"), ("<think:deep>", "</think:deep>"),
    ("<|thinking|>", "</|thinking|>"), ("<|begin▁of▁thinking|>", "<|end▁of▁thinking|>"), ("<思考>", "</思考>"),
    ("<｜begin▁of▁thought｜>", "<｜end▁of▁thought｜>"), ("<|im_start|>think", "<|im_end|>\n<|im_start|>answer"),
    ("<think>", "<think/>"), ("<review>", "</review>"), ("<notes>", "</notes>"),
    ("<brainstorming>", "</brainstorming>"),
    ("<|channel|>commentary to=x<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]  # fmt: skip
THOUGHT += [f"{opening}\n{DRAFT}\n{closing}\n{BLOCK}" for opening, closing in TAGS]
THOUGHT += [f"{BLOCK}\n{opening}\nor else\n{DRAFT}\n" for opening, _ in TAGS]


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


@pytest.mark.parametrize(
    "line",
    [
        "# cuts <think> tags",
        "x = cut  # of <think>a</think>",
        "x = 1\n    # see <thinking> here",
    ],
)
def test_a_tag_in_a_comment_of_code_is_a_mention(line):
    code = f"def negate(x):\n    {line}\n    return -x"
    assert extract(f"```python\n{code}\n```", F).code == code
    assert extract(code, F).code == code


def test_a_tag_in_the_middle_of_a_docstring_s_line_is_a_mention():
    code = 'def negate(x):\n    """Cut <think> tags,\n    all of <think>them</think>.\n    """\n    return -x'
    assert extract(f"```python\n{code}\n```", F).code == code


@pytest.mark.parametrize(
    "text", ["a <plan> for it\n{}", "the </analysis> says\n{}", "it raises <reason>\n{}"]
)
def test_a_tag_that_is_a_word_of_a_sentence_is_no_thinking(text):
    assert extract(text.replace("{}", BLOCK), F).code == GOOD


def test_a_token_that_ends_the_turn_divides_the_answer():
    assert answer_text("a<|im_end|>\n<|im_start|>user\nb</s>").turns == ("a", "\n\n\nb")


def test_done_in_brackets_ends_the_answer_that_it_marks():
    text = f"[BEGIN]\n{GOOD}\n[DONE]\n\nYour task: another.\n[BEGIN]\ndef negate(x):\n    return x\n[DONE]"
    assert extract(text, F).code.strip() == GOOD
    assert extract(f"[BEGIN]\n[DONE]\n{GOOD}\n[DONE]", F).code.strip() == GOOD


@given(st.text(alphabet="<>/think[]DONE|\"'`\\\n a", max_size=120))
def test_any_mix_of_tags_is_read_without_an_exception(text):
    answer_text(text)
    assert len(without_thinking(text)) <= len(text)


@given(st.lists(st.sampled_from(["<think>", "</think>", "w", "\n"]), max_size=12))
def test_what_thinking_leaves_holds_no_thinking(parts):
    left = without_thinking("".join(parts))
    assert "think>" not in left
    assert without_thinking(left) == left
