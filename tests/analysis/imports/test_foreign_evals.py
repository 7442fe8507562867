"""What evaluation harnesses write is read with its counts, answers and verdicts, and nothing is rounded."""

import json

import pytest

from tests.analysis.imports.test_foreign import query, read, run_import


def lm_eval_sample(doc_id, value, *, metric="pass_at_1", chosen="none", doc=None, text="code"):
    return {
        "doc_id": doc_id,
        "doc": doc or {"task_id": 11 + doc_id, "text": "Write ...", "test_list": []},
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": f"prompt {doc_id}", "arg_1": {"until": ["[DONE]"]}}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": chosen,
        "metrics": [metric],
        "doc_hash": "0" * 64,
        metric: value,
    }


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


LM_EVAL_RESULTS = {
    "results": {
        "mbpp": {"alias": "mbpp", "pass_at_1,none": 0.5, "pass_at_1_stderr,none": 0.2886},
    },
    "group_subtasks": {"mbpp": []},
    "configs": {"mbpp": {"task": "mbpp", "num_fewshot": 3}},
    "versions": {"mbpp": 1.0},
    "n-shot": {"mbpp": 3},
    "n-samples": {"mbpp": {"original": 500, "effective": 4}},
    "config": {"model": "hf", "model_args": "pretrained=org/some-model,dtype=float32"},
}


def test_the_results_of_lm_eval_are_figures_and_counts(tmp_path):
    found = read(tmp_path, "results_2026-01-02T03-04-05.json", json.dumps(LM_EVAL_RESULTS))
    metrics = [(r.step, r.name, r.value) for r in found.records if r.table == "metrics"]
    assert metrics == [(0, "mbpp/pass_at_1", 0.5)]
    (summary,) = [r for r in found.records if r.table == "evals"]
    assert (summary.eval_id, summary.dataset, summary.k, summary.n) == ("mbpp", "a set", 2, 4)
    assert found.model == "org/some-model"


@pytest.mark.parametrize(
    ("changes", "n_evals"),
    [
        ({"n-samples": {}}, 0),
        ({"results": {"mbpp": {"pass_at_1,none": 0.37}}}, 0),
        ({"results": {"mbpp": {"pass@1,create_test": 0.25}}}, 1),
        ({"results": {"mbpp": {"bleu,none": 0.25}}}, 0),
        ({"results": {"mbpp": {"acc,none": 0.25, "acc_norm,none": 0.75}}}, 1),
    ],
)
def test_a_count_is_stored_only_where_lm_eval_says_one(tmp_path, changes, n_evals):
    """0.37 of 4 is no whole number of problems: nothing is rounded into one."""
    found = read(tmp_path, "results_x.json", json.dumps({**LM_EVAL_RESULTS, **changes}))
    assert sum(r.table == "evals" for r in found.records) == n_evals
    assert any(r.table == "metrics" for r in found.records)
    assert bool(found.notes) == (n_evals == 0)


def test_the_samples_of_lm_eval_are_answers_and_agree_with_its_results(tmp_path):
    (tmp_path / "results_2026-01-02T03-04-05.json").write_text(json.dumps(LM_EVAL_RESULTS))
    samples = [lm_eval_sample(i, float(i % 2), text=f"def f{i}(): ...") for i in range(4)]
    (tmp_path / "samples_mbpp_2026-01-02T03-04-05.123.jsonl").write_text(lines(samples))
    result = run_import(tmp_path, *sorted(tmp_path.glob("*s_*")), "--label", "harness")
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT label, dataset, k, n, model FROM leaderboard") == [
        ("harness", "lm-eval/mbpp", 2, 4, "org/some-model")
    ]
    rows = query(
        tmp_path, "SELECT task_id, passed, prompt, completion FROM eval_results ORDER BY 1"
    )
    assert rows[1] == ("12", True, "prompt 1", "def f1(): ...")


def test_each_filter_of_lm_eval_is_an_evaluation(tmp_path):
    samples = [
        lm_eval_sample(i, v, metric="exact_match", chosen=chosen, doc={"question": "?"})
        for i in range(3)
        for chosen, v in (("strict-match", 0.0), ("flexible-extract", 1.0))
    ]
    found = read(tmp_path, "samples_gsm8k_2026-01-02T03-04-05.jsonl", lines(samples))
    evals = {r.eval_id: (r.k, r.n) for r in found.records if r.table == "evals"}
    assert evals == {"gsm8k-strict-match": (0, 3), "gsm8k-flexible-extract": (3, 3)}


def test_human_eval_samples_keep_their_numbers(tmp_path):
    samples = [
        lm_eval_sample(
            i, 1.0, metric="pass@1", chosen="create_test", doc={"task_id": f"HumanEval/{i + 7}"}
        )
        for i in range(2)
    ]
    found = read(tmp_path, "samples_humaneval_2026-01-02T03-04-05.jsonl", lines(samples))
    assert [r.task_id for r in found.records if r.table == "eval_results"] == [7, 8]


def test_the_results_of_evalplus_are_two_evaluations(tmp_path):
    """An answer that fails a base test does not pass plus, whatever plus says."""
    graded = {
        "date": "2026-01-02 03:04",
        "hash": "abc",
        "eval": {
            f"Mbpp/{task}": [
                {
                    "task_id": f"Mbpp/{task}",
                    "solution": f"def f{task}(): ...",
                    "base_status": base,
                    "plus_status": plus,
                    "base_fail_tests": [],
                    "plus_fail_tests": [],
                }
            ]
            for task, base, plus in (
                (2, "pass", "pass"),
                (3, "pass", "fail"),
                (9, "timeout", "pass"),
            )
        },
        "pass_at_k": {"base": {"pass@1": 0.667}, "plus": {"pass@1": 0.333}},
    }
    (tmp_path / "m_eval_results.json").write_text(json.dumps(graded))
    result = run_import(tmp_path, tmp_path / "m_eval_results.json", "--label", "evalplus")
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT dataset, k, n FROM leaderboard ORDER BY 1") == [
        ("evalplus/mbpp", 2, 3),
        ("evalplus/mbpp-plus", 1, 3),
    ]
    outcome = "SELECT eval_id, outcome, completion FROM eval_results WHERE task_id = 9 ORDER BY 1"
    assert query(tmp_path, outcome) == [
        ("base", "timeout", "def f9(): ..."),
        ("plus", "timeout", "def f9(): ..."),
    ]


def test_evalplus_without_plus_and_in_its_first_form(tmp_path):
    base_only = {"eval": {"HumanEval/0": [{"base_status": "fail", "plus_status": None}]}}
    found = read(tmp_path, "a.json", json.dumps(base_only))
    assert [(r.eval_id, r.k, r.n) for r in found.records if r.table == "evals"] == [("base", 0, 1)]
    first = {"eval": {"HumanEval/0": {"nfiles": 1, "base": [["success", []]], "plus": []}}}
    found = read(tmp_path, "b.json", json.dumps(first))
    assert [(r.eval_id, r.k, r.n) for r in found.records if r.table == "evals"] == [("base", 1, 1)]
    failed = {"eval": {"HumanEval/0": {"base": [["failed", []]], "plus": [["success", []]]}}}
    found = read(tmp_path, "c.json", json.dumps(failed))
    rows = [r for r in found.records if r.table == "eval_results"]
    assert [(r.eval_id, r.outcome, r.passed) for r in rows] == [
        ("base", "wrong_answer", False),
        ("plus", "wrong_answer", False),
    ]


def test_a_problem_without_an_answer_is_named_as_left_out(tmp_path):
    content = {"eval": {"Mbpp/2": [], "Mbpp/3": [{"base_status": "pass"}]}}
    found = read(tmp_path, "a.json", json.dumps(content))
    assert found.left_out == ["Mbpp/2: no answer"]
    assert [(r.k, r.n) for r in found.records if r.table == "evals"] == [(1, 1)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results_x.json", {"results": {}, "configs": {}}, "got no figures"),
        ("results_x.json", {"results": {"t": {"alias": "t"}}, "versions": {}}, "got no figures"),
        (
            "a_eval_results.json",
            {"eval": {"Mbpp/x": [{"base_status": "pass"}]}},
            "a problem called 'Mbpp/x'",
        ),
        ("a.json", {"eval": {"Mbpp/2": []}}, "got no answer"),
        ("a.json", {"eval": {"Mbpp/2": {"base": []}}}, "got no answer"),
        ("a.json", {"eval": {"Mbpp/2": [{"base_status": None}]}}, "a status None"),
        ("a.json", {"eval": {"Mbpp/2": {"base": [None]}}}, "a status None"),
        ("a.json", {"eval": {"Mbpp/2": {"base": [[]]}}}, "a status []"),
        ("a.json", {"eval": {"Mbpp/2": {"base": [["pass"]], "plus": 2.5}}}, "another number"),
        (
            "a.json",
            {"eval": {"Mbpp/2": {"base": [["pass"], ["pass"]], "plus": [["fail"]]}}},
            "another number of answers",
        ),
        ("a.json", {"eval": {}}, "must have rows"),
        ("a.json", {"anything": 1}, "must have rows"),
        ("a.json", 7, "must be whole"),
        ("a.json", [{"x": 1}], "must have the columns"),
        ("samples_t.jsonl", lm_eval_sample(0, 0.25), "a share of several"),
        ("samples_t.jsonl", lm_eval_sample(0, "yes"), "got none in line 1"),
        ("samples_t.jsonl", {**lm_eval_sample(0, 1.0), "resps": []}, "must have one verdict"),
        ("samples_t.jsonl", {"doc_id": "x", "resps": [["a"]], "acc": 1}, "doc_id 'x'"),
    ],
)
def test_what_is_nearly_a_harness_file_is_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(json.dumps(content))
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert said in result.stderr
    assert not (tmp_path / "runs").exists()
