import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutation.__main__ import MAX_SURVIVING, report
from scripts.mutation.areas import (
    AREAS,
    ROOT,
    Area,
    all_mutants,
    listed_bugs,
    planted,
    sources,
)
from scripts.mutation.areas import (
    test_files as files_of,
)
from scripts.mutation.mutant import Mutant, chosen, numbered
from scripts.mutation.python_sites import is_python, python_mutants, required_keywords
from scripts.mutation.reach import MARK, block_of, marked
from scripts.mutation.runner import Result
from scripts.mutation.sql_sites import sql_mutants
from scripts.mutation.survivors import reasons


@pytest.fixture(scope="module")
def choice():
    """The mutants of every area."""
    return {area.name: planted(area, sources(area)) for area in AREAS}


def edits(source):
    """What the mutants of a piece of Python look like, by operator."""
    return {
        (m.operator, m.applied(source).strip())
        for m in python_mutants("a", "a.py", source, required_keywords([source]))
    }


@pytest.mark.parametrize(
    ("source", "operator", "after"),
    [
        ("x = a < b", "comparison", "x = a <= b"),
        ("x = a is not b", "comparison", "x = a is b"),
        ("x = a <= b < c", "comparison", "x = a <= b <= c"),
        ("x = a + b", "arithmetic", "x = a - b"),
        ("x = a and b", "and/or", "x = a or b"),
        ("x = a and b", "operand left out", "x = (b)"),
        ("x = not a", "negation left out", "x = (a)"),
        ("x = b if a else c", "condition turned round", "x = b if (not (a)) else c"),
        ("x = [a for a in b if a.c]", "filter left out", "x = [a for a in b if True]"),
        ("x = 3", "constant", "x = 4"),
        ("x = 100", "constant", "x = 200"),
        ("x = a.b(dim=-1)", "constant", "x = a.b(dim=0)"),
        ("x = -a", "sign", "x = (a)"),
        ("x = True", "constant", "x = False"),
        ("x = a[:n]", "slice", "x = a[:(n) + 1]"),
        ("x = a.sum()", "other function", "x = a.mean()"),
        ("x = a.detach() + b", "call left out", "x = a + b"),
        ("x = sorted(a)", "call left out", "x = list(a)"),
        ("f(a, b)", "arguments swapped", "f(b, a)"),
        ("f(a, b=c)", "argument left out", "f(a, )"),
        ("a.b(c)", "statement left out", "pass"),
        ("x += 1", "statement left out", "pass"),
        ("@torch.no_grad()\ndef f(): return 0", "decorator left out", "def f(): return 0"),
        (
            "with a(b):\n    c",
            "context left out",
            'with __import__("contextlib").nullcontext():\n    c',
        ),
    ],
)
def test_an_operator_plants_its_bug(source, operator, after):
    assert (operator, after) in edits(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""1 < 2"""',
        "x: Literal[1]",
        "import a",
        "assert a < b",
        "raise ValueError(f'{1 + 1}')" and "x = f'{a}'",
        "def f(*, b): return b\nx = f(b=c)",
        "if TYPE_CHECKING:\n    a = 1",
    ],
)
def test_annotations_words_and_required_arguments_are_left_alone(source):
    assert edits(source) == set()


@pytest.mark.slow
def test_every_mutant_is_another_text_that_is_still_python(choice):
    for mutant in [mutant for mutants in choice.values() for mutant in mutants]:
        text = (ROOT / mutant.path).read_text()
        assert mutant.applied(text) != text
        assert mutant.path.endswith(".sql") or is_python(mutant.applied(text)), mutant


def test_at_least_200_are_planted_some_in_each_area_and_each_has_a_name_of_its_own(choice):
    keys = [mutant.key for mutants in choice.values() for mutant in mutants]
    assert len(set(keys)) == len(keys) >= 200
    assert set(choice) == {
        "losses", "teacher", "rollouts", "sharing", "rewards", "extraction", "statistics", "suspects", "resume", "sql",
    }  # fmt: skip
    assert all(len(listed_bugs(area)) > 0 for area in AREAS)
    assert all(files_of(area) for area in AREAS)


def test_the_choice_is_the_same_each_time_and_where_files_and_lines_move(tmp_path):
    text = Path(ROOT / "analysis" / "statistics" / "intervals.py").read_text()
    here = {"analysis/statistics/intervals.py": text}
    there = {"analysis/statistics/tests.py": "# one line more\n" + text}
    area = Area("a", (), 20, ())
    choice = [[m.key for m in chosen(all_mutants(area, texts), 20)] for texts in (here, there)]
    assert choice[0] == choice[1]
    lines = [m.line for m in chosen(all_mutants(area, here), 20)]
    assert len(set(lines)) == len(lines) == 20


def test_a_change_elsewhere_leaves_a_mutants_name_as_it_is():
    source = "def f(a):\n    return a < 1\n"
    longer = "def g(a):\n    return a < 1\n" + source
    before = {m.key for m in python_mutants("a", "a.py", source, {})}
    assert before < {m.key for m in numbered(python_mutants("a", "a.py", longer, {}))}


def test_a_pattern_that_names_no_file_is_an_error():
    with pytest.raises(ValueError, match="must name a file, got 'nowhere/"):
        sources(Area("a", ("nowhere/*.py",), 1, ()))


def test_a_view_gets_bugs_and_its_words_none():
    source = (
        "CREATE VIEW v AS\n-- sum(a) / 2\nSELECT sum(a) / nullif(count(*), 0) AS b, 'x / y' AS c\n"
        "FROM t LEFT JOIN u USING (run_id, step)\nWHERE a >= 1 AND b <> 2;\n"
        "COMMENT ON VIEW v IS 'a / b';\n"
    )
    found = {(m.operator, m.applied(source)) for m in sql_mutants("sql", "a.sql", source)}
    for operator, before, after in [
        ("aggregate", "SELECT sum(a)", "SELECT avg(a)"),
        ("arithmetic", "(a) / nullif", "(a) * nullif"),
        ("null", "nullif(count(*), 0)", "count(*)"),
        ("join", "LEFT JOIN", "JOIN"),
        ("key", ", step)", ")"),
        ("comparison", ">=", ">"),
        ("and/or", " AND ", " OR "),
        ("condition", "\nWHERE a >= 1 AND b <> 2", "\n"),
    ]:
        assert (operator, source.replace(before, after)) in found
    assert all("-- sum(a) / 2" in text and "'x / y'" in text for _, text in found)
    assert all("'a / b'" in text for _, text in found)


def test_a_line_belongs_to_its_innermost_block_and_none_on_import():
    source = "A = 1\ndef f(a):\n    if a:\n        b = 1\n    else:\n        b = 2\n    return b\n"
    assert [block_of(source, line) for line in range(1, 8)] == [None, None, 3, 4, 3, 6, 3]
    ran: set = set()
    scope: dict = {}
    code = compile(marked(source, "a.py"), "a.py", "exec")
    exec(code, {MARK: ran}, scope)  # noqa: S102
    scope["f"].__globals__[MARK] = ran
    scope["f"](0)
    assert ran == {("a.py", 3), ("a.py", 6)}


def result(fate, key_text="a"):
    return Result(Mutant("a", "a.py", 0, 1, "b", "constant", "", 1, key_text), fate, "", 0.0)


def test_too_many_that_live_or_one_without_a_reason_is_a_failure(capsys, monkeypatch):
    area = Area("a", (), 1, ())
    killed = [result("killed", str(n)) for n in range(99)]
    living = result("survived")
    texts = {r.mutant.key: "a" for r in [*killed, living]}
    assert report(killed, texts, [area]) == 0
    assert report([*killed, living], texts, [area]) == 1
    assert "1 of 100 live (1.0%), 1 of them without a reason" in capsys.readouterr().out
    monkeypatch.setattr("scripts.mutation.__main__.reasons", lambda: {living.mutant.key: "equal"})
    assert report([*killed, living], texts, [area]) == 0
    few = killed[: round(1 / MAX_SURVIVING) - 2]
    assert report([*few, living], texts, [area]) == 1
    assert report([*killed, result("timed out")], texts, [area]) == 0


def test_reasons_are_read_from_the_table_of_the_docs(choice):
    text = "| key | where | reason |\n| --- | --- | --- |\n| `0123abcd` | `a.py` `x | y` | both are 0 |\n"
    assert reasons(text) == {"0123abcd": "both are 0"}
    keys = {mutant.key for mutants in choice.values() for mutant in mutants}
    assert set(reasons()) <= keys, "a reason for a mutant that is not planted any more"


@pytest.fixture
def worker(tmp_path):
    """The worker's process in a tree of one module, without the heavy libraries."""
    tree = tmp_path / "tree"
    (tree / "pack").mkdir(parents=True)
    (tree / "pack" / "double.py").write_text("def double(x):\n    return x * 2\n")
    (tree / "test_double.py").write_text(
        "import pytest\nfrom pack.double import double\n\n"
        "def test_two(): assert double(2) == 4\n"
        "def test_three(): assert double(3) == 6\n"
        "@pytest.mark.docker\ndef test_left_out(): assert False\n"
    )
    script = ROOT / "scripts" / "mutation" / "worker.py"
    start = (
        "import sys, os; sys.path[0] = sys.argv[3]; import worker; from pathlib import Path; "
        "worker.main(Path(sys.argv[1]), int(sys.argv[2]), ())"
    )

    def run(*jobs):
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", start, tree, str(writing), script.parent],
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE, pass_fds=[writing], text=True,
        )  # fmt: skip
        os.close(writing)
        process.communicate("".join(json.dumps(job) + "\n" for job in jobs))
        with open(reading) as answers:
            found = [json.loads(line) for line in answers]
        assert (tree / "pack" / "double.py").read_text().endswith("x * 2\n")
        return found

    return run


@pytest.mark.slow
def test_a_worker_says_which_test_kills_and_what_each_test_runs(worker):
    def job(text=None, **more):
        files = {} if text is None else {"pack/double.py": f"def double(x):\n    {text}\n"}
        return {"files": files, "test_files": ["test_double.py"], "timeout_s": 20.0} | more

    plain, killed, alive, endless, recorded = worker(
        job(),
        job("return x + 2"),
        job("return x + 2", tests=["test_double.py::test_two"]),
        job("while True: pass", timeout_s=1.0),
        job(record=["pack"]),
    )
    assert (plain["status"], plain["failed"]) == (0, "")
    assert (killed["status"], killed["failed"]) == (1, "test_double.py::test_three")
    assert alive["status"] == 0
    assert endless["timed_out"] and not killed["timed_out"]
    assert recorded["tests"]["test_double.py::test_two"]["blocks"] == [["pack/double.py", 2]]
    assert set(recorded["tests"]) == {"test_double.py::test_two", "test_double.py::test_three"}
