"""Bugs of the kind that a maintainer makes, each of which some test must see: planted beside the chosen ones.

`before` stands exactly once in the packages, whatever the file is called.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """One listed bug."""

    area: str
    what: str
    """What is then wrong."""
    before: str
    after: str


BUGS = (
    Bug(
        "losses",
        "a token that the sampler could not score has weight 0",
        "weights.masked_fill(sampler_logprobs.isnan(), 1.0)",
        "weights.masked_fill(sampler_logprobs.isnan(), 0.0)",
    ),
    Bug(
        "losses",
        "the importance weight has a gradient",
        "log_ratio = (logprobs - old_logprobs).detach()",
        "log_ratio = (logprobs - old_logprobs)",
    ),
    Bug(
        "losses",
        "the mixture's sides are swapped",
        "new_tensor([1.0 - alpha, alpha])",
        "new_tensor([alpha, 1.0 - alpha])",
    ),
    Bug(
        "losses",
        "the teacher's own top k are compared, not the student's",
        "top, ids = student.topk(min(k, student.shape[-1]))",
        "ids = teacher.topk(min(k, student.shape[-1]), dim=-1).indices; top = student.gather(-1, ids)",
    ),
    Bug(
        "losses",
        "the teacher's logits are not divided by the temperature",
        "teacher = _scaled(teacher_logits, temperature)\n    top",
        "teacher = _scaled(teacher_logits, 1.0)\n    top",
    ),
    Bug(
        "losses",
        "rows that the teacher corrects keep their advantage",
        "torch.where(distill_mask, torch.zeros_like(advantages), advantages)",
        "torch.where(~distill_mask, torch.zeros_like(advantages), advantages)",
    ),
    Bug(
        "losses",
        "a problem's weight is p (1 - p), without the root",
        "weights = (rate * (1.0 - rate)).sqrt()",
        "weights = rate * (1.0 - rate)",
    ),
    Bug(
        "teacher",
        "a prompt of exactly max_tokens is cut",
        "n_tokens(render(solution, feedback)) <= max_tokens",
        "n_tokens(render(solution, feedback)) < max_tokens",
    ),
    Bug(
        "teacher",
        "a success is shown its own text",
        "if rules.exclude_self and member == index:",
        "if False:",
    ),
    Bug(
        "teacher",
        "the copy is kept in the student's precision",
        "n: p.detach().to(torch.float32, copy=True)",
        "n: p.detach().clone()",
    ),
    Bug(
        "teacher",
        "the student's share and the first weights' share are swapped",
        "torch.lerp(first.to(exact), student.to(exact), self.student_share)",
        "torch.lerp(student.to(exact), first.to(exact), self.student_share)",
    ),
    Bug(
        "teacher",
        "an average adapter starts at zero",
        "self._shadow[name].lerp_(parameter.detach().to(torch.float32), self.rate)",
        "self._shadow[name].lerp_(parameter.detach().to(torch.float32), 1 - self.rate)",
    ),
    Bug(
        "teacher",
        "values are read as templates again",
        'return re.sub(r"\\{(\\w+)\\}", lambda field: values.get(field[1], field[0]), template)',
        "return template.format(**values)",
    ),
    Bug(
        "rollouts",
        "lambda weighs the distillation",
        "weight * policy_loss + (1.0 - weight) * distill_loss",
        "(1.0 - weight) * policy_loss + weight * distill_loss",
    ),
    Bug(
        "rollouts",
        "special tokens stay in a demonstration",
        "demonstration=_without_special_tokens(g.completion, self._special_tokens)",
        "demonstration=g.completion",
    ),
    Bug(
        "rollouts",
        "all processes draw from one seed",
        "7_919 * (number * int(world) + int(rank) + 1)",
        "7_919 * (number * int(world) + 1)",
    ),
    Bug(
        "rollouts",
        "repeats of a rollout batch are not counted",
        "return int(self.args.steps_per_generation) * int(self.num_iterations)",
        "return int(self.args.steps_per_generation)",
    ),
    Bug(
        "rollouts",
        "parts of a rollout batch are not counted",
        "return int(self.args.steps_per_generation) * int(self.num_iterations)",
        "return int(self.args.gradient_accumulation_steps) * int(self.num_iterations)",
    ),
    Bug(
        "rollouts",
        "tokens are counted over a micro-batch alone",
        "torch.stack([mask.sum() for mask in masks]).sum(),",
        "masks[0].sum(),",
    ),
    Bug(
        "rollouts",
        "a routed step's tokens are those of the rollout batch",
        "self.current_gradient_accumulation_steps / self.args.steps_per_generation",
        "1.0",
    ),
    Bug(
        "rollouts",
        "the sampler is compared with the current policy",
        "trainer = trainer if old is None else old[mask]",
        "pass",
    ),
    Bug(
        "rollouts",
        "the teacher's prompt may fill the model's context",
        "limit if context is None else min(limit, context - self.max_completion_length)",
        "limit",
    ),
    Bug(
        "rollouts",
        "a head that does more than a projection is taken",
        "if not deviation <= _ROUNDINGS * torch.finfo(head.weight.dtype).eps:",
        "if False:",
    ),
    Bug(
        "rollouts",
        "a cap on the logits is not seen",
        "if read.shape != logits.shape or not torch.equal(read.float(), logits.float()):",
        "if False:",
    ),
    Bug(
        "rollouts",
        "an answer ends at the tokenizer's end token only",
        '"eos_token_id": end_ids(model, tokenizer),',
        '"eos_token_id": tokenizer.eos_token_id,',
    ),
    Bug(
        "rollouts",
        "only the tokenizer's end token is cut off",
        "ids = [tokenizer.eos_token_id, *(listed if isinstance(listed, list | tuple) else [listed])]",
        "ids = [tokenizer.eos_token_id]",
    ),
    Bug(
        "rollouts",
        "success reads the reward and not the correctness",
        "success=self.reward.correctness >= success_threshold",
        "success=self.reward.total >= success_threshold",
    ),
    Bug(
        "rollouts",
        "the teacher's forward has dropout",
        'with evaluation_mode(model), torch.no_grad(), self.clock("teacher"):',
        'with torch.no_grad(), self.clock("teacher"):',
    ),
    Bug(
        "rollouts",
        "rows without a teacher count in the loss",
        'distill_mask = mask & inputs["distill_mask"].unsqueeze(1)\n        per_token',
        "distill_mask = mask\n        per_token",
    ),
    Bug(
        "rollouts",
        "a problem's weight is not used",
        'per_token = per_token * inputs["problem_weight"].unsqueeze(1)',
        "pass",
    ),
    Bug(
        "rollouts",
        "the hidden states are those of the tokens, not of what predicts them",
        "return hidden[:, -n_tokens - 1 : -1]",
        "return hidden[:, -n_tokens:]",
    ),
    Bug(
        "rewards",
        "the format score looks for the first function only",
        "set(grade.problem.callables) <= _defined(tree)",
        "set(grade.problem.callables[:1]) <= _defined(tree)",
    ),
    Bug(
        "rewards",
        "an annotated assignment defines nothing",
        "case ast.AnnAssign(target=ast.Name(id=name)):\n                names.add(name)",
        "case ast.AnnAssign(target=ast.Name(id=name)):\n                pass",
    ),
    Bug(
        "rewards",
        "an assert that is not trusted earns",
        "return sum(_earns(result) for result in self.execution.results)",
        "return sum(result.verdict is Verdict.PASSED for result in self.execution.results)",
    ),
    Bug(
        "extraction",
        "the first of several definitions is taken, not the last",
        "next((i for i in reversed(range(len(others))) if wanted in binds[i]), None)",
        "next((i for i in range(len(others)) if wanted in binds[i]), None)",
    ),
    Bug(
        "statistics",
        "the interval of a paired difference divides by n",
        "up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)",
        "up, down = (gained + 1) / n, (lost + 1) / n",
    ),
    Bug(
        "statistics",
        "its variance divides by n",
        "(up + down - (up - down) ** 2) / (n + 2)",
        "(up + down - (up - down) ** 2) / n",
    ),
    Bug(
        "statistics",
        "problems are drawn apart for the two sides",
        "- first[rows_first].mean(axis=0)[problems].mean()",
        "- first[rows_first].mean(axis=0)[rng.integers(n, size=n)].mean()",
    ),
    Bug(
        "resume",
        "a checkpoint that was interrupted is taken",
        " is not None and (folder / COMPLETE).exists()",
        " is not None",
    ),
    Bug(
        "resume",
        "the first whole checkpoint is taken",
        "return max(whole)[1] if whole else None",
        "return min(whole)[1] if whole else None",
    ),
    Bug(
        "resume",
        "the order of problems is that of the first epoch",
        "for _ in range(self._epoch()):",
        "for _ in range(0):",
    ),
    Bug(
        "resume",
        "the sums of the log begin anew",
        'self._tr_loss += position["loss"]',
        "pass",
    ),
    Bug(
        "resume",
        "a run resumed in the midst of a rollout batch samples again",
        'self._buffered_inputs = position["rollouts"]',
        "pass",
    ),
    Bug(
        "sql",
        "the interval of the reward is over completions",
        "avg(reward_mean) - t_975(count(*) - 1) * stddev_samp(reward_mean) / sqrt(count(*)) AS interval_low",
        "avg(reward_mean) - t_975(count(*) - 1) * stddev_samp(reward_mean) / sqrt(sum(n)) AS interval_low",
    ),
    Bug(
        "sql",
        "evaluations of other prompt forms are compared",
        "AND eb.dataset = ea.dataset AND eb.protocol = ea.protocol",
        "AND eb.dataset = ea.dataset",
    ),
    Bug(
        "sql",
        "the headline is the first evaluation",
        "arg_max(k, coalesce(step, 9223372036854775807)) AS k",
        "arg_min(k, coalesce(step, 9223372036854775807)) AS k",
    ),
)
