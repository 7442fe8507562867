"""Measures memory and time of the distillation loss: the plain form, this project's, and TRL's.

    python -m benchmarks.loss                    # on a GPU where there is one, else on the CPU
    python -m benchmarks.loss --json FILE

From hidden states to the gradient with respect to them and, with a trained head, to the head. Each
measurement has a process of its own, and the forms take turns, so that other load on the machine meets all.
On a CPU the peak is that of resident memory over what stood there before (VmHWM, reset through clear_refs);
on a GPU it is the allocator's. The gradient of a trained head, which every form must hold, counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn.functional import linear

from trainer.losses.chunked import Head, token_terms
from trainer.losses.sdpo import Distillation, token_losses

FORMS = ("plain", "ours", "trl")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """What is measured; the default is the head of Qwen2.5-0.5B and one micro-batch of the benchmark."""

    n_tokens: int = 1024
    """Completion tokens of a micro-batch: 4 completions of 256."""
    vocabulary: int = 151_936
    hidden: int = 896
    top_k: int = 100
    trained_head: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    chunk_tokens: int = 128


@dataclass(frozen=True)
class Measured:
    """One process's figures."""

    peak_bytes: int
    """Over what stood there before: inputs and head."""
    wall_s: float
    cpu_s: float
    """CPU time of all threads; on a busy machine the better measure of the work."""


def measure(form: str, shape: Shape, outputs: Path | None = None) -> Measured:
    """Run one form once, after a small warm-up; write loss and gradients to `outputs`."""
    inputs = _inputs(shape)
    run = {"plain": _plain, "ours": _ours, "trl": _trl}[form]
    student, teacher, ids, weight = inputs
    run(student[:8], teacher[:8], ids[:8], weight, shape)
    _clear_gradients(inputs)

    before = _reset_peak(shape.device)
    wall, cpu = time.perf_counter(), time.process_time()
    loss = run(*inputs, shape)
    if shape.device == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak(shape.device) - before

    if outputs is not None:
        torch.save({"loss": loss, "student": student.grad, "head": weight.grad}, outputs)
    return Measured(peak, wall, cpu)


def _inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student's and teacher's hidden states, sampled ids and head; logits with a spread of about 3."""
    generator = torch.Generator().manual_seed(0)
    dtype = DTYPES[shape.dtype]

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    weight = normal(shape.vocabulary, shape.hidden).mul_(3 / shape.hidden**0.5)
    student = normal(shape.n_tokens, shape.hidden)
    teacher = student + 0.3 * normal(shape.n_tokens, shape.hidden)
    ids = torch.randint(shape.vocabulary, (shape.n_tokens,), generator=generator)
    student, teacher, weight = (x.to(shape.device, dtype) for x in (student, teacher, weight))
    return (
        student.requires_grad_(),
        teacher,
        ids.to(shape.device),
        weight.requires_grad_(shape.trained_head),
    )


def _spec(shape: Shape) -> Distillation:
    return Distillation(top_k=shape.top_k, temperature=0.7)


def _plain(student: Tensor, teacher: Tensor, ids: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    with torch.no_grad():
        teacher_logits = linear(teacher, weight)
    losses = token_losses(linear(student, weight), teacher_logits, ids, spec=_spec(shape))
    return _finished(losses)


def _ours(student: Tensor, teacher: Tensor, ids: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    terms = token_terms(
        student, teacher, ids, head=Head(weight, None), spec=_spec(shape),
        policy_gradient=False, chunk_tokens=shape.chunk_tokens,
    )  # fmt: skip
    return _finished(terms.distill)


def _trl(student: Tensor, teacher: Tensor, ids: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    """As TRL's SDPOTrainer: logits over the temperature, then its function."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss

    spec = _spec(shape)
    with torch.no_grad():
        teacher_logits = linear(teacher, weight) / spec.temperature
    losses = compute_topk_self_distillation_loss(
        linear(student, weight) / spec.temperature,
        teacher_logits,
        distillation_topk=spec.top_k,
        distillation_alpha=spec.alpha,
        distillation_add_tail=True,
    )
    return _finished(losses)


def _finished(losses: Tensor) -> Tensor:
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach().mean()


def _clear_gradients(tensors: tuple[Tensor, ...]) -> None:
    for tensor in tensors:
        tensor.grad = None


def _reset_peak(device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM <- VmRSS
    return status_bytes("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else status_bytes("VmHWM")


def status_bytes(name: str) -> int:
    """Return a field of this process's /proc/self/status, e.g. `VmHWM` (the most resident memory), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status must hold {name}, got none; measure on Linux")


# side by side


@dataclass(frozen=True)
class Row:
    """One form's figures, medians over the rounds, and its deviation from the plain form."""

    form: str
    top_k: int
    trained_head: bool
    peak_bytes: int
    wall_s: float
    cpu_s: float
    memory_ratio: float
    """Peak over the plain form's."""
    wall_ratio: float
    """Median over the rounds of the ratio within a round."""
    cpu_ratio: float
    loss_delta: float
    """Of the mean token's loss, nats."""
    gradient_delta: float
    """Largest difference of an entry of the summed losses' gradients, over the largest entry or 1."""


def compare(shape: Shape, *, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Measure every form `rounds` times, in turns."""
    measured: dict[str, list[Measured]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for form in FORMS:
                outputs = Path(folder) / f"{form}.pt" if number == 0 else None
                measured[form].append(_in_a_process(form, shape, outputs))
                say(f"k {shape.top_k}, round {number + 1}, {form}: {measured[form][-1]}")
        results = {form: torch.load(Path(folder) / f"{form}.pt") for form in FORMS}
    plain = measured["plain"]
    rows = []
    for form in FORMS:
        mine = measured[form]
        peak = int(statistics.median(m.peak_bytes for m in mine))
        rows.append(
            Row(
                form=form,
                top_k=shape.top_k,
                trained_head=shape.trained_head,
                peak_bytes=peak,
                wall_s=statistics.median(m.wall_s for m in mine),
                cpu_s=statistics.median(m.cpu_s for m in mine),
                memory_ratio=peak / statistics.median(m.peak_bytes for m in plain),
                wall_ratio=_ratio([m.wall_s for m in mine], [m.wall_s for m in plain]),
                cpu_ratio=_ratio([m.cpu_s for m in mine], [m.cpu_s for m in plain]),
                loss_delta=abs(float(results[form]["loss"] - results["plain"]["loss"])),
                gradient_delta=max(
                    _relative(results[form][name], results["plain"][name])
                    for name in ("student", "head")
                ),
            )
        )
    return rows


def _ratio(mine: list[float], plain: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, plain, strict=True))


def _relative(ours: Tensor | None, plain: Tensor | None) -> float:
    if ours is None or plain is None:
        return 0.0
    scale = plain.float().abs().max().clamp_min(1.0)
    return float((ours.float() - plain.float()).abs().max() / scale)


def _in_a_process(form: str, shape: Shape, outputs: Path | None) -> Measured:
    task = json.dumps({"form": form, "shape": asdict(shape), "outputs": outputs and str(outputs)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loss", "--one", task],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| k | head | form | peak MiB | of plain | time of plain (CPU s) | wall s | loss off by | gradient off by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.top_k} | {'trained' if r.trained_head else 'frozen'} | {r.form} | {r.peak_bytes / 2**20:.0f} | "
        f"1/{1 / r.memory_ratio:.1f} | {r.cpu_ratio:.2f} ({r.cpu_s:.1f}) | {r.wall_s:.1f} | {r.loss_delta:.0e} | "
        f"{r.gradient_delta:.0e} |"
        for r in rows
    ]
    return "\n".join(lines)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Measurements of each form.")
@click.option("--top-k", "top_ks", multiple=True, type=int, default=(20, 100), show_default=True)
@click.option(
    "--head", type=click.Choice(["frozen", "trained", "both"]), default="both", show_default=True
)
@click.option("--vocabulary", default=Shape.vocabulary, show_default=True)
@click.option("--tokens", default=Shape.n_tokens, show_default=True, help="Tokens of the batch.")
@click.option("--chunk-tokens", default=Shape.chunk_tokens, show_default=True)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows there.")
@click.option("--one", hidden=True, help="One measurement, as JSON: what the processes run.")
def main(
    *,
    rounds: int,
    top_ks: tuple[int, ...],
    head: str,
    vocabulary: int,
    tokens: int,
    chunk_tokens: int,
    dtype: str,
    json_file: Path | None,
    one: str | None,
) -> None:
    """Measure the loss's memory and time side by side: plain, ours, TRL's."""
    if one is not None:
        task: dict[str, Any] = json.loads(one)
        outputs = None if task["outputs"] is None else Path(task["outputs"])
        click.echo(json.dumps(asdict(measure(task["form"], Shape(**task["shape"]), outputs))))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for trained_head in {"frozen": (False,), "trained": (True,), "both": (False, True)}[head]:
        for top_k in top_ks:
            shape = Shape(
                n_tokens=tokens, vocabulary=vocabulary, top_k=top_k, dtype=dtype, device=device,
                trained_head=trained_head, chunk_tokens=chunk_tokens,
            )  # fmt: skip
            rows += compare(shape, rounds=rounds, say=lambda line: click.echo(line, err=True))
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name() if device == "cuda" else f"{threads} CPU threads"
    click.echo(f"{name}, {dtype}, {tokens} tokens, vocabulary {vocabulary}, hidden {Shape.hidden}")
    click.echo(table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
