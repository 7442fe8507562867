"""An audit that goes on after an interruption: it knows what it checked before."""

import shutil

import pytest
import torch

from tests.trainer.interrupting import InterruptAfter, Interrupted
from trainer.options.config import ConfigError, parse_options
from trainer.training.train import resume, train

pytestmark = pytest.mark.usefixtures("hashed_grades")


@pytest.mark.slow
def test_a_resumed_audit_comes_to_what_a_whole_one_does_and_forgets_no_failed_check(
    config_file, tmp_path
):
    # a checkpoint in the midst of a rollout batch, of which the teacher's update depends
    shape = {"steps_per_generation": 4, "max_completion_length": 6}

    def audit(name, prepare=None, **changes):
        options = parse_options(config_file(**shape, runs_dir=str(tmp_path / name), **changes))
        return train("audit", options, say=lambda _: None, prepare=prepare)

    def cut_off(trainer):
        trainer.auditor._note("trl", 2.0, 1.0, step=1, micro_batch=99)
        trainer.add_callback(InterruptAfter(1))

    whole = {layer.name: layer for layer in audit("whole").layers}
    with pytest.raises(Interrupted):
        audit("cut", cut_off, save_strategy="steps", save_steps=1)
    (run_dir,) = (tmp_path / "cut").iterdir()
    of_earlier = shutil.copytree(run_dir, tmp_path / "earlier" / run_dir.name)
    (kept,) = of_earlier.rglob("position*.pt")
    torch.save({k: v for k, v in torch.load(kept).items() if k != "audit"}, kept)
    kept.with_name("complete").write_text("")  # said nothing of the files, then
    with pytest.raises(ConfigError, match="got one of an earlier version; start the audit anew"):
        resume(of_earlier, say=lambda _: None)
    for _ in ("in its midst", "after its end"):
        resumed = {layer.name: layer for layer in resume(run_dir, say=lambda _: None).layers}
        failed = resumed.pop("trl")
        assert (failed.n_checks, failed.passed) == (whole["trl"].n_checks + 1, False)
        assert resumed == {name: layer for name, layer in whole.items() if name != "trl"}
        assert all(layer.passed for layer in resumed.values())
