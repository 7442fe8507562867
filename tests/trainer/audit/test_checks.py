"""An audit passes on the code as it is, and names the layer of each deliberate bug."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import trainer.losses.sdpo
import trainer.losses.top_k
import trainer.rollouts.rollouts
import trainer.step.forward
import trainer.step.loss_trainer
import trainer.teacher.prompt
from tests.tiny_model import make_tiny_tokenizer
from trainer.audit.checks import LAYERS, Auditor
from trainer.losses import chunked_top_k, divergence, top_k
from trainer.losses.aggregation import sequence_mean, token_mean
from trainer.losses.sdpo import Distillation
from trainer.options.config import BenchConfig, ConfigError, parse_options
from trainer.rollouts.rollouts import GradedRollout
from trainer.step.loss_trainer import BenchTrainer
from trainer.teacher.prompt import Attempt, TeacherRules
from trainer.teacher.weights import EmaTeacher, TrustRegionTeacher
from trainer.training.train import train


@pytest.fixture
def audit(config_file, hashed_grades):

    def go(**changes):
        options = parse_options(config_file(**changes))
        result = train("audit", options, say=lambda _: None)
        return {layer.name: layer for layer in result.layers}

    return go


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            {"support": "full", "divergence": "forward_kl", "aggregation": "reference"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"support": "sampled", "divergence": "reverse_kl", "aggregation": "sequence_sum_norm"},
            marks=pytest.mark.slow,
        ),
        {
            "use_peft": False,
            "support": "topk_renormalised",
            "divergence": "reverse_kl",
            "aggregation": "sequence_mean",
        },
        {"teacher": "trust_region", "trust_region_rate": 0.3, "aggregation": "sequence_sum"},
        pytest.param(
            {"teacher": "trust_region", "trust_region_rate": 0.3, "use_peft": False},
            marks=pytest.mark.slow,
        ),
        pytest.param({"teacher": "frozen"}, marks=pytest.mark.slow),
        pytest.param({"teacher": "live"}, marks=pytest.mark.slow),
    ],
    ids=[
        "benchmark", "full", "sampled", "full-parameters", "trust-region",
        "trust-region-full-parameters", "frozen", "live",
    ],
)  # fmt: skip
def test_every_layer_passes_on_the_code_as_it_is(audit, changes):
    layers = audit(**changes)
    assert list(layers) == list(LAYERS)
    assert [name for name, layer in layers.items() if not layer.passed] == []
    assert all(layer.n_checks >= 2 for layer in layers.values())


def dropping(kind, tiny_model, folder):
    """A model that drops in training: by modules, or by a number that each attention layer reads."""
    if kind == "numbers":
        shutil.copytree(tiny_model, folder)
        config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0.5}
        (folder / "config.json").write_text(json.dumps(config))
        return folder
    tokenizer = make_tiny_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=2048, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, resid_pdrop=0.5, attn_pdrop=0.5,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["numbers", pytest.param("modules", marks=pytest.mark.slow)])
def test_a_model_with_dropout_of_its_own_is_audited_without_it(audit, tiny_model, tmp_path, kind):
    folder = dropping(kind, tiny_model, tmp_path / "dropping")
    layers = audit(model_name_or_path=str(folder), max_steps=1)
    assert [name for name, layer in layers.items() if not layer.passed] == []


def test_dropout_of_the_adapter_is_no_audit_and_makes_no_run(audit, tmp_path):
    with pytest.raises(
        ConfigError, match=r"without dropout, got lora_dropout 0\.1; set it to 0\.0"
    ):
        audit(lora_dropout=0.1)
    assert not (tmp_path / "runs").exists()


def no_temperature(patch):
    patch.setattr(chunked_top_k, "_tempered", lambda logits, temperature: logits)


def temperature_of_the_loss_left_at_one(patch):
    original = BenchConfig.distillation
    patch.setattr(
        BenchConfig, "distillation", lambda self, *, temperature: original(self, temperature=1.0)
    )


def other_divergence(patch):
    patch.setattr(
        trainer.losses.sdpo, "jensen_shannon", lambda s, t, *, alpha: divergence.forward_kl(s, t)
    )


def sides_swapped(patch):
    original = divergence.jensen_shannon
    patch.setattr(
        trainer.losses.sdpo, "jensen_shannon", lambda s, t, *, alpha: original(t, s, alpha=alpha)
    )


def top_k_of_the_teacher(patch):
    original, held = chunked_top_k._chunk, {}

    def remembered(constants, rows, *rest):
        held["teacher"] = constants.teacher[rows] @ constants.teacher_weight.T
        return original(constants, rows, *rest)

    def selected(logits, ids, spec):
        return held["teacher"].topk(spec.top_k).indices

    patch.setattr(chunked_top_k, "_chunk", remembered)
    patch.setattr(chunked_top_k, "_selected", selected)


def one_entry_too_few(patch):
    original = chunked_top_k._selected
    patch.setattr(
        chunked_top_k,
        "_selected",
        lambda z, ids, spec: original(z, ids, replace(spec, top_k=spec.top_k - 1)),
    )


def tail_from_the_wrong_side(patch):
    def both(student, teacher):
        tailed = top_k._with_tail(student)
        return top_k.Support(tailed, torch.cat([teacher, tailed[..., -1:]], dim=-1))

    patch.setattr(trainer.losses.sdpo, "with_tail", both)


def twice_the_gradient(patch):
    original = divergence.jensen_shannon

    def doubled(s, t, *, alpha):
        value = original(s, t, alpha=alpha)
        return 2 * value - value.detach()

    patch.setattr(trainer.losses.sdpo, "jensen_shannon", doubled)


def one_position_late(patch):
    def late(model, rows):
        n = rows.completion_ids.shape[1]
        inner = trainer.step.forward.causal_model(model)
        return inner.base_model(**trainer.step.forward._inputs(model, rows)).last_hidden_state[
            :, -n:
        ]

    patch.setattr(trainer.step.loss_trainer, "completion_hidden", late)


def masked_rows_counted(patch):
    patch.setattr(
        trainer.step.loss_trainer,
        "token_mean",
        lambda x, mask, *, n_tokens: token_mean(x, mask, n_tokens=n_tokens + 7),
    )


def sequences_averaged(patch):
    patch.setattr(
        trainer.step.loss_trainer,
        "token_mean",
        lambda x, mask, *, n_tokens: sequence_mean(x, mask) / 2,
    )


def accumulation_twice(patch):
    original = BenchTrainer._per_process
    patch.setattr(
        BenchTrainer,
        "_per_process",
        lambda self, count: original(self, count) * self.current_gradient_accumulation_steps,
    )


def accumulation_forgotten(patch):
    original = trainer.step.loss_trainer.token_mean
    patch.setattr(
        trainer.step.loss_trainer,
        "token_mean",
        lambda per_token, mask, n_tokens: original(per_token, mask),
    )


def teacher_of_zeros(patch):
    original = EmaTeacher.__init__

    def zeros(self, model, *, rate):
        original(self, model, rate=rate)
        for tensor in self._shadow.values():
            tensor.zero_()

    patch.setattr(EmaTeacher, "__init__", zeros)


def update_every_micro_batch(patch):
    original = EmaTeacher.update

    def once_for_each_of_two(self):
        original(self)
        original(self)

    patch.setattr(EmaTeacher, "update", once_for_each_of_two)


def rate_of_the_other_side(patch):
    original = EmaTeacher.update

    def swapped(self):
        self.rate, kept = 1 - self.rate, self.rate
        original(self)
        self.rate = kept

    patch.setattr(EmaTeacher, "update", swapped)


def never_updated(patch):
    patch.setattr(EmaTeacher, "update", lambda self: None)


def shown_its_own_solution(patch):
    original = trainer.teacher.prompt._demonstrator

    def own(attempts, index, rules):
        return index if attempts[index].success else original(attempts, index, rules)

    patch.setattr(trainer.teacher.prompt, "_demonstrator", own)


def last_success_in_place_of_the_first(patch):
    def last(attempts, index, rules):
        return max((i for i, a in enumerate(attempts) if a.success and i != index), default=None)

    patch.setattr(trainer.teacher.prompt, "_demonstrator", last)


def success_read_from_the_weighted_reward(patch):
    patch.setattr(
        GradedRollout,
        "attempt",
        lambda self, *, success_threshold: Attempt(
            self.demonstration, success=self.reward.total >= 0.5, feedback=self.feedback
        ),
    )


def feedback_for_passing_rollouts(patch):
    original = GradedRollout.attempt

    def praised(self, *, success_threshold):
        attempt = original(self, success_threshold=success_threshold)
        return Attempt(attempt.text, attempt.success, attempt.feedback or "All tests passed.")

    patch.setattr(GradedRollout, "attempt", praised)


def templated_twice(patch):
    original = BenchTrainer._add_teacher_tokens

    def twice(self, batch, prompts, teachers):
        texts = original(self, batch, prompts, teachers)
        return [
            None if text is None else self._templated([{"role": "user", "content": text}])
            for text in texts
        ]

    patch.setattr(BenchTrainer, "_add_teacher_tokens", twice)


def trust_region_of_the_other_side(patch):
    original = TrustRegionTeacher.__init__

    def swapped(self, model, *, rate):
        original(self, model, rate=1.0 - rate)

    patch.setattr(TrustRegionTeacher, "__init__", swapped)


def trust_region_whose_first_weights_move(patch):
    def moves(self):
        self.rate = 0.5
        EmaTeacher.update(self)

    patch.setattr(TrustRegionTeacher, "update", moves)


TRUST_REGION = {
    trust_region_of_the_other_side: "loss",
    trust_region_whose_first_weights_move: "ema",
}
MUTATIONS = {
    no_temperature: "loss",
    temperature_of_the_loss_left_at_one: "temperature",
    other_divergence: "loss",
    sides_swapped: "loss",
    top_k_of_the_teacher: "loss",
    one_entry_too_few: "loss",
    tail_from_the_wrong_side: "loss",
    twice_the_gradient: "loss",
    one_position_late: "loss",
    masked_rows_counted: "aggregation",
    sequences_averaged: "aggregation",
    accumulation_twice: "aggregation",
    accumulation_forgotten: "aggregation",
    teacher_of_zeros: "ema",
    update_every_micro_batch: "ema",
    rate_of_the_other_side: "ema",
    never_updated: "ema",
    shown_its_own_solution: "teacher",
    last_success_in_place_of_the_first: "teacher",
    success_read_from_the_weighted_reward: "teacher",
    feedback_for_passing_rollouts: "teacher",
    templated_twice: "teacher",
}


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_deliberate_bug_fails_in_its_layer(audit, monkeypatch, mutation):
    mutation(monkeypatch)
    # alpha off the middle, where swapping the sides changes nothing; enough entries for the tails to differ
    options = {"alpha": 0.3, "max_steps": 2, "distill_top_k": 60}
    layers = audit(**options, feedback_only_without_solution=False)
    assert not layers[MUTATIONS[mutation]].passed, layers


@pytest.mark.slow
@pytest.mark.parametrize("mutation", TRUST_REGION, ids=lambda m: m.__name__)
def test_a_deliberate_bug_of_the_trust_region_fails_in_its_layer(audit, monkeypatch, mutation):
    mutation(monkeypatch)
    layers = audit(teacher="trust_region", trust_region_rate=0.3, max_steps=2)
    assert not layers[TRUST_REGION[mutation]].passed, layers


@pytest.mark.parametrize(("wrong", "passes"), [(0.0, True), (1e-4, False)])
def test_the_aggregation_of_terms_that_cancel_is_measured_by_their_size(wrong, passes):
    notes = []
    auditor = Auditor(
        Distillation(),
        TeacherRules(),
        aggregation="token_mean",
        padded_length=4,
        record=notes.append,
    )
    losses = torch.tensor([[3.1, -2.7, 1.9, -2.3]]) + torch.tensor(1e-6)
    loss = float(losses.mean()) + wrong
    auditor.micro_batch_loss(losses.flatten(), torch.ones_like(losses, dtype=torch.bool), loss)
    auditor.end_step(step=1)
    assert [note.passed for note in notes] == [passes]
