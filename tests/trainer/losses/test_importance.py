"""Weights of worked numbers, and the sum that they depend on."""

import math

import pytest
import torch

from trainer.losses.chunked_top_k import _exact_sum
from trainer.losses.importance import at_the_clip, mismatch_weight


def test_a_mismatch_is_clipped_at_two_and_a_token_without_a_score_keeps_weight_one():
    trainer = torch.tensor([0.0, -1.0, -1.0, -3.0], requires_grad=True)
    sampler = torch.tensor([-5.0, float("nan"), -1.5, -1.0])
    found = mismatch_weight(trainer, sampler)
    assert found.tolist() == pytest.approx([2.0, 1.0, math.exp(0.5), math.exp(-2)])
    assert not found.requires_grad
    assert mismatch_weight(trainer, sampler, clip=9.0)[0].item() == pytest.approx(9.0)


def test_a_token_stands_at_the_clip_from_the_clip_on():
    old = torch.tensor([-1.0, -math.log(2.0), -0.5])
    assert at_the_clip(torch.zeros(3), old, clip=2.0).tolist() == [1.0, 1.0, 0.0]


def test_a_sum_over_the_vocabulary_keeps_float64s_digits_beyond_one_slice():
    values = torch.full((2, 20_000), 0.1)
    found = _exact_sum(values)
    assert found.dtype == torch.float64 and found.shape == (2, 1)
    assert found[0].item() == pytest.approx(20_000 * float(torch.tensor(0.1)), rel=1e-12)
