"""How many tokens an audit may leave out because float32 does not tell their top k."""

import pytest
import torch

from trainer.audit.checks import Auditor, TokenBatch
from trainer.audit.second_loss import oracle
from trainer.losses.sdpo import Distillation
from trainer.teacher.prompt import TeacherRules

SPEC = Distillation(
    support="topk_tail", divergence="jensen_shannon", alpha=0.5, top_k=3, importance_clip=None,
    temperature=1.0,
)  # fmt: skip


def share_left_out(*micro_batches):
    """The last row of an audit of micro-batches of (tokens, of which ties)."""
    rows = []
    auditor = Auditor(
        SPEC, TeacherRules(), aggregation="token_mean", padded_length=8, record=rows.append
    )
    for number, (n_tokens, n_ties) in enumerate(micro_batches):
        student = torch.arange(8.0).repeat(n_tokens, 1)
        student[:n_ties, 4] = 5.0  # as the third of the largest
        teacher, ids = student.flip(0) + 0.1, torch.zeros(n_tokens, dtype=torch.long)
        exact = oracle(
            student, teacher, ids, support=SPEC.support, divergence=SPEC.divergence,
            alpha=SPEC.alpha, top_k=SPEC.top_k, temperature=SPEC.temperature,
        )  # fmt: skip
        batch = TokenBatch(student, teacher, student, teacher, ids, None, None)
        auditor.tokens(
            batch, exact.loss.float(), student.log_softmax(-1)[:, 0], exact.gradient.float(),
            step=1, micro_batch=number,
        )  # fmt: skip
    return [row for row in rows if row.layer == "loss.ties"][-1]


@pytest.mark.parametrize("micro_batches", [[(1, 1)], [(6, 1)], [(6, 2)], [(12, 1), (18, 1)]])
def test_a_tie_in_a_small_micro_batch_does_not_fail_an_audit(micro_batches):
    row = share_left_out(*micro_batches)
    n_tokens, n_ties = (sum(column) for column in zip(*micro_batches, strict=True))
    assert row.passed and row.delta == pytest.approx(n_ties / n_tokens)


@pytest.mark.parametrize("micro_batches", [[(1, 1)] * 3, [(6, 3)], [(100, 8)], [(10, 2)] * 9])
def test_an_audit_that_leaves_out_more_than_that_fails(micro_batches):
    assert not share_left_out(*micro_batches).passed
