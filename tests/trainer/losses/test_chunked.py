import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scale import examples
from trainer.losses.chunked import Head, token_terms
from trainer.losses.sdpo import Distillation, token_losses
from trainer.losses.top_k import entropy, sampled_logprobs

SAME = 1e-6
"""Float32 terms of size 1, against the same sums in float64."""

SAMPLED = 3e-6
"""The sampled form multiplies a difference of log-probabilities by one, both of size 5 here."""


def rounding(spec):
    return SAMPLED if spec.support == "sampled" else SAME


SPECS = [
    Distillation(top_k=5, temperature=0.7),
    Distillation(support="full", divergence="forward_kl"),
    Distillation(support="topk_renormalised", divergence="reverse_kl", top_k=3),
    Distillation(support="sampled", divergence="reverse_kl", importance_clip=None),
]


def case(n_tokens=13, width=8, vocabulary=40, *, bias=False, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    head = Head(normal(vocabulary, width) / 3, normal(vocabulary) if bias else None)
    student = normal(n_tokens, width).requires_grad_()
    teacher = student.detach() + normal(n_tokens, width) / 2
    ids = torch.randint(vocabulary, (n_tokens,), generator=generator)
    return student, teacher, ids, head, -normal(n_tokens).abs()


def plain(student, teacher, ids, head, spec, old):
    """The plain form in float64, whose rounding is none of ours; gradients reach the float32 leaves."""

    def logits(hidden):
        weight, bias = head
        bias = None if bias is None else bias.double()
        return torch.nn.functional.linear(hidden.double(), weight.double(), bias)

    return (
        token_losses(logits(student), logits(teacher), ids, spec=spec, old_logprobs=old),
        sampled_logprobs(logits(student), ids, temperature=spec.temperature),
        entropy(logits(student).detach(), temperature=spec.temperature),
        sampled_logprobs(logits(teacher), ids, temperature=spec.temperature),
    )


def objective(distill, logprobs):
    """Different weights on each token, as masks, advantages and lambda make them."""
    weights = torch.linspace(-1, 2, len(distill), dtype=distill.dtype)
    return (weights * distill).sum() + (weights.flip(0) * logprobs.exp()).sum()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.support)
@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_the_plain_form(spec, chunk, bias):
    student, teacher, ids, head, old = case(bias=bias)
    lean = token_terms(
        student, teacher, ids, head=head, spec=spec, old_logprobs=old, chunk_tokens=chunk
    )
    (lean_grad,) = torch.autograd.grad(objective(lean.distill, lean.logprobs), student)
    distill, logprobs, entropies, teacher_logprobs = plain(student, teacher, ids, head, spec, old)
    (grad,) = torch.autograd.grad(objective(distill, logprobs), student)
    for ours, theirs in ((lean.distill, distill), (lean.logprobs, logprobs), (lean_grad, grad)):
        assert (ours - theirs).abs().max() <= rounding(spec) * max(1.0, theirs.abs().max().item())
    assert torch.allclose(lean.entropy.double(), entropies, atol=SAME)
    assert torch.allclose(lean.teacher_logprobs.double(), teacher_logprobs, atol=SAME)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.support)
def test_a_trainable_head_gets_the_gradient_of_the_plain_form(spec):
    student, teacher, ids, head, _ = case(bias=True)
    parameters = (student, head.weight.requires_grad_(), head.bias.requires_grad_())
    lean = token_terms(student, teacher, ids, head=head, spec=spec, chunk_tokens=5)
    ours = torch.autograd.grad(objective(lean.distill, lean.logprobs), parameters)
    distill, logprobs, *_ = plain(student, teacher, ids, head, spec, None)
    theirs = torch.autograd.grad(objective(distill, logprobs), parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= rounding(spec) * max(1.0, b.abs().max().item())


@settings(max_examples=examples(10), deadline=None)
@given(seed=st.integers(0, 9_999), chunk=st.integers(1, 9))
def test_the_gradient_is_that_of_the_value(seed, chunk):
    # without old log-probabilities: the importance weight is a constant only to autograd
    student, teacher, ids, head, _ = case(5, 3, 7, dtype=torch.float64, seed=seed)
    spec = Distillation(top_k=4)
    assert torch.autograd.gradcheck(
        lambda h: token_terms(h, teacher, ids, head=head, spec=spec, chunk_tokens=chunk)[:2],
        (student,),
    )


def test_logits_in_place_of_hidden_states_give_the_same_terms():
    student, teacher, ids, head, _ = case()
    spec = SPECS[0]
    from_logits = token_terms(
        student @ head.weight.T, teacher @ head.weight.T, ids, head=None, spec=spec, chunk_tokens=3
    )
    from_hidden = token_terms(student, teacher, ids, head=head, spec=spec)
    for a, b in zip(from_logits, from_hidden, strict=True):
        assert torch.allclose(a, b, atol=SAME)


def test_without_a_policy_gradient_the_log_probabilities_are_constants():
    student, teacher, ids, head, _ = case()
    terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0], policy_gradient=False)
    (grad,) = torch.autograd.grad(terms.logprobs.sum() + 0 * terms.distill.sum(), student)
    assert (grad == 0).all()


def test_no_rows_give_empty_terms_that_are_still_attached():
    student, teacher, ids, head, _ = case(n_tokens=0)
    terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    assert [len(t) for t in terms] == [0, 0, 0, 0]
    terms.distill.sum().backward()
    assert student.grad is not None


def test_no_tensor_of_all_tokens_by_vocabulary_is_ever_made():
    student, teacher, ids, head, _ = case(n_tokens=96, vocabulary=500)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0], chunk_tokens=8)
        terms.distill.sum().backward()
    assert largest == 8 * 500


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("spec", SPECS[:1] + SPECS[2:], ids=lambda s: s.support)
def test_a_gradient_of_the_distillation_alone_leaves_the_policys_out(spec, trained):
    student, teacher, ids, head, old = case(bias=True)
    head = Head(head.weight.requires_grad_(trained), head.bias)
    parameters = (student, head.weight) if trained else (student,)
    terms = token_terms(
        student, teacher, ids, head=head, spec=spec, old_logprobs=old,
        policy_gradient=False, chunk_tokens=4,
    )  # fmt: skip
    ours = torch.autograd.grad((terms.distill * torch.arange(13)).sum(), parameters)
    distill, *_ = plain(student, teacher, ids, head, spec, old)
    theirs = torch.autograd.grad((distill * torch.arange(13)).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= rounding(spec) * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_a_head_in_bfloat16_gives_what_bfloat16_can(trained):
    student, teacher, ids, head, _ = case()
    exact = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    (exact_grad,) = torch.autograd.grad(objective(exact.distill, exact.logprobs), student)
    half = Head(head.weight.bfloat16().requires_grad_(trained), None)
    features = student.detach().bfloat16().requires_grad_()
    terms = token_terms(features, teacher.bfloat16(), ids, head=half, spec=SPECS[0], chunk_tokens=4)
    assert terms.distill.dtype == torch.float32
    (grad,) = torch.autograd.grad(objective(terms.distill, terms.logprobs), features)
    assert grad.dtype == torch.bfloat16
    # eight bits of mantissa: 1/256 of numbers of size 3
    assert (terms.distill - exact.distill).abs().max() < 0.05
    assert (grad - exact_grad).abs().max() < 0.05 * max(1.0, exact_grad.abs().max().item())


def test_autocast_changes_the_product_and_not_the_form():
    student, teacher, ids, head, _ = case()
    exact = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    with torch.autocast("cpu", torch.bfloat16):
        terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    terms.distill.sum().backward()
    assert student.grad.dtype == torch.float32 and terms.distill.dtype == torch.float32
    assert (terms.distill - exact.distill).abs().max() < 0.05
    assert not torch.equal(terms.distill, exact.distill), "autocast must have had an effect"


def test_an_entry_that_can_never_be_chosen_leaves_no_nan():
    student, teacher, ids, head, _ = case(bias=True)
    head.bias[7] = -torch.inf
    ids[ids == 7] = 8
    terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    (grad,) = torch.autograd.grad(objective(terms.distill, terms.logprobs), student)
    assert all(torch.isfinite(x).all() for x in (*terms, grad))
    exact = plain(student, teacher, ids, head, SPECS[0], None)
    assert torch.allclose(terms.entropy.double(), exact[2], atol=SAME)


def test_without_a_teacher_the_log_probabilities_keep_their_gradient():
    student, _, ids, head, _ = case()
    terms = token_terms(student, None, ids, head=head, spec=SPECS[0], chunk_tokens=5)
    assert (terms.distill == 0).all()
    (grad,) = torch.autograd.grad(terms.logprobs.sum(), student)
    logits = torch.nn.functional.linear(student, *head)
    logprobs = sampled_logprobs(logits, ids, temperature=SPECS[0].temperature)
    (exact,) = torch.autograd.grad(logprobs.sum(), student)
    assert (grad - exact).abs().max() <= SAME


def test_where_nearly_all_the_mass_is_on_the_sampled_token_no_digits_are_lost_to_the_plain_form():
    student, teacher, ids, head, _ = case(vocabulary=40)
    with torch.no_grad():
        student += 12 * head.weight[ids] / head.weight[ids].norm(dim=-1, keepdim=True) ** 2
    terms = token_terms(student, teacher, ids, head=head, spec=SPECS[0])
    (ours,) = torch.autograd.grad(terms.logprobs.sum(), student)

    def plain_gradient(hidden, weight):
        hidden = hidden.detach().requires_grad_()
        logprobs = sampled_logprobs(hidden @ weight.T, ids, temperature=SPECS[0].temperature)
        assert logprobs.exp().max() > 0.999, "the case must be peaked to show anything"
        return torch.autograd.grad(logprobs.sum(), hidden)[0]

    exact = plain_gradient(student.double(), head.weight.double())
    plain_error = (plain_gradient(student, head.weight) - exact).abs().max()
    assert (ours - exact).abs().max() <= 2 * plain_error
