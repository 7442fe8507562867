"""Rollouts end, are drawn and are asked as evaluations are."""

import json
import shutil

import pytest
from transformers import AutoTokenizer, LlamaForCausalLM

from analysis.journal.lines import scan
from trainer.options.config import parse_options
from trainer.training.train import train

SECOND_END = list(range(32, 58))
"""The letters A to Z, which a random model writes often."""


@pytest.fixture
def go(config_file, hashed_grades):

    def run(algorithm="sdpo", *, prepare=None, **changes):
        options = parse_options(config_file(**{"max_steps": 1, **changes}))
        result = train(algorithm, options, say=lambda _: None, prepare=prepare)
        rows = {}
        for segment in sorted(result.run_dir.glob("segment-*.jsonl")):
            for line in scan(segment):
                rows.setdefault(line.table, []).append(json.loads(line.row))
        rows["run"] = json.loads((result.run_dir / "run.json").read_text())
        return rows

    return run


@pytest.fixture
def variant(tmp_path, tiny_model):
    """The tiny model with other files in its folder."""

    def make(name, *, generation=None, template=None):
        folder = tmp_path / name
        shutil.copytree(tiny_model, folder)
        if generation is not None:
            path = folder / "generation_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | generation))
        if template is not None:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.chat_template = template(tokenizer.chat_template)
            tokenizer.save_pretrained(folder)
        return str(folder)

    return make


def metric(rows, name):
    return [r["value"] for r in rows["metrics"] if r["name"] == name]


def test_a_rollout_ends_at_every_end_token_that_the_model_lists(go, variant):
    tokenizer = AutoTokenizer.from_pretrained(variant("plain"))
    ends = [tokenizer.eos_token_id, *SECOND_END]
    rows = go(
        "grpo",
        model_name_or_path=variant("two-ends", generation={"eos_token_id": ends}),
        max_completion_length=24,
        temperature=1.0,
    )
    rollouts = rows["rollouts"]
    ended = [r for r in rollouts if not r["truncated"]]
    assert ended and all(r["n_completion_tokens"] < 24 for r in ended)
    assert all(r["n_completion_tokens"] == 24 for r in rollouts if r["truncated"])
    n_cut = len(rollouts) - len(ended)
    assert metric(rows, "completions/clipped_ratio") == [pytest.approx(n_cut / len(rollouts))]
    lengths = [r["n_completion_tokens"] for r in ended]
    assert metric(rows, "completions/max_terminated_length") == [max(lengths)]
    assert metric(rows, "completions/mean_terminated_length") == [
        pytest.approx(sum(lengths) / len(lengths))
    ]
    letters = tuple(tokenizer.decode(SECOND_END))
    assert len(letters) == 26
    assert not any(r["completion"].endswith(letters) for r in ended), "an end token is no text"
    assert rows["run"]["config"]["decoding"]["eos_token_id"] == ends


def test_the_models_own_decoding_fields_change_no_rollout_and_ours_are_stored(go, variant, logged):
    leaking = {
        "repetition_penalty": 1.5, "no_repeat_ngram_size": 1, "min_p": 0.9, "typical_p": 0.1, "top_k": 2,
        "suppress_tokens": list(range(200)), "epsilon_cutoff": 0.02, "temperature": 0.01, "top_p": 0.1,
    }  # fmt: skip
    plain = go("grpo")
    other = go("grpo", model_name_or_path=variant("leaking", generation=leaking))
    assert [r["completion"] for r in other["rollouts"]] == [
        r["completion"] for r in plain["rollouts"]
    ]
    assert other["run"]["config"]["decoding"] == plain["run"]["config"]["decoding"]
    assert plain["run"]["config"]["decoding"]["temperature"] == 0.7
    assert logged and not any("balancing loss" in m for m in logged), "of a model without a router"


def test_what_the_chat_template_is_given_reaches_every_prompt(go, variant):
    def switched(template):
        return template.replace("'<|assistant|>'", "'<|assistant|>' + (mark or '')")

    rows = go(
        "audit",
        model_name_or_path=variant("switch", template=switched),
        chat_template_kwargs={"mark": "<think></think>"},
        evaluate_every=1,
        eval_dataset="embedded/test",
        eval_max_problems=2,
    )
    teachers = [r["teacher_prompt"] for r in rows["rollouts"] if r["teacher_prompt"]]
    prompts = [r["prompt"] for table in ("rollouts", "eval_results") for r in rows[table]]
    assert teachers
    assert all(text.endswith("<|assistant|><think></think>") for text in prompts + teachers)
    assert all(r["passed"] for r in rows["audits"] if r["layer"] == "teacher")


@pytest.mark.slow
def test_a_masked_completion_is_recorded_with_its_tokens_and_trains_nothing(go):
    kept = go("grpo", max_completion_length=6)
    masked = go("grpo", max_completion_length=6, mask_truncated_completions=True)
    assert all(r["truncated"] for r in masked["rollouts"])
    assert masked["rollouts"] == kept["rollouts"]
    assert metric(masked, "grad_norm") == [0.0] and metric(kept, "grad_norm")[0] > 0
    distilled = go("sdpo", max_completion_length=6, mask_truncated_completions=True)
    assert metric(distilled, "loss") == [0.0] and metric(distilled, "grad_norm") == [0.0]


def test_nothing_is_dropped_while_sampling(go):
    modes = []

    def watch(trainer):
        sample = trainer.model.generate

        def generate(*args, **kwargs):
            modes.append(trainer.model.training)
            return sample(*args, **kwargs)

        trainer.model.generate = generate
        step = trainer.training_step

        def training_step(model, *args, **kwargs):
            loss = step(model, *args, **kwargs)
            modes.append(model.training)
            return loss

        trainer.training_step = training_step

    dropped = go("sdpo", lora_dropout=0.5, prepare=watch)
    assert modes == [False, True, True]
    assert [r["completion"] for r in dropped["rollouts"]] == [
        r["completion"] for r in go("sdpo")["rollouts"]
    ]


@pytest.mark.parametrize(("bf16", "where"), [(False, {True}), (True, {False})], ids=["32", "16"])
def test_completions_are_drawn_with_the_adapter_merged_in_float32_only(
    go, monkeypatch, bf16, where
):
    """Also those of an evaluation; products of rounded weights would be another policy than the trained one."""
    merged = set()

    def generate(self, *args, **kwargs):
        layers = [module for module in self.modules() if hasattr(module, "lora_A")]
        merged.update(bool(layer.merged_adapters) for layer in layers)
        return generated(self, *args, **kwargs)

    generated = LlamaForCausalLM.generate
    monkeypatch.setattr(LlamaForCausalLM, "generate", generate)
    go(
        "grpo",
        bf16=bf16,
        max_steps=1,
        evaluate_every=1,
        eval_dataset="embedded/test",
        eval_max_problems=2,
    )
    assert merged == where
