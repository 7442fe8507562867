import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scale import examples
from trainer.losses.divergence import forward_kl, jensen_shannon, reverse_kl

ROUNDING = 1e-12
"""Float64 sums of up to 8 terms of size about 1."""

DIVERGENCES = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd_0.5": lambda s, t: jensen_shannon(s, t, alpha=0.5),
    "jsd_0.2": lambda s, t: jensen_shannon(s, t, alpha=0.2),
}


def logp(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


@st.composite
def pairs(draw):
    n = draw(st.integers(2, 8))
    logits = st.lists(st.floats(-8, 8), min_size=n, max_size=n)
    return tuple(torch.tensor([draw(logits)], dtype=torch.float64).log_softmax(-1) for _ in "ST")


def test_the_divergences_equal_hand_worked_numbers():
    # S = (1/2, 1/2), T = (1/4, 3/4)
    student, teacher = logp(0.5, 0.5), logp(0.25, 0.75)
    # KL(T||S) = 1/4 ln(1/2) + 3/4 ln(3/2)
    assert forward_kl(student, teacher).item() == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=ROUNDING
    )
    # KL(S||T) = 1/2 ln 2 + 1/2 ln(2/3)
    assert reverse_kl(student, teacher).item() == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=ROUNDING
    )
    # a = 1/4: M = 3/4 S + 1/4 T = (7/16, 9/16)
    expected = 0.75 * (0.5 * math.log(8 / 7) + 0.5 * math.log(8 / 9)) + 0.25 * (
        0.25 * math.log(4 / 7) + 0.75 * math.log(4 / 3)
    )
    assert jensen_shannon(student, teacher, alpha=0.25).item() == pytest.approx(
        expected, abs=ROUNDING
    )


@pytest.mark.parametrize("name", DIVERGENCES)
@given(pair=pairs())
def test_a_divergence_is_never_negative_and_zero_between_equals(name, pair):
    student, teacher = pair
    assert DIVERGENCES[name](student, teacher).item() >= -ROUNDING
    assert abs(DIVERGENCES[name](student, student).item()) <= ROUNDING


@given(pair=pairs(), alpha=st.floats(0.01, 0.99))
def test_jensen_shannon_is_bounded_by_the_entropy_of_its_weights(pair, alpha):
    bound = -alpha * math.log(alpha) - (1 - alpha) * math.log(1 - alpha)
    assert jensen_shannon(*pair, alpha=alpha).item() <= bound + ROUNDING


@given(pair=pairs())
def test_swapping_the_sides_swaps_the_directions(pair):
    student, teacher = pair
    assert torch.equal(forward_kl(student, teacher), reverse_kl(teacher, student))


@pytest.mark.parametrize("name", DIVERGENCES)
@given(pair=pairs(), seed=st.integers(0, 99))
def test_the_order_of_the_buckets_does_not_matter(name, pair, seed):
    order = torch.randperm(pair[0].shape[-1], generator=torch.Generator().manual_seed(seed))
    shuffled = DIVERGENCES[name](pair[0][:, order], pair[1][:, order])
    assert torch.allclose(shuffled, DIVERGENCES[name](*pair), atol=ROUNDING)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_impossible_tokens_on_both_sides_have_no_value_and_no_gradient(name):
    student_logits = torch.tensor(
        [[0.3, -1.0, -torch.inf]], dtype=torch.float64, requires_grad=True
    )
    teacher_logp = torch.tensor([[0.1, 0.2, -torch.inf]], dtype=torch.float64).log_softmax(-1)
    value = DIVERGENCES[name](student_logits.log_softmax(-1), teacher_logp)
    value.sum().backward()
    without = DIVERGENCES[name](
        student_logits[:, :2].detach().log_softmax(-1), teacher_logp[:, :2].log_softmax(-1)
    )
    assert torch.allclose(value.detach(), without, atol=ROUNDING)
    assert torch.isfinite(student_logits.grad).all()


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=examples(10))
@given(seed=st.integers(0, 9_999))
def test_the_gradient_is_that_of_the_value(name, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(2, 5, dtype=torch.float64, generator=generator).log_softmax(-1)
    assert torch.autograd.gradcheck(
        lambda z: DIVERGENCES[name](z.log_softmax(-1), teacher), (logits,)
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_the_ends_are_not_taken_for_one_sided_divergences(alpha):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        jensen_shannon(logp(0.5, 0.5), logp(0.5, 0.5), alpha=alpha)
