import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from evaluator.engines import worker
from evaluator.problems.mbpp import load_problems
from sandbox.program import SandboxError
from sdpo_bench import main

PROBLEMS = load_problems("embedded/test").problems


def refused(result, *words, code=1):
    """One line on standard error, that exit status, and nothing written."""
    assert result.exit_code == code
    *before, text = result.stderr.strip().splitlines()
    assert text.startswith("Error: ") and all(word in text for word in words), text
    assert code != 1 or not before
    assert not Path("runs").exists() or not list(Path("runs").iterdir())
    return text


def answers(tmp_path, n=2):
    path = tmp_path / "answers.jsonl"
    rows = [{"task_id": p.task_id, "completion": f"```\n{p.reference}\n```"} for p in PROBLEMS[:n]]
    rows[-1]["completion"] = "no code"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gold_passes_all_and_leaves_a_run(invoke):
    result = invoke("--gold", "--json", "out.json")
    assert result.exit_code == 0
    assert "16/16" in result.stdout
    assert "100.0%" in result.stdout
    content = json.loads(Path("out.json").read_text())
    assert (content["n"], content["k"], content["pass_at_1"]) == (16, 16, 1.0)
    (run,) = Path("runs").iterdir()
    info = json.loads((run / "run.json").read_text())
    assert (info["kind"], info["label"], info["dataset"]) == ("eval", "gold", "embedded/test")
    assert info["protocol"] == "gold"


def test_recorded_completions_are_graded(invoke, tmp_path):
    result = invoke("--completions", answers(tmp_path), "--json", "out.json")
    assert result.exit_code == 0
    assert "1/2" in result.stdout
    assert "Failures: no_code 1" in result.stdout
    assert "2 of 16 problems have a completion." in result.stdout
    assert json.loads(Path("out.json").read_text())["results"][1]["outcome"] == "no_code"


def test_answers_that_miss_one_assert_are_named(invoke, tmp_path):
    # Task 25: right for all inputs but that of its last assert; task 26 for none.
    first, second = PROBLEMS[:2]
    call = first.asserts[-1].removeprefix("assert ").partition("==")[0].strip()
    argument = call[call.index("(") + 1 : call.rindex(")")]
    near = (
        f"{first.reference}\n_right = {first.callables[0]}\n"
        f"def {first.callables[0]}(*a):\n    return None if a == ({argument},) else _right(*a)"
    )
    wrong = f"def {second.callables[0]}(*a):\n    return None"
    path = tmp_path / "answers.jsonl"
    path.write_text(
        "".join(
            json.dumps({"task_id": p.task_id, "completion": f"```\n{code}\n```"}) + "\n"
            for p, code in ((first, near), (second, wrong))
        )
    )
    result = invoke("--completions", path)
    assert "0/2" in result.stdout
    assert "All asserts but one pass: 1 (tasks 25)" in result.stdout


def test_limit_counts_problems_of_a_completions_file(invoke, tmp_path):
    result = invoke("--completions", answers(tmp_path, 5), "--limit", 3)
    assert "3/3" in result.stdout


def test_a_model_is_sampled_and_its_identity_stored(invoke, tiny_folder):
    result = invoke("--model", tiny_folder, "--limit", 3, "--max-new-tokens", 4, "--label", "t")
    assert result.exit_code == 0
    assert "0/3" in result.stdout
    (run,) = Path("runs").iterdir()
    info = json.loads((run / "run.json").read_text())
    assert info["model"] == str(tiny_folder)
    assert len(info["model_sha256"]) == 64
    assert (info["protocol"], info["label"], info["seed"]) == ("mbpp", "t", 42)


def test_a_prompt_form_that_has_no_words_for_a_problem_is_refused(invoke, tiny_folder, tmp_path):
    model = ("--model", tiny_folder, "--device", "cpu")
    refused(
        invoke(*model, "--protocol", "human-eval"), "'human-eval'", "begin a function", "task 2"
    )
    problems = tmp_path / "io.jsonl"
    row = {"task_id": "add", "prompt": "Add.", "cases": [{"input": "1 2", "output": "3"}]}
    problems.write_text(json.dumps(row) + "\n")
    for form in ("mbpp", "mbpp-name", "description-only"):
        told = refused(
            invoke(*model, "--protocol", form, dataset=str(problems)), "ask for a function", "'add'"
        )
        assert "leave --protocol out" in told


def test_visible_tests_choose_the_protocol(invoke, tiny_folder):
    options = ("--model", tiny_folder, "--limit", 1, "--max-new-tokens", 2)
    assert "mbpp-first" in invoke(*options, "--visible-tests", "first").stdout
    assert "description-only" in invoke(*options, "--protocol", "description-only").stdout


def test_mechanical_failures_in_bulk_are_called_suspect(invoke, tiny_folder):
    result = invoke("--model", tiny_folder, "--max-new-tokens", 4)
    assert "harness or model suspect" in result.stdout
    assert "Ended by the length limit" in result.stdout


def test_terminal_escapes_do_not_reach_the_terminal(invoke, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"task_id": 25, "completion": "```\n\x1b[31mraise X\n```"}))
    assert "\x1b[31m" not in invoke("--completions", path).stdout


def test_markup_in_a_label_is_text(invoke):
    assert "[bold]x" in invoke("--gold", "--label", "[bold]x").stdout


def test_unknown_dataset_is_one_line(invoke):
    refused(invoke("--gold", dataset="nothing/test"), "dataset must be", "'nothing/test'")


def test_missing_dataset_folder_is_one_line(invoke, tmp_path):
    result = invoke("--gold", "--mbpp-dir", tmp_path / "none", dataset="sanitized/test")
    refused(result, "--mbpp-dir must be a folder that is there")


def test_altered_dataset_is_one_line(invoke, tmp_path):
    (tmp_path / "sanitized-mbpp.json").write_text("[]")
    result = invoke("--gold", "--mbpp-dir", tmp_path, dataset="sanitized/test")
    refused(result, "must have sha256")


def test_zero_problems_are_one_line(invoke):
    refused(invoke("--gold", "--limit", 0), "--limit", "0 is not in the range", code=2)


def test_unknown_model_folder_is_one_line(invoke):
    refused(invoke("--model", "./none"), "existing folder or a hub name", "'./none'")


def test_missing_adapter_is_one_line(invoke, tiny_folder):
    result = invoke("--model", tiny_folder, "--adapter", "none")
    refused(result, "must hold a readable adapter_config.json")


def test_missing_completions_are_one_line(invoke):
    refused(invoke("--completions", "none.jsonl"), "completions file must be there")


def test_unknown_task_is_one_line(invoke, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"task_id": 1, "completion": "x"}\n')
    refused(invoke("--completions", path), "got 1 at")


def test_a_sandbox_that_cannot_open_is_one_line(invoke, monkeypatch):
    def fail(backend):
        raise SandboxError(f"docker must answer, got {backend!r}; start it")

    monkeypatch.setattr(sources, "open_sandbox", fail)
    refused(invoke("--gold", "--sandbox", "docker"), "docker must answer")


def test_runs_dir_that_is_a_file_is_one_line(invoke, tmp_path):
    (tmp_path / "file").write_text("")
    refused(invoke("--gold", "--runs-dir", tmp_path / "file"), "runs folder must be writable")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_runs_dir_is_one_line(invoke, tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    refused(invoke("--gold", "--runs-dir", folder / "runs"), "runs folder must be writable")


def test_json_into_a_missing_folder_is_one_line_before_any_work(invoke):
    refused(invoke("--gold", "--json", "none/out.json"), "--json must name a file")


@pytest.mark.parametrize(
    "options",
    [
        ("--gold", "--completions", "x"),
        ("--gold", "--model", "x"),
        ("--completions", "x", "--adapter", "y"),
        ("--adapter", "x", "--base-only"),
        ("--visible-tests", "all", "--protocol", "mbpp"),
    ],
)
def test_contradicting_options_are_usage_errors(invoke, options):
    refused(invoke(*options), "leave one out", code=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-n", "3"), "temperature above 0, got --temperature 0 with --n-samples 3"),
        (("--api-base", "http://x/v1", "--model", "m", "--engine", "ray"), "server is the engine"),
        (("--api-base", "http://x/v1", "--engine", "vllm"), "server is the engine"),
        (("--api-base", "http://x/v1"), "--api-base must stand with --model"),
        (("--api-base", "http://x/v1", "--model", "m", "--adapter", "a"), "without --adapter"),
        (("--gold", "--engine", "vllm"), "--engine vllm must have something to sample"),
        (("--ray-address", "head:6379"), "--ray-address must stand with --engine ray"),
    ],
)
def test_options_that_do_not_go_together_say_what_to_change(invoke, options, words):
    refused(invoke(*options), words, code=2)


def test_an_adapter_of_another_model_is_one_line(invoke, tiny_folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other-1B"}')
    result = invoke("--model", tiny_folder, "--adapter", adapter)
    refused(result, "the adapter's base model must be the model", "'org/other-1B'")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "must hold at least one row"),
        ('{"task_id": 25, "completion": "x"}\n' * 2, "must come once, got task 25"),
        ('{"task_id": 25, "completion": "x"}\n{"task_id": 26, "compl', "line 2"),
    ],
)
def test_a_completions_file_that_cannot_be_scored_is_one_line(invoke, tmp_path, rows, words):
    path = tmp_path / "answers.jsonl"
    path.write_text(rows)
    refused(invoke("--completions", path), words)


def test_humaneval_is_asked_in_its_own_words_unless_told_otherwise(invoke, tiny_folder):
    options = ("--model", tiny_folder, "--limit", 1, "--max-new-tokens", 2)
    (table,) = [
        line for line in invoke(*options, dataset="human-eval").stdout.splitlines() if "0/1" in line
    ]
    assert table.split()[1:3] == ["human-eval", "human-eval"]
    other = invoke(*options, "--visible-tests", "first", dataset="human-eval[2]")
    assert "mbpp-first" in other.stdout


def test_help_shows_an_example_and_defaults():
    text = CliRunner().invoke(main, ["eval", "--help"]).stdout
    text = " ".join(text.split())
    assert "Example:" in text
    assert "[default: sanitized/test]" in text


def test_a_finished_run_is_not_resumed(invoke):
    invoke("--gold")
    (run,) = Path("runs").iterdir()
    result = CliRunner().invoke(main, ["eval", "--resume", run.name])
    assert result.exit_code == 1
    assert "must be an unfinished evaluation" in result.stderr


def test_resume_of_nothing_is_one_line(invoke):
    result = CliRunner().invoke(main, ["eval", "--resume", "none"])
    assert result.exit_code == 1
    assert "must hold a readable run.json" in result.stderr


def test_resume_takes_no_other_options(invoke):
    refused(invoke("--resume", "x", "--gold"), "--resume must stand with", code=2)


def test_several_samples_give_pass_at_k(invoke, tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = []
    for p in PROBLEMS[:4]:
        for sample in range(2):
            code = p.reference if sample == p.task_id % 2 else "no"
            text = f"```python\n{code}\n```"
            rows.append({"task_id": p.task_id, "completion": text, "sample_index": sample})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke("--completions", path, "--json", "out.json")
    assert "pass@2" in result.stdout
    assert " 4/8 " in result.stdout, (
        "solved is of all completions, not of the first of each problem"
    )
    assert "50.0%" in result.stdout
    assert "to 2 completions" not in result.stdout
    content = json.loads(Path("out.json").read_text())
    assert content["pass_at_1"] == 0.5
    assert content["pass_at_k"]["1"]["mean"] == 0.5
    assert content["pass_at_k"]["2"]["mean"] == 1.0


def test_unequal_numbers_of_samples_are_graded_and_bound_k(invoke, tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [
        {"task_id": p.task_id, "completion": text, "sample_index": sample}
        for n, p in enumerate(PROBLEMS[:3], 2)
        for sample, text in enumerate([p.reference, *["no"] * (n - 1)], 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke("--completions", path, "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert " 3/9 " in result.stdout
    assert "have 2 to 4 completions: pass@k can be had for k up to 2." in result.stdout
    assert "Failures: no_code 6" in result.stdout
    content = json.loads(Path("out.json").read_text())
    assert content["pass_at_1"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert (content["n"], content["n_completions"], content["n_passed"]) == (3, 9, 3)
    assert list(content["pass_at_k"]) == ["1", "2"]
    assert invoke("--completions", path, "--label", "again").exit_code == 0
    assert CliRunner().invoke(main, ["compare", "answers", "again"]).exit_code == 0


def test_a_broken_harness_scores_no_model(invoke, monkeypatch, tiny_folder):
    from evaluator.evaluation.self_check import HarnessError

    def fail(*args, **kwargs):
        raise HarnessError("every reference solution must pass, got 1 failing; mend it")

    monkeypatch.setattr(worker, "check_harness", fail)
    refused(invoke("--model", tiny_folder), "every reference solution must pass")
