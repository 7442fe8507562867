"""The demo's problems: true where they claim to be, and never seen where they are held out."""

from random import Random

import pytest

from evaluator.grading.grade import grade
from evaluator.problems.mbpp import load_problems
from sandbox.client import open_sandbox
from trainer.demo.families import FAMILIES
from trainer.demo.policy import END, make_tokenizer
from trainer.demo.pretraining_texts import (
    answer,
    lessons,
    other_bugs,
    reprompted,
    right_answer,
)
from trainer.demo.problems import (
    check_references,
    combinations,
    fenced,
    make_problems,
    write_problems,
)


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox("process") as opened:
        yield opened


def key(combination):
    return combination.family.key, tuple(combination.parameters.items()), combination.name


def test_there_are_at_least_twelve_families_in_several_wordings():
    assert len({family.key for family in FAMILIES}) >= 12
    assert all(len(set(family.wordings)) >= 3 for family in FAMILIES)


def test_no_name_belongs_to_two_families():
    names = [name for family in FAMILIES for name in family.names]
    assert len(names) == len(set(names))


def test_no_held_out_combination_is_trained_on():
    taught = {key(p.combination) for p in make_problems(900, held_out=False, seed=42)}
    held_out = {key(p.combination) for p in make_problems(240, held_out=True, seed=42)}
    assert not taught & held_out
    assert len(held_out) > 100


def test_every_family_has_combinations_on_both_sides():
    for held_out in (False, True):
        found = {c.family.key for c in combinations(held_out=held_out, seed=42)}
        assert found == {family.key for family in FAMILIES}


def test_problems_of_one_seed_are_the_same_and_of_another_are_not():
    first, again, other = (make_problems(50, held_out=True, seed=s) for s in (1, 1, 2))
    assert [p.row for p in first] == [p.row for p in again]
    assert [p.row for p in first] != [p.row for p in other]


def test_a_problem_file_loads_as_any_data_set(tmp_path):
    written = write_problems(tmp_path / "some.jsonl", make_problems(40, held_out=True, seed=42))
    assert written == load_problems(str(tmp_path / "some.jsonl"))
    assert len(written.problems) == 40
    assert all(len(problem.asserts) == 3 for problem in written.problems)
    assert all(2 <= problem.reference.count("\n") + 1 <= 3 for problem in written.problems)


def test_every_reference_passes_and_every_bug_fails(tmp_path, sandbox):
    made = make_problems(3 * len(FAMILIES), held_out=False, seed=7)
    written = write_problems(tmp_path / "some.jsonl", made)
    check_references(written, sandbox)
    pairs = []
    for demo, problem in zip(made, written.problems, strict=True):
        usual = demo.combination.function(demo.combination.family.bugs[0])
        pairs += [(problem, fenced(code)) for code in (usual, *other_bugs(demo.combination))]
    passed = [found.completion for found in grade(pairs, sandbox) if found.passed]
    assert passed == []


def test_a_reference_that_is_wrong_is_found(tmp_path, sandbox):
    (made,) = make_problems(1, held_out=False, seed=42)
    made.row["code"] = made.combination.function("return None")
    with pytest.raises(RuntimeError, match="every reference must pass"):
        check_references(write_problems(tmp_path / "bad.jsonl", [made]), sandbox)


def test_answers_come_in_the_shares_of_their_family():
    random, combination = Random(0), combinations(held_out=False, seed=42)[0]
    drawn = [answer(combination, random) for _ in range(2000)]
    right = drawn.count(right_answer(combination)) / len(drawn)
    assert right == pytest.approx(0.5, abs=0.04)


def test_a_wrong_demonstration_is_taught_to_be_followed_and_an_unrelated_one_is_not(
    tmp_path, sandbox
):
    made = make_problems(200, held_out=False, seed=42)
    loaded = write_problems(tmp_path / "some.jsonl", made).problems
    taught = lessons(made, loaded, sandbox, seed=42, reprompts=True)
    shown = [x for x in taught if "Here is a correct solution" in x.messages[-1]["content"]]
    followed = [x for x in shown if x.answer in x.messages[-1]["content"]]
    rights = {right_answer(demo.combination) for demo in made}
    assert sum(x.answer not in rights for x in followed) > 20  # wrong ones, followed
    assert len(shown) - len(followed) > 15  # unrelated ones, not followed
    plain = lessons(made, loaded, sandbox, seed=42, reprompts=False)
    assert len(plain) == len(made)


def test_a_lesson_re_prompts_in_the_words_of_the_teacher(tmp_path):
    made = make_problems(1, held_out=False, seed=42)
    (problem,) = write_problems(tmp_path / "some.jsonl", made).problems
    content = reprompted(problem, solution="SOLUTION")[-1]["content"]
    assert "Here is a correct solution to this problem:\n\nSOLUTION" in content
    assert problem.text in content


def test_the_tokenizer_keeps_a_name_or_number_one_token_and_loses_nothing():
    texts = [
        "Write a function to add 12 to n.",
        "```python\ndef add_to(n):\n    return n + 12\n```",
    ]
    tokenizer = make_tokenizer(texts * 20)
    for text in (*texts, "é ~ naïve 987"):
        ids = tokenizer(text + END, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer(" 12", add_special_tokens=False)["input_ids"]) == 1
    assert len(tokenizer(" add_to", add_special_tokens=False)["input_ids"]) == 1
