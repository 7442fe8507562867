"""The second statement of who is shown what agrees with the first one, and with nothing else."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scale import examples
from trainer.audit.teacher_rule import prompt_problem
from trainer.teacher.prompt import Attempt, TeacherRules, teacher_prompts

QUESTION = [
    {"role": "system", "content": "You code."},
    {"role": "user", "content": "Add {feedback}."},
]
REFERENCE = "def add(a, b):\n    return a + b"
TEXTS = ["return 1", "<think>so {solution}</think>", "<think>so</think>return 2", "", "x" * 40]
ATTEMPTS = st.lists(
    st.builds(
        Attempt, text=st.sampled_from(TEXTS), success=st.booleans(),
        feedback=st.sampled_from([None, " ", "wrong", "{prompt} " * 9]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip
RULES = st.builds(
    TeacherRules, context=st.sampled_from(["peer", "feedback", "reference", "nothing"]),
    exclude_self=st.booleans(), strip_thinking=st.booleans(), use_feedback=st.booleans(),
    feedback_only_without_solution=st.booleans(),
)  # fmt: skip


def length(messages):
    return sum(len(message["content"]) for message in messages)


def text_of(messages):
    return "|".join(message["content"] for message in messages)


def problems(rules, attempts, prompts, limit):
    return [
        prompt_problem(
            rules, QUESTION, attempts, i, prompt, prompt and text_of(prompt.messages), text_of,
            REFERENCE, fits=lambda messages: length(messages) <= limit,
        )
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip


def prompts_of(rules, attempts, limit):
    return teacher_prompts(
        QUESTION, attempts, rules, reference=REFERENCE, n_tokens=length, max_tokens=limit
    )


@settings(max_examples=examples(200), deadline=None)
@given(ATTEMPTS, RULES, st.integers(1, 400))
def test_prompts_by_the_rule_pass_whatever_fits_into_the_limit(attempts, rules, limit):
    found = problems(rules, attempts, prompts_of(rules, attempts, limit), limit)
    assert found == [None] * len(attempts)


@settings(max_examples=examples(200), deadline=None)
@given(ATTEMPTS, RULES)
def test_a_prompt_that_is_missing_or_over_the_limit_or_another_members_is_found(attempts, rules):
    prompts = prompts_of(rules, attempts, 10_000)
    for i, prompt in enumerate(prompts):
        if prompt is None:
            continue
        wrong = [None, replace(prompt, feedback_used=not prompt.feedback_used)]
        wrong += [replace(prompt, demonstration_member=9)]
        for each in wrong:
            changed = [*prompts[:i], each, *prompts[i + 1 :]]
            assert problems(rules, attempts, changed, 10_000)[i] is not None
        whole = length(prompt.messages)
        if rules.context != "nothing":
            assert problems(rules, attempts, prompts, whole)[i] is None
            assert "must fit" in problems(rules, attempts, prompts, whole - 1)[i]
