"""The demo: a policy of our own learns with GRPO, SDPO and their mixture, on a laptop, with every real part.

Two scenes. `main` starts from a policy that reads its re-prompts. `control` starts from one that never
learned to: its teacher knows no more than the student, which is what SDPO needs and GRPO does not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from analysis.installation import own_command
from evaluator.problems.mbpp import ProblemSet
from evaluator.sampling.model import Decoding, Policy, load_base
from sandbox.client import Sandbox, open_sandbox
from trainer.demo.display import Display
from trainer.demo.narration import BASELINE, Story, tell
from trainer.demo.policy import Recipe, warm_start
from trainer.demo.problems import DemoProblem, check_references, make_problems, write_problems
from trainer.demo.runs import Ledger, Place, evaluate_start, train_part
from trainer.demo.teacher_gap import Reading, measure_reading, store_reading, stored_reading
from trainer.options import shipped
from trainer.options.config import Algorithm, ConfigError, Options, parse_options

CONFIG = shipped.folder() / "demo.yaml"
METHODS: tuple[Algorithm, ...] = ("grpo", "sdpo", "hybrid")
AUDIT: Algorithm = "audit"
TRAIN_FILE, EVAL_FILE = "train.jsonl", "held_out.jsonl"
NEEDED_BYTES = 200 << 20
"""A demo of three seeds leaves 110 MB."""


@dataclass(frozen=True)
class Size:
    """How much a demo does."""

    n_steps: int = 20
    n_audit_steps: int = 3
    evaluate_every: int = 10
    n_train: int = 400
    n_eval: int = 240
    n_warm_start_steps: int = 840
    n_warm_start_threads: int = 2
    seeds: tuple[int, ...] = (42, 43, 44)
    """Of training: each method is trained once with each, from the same policy."""


FULL = Size()
SHORT = Size(
    n_steps=3,
    n_audit_steps=1,
    evaluate_every=3,
    n_train=60,
    n_eval=60,
    n_warm_start_steps=400,
    n_warm_start_threads=1,
    seeds=(42,),
)
"""The whole chain for CI: too little for any finding."""


@dataclass(frozen=True)
class Finished:
    """Where a demo left its results."""

    story: Story
    report: Path
    runs_dir: Path


@dataclass(frozen=True)
class _Stage:
    """What all parts of one demo share."""

    folder: Path
    policy_dir: Path
    size: Size
    backend: str
    overrides: tuple[str, ...]
    place: Place


def make_room(folder: Path) -> None:
    """Make the demo's folder, on a disk that holds a demo; one that has begun is let go on.

    Raises:
        ConfigError: it cannot be made, or the disk is nearly full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begun = any(folder.iterdir())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigError(
            f"the demo's folder must be writable, got {str(folder)!r} ({error.strerror}); name another with --dir"
        ) from error
    if free < NEEDED_BYTES and not begun:
        raise ConfigError(
            f"the disk must have {NEEDED_BYTES >> 20} MiB free for a demo, got {free >> 20} MiB for "
            f"{str(folder)!r}; make room, or name a folder on another disk with --dir"
        )


def make_policy(
    folder: Path, *, control: bool, size: Size, sandbox: Sandbox, show: Display
) -> Path:
    """The warm-started policy, from the cache in `folder` where it is there."""
    recipe = Recipe(
        reprompts=not control, n_steps=size.n_warm_start_steps, n_threads=size.n_warm_start_threads
    )
    cache = folder / "policies"
    name = "warm start" if not control else "warm start without re-prompts"
    if (cache / recipe.key()).is_dir():
        show.skipped(name)
        return cache / recipe.key()
    with show.stage(name, recipe.n_steps) as advance:
        return warm_start(cache, recipe, sandbox, progress=advance)


def run_demo(
    folder: Path,
    *,
    control: bool,
    size: Size,
    backend: str,
    overrides: tuple[str, ...],
    show: Display,
) -> Finished:
    """Make the policy, measure it, train it with each method from the same start, compare and report.

    What an interrupted demo of the same settings has done is not done again.

    Raises:
        ConfigError, DatasetError, ModelError, SandboxError, StoreError: with one line for the user.
    """
    _options(overrides)  # a misspelt one is refused before the warm start, not after it
    make_room(folder)
    scene = folder / ("control" if control else "main")
    with open_sandbox(backend) as sandbox:
        # every part in the same sandbox, and said once
        if backend == "auto":
            backend = sandbox.name.split()[0]
        show.line(f"programs run in: {sandbox.name}")
        policy_dir = make_policy(folder, control=control, size=size, sandbox=sandbox, show=show)
        stage = _stage(scene, policy_dir, size=size, backend=backend, overrides=overrides)
        held_out, problem_set = _problems(stage, sandbox)
        reading = _measure(stage, held_out, problem_set, sandbox, show)

    for seed in size.seeds:
        for method in METHODS:
            _train(stage, method, seed, size.n_steps, show)
    if not control:
        _train(stage, AUDIT, size.seeds[0], size.n_audit_steps, show)

    place = stage.place
    parts = {method: [_part(method, seed) for seed in size.seeds] for method in METHODS}
    story = tell(
        place.evaluation(BASELINE),
        {method: [place.evaluation(part) for part in parts[method]] for method in METHODS},
        {method: [place.ledger.seconds(part) for part in parts[method]] for method in METHODS},
        reading,
        control=control,
        failed_layers=None if control else place.ledger.failed_layers(_part(AUDIT, size.seeds[0])),
    )
    return Finished(story, _report(stage, story, show), stage.place.runs_dir)


def _stage(
    scene: Path, policy_dir: Path, *, size: Size, backend: str, overrides: tuple[str, ...]
) -> _Stage:
    """Where everything is; the ledger's key is all that decides what the runs do."""
    decoding = Decoding(max_new_tokens=_options(overrides).training.max_completion_length)
    decisive = asdict(replace(size, seeds=()))  # a seed more repeats nothing
    content = [policy_dir.name, decisive, backend, overrides, CONFIG.read_text()]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    place = Place(scene / "runs", Ledger(scene / "ledger.json", key), decoding)
    return _Stage(scene, policy_dir, size, backend, overrides, place)


def _options(overrides: Sequence[str]) -> Options:
    return parse_options(CONFIG, list(overrides))


def _problems(stage: _Stage, sandbox: Sandbox) -> tuple[list[DemoProblem], ProblemSet]:
    """Write both problem files; the held-out ones come back."""
    seed = Recipe().seed
    taught = make_problems(stage.size.n_train, held_out=False, seed=seed, first_id=100_001)
    held_out = make_problems(stage.size.n_eval, held_out=True, seed=seed, first_id=200_001)
    files = stage.folder / TRAIN_FILE, stage.folder / EVAL_FILE
    new = not all(file.is_file() for file in files)
    train_set, eval_set = map(write_problems, files, (taught, held_out))
    if new:
        check_references(train_set, sandbox)
        check_references(eval_set, sandbox)
    return held_out, eval_set


def _measure(
    stage: _Stage,
    held_out: Sequence[DemoProblem],
    problem_set: ProblemSet,
    sandbox: Sandbox,
    show: Display,
) -> Reading:
    """The baseline's evaluation, and what re-prompts do for it."""
    place = stage.place
    reading_file = stage.policy_dir.with_name(f"{stage.policy_dir.name}-{stage.size.n_eval}.json")
    reading = stored_reading(reading_file)
    if reading is not None and place.ledger.finished(BASELINE) is not None:
        show.skipped("baseline")
        return reading
    model, tokenizer = load_base(str(stage.policy_dir), device="cpu")
    policy = Policy(model, tokenizer, name=str(stage.policy_dir))
    if reading is None:
        with show.stage("does it read a re-prompt?", 1) as advance:
            reading = measure_reading(
                policy,
                held_out,
                problem_set.problems,
                sandbox,
                seed=Recipe().seed,
                max_new_tokens=place.decoding.max_new_tokens,
            )
            store_reading(reading_file, reading)
            advance(1)
    if place.ledger.finished(BASELINE) is None:
        with show.stage("baseline", stage.size.n_eval) as advance:
            evaluate_start(
                place,
                policy,
                problem_set,
                sandbox,
                batch_size=_options(stage.overrides).bench.eval_batch,
                advance=advance,
            )
    return reading


def _part(method: Algorithm, seed: int) -> str:
    """Name of one run: its part of the ledger, and what people call it."""
    return f"{method}-{seed}"


def _train(stage: _Stage, method: Algorithm, seed: int, n_steps: int, show: Display) -> None:
    part = _part(method, seed)
    if stage.place.ledger.finished(part) is not None:
        show.skipped(part)
        return
    options = parse_options(
        CONFIG,
        [
            *("--model_name_or_path", str(stage.policy_dir)),
            *("--dataset", str(stage.folder / TRAIN_FILE)),
            *("--eval_dataset", str(stage.folder / EVAL_FILE)),
            *("--evaluate_every", str(0 if method == AUDIT else stage.size.evaluate_every)),
            *("--max_steps", str(n_steps)),
            *("--sandbox", stage.backend),
            *("--runs_dir", str(stage.place.runs_dir)),
            *("--label", part),
            *stage.overrides,
            *("--seed", str(seed)),
        ],
    )
    with show.stage(part, options.training.max_steps) as advance:
        train_part(stage.place, part, method, options, advance=advance, warn=show.line)


def _report(stage: _Stage, story: Story, show: Display) -> Path:
    """The ordinary commands over this demo's runs: an HTML report and the charts as files."""
    place, folder = stage.place, stage.folder
    trained = [_part(m, s) for s in stage.size.seeds for m in (*METHODS, AUDIT)]
    run_ids = [run for part in (BASELINE, *trained) if (run := place.ledger.finished(part))]
    report = folder / "report.html"
    notes = [f"--note={sentence}" for sentence in story.sentences()]
    chosen = [f"--run={run}" for run in run_ids]
    with show.stage("report and charts", 2) as advance:
        for command in (
            ("report", *run_ids, *notes, f"--output={report}"),
            ("plots", *chosen, f"--output-dir={folder / 'charts'}", "--form=svg"),
        ):
            store = (f"--runs-dir={place.runs_dir}", f"--results={folder / 'results.duckdb'}")
            subprocess.run(own_command(*command, *store), check=True, capture_output=True)
            advance(1)
    return report
