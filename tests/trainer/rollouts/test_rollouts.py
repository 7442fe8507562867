def test_what_a_template_opened_as_thinking_earns_nothing_in_training():
    from evaluator.problems.mbpp import load_problems
    from tests.trainer.fakes import HashSandbox
    from trainer.rollouts.rollouts import RolloutGrader

    problem = load_problems("embedded/train").problems[0]
    answer = f"```python\n{problem.reference}\n```"
    texts = [f"perhaps {answer}", f"perhaps</think>{answer}"]

    def graded(opening):
        grader = RolloutGrader(
            {problem.task_id: problem}, HashSandbox(), timeout_s=5.0, format_weight=0.3,
            patience=lambda work, _: work(), opening=opening,
        )  # fmt: skip
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        grader.correctness(completions, [problem.task_id] * 2)
        assert grader.format_score(completions)
        return [rollout.grade.extraction.code is not None for rollout in grader.graded]

    assert graded("<think>\n") == [False, True]
    assert graded("") == [True, True]


def test_a_rollout_is_stored_with_why_its_program_looks_hard_coded():
    """With one shown assert, what passes it alone and spells its value knows only that."""
    from evaluator.answers.extract import extract
    from evaluator.grading.grade import Grade
    from evaluator.grading.reward import reward
    from evaluator.problems.mbpp import load_problems
    from sandbox.program import AssertResult, Execution, Verdict
    from trainer.rollouts.rollouts import GradedRollout, SampledRollout, rollout_records

    problem = load_problems("embedded/train").problems[0]  # count_rises([1, 2, 2, 3]) == 2 is shown
    name = problem.callables[0]

    def stored(code, n_passed, visible_tests):
        text = f"```python\n{code}\n```"
        verdicts = [Verdict.PASSED if i < n_passed else Verdict.FAILED for i in range(3)]
        results = tuple(AssertResult(a, v) for a, v in zip(problem.asserts, verdicts, strict=True))
        execution = Execution(results, cpu_ms=1.0, wall_ms=1.0, peak_memory_bytes=1)
        grade = Grade(problem, text, extract(text, problem.callables), execution)
        rollout = SampledRollout(
            GradedRollout(grade, reward(grade), None, text), "ask", 1, 1, False, 0.0, None, None
        )
        row, *_ = rollout_records([rollout], step=1, group_size=1, visible_tests=visible_tests)
        return row.suspicion

    table = f"def {name}(xs):\n    return {{'[1, 2, 2, 3]': 2, '[5, 4, 3]': 0, '[]': 0}}[str(xs)]"
    guess = f"def {name}(xs):\n    return 2 if len(xs) > 3 else -1"
    assert stored(table, 3, "all") == "looks the asserts up"
    assert stored(problem.reference, 3, "all") == ""
    assert stored(guess, 1, "first") == "passes only what the prompt shows"
    assert stored(guess, 1, "all") == ""
    assert stored(table, 0, "all") == "", "nothing was gained"


def test_a_trainer_writes_its_rows_with_their_place_what_prompts_showed_and_the_teachers_context(
    monkeypatch,
):
    from types import SimpleNamespace

    import torch

    from evaluator.problems.mbpp import load_problems
    from tests.trainer.fakes import HashSandbox
    from trainer.rollouts.rollouts import RolloutGrader, rollout_records
    from trainer.step import rollout_trainer
    from trainer.teacher.prompt import TeacherPrompt

    problem = load_problems("embedded/train").problems[0]
    grader = RolloutGrader(
        {problem.task_id: problem}, HashSandbox(), timeout_s=5.0, format_weight=1.0,
        patience=lambda work, _: work(),
    )  # fmt: skip
    text = f"```python\n{problem.reference}\n```"
    grader.correctness([[{"role": "assistant", "content": text}]] * 2, [problem.task_id] * 2)
    asked, written = {}, []

    def records(rows, **options):
        asked.update(options)
        return rollout_records(rows, **options)

    monkeypatch.setattr(rollout_trainer, "gathered", list)
    monkeypatch.setattr(rollout_trainer, "rollout_records", records)
    trainer = SimpleNamespace(
        grader=grader,
        num_generations=2,
        _n_groups=3,
        _tokenizer=SimpleNamespace(decode=str),
        _is_truncated=lambda ids: len(ids) == 2,
        config=SimpleNamespace(visible_tests="first"),
        state=SimpleNamespace(global_step=4),
        accelerator=SimpleNamespace(is_main_process=True),
        journal=SimpleNamespace(append=written.append, commit=lambda: written.append("commit")),
        patience=lambda work, _: work(),
    )
    batch = {
        "prompt_ids": torch.tensor([[0, 5], [6, 7]]),
        "prompt_mask": torch.tensor([[0, 1], [1, 1]]),
        "completion_ids": torch.tensor([[8, 0], [8, 9]]),
        "completion_mask": torch.tensor([[1, 0], [1, 1]]),
        "advantages": torch.tensor([-0.5, 0.5]),
    }
    teachers = [TeacherPrompt((), 1, feedback_used=True), None]
    rollout_trainer.RolloutTrainer._record(trainer, batch, teachers, ["told", None])
    assert asked == {"step": 5, "group_size": 2, "first_group": 3, "visible_tests": "first"}
    assert written[-1] == "commit"
    first, second = (row for row in written[:-1] if type(row).__name__ == "Rollout")
    assert (first.prompt, first.n_prompt_tokens, first.n_completion_tokens) == ("[5]", 1, 1)
    assert (first.truncated, first.advantage) == (False, -0.5)
    assert (first.group_index, first.member_index, first.execution_id) == (3, 0, "r5.3.0")
    assert (first.teacher_context, first.demonstration_member, first.feedback_used) == (
        "peer", 1, True,
    )  # fmt: skip
    assert (first.teacher_prompt, second.teacher_prompt) == ("told", None)
    assert (second.teacher_context, second.demonstration_member) == (None, None)
    assert not second.feedback_used and second.truncated


def test_a_success_reads_the_correctness_and_a_demonstration_holds_no_token_of_the_tokenizer():
    from evaluator.problems.mbpp import load_problems
    from tests.trainer.fakes import HashSandbox
    from trainer.rollouts.rollouts import GradedRollout, RolloutGrader

    problem = load_problems("embedded/train").problems[0]
    grader = RolloutGrader(
        {problem.task_id: problem}, HashSandbox(), timeout_s=5.0, format_weight=1.0,
        patience=lambda work, _: work(), special_tokens=["<|end|>"],
    )  # fmt: skip
    text = f"```python\n{problem.reference}\n```<|end|>"
    grader.correctness([[{"role": "assistant", "content": text}]], [problem.task_id])
    (rollout,) = grader.graded
    assert rollout.grade.completion == text
    assert "<|end|>" not in rollout.demonstration and "< |end|>" in rollout.demonstration
    for correctness, success in ((0.5, False), (0.99, False), (1.0, True)):
        reward = type(rollout.reward)(correctness, 1.0, correctness + 1.0)
        graded = GradedRollout(rollout.grade, reward, "wrong", "shown")
        found = graded.attempt(success_threshold=1.0)
        assert (found.success, found.text, found.feedback) == (success, "shown", "wrong")
