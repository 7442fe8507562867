"""Advantages, weights and imitation: worked numbers, invariants, and the oracle in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.losses.oracles import imitation_oracle, policy_oracle, scaled_advantage_oracle
from trainer.audit.second_loss import (
    pass_rate_oracle,
)
from trainer.losses.advantages import mix_at, routed_advantages, scaled_advantages
from trainer.losses.aggregation import imitation_loss, pass_rate_weights
from trainer.losses.chunked import token_terms
from trainer.losses.sdpo import Distillation

EXACT = 1e-12
"""Float64 against float64, another way to the same number."""
SPEC = Distillation("sampled", "reverse_kl", temperature=0.7)


def some_logits(seed, n_tokens=12, n_vocabulary=9):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(n_tokens, n_vocabulary, generator=generator, dtype=torch.float64)
    teacher = torch.randn(n_tokens, n_vocabulary, generator=generator, dtype=torch.float64)
    ids = torch.randint(n_vocabulary, (n_tokens,), generator=generator)
    return student, teacher, ids


def test_pass_rate_weights_of_worked_rates():
    # p = 1/4, 1/2, 1: sqrt(3)/4, 1/2, 0; mean (sqrt(3)/4 + 1/2) / 3 = 0.311004
    passing = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    expected = torch.tensor([0.433013, 0.5, 0.0]) / 0.311004
    assert torch.allclose(pass_rate_weights(passing), expected, atol=1e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_pass_rate_weights_agree_with_the_oracle_and_average_to_one(counts):
    passing = torch.tensor([[member < k for member in range(5)] for k in counts])
    weights = pass_rate_weights(passing).double()
    exact = pass_rate_oracle(counts, n_members=5)
    assert torch.allclose(weights, torch.tensor(exact, dtype=torch.float64), atol=1e-6)
    mixed = any(0 < k < 5 for k in counts)
    assert weights.mean().item() == pytest.approx(1.0 if mixed else 0.0, abs=1e-6)


def test_a_corrected_row_has_no_advantage_and_the_others_keep_theirs():
    found = routed_advantages(torch.tensor([1.5, -0.5, -1.0]), torch.tensor([False, True, False]))
    assert found.tolist() == [1.5, 0.0, -1.0]


def test_scaled_advantages_of_worked_numbers():
    """q/s = 2 and 1/2; clip 0.2: 1.2 and 0.8 for A = 2, the other way round for A = -2."""
    student = torch.tensor([[0.25, 0.5, 0.5]] * 3).log()
    teacher = torch.tensor([[0.5, 0.25, 0.5]] * 3).log()
    advantages = torch.tensor([2.0, -2.0, 0.0])
    found = scaled_advantages(advantages, student, teacher, clip=0.2, mix=1.0)
    expected = [[2.4, 1.6, 2.0], [-1.6, -2.4, -2.0], [0.0, 0.0, 0.0]]
    assert torch.allclose(found, torch.tensor(expected))
    half = scaled_advantages(advantages, student, teacher, clip=0.2, mix=0.5)
    assert torch.allclose(half[0], torch.tensor([2.2, 1.8, 2.0]))


@given(seed=st.integers(0, 99), clip=st.floats(0, 1), mix=st.floats(0, 1))
def test_scaled_advantages_agree_with_the_oracle_and_keep_their_sign(seed, clip, mix):
    student, teacher, ids = some_logits(seed)
    advantages = torch.randn(3, dtype=torch.float64).repeat_interleave(4)
    terms = token_terms(student, teacher, ids, head=None, spec=SPEC)
    found = scaled_advantages(
        advantages.view(3, 4)[:, 0],
        terms.logprobs.view(3, 4),
        terms.teacher_logprobs.view(3, 4),
        clip=clip,
        mix=mix,
    )
    exact = scaled_advantage_oracle(
        student, teacher, ids, advantages, clip=clip, mix=mix, temperature=0.7
    )
    assert torch.allclose(found.flatten(), exact, atol=EXACT, rtol=1e-9)
    assert (found.flatten() * advantages >= 0).all()
    assert not found.requires_grad


def test_an_extreme_ratio_is_clipped_and_not_infinite():
    huge = torch.tensor([[-1e4]])
    found = scaled_advantages(torch.tensor([1.0]), huge, torch.zeros(1, 1), clip=0.2, mix=1.0)
    assert found.item() == pytest.approx(1.2)
    for clip, mix in ((1.5, 1.0), (0.2, -0.1)):
        with pytest.raises(ValueError, match="clip and mix must lie in 0..1"):
            scaled_advantages(torch.tensor([1.0]), huge, huge, clip=clip, mix=mix)


def test_the_share_of_scaled_advantages_falls_to_none_and_stays_there():
    shares = [mix_at(step, mix=0.5, n_steps=4) for step in range(6)]
    assert shares == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert mix_at(1000, mix=0.5, n_steps=0) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_imitation_has_the_oracles_value_and_gradient(seed):
    student, _, ids = some_logits(seed)
    student.requires_grad_()
    mask = torch.tensor([[True] * 4, [False] * 4, [True, True, False, False]])
    terms = token_terms(student, None, ids, head=None, spec=SPEC)
    loss = imitation_loss(terms.logprobs.view(3, 4), mask, n_tokens=mask.sum() / 1)
    (gradient,) = torch.autograd.grad(loss, student)
    exact = imitation_oracle(student, ids, temperature=0.7)
    chosen = mask.flatten()
    assert loss.item() == pytest.approx(exact.loss[chosen].mean().item(), abs=EXACT)
    expected = torch.where(chosen.unsqueeze(-1), exact.gradient, 0.0) / 6
    assert torch.allclose(gradient, expected, atol=EXACT)


def test_without_a_passing_row_imitation_is_zero_with_a_zero_gradient():
    logprobs = torch.full((2, 3), float("nan")).requires_grad_()
    mask = torch.zeros(2, 3, dtype=torch.bool)
    loss = imitation_loss(logprobs, mask, n_tokens=torch.tensor(0.0))
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert loss.item() == 0.0 and (gradient == 0).all()


def test_the_policy_oracle_is_the_gradient_of_a_ratio_of_one():
    student, _, ids = some_logits(5)
    student.requires_grad_()
    advantages = torch.randn(12, dtype=torch.float64)
    logp = (student / 0.7).log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    ratio = (logp - logp.detach()).exp()
    (gradient,) = torch.autograd.grad((-advantages * ratio).sum(), student)
    exact = policy_oracle(student, ids, advantages, temperature=0.7)
    assert torch.allclose(gradient, exact.gradient, atol=EXACT)
    assert torch.allclose(exact.loss, -advantages, atol=EXACT)
