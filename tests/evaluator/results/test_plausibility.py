from evaluator.results.plausibility import suspicion


def failures(**counts):
    items = []
    for outcome, count in counts.items():
        items += [(len(items) + i, outcome, False) for i in range(count)]
    return items


def test_one_mechanical_class_in_over_half_the_failures_is_suspect():
    found = suspicion(failures(NameError=9, wrong_answer=8))
    assert (found.failure_class, found.n, found.n_failures) == ("NameError", 9, 17)
    assert found.text.startswith("harness or model suspect: 9 of 17 failures are NameError")
    assert found.task_ids == (0, 1, 2, 3, 4)


def test_half_is_not_over_half():
    assert suspicion(failures(SyntaxError=8, wrong_answer=8)) is None


def test_wrong_answers_are_never_suspect():
    assert suspicion(failures(wrong_answer=100)) is None


def test_a_few_failures_show_nothing():
    assert suspicion(failures(NameError=7)) is None


def test_indentation_errors_are_syntax_errors():
    assert suspicion(failures(IndentationError=6, SyntaxError=6)).failure_class == "SyntaxError"


def test_truncated_completions_count_as_truncated_whatever_they_raise():
    cut = [(i, "SyntaxError", True) for i in range(10)]
    assert suspicion(cut).failure_class == "truncated"


def test_no_failures_are_fine():
    assert suspicion([]) is None
