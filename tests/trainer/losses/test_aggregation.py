import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.losses.aggregation import (
    all_sequences_mean,
    sequence_mean,
    sequence_sum,
    sequence_sum_norm,
    token_mean,
)

AGGREGATIONS = [token_mean, sequence_mean, sequence_sum, sequence_sum_norm, all_sequences_mean]
VALUES = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()


def test_each_mean_divides_by_what_its_name_says():
    assert token_mean(VALUES, MASK).item() == pytest.approx((1 + 2 + 4) / 3)
    assert sequence_mean(VALUES, MASK).item() == pytest.approx((1.5 + 4) / 2)
    assert all_sequences_mean(VALUES, MASK).item() == pytest.approx((1.5 + 4 + 0) / 3)
    assert sequence_sum(VALUES, MASK).item() == pytest.approx((3 + 4) / 2)
    assert sequence_sum_norm(VALUES, MASK).item() == pytest.approx((3 + 4) / 3)
    assert sequence_sum_norm(VALUES, MASK, n_padded=10).item() == pytest.approx((3 + 4) / 10)


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_masked_tokens_never_matter_not_even_nan(aggregate):
    values = torch.where(MASK, VALUES, torch.nan).requires_grad_()
    loss = aggregate(values, MASK)
    loss.backward()
    assert torch.equal(loss, aggregate(VALUES, MASK))
    assert (values.grad[~MASK] == 0).all()


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_an_empty_mask_gives_zero_with_a_zero_gradient(aggregate):
    values = VALUES.clone().requires_grad_()
    loss = aggregate(values, torch.zeros_like(MASK))
    loss.backward()
    assert loss.item() == 0 and (values.grad == 0).all()


@given(cuts=st.lists(st.integers(1, 3), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_the_parts_of_micro_batches_add_up_to_the_aggregate_of_the_step(cuts, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(cuts), 5, dtype=torch.float64, generator=generator)
    mask = torch.rand(sum(cuts), 5, generator=generator) < 0.4
    for aggregate, counts in (
        (token_mean, {"n_tokens": mask.sum()}),
        (sequence_mean, {"n_rows": mask.any(dim=1).sum()}),
        (sequence_sum, {"n_rows": mask.any(dim=1).sum()}),
        (sequence_sum_norm, {"n_padded": 5}),
    ):
        parts = [
            aggregate(v, m, **counts)
            for v, m in zip(values.split(cuts), mask.split(cuts), strict=True)
        ]
        assert sum(parts).item() == pytest.approx(aggregate(values, mask).item(), abs=1e-12)
