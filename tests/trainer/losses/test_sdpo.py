import pytest
import torch
from trl.experimental.sdpo import loss_utils

from trainer.losses.importance import MAX_LOG_RATIO, importance_weight
from trainer.losses.sdpo import Distillation, token_losses

ROUNDING = 1e-6
"""Float32 sums over 64 buckets, computed in another order."""

ALPHAS = {"forward_kl": 0.0, "reverse_kl": 1.0, "jensen_shannon": 0.3}


def case(seed: int = 0, n_tokens: int = 7, vocabulary: int = 64):
    generator = torch.Generator().manual_seed(seed)
    student = 2 * torch.randn(n_tokens, vocabulary, generator=generator)
    teacher = student + torch.randn(n_tokens, vocabulary, generator=generator)
    ids = torch.randint(vocabulary, (n_tokens,), generator=generator)
    return student.requires_grad_(), teacher.requires_grad_(), ids


@pytest.mark.parametrize("divergence", ALPHAS)
@pytest.mark.parametrize("support", ["full", "topk_tail", "topk_renormalised"])
def test_token_losses_agree_with_trls_own(support, divergence):
    student, teacher, ids = case()
    alpha = ALPHAS[divergence]
    spec = Distillation(support=support, divergence=divergence, alpha=0.3, top_k=9, temperature=0.7)
    ours = token_losses(student, teacher, ids, spec=spec)
    if support == "full":
        theirs = loss_utils.compute_full_logit_self_distillation_loss(
            student / 0.7, teacher / 0.7, distillation_alpha=alpha
        )
    else:
        theirs = loss_utils.compute_topk_self_distillation_loss(
            student / 0.7,
            teacher / 0.7,
            distillation_topk=9,
            distillation_alpha=alpha,
            distillation_add_tail=support == "topk_tail",
        )
    assert torch.allclose(ours, theirs, atol=ROUNDING)


def test_sampled_token_losses_agree_with_trls_own():
    student, teacher, ids = case()
    spec = Distillation(support="sampled", divergence="reverse_kl")
    theirs = loss_utils.compute_sampled_token_self_distillation_loss(
        student, teacher, ids, distillation_alpha=1.0
    )
    assert torch.allclose(token_losses(student, teacher, ids, spec=spec), theirs, atol=ROUNDING)


@pytest.mark.parametrize("support", ["full", "topk_tail", "topk_renormalised", "sampled"])
def test_the_teacher_gets_no_gradient(support):
    student, teacher, ids = case()
    spec = Distillation(support=support, divergence="reverse_kl")
    token_losses(student, teacher, ids, spec=spec).sum().backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_top_k_of_the_whole_vocabulary_is_the_full_divergence():
    student, teacher, ids = case()
    full = token_losses(student, teacher, ids, spec=Distillation(support="full"))
    for support in ("topk_tail", "topk_renormalised"):
        top = token_losses(student, teacher, ids, spec=Distillation(support=support, top_k=64))
        assert torch.allclose(top, full, atol=ROUNDING)


def test_the_importance_weight_is_a_clipped_constant():
    logprobs = torch.tensor([-1.0, -1.0, -1.0, 0.0], requires_grad=True)
    old = torch.tensor([-1.0, -1.5, -9.0, -99.0])
    weight = importance_weight(logprobs, old, clip=2.0)
    assert weight.tolist() == pytest.approx([1.0, torch.tensor(0.5).exp().item(), 2.0, 2.0])
    assert not weight.requires_grad
    unclipped = importance_weight(logprobs, old, clip=float("inf"))
    assert unclipped[3].item() == pytest.approx(torch.tensor(MAX_LOG_RATIO).exp().item())


def test_without_old_logprobs_the_weight_is_one():
    student, teacher, ids = case()
    spec = Distillation(importance_clip=2.0)
    current = student.detach().log_softmax(-1)[torch.arange(7), ids]
    assert torch.allclose(
        token_losses(student, teacher, ids, spec=spec),
        token_losses(student, teacher, ids, spec=spec, old_logprobs=current),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"support": "sampled", "divergence": "forward_kl"},
        {"alpha": 1.0},
        {"alpha": 0.0},
        {"importance_clip": 0.0},
        {"temperature": 0.0},
        {"top_k": 0},
    ],
)
def test_a_loss_that_does_not_exist_is_refused(fields):
    with pytest.raises(ValueError, match="must"):
        Distillation(**fields)
