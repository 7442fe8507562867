"""Rollout batches that are no optimizer steps: several a step, several steps each, or across both."""

import json
from collections import defaultdict
from types import SimpleNamespace

import pytest
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from analysis.journal.lines import scan
from analysis.warehouse.warehouse import connect, ingest
from tests.tiny_model import make_tiny_tokenizer
from tests.trainer.interrupting import InterruptAfter, Interrupted
from tests.trainer.outcomes import outcome
from trainer.options.config import parse_options
from trainer.step.position import EpochSampler
from trainer.step.rollout_trainer import RolloutTrainer
from trainer.training.train import resume, train

# gradient_accumulation_steps is 2 in all of them: (options, step of each rollout batch, steps of the teacher's updates)
SHAPES = {
    "half a step": ({"steps_per_generation": 1}, [1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 3, 4]),
    "one step": ({}, [1, 2, 3, 4], [1, 2, 3, 4]),
    "one and a half": ({"steps_per_generation": 3}, [1, 2, 4], [2, 3]),
    "two steps": ({"steps_per_generation": 4}, [1, 3], [2, 4]),
    "one step, twice": ({"num_iterations": 2}, [1, 3], [2, 4]),
    "two steps, twice": ({"steps_per_generation": 4, "num_iterations": 2}, [1], [4]),
}
DEFAULT = ("one and a half",)
"""The others are among the slow tests."""
ROLLOUTS = pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, id=name, marks=() if name in DEFAULT else pytest.mark.slow)
        for name, shape in SHAPES.items()
    ],
)


@pytest.fixture
def go(config_file, hashed_grades, tmp_path):

    def run(algorithm="sdpo", *, name="run", interrupt_after=None, prepare=None, **changes):
        options = {"max_steps": 4, "max_completion_length": 6, "runs_dir": str(tmp_path / name)}
        options |= {"save_strategy": "steps", "save_steps": 1} if interrupt_after else {}
        trainers = []

        def look(trainer):
            trainers.append(trainer)
            if interrupt_after:
                trainer.add_callback(InterruptAfter(interrupt_after))
            if prepare:
                prepare(trainer)

        options = parse_options(config_file(**{**options, **changes}))
        if interrupt_after is None:
            return train(algorithm, options, say=lambda _: None, prepare=look)
        with pytest.raises(Interrupted):
            train(algorithm, options, say=lambda _: None, prepare=look)
        return resume(trainers[0].journal.run_dir, say=lambda _: None)

    return run


def rows(result):
    found = defaultdict(list)
    for segment in sorted(result.run_dir.glob("segment-*.jsonl")):
        for line in scan(segment):
            found[line.table].append(json.loads(line.row))
    return found


@pytest.fixture(scope="module")
def finished_runs():
    return {}


@pytest.fixture
def plain(go, finished_runs):
    """A whole run and the steps in which its teacher moved, once for the tests that only read it."""

    def run(**changes):
        key = tuple(sorted(changes.items()))
        if key not in finished_runs:
            updates = []

            def watch(trainer):
                update = trainer.teacher.update
                trainer.teacher.update = lambda: (
                    updates.append(int(trainer.state.global_step)),
                    update(),
                )

            finished_runs[key] = (go(name="plain", prepare=watch, **changes), updates)
        return finished_runs[key]

    return run


@ROLLOUTS
def test_rollouts_have_rows_of_their_own_and_the_teacher_moves_once_a_batch(plain, shape):
    changes, sampled_in, expected_updates = shape
    result, updates = plain(**changes)
    found = rows(result)
    n_rollouts = 4 * changes.get("steps_per_generation", 2)
    steps = [r["step"] for r in found["rollouts"]]
    assert steps == [step for step in sampled_in for _ in range(n_rollouts)]
    keys = {(r["step"], r["group_index"], r["member_index"]) for r in found["rollouts"]}
    assert len(keys) == len({r["execution_id"] for r in found["rollouts"]}) == len(steps)
    completions = [r["completion"] for r in found["rollouts"]]
    batches = [completions[i : i + n_rollouts] for i in range(0, len(steps), n_rollouts)]
    assert len({tuple(batch) for batch in batches}) == len(sampled_in), "each by a seed of its own"
    assert [r["step"] for r in found["metrics"] if r["name"] == "loss"] == [1, 2, 3, 4]
    assert updates == expected_updates


TRIPLES = [(3, 2, 1), (2, 5, 1), (3, 1, 2), (1, 3, 2), (4, 3, 1), (2, 1, 3), (5, 2, 2)]
"""gradient_accumulation_steps, steps_per_generation, num_iterations: mostly no multiples of each other."""


@pytest.mark.slow
@pytest.mark.parametrize("triple", TRIPLES, ids=str)
def test_whatever_the_shape_rollouts_teacher_audit_and_resume_follow_the_micro_batches(go, triple):
    accumulation, generation, iterations = triple
    a_rollout, n_steps = generation * iterations, 4
    updates = []

    def watch(trainer):
        update = trainer.teacher.update
        trainer.teacher.update = lambda: (updates.append(int(trainer.state.global_step)), update())

    changes = {
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": generation,
        "num_iterations": iterations,
        "max_steps": n_steps,
    }
    plain = go("audit", name="plain", prepare=watch, **changes)
    assert [layer.name for layer in plain.layers if not layer.passed] == []
    found = rows(plain)
    n_batches = -(-accumulation * n_steps // a_rollout)
    sampled_in = [n * a_rollout // accumulation + 1 for n in range(n_batches)]
    assert [r["step"] for r in found["rollouts"]] == [
        s for s in sampled_in for _ in range(4 * generation)
    ]
    keys = {(r["step"], r["group_index"], r["member_index"]) for r in found["rollouts"]}
    assert len(keys) == len(found["rollouts"])
    used = [step * accumulation // a_rollout for step in range(n_steps + 1)]
    assert updates == [step for step in range(1, n_steps + 1) if used[step] > used[step - 1]]
    for step in (1, 3):
        resumed = go(name=f"resumed-{step}", interrupt_after=step, **changes)
        if step == 1:
            plain = go(name="plain-sdpo", **changes)
        assert outcome(resumed.run_dir.parent) == outcome(plain.run_dir.parent)


def test_the_rows_of_a_step_with_several_batches_all_reach_the_database(plain):
    result, _ = plain(token_stats_every=1, max_steps=2, **SHAPES["half a step"][0])
    runs = result.run_dir.parent
    ingest(runs, runs / "results.duckdb")
    with connect(runs / "results.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM rollouts").fetchall() == [(16,)]
        assert connection.execute("SELECT count(*) FROM executions").fetchall() == [(16,)]


def test_the_seed_depends_on_the_batch_and_on_the_process():
    def seed(number, rank, world=2, of_run=7):
        trainer = SimpleNamespace(
            n_used_rollouts=number,
            args=SimpleNamespace(seed=of_run),
            accelerator=SimpleNamespace(process_index=rank, num_processes=world),
        )
        return RolloutTrainer._rollout_seed(trainer)

    places = [(n, r, s) for n in range(4) for r in range(2) for s in (7, 8)]
    assert len({seed(n, r, of_run=s) for n, r, s in places}) == len(places)
    assert seed(3, 0, world=1) == 7 + 7_919 * 4


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("half a step", marks=pytest.mark.slow),
        "one and a half",
        pytest.param("two steps", marks=pytest.mark.slow),
        pytest.param("one step, twice", marks=pytest.mark.slow),
    ],
)
def test_every_stage_of_a_run_off_the_step_is_what_a_second_derivation_gives(go, name):
    changes, _, _ = SHAPES[name]
    result = go("audit", learning_rate=0.05, importance_clip=1.02, **changes)
    assert {layer.name: layer.passed for layer in result.layers} == {
        layer.name: True for layer in result.layers
    }
    clipped = [
        r["value"]
        for r in rows(result)["metrics"]
        if r["name"] == "distill/importance_clipped_fraction"
    ]
    assert (max(clipped, default=0.0) > 0) == (name != "half a step")


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("one and a half", {}),
        pytest.param("two steps", {"logging_steps": 2}, marks=pytest.mark.slow),
        pytest.param("one step, twice", {"lora_dropout": 0.3}, marks=pytest.mark.slow),
    ],
)
def test_a_run_resumed_in_the_midst_of_a_rollout_batch_ends_as_if_it_had_not_been(
    go, plain, name, extra
):
    changes = SHAPES[name][0] | extra
    whole, _ = plain(**changes)
    resumed = go(name="resumed", interrupt_after=1, **changes)
    assert outcome(resumed.run_dir.parent) == outcome(whole.run_dir.parent)


SETTINGS = {
    "routed": ("routed", {}),
    "rlsd": ("rlsd", {"advantage_mix": 0.5, "advantage_mix_steps": 4}),
    "anchored": ("anchored", {"teacher_context": "nothing", "divergence": "reverse_kl"}),
    "sft": ("sft", {}),
    "hybrid": ("hybrid", {}),
    "grpo": ("grpo", {}),
    "reference": ("sdpo", {"teacher_context": "reference"}),
    "pass rate": ("sdpo", {"problem_weight": "pass_rate"}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "changes"), SETTINGS.values(), ids=SETTINGS)
def test_every_setting_resumed_ends_as_if_it_had_not_been_interrupted(go, algorithm, changes):
    changes = {**changes, "max_steps": 2, "lora_dropout": 0.2}
    plain = go(algorithm, name="plain", **changes)
    resumed = go(algorithm, name="resumed", interrupt_after=1, **changes)
    assert outcome(resumed.run_dir.parent) == outcome(plain.run_dir.parent)


@pytest.mark.slow
def test_a_mixture_of_experts_that_is_trained_whole_resumes_with_its_experts(go, tmp_path):
    folder, tokenizer = tmp_path / "experts", make_tiny_tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=32, max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    changes = {"model_name_or_path": str(folder), "use_peft": False, "max_steps": 2}
    plain = go(name="plain", **changes)
    resumed = go(name="resumed", interrupt_after=1, **changes)
    assert outcome(resumed.run_dir.parent) == outcome(plain.run_dir.parent)


@pytest.mark.slow
@pytest.mark.parametrize("interrupt_after", [1, 2, 3])
def test_a_run_of_epochs_goes_on_to_its_end_and_in_its_order(go, interrupt_after):
    # two epochs of four problems, two a step; step 3 begins the second epoch, whose order is another
    changes = {"max_steps": -1, "num_train_epochs": 2, "max_problems": 4}
    plain = go(name="plain", **changes)
    resumed = go(name="resumed", interrupt_after=interrupt_after, **changes)
    assert resumed.n_steps == plain.n_steps == 4
    assert outcome(resumed.run_dir.parent) == outcome(plain.run_dir.parent)


def test_the_order_of_problems_depends_on_the_seed_and_the_epoch_and_is_trls():
    from trl.trainer.utils import RepeatSampler

    shape = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2}
    theirs = RepeatSampler(range(10), **shape, seed=5)
    for epoch in range(3):
        ours = EpochSampler(range(10), **shape, seed=5, epoch=lambda epoch=epoch: epoch)
        assert list(ours) == list(theirs)


@pytest.mark.parametrize(
    "name",
    [
        "half a step",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("two steps", "one step, twice")),
    ],
)
def test_a_token_stands_with_the_rollout_that_it_belongs_to_and_is_kept_once(plain, name):
    found = rows(plain(token_stats_every=1, max_steps=2, **SHAPES[name][0])[0])
    rollouts = {(r["step"], r["group_index"], r["member_index"]): r for r in found["rollouts"]}
    tokens = defaultdict(list)
    for r in found["token_stats"]:
        tokens[r["step"], r["group_index"], r["member_index"]].append(r["token_index"])
    assert tokens
    for key, indices in tokens.items():
        assert sorted(indices) == list(range(rollouts[key]["n_completion_tokens"]))
