"""The oracle against the recorded reference cases: it must be right before it may judge anything."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.audit.second_loss
from trainer.audit.second_loss import oracle

GOLDEN = Path(__file__).parents[2] / "golden" / "sdpo"
CASES = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
SUPPORTS = {("topk", True): "topk_tail", ("topk", False): "topk_renormalised"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_the_oracle_agrees_with_every_recorded_case(case):
    config, tolerance = case["config"], case["tolerance"]
    arrays = {n: torch.from_numpy(a) for n, a in np.load(GOLDEN / case["file"]).items()}
    rows, tokens, vocabulary = arrays["student_logits"].shape
    old = arrays.get("old_log_probs")
    found = oracle(
        arrays["student_logits"].reshape(-1, vocabulary),
        arrays["teacher_logits"].reshape(-1, vocabulary),
        arrays["responses"].reshape(-1),
        support=SUPPORTS.get((config["mode"], config["add_tail"]), config["mode"]),
        divergence={0.0: "forward_kl", 1.0: "reverse_kl"}.get(config["alpha"], "jensen_shannon"),
        alpha=config["alpha"],
        top_k=config["distillation_topk"] or 1,
        temperature=config["temperature"],
        importance_clip=config["is_clip"],
        old_logprobs=None if old is None else old.reshape(-1),
    )
    extra = arrays.get("rollout_is_weights", torch.ones(rows, tokens)).reshape(-1)
    per_token = (found.loss * extra).reshape(rows, tokens)
    mask = arrays["response_mask"].bool()
    if "self_distillation_mask" in arrays:
        mask = mask & arrays["self_distillation_mask"].bool()[:, None]
    if config["loss_agg_mode"] == "token-mean":
        weights = mask.double() / mask.sum().clamp_min(1)
    else:
        weights = mask.double() / (mask.sum(-1, keepdim=True).clamp_min(1) * mask.any(-1).sum())
    gradient = (found.gradient * extra[:, None]).reshape(rows, tokens, -1) * weights[..., None]
    assert (
        abs((per_token * weights).sum() - arrays["expected_loss_float64"]) <= tolerance["loss_abs"]
    )
    assert (per_token - arrays["expected_per_token"]).abs().max() <= tolerance["per_token_abs"]
    assert (gradient - arrays["expected_grad_student_logits"]).abs().max() <= tolerance["grad_abs"]


def test_the_oracle_imports_nothing_of_ours():
    tree = ast.parse(Path(trainer.audit.second_loss.__file__).read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert modules == {"__future__", "typing", "jaxtyping", "torch"}
