"""Checks and measures this project on a GPU machine: no Docker, no hub, within eight minutes.

    python scripts/gpu_check.py --model DIR                  # a folder with a small chat model
    python scripts/gpu_check.py --device cpu --tiny          # the same parts with a random model, on a CPU

Each part has a process of its own and its share of the time; one that fails is named and the others go on.
Prints one table and writes `--output` with all figures. Python 3.11 or newer.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "scripts" / "gpu_parts.py"
"""What a process of its own measures."""
sys.path.insert(0, str(ROOT))

TOTAL_S = 480.0
ORIGINAL_CARD_BYTES = 10 * 2**30
"""The card of the benchmark that this project reproduces."""
STEP_RATIO_LIMIT = 1.25
"""SDPO's step over GRPO's: one more forward, of the teacher."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth", "vllm")


@dataclass
class Part:
    """One part of the check and what came of it."""

    name: str
    state: str = "not run"
    """`ok`, `failed`, `skipped` or `not run`."""
    seconds: float = 0.0
    said: str = ""
    """What a person reads: the figures, or why there are none."""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to check and with what."""

    model: str
    device: str
    tiny: bool
    steps: int
    folder: Path

    def environment(self) -> dict[str, str]:
        """Of the parts' processes: no hub, and no GPU where none is wanted."""
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        # threads that spin beside each other make a model of 32 columns a hundred times slower
        threads = {"OMP_NUM_THREADS": "1"} if self.tiny else {}
        return {**os.environ, **hidden, **threads, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


@click.command()
@click.option(
    "--model", type=click.Path(exists=True, file_okay=False), help="Folder of a chat model."
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--tiny", is_flag=True, help="A random model of 30,000 parameters, short answers.")
@click.option("--steps", default=5, show_default=True, type=click.IntRange(2), help="Of each run.")
@click.option("--seconds", default=TOTAL_S, show_default=True, help="Longest time for everything.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("results/gpu_check.json"),
    show_default=True,
)
@click.option("--part", "only", multiple=True, help="Run only these parts.")
def main(
    *,
    model: str | None,
    device: str,
    tiny: bool,
    steps: int,
    seconds: float,
    output: Path,
    only: tuple[str, ...],
) -> None:
    """Check and measure this project on a GPU machine."""
    if (model is None) == (not tiny):
        raise click.UsageError("exactly one of --model DIR and --tiny must be given")
    if device == "cuda":
        _refuse_what_lacks()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        plan = _plan(model, device=device, tiny=tiny, steps=steps, folder=Path(folder))
        say = lambda line: click.echo(line, err=True)  # noqa: E731
        parts = list(check(plan, seconds=seconds, only=only, say=say))
    today = time.strftime("%Y-%m-%d")
    click.echo(f"{card(device)}, {today}, Python {platform.python_version()}")
    click.echo(table(parts))
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {"card": card(device), "date": today, "parts": [asdict(part) for part in parts]}
    output.write_text(json.dumps(document, indent=1))
    click.echo(f"all figures: {output}")
    failed = [part.name for part in parts if part.state == "failed"]
    if failed:
        raise click.ClickException(f"every part must succeed, these failed: {', '.join(failed)}")


def _plan(model: str | None, *, device: str, tiny: bool, steps: int, folder: Path) -> Plan:
    if model is None:
        from tests.tiny_model import make_tiny_model

        model = str(make_tiny_model(folder / "tiny"))
    return Plan(str(Path(model).resolve()), device, tiny, steps, folder)


def _refuse_what_lacks() -> None:
    """End here where the benchmark's own configuration could not run: a check that skips it says nothing."""
    from evaluator.doctor.gpu import examine_gpu

    failed = [finding for finding in examine_gpu(needed=True) if finding.state == "FAIL"]
    if failed:
        lines = [f"{found.text}{f'  ->  {found.mend}' if found.mend else ''}" for found in failed]
        raise click.ClickException("\n".join(lines))


def card(device: str) -> str:
    """The accelerator's name and memory."""
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores"
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.get_device_name()} ({memory:.0f} GiB)"


Run = Callable[[Part, float, list[Part]], None]


def check(
    plan: Plan, *, seconds: float, only: tuple[str, ...], say: Callable[[str], None]
) -> Iterator[Part]:
    """Run part after part within the time; a part may take three shares of what is left, most take less."""
    todo = [(name, run) for name, run in _parts(plan) if not only or name in only]
    end = time.monotonic() + seconds
    done: list[Part] = []
    for index, (name, run) in enumerate(todo):
        part, start = Part(name), time.monotonic()
        limit_s = min(end - start, 3 * (end - start) / (len(todo) - index))
        say(f"{name} (at most {max(limit_s, 0):.0f} s)")
        if limit_s < 1:
            part.said = "no time was left"
        else:
            _guarded(run, part, limit_s, done)
        part.seconds = round(time.monotonic() - start, 1)
        done.append(part)
        yield part


def _guarded(run: Run, part: Part, limit_s: float, done: list[Part]) -> None:
    try:
        run(part, limit_s, done)
    except subprocess.TimeoutExpired:
        part.state, part.said = "failed", f"not done within {limit_s:.0f} s"
    except subprocess.CalledProcessError as error:
        last = [line for line in (error.stderr or "").splitlines() if line.strip()][-1:]
        part.state, part.said = "failed", f"status {error.returncode}: {' '.join(last)[:200]}"
    except (OSError, KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        # what a part printed or wrote was not what it should be
        part.state, part.said = "failed", f"{type(error).__name__}: {error}"[:200]


def _parts(plan: Plan) -> Iterator[tuple[str, Run]]:
    yield "environment", lambda part, *_: _environment(part)
    for way in ("bf16", "4bit", "unsloth"):
        yield f"load {way}", lambda part, limit_s, _, way=way: _load(part, plan, way, limit_s)
    for name in ("grpo", "sdpo", "hybrid", "audit"):
        yield f"train {name}", lambda part, limit_s, _, name=name: _train(part, plan, name, limit_s)
    yield "every configuration", lambda part, limit_s, _: _configurations(part, plan, limit_s)
    yield "step-time ratio", lambda part, _, done: _ratio(part, done)
    yield "loss memory", lambda part, limit_s, _: _loss(part, plan, limit_s)
    for way in ("transformers", "vllm"):
        yield f"sample {way}", lambda part, limit_s, _, way=way: _sample(part, plan, way, limit_s)


def _environment(part: Part) -> None:
    for name in LIBRARIES:
        try:
            part.figures[name] = version(name)
        except PackageNotFoundError:
            part.figures[name] = None
    part.state = "ok"
    part.said = ", ".join(f"{name} {found or '-'}" for name, found in part.figures.items())


def _load(part: Part, plan: Plan, way: str, limit_s: float) -> None:
    needed = {"bf16": None, "4bit": "bitsandbytes", "unsloth": "unsloth"}[way]
    if needed is not None and plan.device == "cpu":
        part.state, part.said = "skipped", f"needs {needed} and a GPU"
        return
    printed = _python(plan, limit_s, str(PARTS), "load", plan.model, plan.device, way)
    part.figures = json.loads(printed.splitlines()[-1])
    part.state = "ok" if part.figures["finite"] else "failed"
    part.said = f"{part.figures['load_s']:.1f} s, peak {_gib(part.figures['peak_bytes'])}"


def train_options(plan: Plan, algorithm: str) -> list[str]:
    """The benchmark's own configuration file; on a CPU, and for a random model, the smoke configuration."""
    if plan.device == "cpu" or plan.tiny:
        short = ["--max_completion_length", "16", "--lora_r", "4"] if plan.tiny else []
        place = [] if plan.device == "cpu" else ["--use_cpu", "false"]
        return ["--config", str(ROOT / "configs" / "smoke-cpu.yaml"), *short, *place]
    # the audit's own file is for a CPU as well
    place = ["--use_cpu", "false"] if algorithm == "audit" else []
    return ["--config", str(ROOT / "configs" / f"{algorithm}.yaml"), *place]


_QUERY = """
SELECT name, median(value) AS value, max(value) AS largest FROM metrics
WHERE step > 1 AND name <> 'time/evaluation_s' AND (name LIKE 'time/%' OR name = 'memory/peak_bytes')
GROUP BY name
"""


def _train(part: Part, plan: Plan, algorithm: str, limit_s: float) -> None:
    runs = plan.folder / algorithm
    _python(
        plan, limit_s, "-m", "sdpo_bench", "train", algorithm, *train_options(plan, algorithm),
        *("--model_name_or_path", plan.model, "--max_steps", str(plan.steps)),
        *("--runs_dir", str(runs), "--sandbox", "process", "--dataset", "embedded/train"),
        # an evaluation before the first step, as in a real run: what it leaves behind is in the peak
        *("--evaluate_every", str(plan.steps), "--eval_dataset", "embedded/test"),
        *("--eval_max_problems", "4", "--save_strategy", "no", "--allow_uncalibrated", "true"),
    )  # fmt: skip
    printed = _python(
        plan, 60, "-m", "sdpo_bench", "sql", "--runs-dir", str(runs),
        "--results", str(runs / "results.duckdb"), "--format", "json", _QUERY,
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads(printed)}
    split = {n[5:-2]: row["value"] for n, row in rows.items() if n.startswith("time/")}
    peak = rows["memory/peak_bytes"]["largest"]
    step_s = sum(split.values())
    part.figures = {
        "step_s": step_s,
        "split_s": split,
        "peak_bytes": peak,
        "fits_10_gib": peak <= ORIGINAL_CARD_BYTES,
    }
    part.state = "ok"
    shares = ", ".join(
        f"{name} {100 * value / step_s:.0f} %"
        for name, value in sorted(split.items(), key=lambda item: -item[1])
    )
    fits = "fits" if part.figures["fits_10_gib"] else "does not fit"
    part.said = f"{step_s:.2f} s a step ({shares}); peak {_gib(peak)}, {fits} 10 GiB"


def _configurations(part: Part, plan: Plan, limit_s: float) -> None:
    """Two steps of a random model with each file of `configs/`: what a file sets must also run on this device."""
    files = sorted((ROOT / "configs").glob("*.yaml"))
    shipped = [file for file in files if file.stem != "demo" and not file.stem.startswith("smoke")]
    printed = _python(plan, limit_s, str(PARTS), "configurations", plan.device, *map(str, shipped))
    part.figures = json.loads(printed.splitlines()[-1])
    failed = {name: said for name, said in part.figures.items() if isinstance(said, str)}
    part.state = "failed" if failed else "ok"
    part.said = "; ".join(f"{name}: {said[:100]}" for name, said in failed.items())
    part.said = part.said or f"{len(shipped)} files, 2 steps each"


def _ratio(part: Part, done: list[Part]) -> None:
    steps = {p.name: p.figures.get("step_s") for p in done}
    grpo, sdpo = steps.get("train grpo"), steps.get("train sdpo")
    if not grpo or not sdpo:
        part.state, part.said = "skipped", "needs a GRPO and an SDPO run"
        return
    part.figures = {"ratio": sdpo / grpo, "limit": STEP_RATIO_LIMIT}
    part.state = "ok"
    verdict = "within" if sdpo / grpo <= STEP_RATIO_LIMIT else "over"
    part.said = f"SDPO / GRPO {sdpo / grpo:.2f}, {verdict} the limit of {STEP_RATIO_LIMIT}"


def _loss(part: Part, plan: Plan, limit_s: float) -> None:
    file = plan.folder / "loss.json"
    size = ["--rounds", "1", "--vocabulary", "1000", "--tokens", "64"] if plan.tiny else []
    _python(plan, limit_s, "-m", "benchmarks.loss", *size, "--json", str(file))
    rows = json.loads(file.read_text())
    part.figures = {"rows": rows}
    part.state = "ok"
    part.said = "; ".join(
        f"k {r['top_k']} {r['form']}: {r['peak_bytes'] / 2**20:.0f} MiB, {1e3 * r['wall_s']:.0f} ms"
        for r in rows
        if not r["trained_head"]
    )


def _sample(part: Part, plan: Plan, way: str, limit_s: float) -> None:
    if way == "vllm" and (plan.device == "cpu" or find_spec("vllm") is None):
        part.state, part.said = "skipped", "needs vllm and a GPU"
        return
    dtype = "float32" if plan.device == "cpu" else "bfloat16"
    tokens = "8" if plan.tiny else "128"
    printed = _python(plan, limit_s, str(PARTS), "sample", plan.model, way, tokens, dtype)
    part.figures = json.loads(printed.splitlines()[-1])
    part.state = "ok"
    part.said = f"{part.figures['tokens_per_s']:.0f} tokens/s, 32 prompts at once"


def _python(plan: Plan, limit_s: float, *words: str) -> str:
    """Run this interpreter with some words; return what it printed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=plan.environment(), timeout=limit_s,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def table(parts: list[Part]) -> str:
    """The parts as a Markdown table."""
    lines = ["| part | state | s | what was seen |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {p.name} | {p.state} | {p.seconds:.0f} | {p.said.replace('|', '/')} |" for p in parts
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
