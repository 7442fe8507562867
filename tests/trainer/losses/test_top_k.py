import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.losses.top_k import (
    full_support,
    sampled_logprobs,
    topk_renormalised_support,
    topk_tail_support,
)

ROUNDING = 1e-12


def logits(seed: int, n_tokens: int = 3, vocabulary: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n_tokens, vocabulary, dtype=torch.float64, generator=generator)


@given(seed=st.integers(0, 999), k=st.integers(1, 20), temperature=st.floats(0.1, 3))
def test_the_buckets_of_each_side_sum_to_one(seed, k, temperature):
    pair = logits(seed), logits(seed + 1)
    for support in (
        full_support(*pair, temperature=temperature),
        topk_tail_support(*pair, temperature=temperature, k=k),
        topk_renormalised_support(*pair, temperature=temperature, k=k),
    ):
        for side in support:
            # the clamp on the captured mass may add up to 1e-7
            assert torch.allclose(side.exp().sum(-1), torch.ones(3, dtype=torch.float64), atol=2e-7)


def test_the_support_is_the_students_top_k_read_on_both_sides():
    student = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    support = topk_tail_support(student, teacher, temperature=1.0, k=2)
    total = math.log(sum(math.exp(x) for x in range(4)))
    assert support.student_logp[0, :2].tolist() == pytest.approx(
        [3 - total, 2 - total], abs=ROUNDING
    )
    assert support.teacher_logp[0, :2].tolist() == pytest.approx(
        [0 - total, 1 - total], abs=ROUNDING
    )
    rest = math.log((math.exp(2) + math.exp(3)) / math.exp(total))
    assert support.teacher_logp[0, 2].item() == pytest.approx(rest, abs=ROUNDING)


def test_both_sides_are_divided_by_the_temperature():
    pair = logits(1), logits(2)
    hot = full_support(*pair, temperature=2.0)
    assert torch.allclose(hot.student_logp, (pair[0] / 2).log_softmax(-1), atol=ROUNDING)
    assert torch.allclose(hot.teacher_logp, (pair[1] / 2).log_softmax(-1), atol=ROUNDING)


def test_half_precision_logits_are_promoted_once_and_float64_is_kept():
    pair = logits(1), logits(2)
    assert full_support(*pair, temperature=1.0).student_logp.dtype == torch.float64
    halves = (pair[0].bfloat16(), pair[1].bfloat16())
    assert topk_tail_support(*halves, temperature=1.0, k=3).teacher_logp.dtype == torch.float32


def test_sampled_logprobs_read_the_sampled_token():
    z, ids = logits(5), torch.tensor([0, 7, 10], dtype=torch.int16)
    expected = (z / 0.7).log_softmax(-1)[torch.arange(3), ids.long()]
    assert torch.allclose(sampled_logprobs(z, ids, temperature=0.7), expected, atol=ROUNDING)


@pytest.mark.parametrize(("temperature", "k"), [(0.0, 5), (-1.0, 5), (math.nan, 5), (1.0, 0)])
def test_values_out_of_range_are_refused(temperature, k):
    with pytest.raises(ValueError, match="must be"):
        topk_tail_support(logits(1), logits(2), temperature=temperature, k=k)
