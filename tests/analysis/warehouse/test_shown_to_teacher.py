"""The view shown_to_teacher, of runs before and after its column was."""

import json
import random

import pytest

from analysis.journal.journal import Journal, segments
from analysis.journal.lines import encode
from analysis.warehouse.warehouse import ingest
from benchmarks.synthetic import step_records, synthetic_info
from tests.analysis.warehouse.stored import rows

SHOWN = {
    # prompt, member, feedback used, recorded context -> what the view says
    (None, None, False, None): "none",
    ("p", 1, False, "peer"): "demonstration",
    ("p", 1, True, "peer"): "demonstration + feedback",
    ("p", None, False, "reference"): "reference",
    ("p", None, True, "reference"): "reference + feedback",
    ("p", None, True, "feedback"): "feedback",
    ("p", None, False, "nothing"): "own prompt",
}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "from before it was"])
@pytest.mark.parametrize("configured", ["peer", "reference", "nothing"])
def test_what_a_teacher_was_shown_is_asked_of_new_runs_and_old_ones(
    runs, results, recorded, configured
):
    """A row from before the column was is read as NULL, and its run's configuration answers for it."""
    info = synthetic_info("a")
    bench = {**info.config.get("bench", {}), "teacher_context": configured}
    rollout = next(
        r for r in step_records(random.Random(1), step=1, skill=0.5) if r.table == "rollouts"
    )
    of_the_run = {
        "peer": ("none", "demonstration", "demonstration + feedback", "feedback"),
        "reference": ("none", "reference", "reference + feedback"),
        "nothing": ("none", "own prompt"),
    }[configured]
    expected = {given: kind for given, kind in SHOWN.items() if kind in of_the_run}
    with Journal.create(
        runs, info.model_copy(update={"config": {**info.config, "bench": bench}})
    ) as j:
        for member, (prompt, peer, feedback, context) in enumerate(expected):
            row = rollout.model_copy(
                update={
                    "member_index": member,
                    "teacher_prompt": prompt,
                    "demonstration_member": peer,
                    "feedback_used": feedback,
                    "teacher_context": context,
                }
            )
            j.append(row)
    if not recorded:
        ((_, path),) = segments(runs / "a")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["row"].pop("teacher_context", None)
        path.write_bytes(
            b"".join(encode(line["table"], json.dumps(line["row"]).encode()) for line in lines)
        )
    ingest(runs, results)
    found = rows(results, "SELECT teacher_kind FROM shown_to_teacher ORDER BY member_index")
    assert [kind for (kind,) in found] == list(expected.values())
    contexts = rows(results, "SELECT teacher_context FROM rollouts ORDER BY member_index")
    assert [c for (c,) in contexts] == [c if recorded else None for *_, c in expected]
