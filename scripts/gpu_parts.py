"""What `gpu_check.py` measures in processes of their own: `gpu_parts.py PART WORD...` prints one line of JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

N_PROMPTS = 32


def load(name: str, device: str, way: str) -> dict[str, object]:
    """Load a model in one way and read a few tokens with it; return seconds, peak bytes and whether all is finite."""
    import torch

    from evaluator.sampling.model import load_base

    start = time.perf_counter()
    model, tokenizer = load_base(
        name,
        device=device,
        dtype="bfloat16",
        load_in_4bit=way == "4bit",
        unsloth=way == "unsloth",
    )
    seconds = time.perf_counter() - start
    ids = tokenizer("def f", return_tensors="pt").to(model.device)
    with torch.no_grad():
        finite = bool(torch.isfinite(model(**ids).logits).all())
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"load_s": seconds, "peak_bytes": memory, "finite": finite}


def configurations(device: str, *files: str) -> dict[str, float | str]:
    """Train two steps of a random model with each file; return its seconds, or why it failed."""
    from tests.tiny_model import make_tiny_model
    from trainer.options.config import parse_options
    from trainer.training.train import train

    came: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder) / "tiny")
        for file in map(Path, files):
            words = _two_tiny_steps(str(model), device, runs_dir=f"{folder}/{file.stem}")
            start = time.perf_counter()
            try:
                train(file.stem.split("-")[0], parse_options(file, words), say=lambda _: None)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - one file that fails hides no other
                came[file.stem] = f"{type(error).__name__}: {error}"
            else:
                came[file.stem] = round(time.perf_counter() - start, 1)
            print(file.stem, came[file.stem], file=sys.stderr, flush=True)
    return came


def _two_tiny_steps(model: str, device: str, *, runs_dir: str) -> list[str]:
    changed = {
        "model_name_or_path": model, "use_unsloth": "false", "load_in_4bit": "false", "dtype": "float32",
        "bf16": "false", "use_cpu": str(device == "cpu").lower(), "max_steps": 2, "max_completion_length": 16,
        "lora_r": 4, "dataset": "embedded/all", "evaluate_every": 0, "sandbox": "process",
        "save_strategy": "no", "allow_uncalibrated": "true", "runs_dir": runs_dir,
    }  # fmt: skip
    return [word for name, value in changed.items() for word in (f"--{name}", str(value))]


def sample(name: str, way: str, tokens: str, dtype: str) -> dict[str, object]:
    """Sample the same number of tokens for some prompts at once, the second time timed."""
    prompts = [f"Write a Python function that adds {i} to its argument." for i in range(N_PROMPTS)]
    ask = (_vllm if way == "vllm" else _transformers)(name, prompts, int(tokens), dtype)
    ask()
    start = time.perf_counter()
    n = ask()
    return {"tokens_per_s": n / (time.perf_counter() - start)}


def _vllm(name: str, prompts: list[str], n_tokens: int, dtype: str) -> Callable[[], int]:
    from vllm import LLM, SamplingParams

    llm = LLM(name, dtype=dtype, gpu_memory_utilization=0.5)
    fixed = SamplingParams(max_tokens=n_tokens, ignore_eos=True)

    def ask() -> int:
        made = llm.generate(prompts, fixed, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in made)

    return ask


def _transformers(name: str, prompts: list[str], n_tokens: int, dtype: str) -> Callable[[], int]:
    from evaluator.sampling.model import choose_device, load_base

    model, tokenizer = load_base(name, device=choose_device("auto"), dtype=dtype)
    tokenizer.padding_side = "left"
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    inputs = inputs.to(model.device)

    def ask() -> int:
        made = model.generate(
            **inputs, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False
        )
        return int(made[:, inputs["input_ids"].shape[1] :].numel())

    return ask


if __name__ == "__main__":
    parts = {"load": load, "configurations": configurations, "sample": sample}
    print(json.dumps(parts[sys.argv[1]](*sys.argv[2:])))
