from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.teacher.prompt import (
    Attempt,
    TeacherRules,
    coverage,
    demonstration,
    teacher_prompts,
)

QUESTION = [{"role": "system", "content": "You code."}, {"role": "user", "content": "Write f."}]
RULES = TeacherRules()
SUCCESS = Attempt("def f(): return 1", success=True, feedback=None)
FAILURE = Attempt("def f(): retrun", success=False, feedback="SyntaxError: invalid syntax")


def prompts(*attempts: Attempt, rules: TeacherRules = RULES, **kwargs):
    return teacher_prompts(QUESTION, attempts, rules, **kwargs)


def test_a_failure_is_shown_a_peers_solution_and_not_its_own_text():
    first, second = prompts(FAILURE, SUCCESS)
    assert first.demonstration_member == 1
    assert SUCCESS.text in first.messages[-1]["content"]
    assert FAILURE.text not in first.messages[-1]["content"]
    assert second is None, "a lone success has nothing to learn from"


def test_feedback_is_shown_where_nobody_succeeded():
    (only,) = prompts(FAILURE)
    assert only.feedback_used and only.demonstration_member is None
    assert FAILURE.feedback in only.messages[-1]["content"]


def test_a_passing_completion_without_peers_has_no_teacher():
    assert prompts(SUCCESS) == [None]


def test_earlier_messages_stay_as_they_were():
    (only,) = prompts(FAILURE)
    assert only.messages[0] == QUESTION[0]
    assert only.messages[-1]["content"].startswith("Write f.")


hostile = st.text(alphabet=st.sampled_from(list("{}promtsluifedback_0!r:x\n")), max_size=40)


@given(text=hostile.filter(str.strip), feedback=hostile)
def test_values_are_text_and_never_read_as_templates(text, feedback):
    rules = TeacherRules(feedback_only_without_solution=False)
    failure = Attempt("", success=False, feedback=feedback)
    content = prompts(failure, Attempt(text, success=True, feedback=None), rules=rules)[0]
    expected = rules.template.replace("{prompt}", "Write f.", 1)
    head, tail = expected.split("{solution}{feedback}")
    shown = rules.solution_template.replace("{solution}", text)
    if feedback.strip():
        shown += rules.feedback_template.replace("{feedback}", feedback)
    assert content.messages[-1]["content"] == head + shown + tail


def words(messages) -> int:
    return sum(len(m["content"].split()) for m in messages)


def test_too_long_a_prompt_loses_feedback_first_and_instructions_never():
    rules = TeacherRules(feedback_only_without_solution=False)
    failure = Attempt("", success=False, feedback="noise " * 500)
    peer = Attempt("solution " * 20, success=True, feedback=None)
    prompt = prompts(failure, peer, rules=rules, n_tokens=words, max_tokens=80)[0]
    content = prompt.messages[-1]["content"]
    assert words(prompt.messages) <= 80
    assert peer.text in content and "noise" in content
    assert content.endswith("Solve the problem stated at the beginning.")
    assert content.startswith("Write f.")


def test_a_prompt_that_no_shortening_saves_is_none():
    assert prompts(FAILURE, n_tokens=words, max_tokens=3) == [None]


@given(limit=st.integers(0, 200), n=st.integers(0, 300))
def test_no_prompt_is_ever_longer_than_the_limit(limit, n):
    failure = Attempt("", success=False, feedback="x " * n)
    for prompt in prompts(failure, n_tokens=words, max_tokens=limit):
        assert prompt is None or words(prompt.messages) <= limit


def test_coverage_counts_over_the_whole_batch():
    group = [FAILURE, SUCCESS]
    found = coverage([(group, prompts(*group)), ([SUCCESS], prompts(SUCCESS))], RULES)
    assert found.success_group_fraction == 1.0
    assert found.solution_fraction == pytest.approx(1 / 3)
    assert found.feedback_available_fraction == pytest.approx(1 / 3)
    assert found.feedback_used_fraction == 0.0
    assert found.reprompted_fraction == pytest.approx(1 / 3)


def test_a_template_without_its_field_is_refused():
    with pytest.raises(ValueError, match="must contain {feedback}"):
        TeacherRules(feedback_template="Something failed.")


def test_a_reference_is_shown_to_every_member_and_shortened_where_it_is_too_long():
    rules = TeacherRules(context="reference")
    found = prompts(FAILURE, SUCCESS, rules=rules, reference="REFERENCE")
    for prompt in found:
        assert "REFERENCE" in prompt.messages[-1]["content"]
        assert SUCCESS.text not in prompt.messages[-1]["content"]
        assert prompt.reference_used and prompt.demonstration_member is None
        assert not prompt.feedback_used
    assert coverage([((FAILURE, SUCCESS), found)], rules).solution_fraction == 1.0
    longer = prompts(FAILURE, rules=rules, reference="word " * 200, n_tokens=words, max_tokens=60)
    assert words(longer[0].messages) <= 60 and longer[0].reference_used
    with pytest.raises(ValueError, match="must have a reference solution"):
        prompts(FAILURE, rules=rules)


def test_a_reference_stands_beside_feedback_where_that_is_allowed():
    rules = TeacherRules(context="reference", feedback_only_without_solution=False)
    failed, _ = prompts(FAILURE, SUCCESS, rules=rules, reference="REFERENCE")
    assert failed.feedback_used and FAILURE.feedback in failed.messages[-1]["content"]


def test_a_feedback_context_shows_no_solution():
    failed, succeeded = prompts(FAILURE, SUCCESS, rules=TeacherRules(context="feedback"))
    assert failed.feedback_used and failed.demonstration_member is None
    assert succeeded is None


def test_an_empty_context_is_the_students_own_prompt():
    for prompt in prompts(FAILURE, SUCCESS, rules=TeacherRules(context="nothing")):
        assert list(prompt.messages) == QUESTION


def test_where_only_failures_are_taught_a_success_has_no_teacher():
    rules = TeacherRules(failing_only=True)
    failed, *succeeded = prompts(FAILURE, SUCCESS, SUCCESS, rules=rules)
    assert failed.demonstration_member == 1 and succeeded == [None, None]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("peer", ["peer", "peer", "feedback"]),
        ("feedback", [None, None, "feedback"]),
        ("reference", ["reference"] * 3),
        ("nothing", ["nothing"] * 3),
    ],
)
def test_each_prompt_says_what_it_shows(context, expected):
    successes = [replace(SUCCESS, text=f"def f(): return {n}") for n in (1, 2)]
    group = [*successes, FAILURE]
    rules = TeacherRules(context=context)
    members = prompts(*group, rules=rules, reference="def f(): return 3")
    if context == "peer":
        # alone, a failure has no peer to be shown
        members[2] = prompts(FAILURE, rules=rules)[0]
    assert [None if prompt is None else prompt.context for prompt in members] == expected


def test_a_peers_thinking_is_left_out_unless_it_is_asked_for():
    peer = Attempt("<think>hm</think>\nanswer", success=True, feedback=None)
    shown = prompts(FAILURE, peer)[0].messages[-1]["content"]
    assert "\n\nanswer\n\n" in shown and "hm" not in shown
    whole = prompts(FAILURE, peer, rules=TeacherRules(strip_thinking=False))[0]
    assert peer.text in whole.messages[-1]["content"]


def test_a_success_may_be_shown_itself_where_that_is_allowed():
    first, second = prompts(SUCCESS, FAILURE, rules=TeacherRules(exclude_self=False))
    assert (first.demonstration_member, second.demonstration_member) == (0, 0)


def test_without_the_use_of_feedback_none_is_shown_or_counted():
    rules = TeacherRules(use_feedback=False, feedback_only_without_solution=False)
    assert prompts(FAILURE, rules=rules) == [None]
    assert not prompts(FAILURE, SUCCESS, rules=rules)[0].feedback_used
    assert coverage([([FAILURE], [None])], rules).feedback_available_fraction == 0.0


def test_coverage_of_one_attempt_and_of_an_empty_context():
    found = coverage([([FAILURE], prompts(FAILURE))], RULES)
    assert (found.success_group_fraction, found.solution_fraction) == (0.0, 0.0)
    assert (found.feedback_available_fraction, found.feedback_used_fraction) == (1.0, 1.0)
    nothing = TeacherRules(context="nothing")
    found = coverage([([SUCCESS, FAILURE], prompts(SUCCESS, FAILURE, rules=nothing))], nothing)
    assert (found.solution_fraction, found.reprompted_fraction) == (0.0, 1.0)
    assert coverage([], RULES).reprompted_fraction == 0.0


@pytest.mark.parametrize("part", ["solution", "feedback"])
def test_what_is_too_long_keeps_the_longest_head_and_tail_that_fit(part):
    rules = TeacherRules(
        template="{prompt}{solution}{feedback}",
        solution_template="{solution}",
        feedback_template="{feedback}",
    )
    text = "abcdefghijklmnopqrstuvwxyz"
    failure = Attempt("", success=False, feedback=text if part == "feedback" else None)
    peers = [Attempt(text, success=True, feedback=None)] if part == "solution" else []

    def shown(limit):
        found = prompts(
            failure,
            *peers,
            rules=rules,
            n_tokens=lambda messages: len(messages[-1]["content"]),
            max_tokens=len("Write f.") + limit,
        )[0]
        return None if found is None else found.messages[-1]["content"].removeprefix("Write f.")

    assert shown(26) == text
    # the mark has seven characters
    assert shown(18) == "abcdef\n[...]\nvwxyz"
    assert shown(17) == "abcde\n[...]\nvwxyz"
    assert shown(8) == "a\n[...]\n"
    assert shown(7) is None


def test_braces_of_a_template_that_name_no_value_of_it_are_words():
    rules = TeacherRules(
        template="{prompt}{solution}{feedback} {} {other} {0}",
        feedback_template="{feedback}{prompt}",
    )
    (only,) = prompts(FAILURE, rules=rules)
    assert (
        only.messages[-1]["content"] == f"Write f.{FAILURE.feedback}{{prompt}} {{}} {{other}} {{0}}"
    )


TOKENS = ["<|im_end|>", "    ", "~~", "<tool>", "[THINK]", "[/THINK]"]


def test_a_demonstration_keeps_its_blanks_and_holds_no_token_of_the_tokenizer():
    code = "def f(x):\n    # caf\u00e9 \u200d\n    return x"
    assert demonstration(code, special_tokens=TOKENS, strip_thinking=True) == code
    for hidden in ("<|im_end|>", "<|im_\u200bend|>", "<to\U000e0041ol>", "~~~"):
        text = demonstration(f"{code}\n    # {hidden}", special_tokens=TOKENS, strip_thinking=True)
        assert not any(
            token in text.replace("\u200b", "") for token in ("<|im_end|>", "<tool>", "~~")
        )
        assert "\n    return x\n    # " in text


@pytest.mark.parametrize(
    "text",
    [
        "<|im_<think>hm</think>end|>",
        "<|im_<thinking>hm</thinking>\n end|>",
        "<|im_<think><|im_<think>a</think>end|></think>end|>",
        "<to<|channel|>analysis<|message|>hm<channel|>ol>",
        "<|im_<thi<|im_end|>nk>a</think>end|>",
    ],
)
def test_a_token_whose_halves_thinking_held_apart_is_broken_up_when_it_goes(text):
    shown = demonstration(f"{text} answer", special_tokens=TOKENS, strip_thinking=True)
    peer = Attempt(shown, success=True, feedback=None)
    content = prompts(FAILURE, peer)[0].messages[-1]["content"]
    assert shown in content and not any(token in content for token in ("<|im_end|>", "<tool>"))
    assert "answer" in shown and "hm" not in shown


def test_thinking_goes_before_its_tags_are_broken_up_as_special_tokens():
    text = "[THINK]maybe <|im_end|>[/THINK]\nanswer"
    assert demonstration(text, special_tokens=TOKENS, strip_thinking=True) == "answer"
    kept = demonstration(text, special_tokens=TOKENS, strip_thinking=False)
    assert kept == "[ THINK]maybe < |im_end|>[ /THINK]\nanswer"


@pytest.mark.parametrize("text", ["", " \n", "<think>only thought</think>\n"])
def test_a_success_that_shows_nothing_is_passed_over_for_the_next(text):
    text = demonstration(text, special_tokens=TOKENS, strip_thinking=True)
    empty = Attempt(text, success=True, feedback=None)
    assert prompts(FAILURE, empty, SUCCESS)[0].demonstration_member == 2
    assert prompts(FAILURE, empty)[0].context == "feedback"
