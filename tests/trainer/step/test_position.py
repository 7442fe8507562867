"""The position of a run beside its checkpoints, with a stand-in for the trainer."""

from types import SimpleNamespace

import pytest
import torch

from trainer.step.position import EpochSampler, KeepPosition, TakeUpPosition


class Positioned:
    def __init__(self, position):
        self.at = position

    def position(self):
        return dict(self.at)

    def set_position(self, position):
        self.at = position


def state(step):
    return SimpleNamespace(global_step=step)


def args(folder, process=0):
    device = SimpleNamespace(type="cpu")
    return SimpleNamespace(output_dir=folder, process_index=process, device=device)


def work_at_once(work, what):
    return work()


def saved(folder, step, process=0):
    return torch.load(folder / f"checkpoint-{step}" / f"position-{process}.pt", weights_only=True)


@pytest.mark.parametrize("process", [0, 1])
def test_a_checkpoint_gets_the_position_of_the_last_whole_step_of_its_process(tmp_path, process):
    for step in (0, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
    trainer = Positioned({"micro_batches": 0})
    keep = KeepPosition(trainer, work_at_once)
    keep.on_save(args(tmp_path, process), state(0), None)
    assert saved(tmp_path, 0, process) == {"micro_batches": 0}, "before the first step"

    trainer.at = {"micro_batches": 4}
    keep.on_step_begin(args(tmp_path, process), state(2), None)
    trainer.at = {"micro_batches": 5}
    keep.on_save(args(tmp_path, process), state(2), None)
    assert saved(tmp_path, 2, process) == {"micro_batches": 4}, "the step in work failed"
    keep.on_save(args(tmp_path, process), state(3), None)
    assert saved(tmp_path, 3, process) == {"micro_batches": 5}


def test_a_resumed_process_takes_up_its_own_position(tmp_path):
    torch.save({"micro_batches": 6}, tmp_path / "position-1.pt")
    trainer = Positioned({})
    take_up = TakeUpPosition(trainer, tmp_path)
    take_up.on_train_begin(args(tmp_path, 1), state(3), None)
    assert trainer.at == {"micro_batches": 6}


def test_problems_in_their_own_order_stay_in_it_in_every_epoch():
    shape = {
        "mini_repeat_count": 2,
        "batch_size": 2,
        "repeat_count": 1,
        "shuffle": False,
        "seed": 3,
    }
    for epoch in (0, 4):
        sampler = EpochSampler(range(4), **shape, epoch=lambda epoch=epoch: epoch)
        assert list(sampler) == [0, 0, 1, 1, 2, 2, 3, 3]
