def test_a_demonstration_keeps_its_blanks_and_holds_no_token_of_the_tokenizer():
    from trainer.rollouts import _without_special_tokens

    tokens = ["<|im_end|>", "    ", "~~", "<tool>"]
    code = "def f(x):\n    # caf\u00e9 \u200d\n    return x"
    assert _without_special_tokens(code, tokens) == code
    for hidden in ("<|im_end|>", "<|im_\u200bend|>", "<to\U000e0041ol>", "~~~"):
        text = _without_special_tokens(f"{code}\n    # {hidden}", tokens)
        assert not any(
            token in text.replace("\u200b", "") for token in ("<|im_end|>", "<tool>", "~~")
        )
        assert "\n    return x\n    # " in text


def test_what_a_template_opened_as_thinking_earns_nothing_in_training():
    from evaluator.mbpp import load_problems
    from tests.trainer.fakes import HashSandbox
    from trainer.rollouts import RolloutGrader

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


def test_a_success_reads_the_correctness_and_a_demonstration_holds_no_token_of_the_tokenizer():
    from evaluator.mbpp import load_problems
    from tests.trainer.fakes import HashSandbox
    from trainer.rollouts import GradedRollout, RolloutGrader

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
