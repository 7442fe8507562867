"""`python runs.py stock|unsloth OUT ALGORITHM [--option value ...]`: train with a shipped configuration file.

Only what the options after the algorithm name is overridden.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def main() -> None:
    stack, out, algorithm, *overrides = sys.argv[1:]
    if stack == "unsloth":
        from tests.unsloth.on_cpu import pretend_a_card

        pretend_a_card()
    from trainer.options.config import parse_options
    from trainer.step.rollout_trainer import RolloutTrainer
    from trainer.training.train import train

    own = {name: vars(cls).copy() for cls in RolloutTrainer.__mro__ for name in [cls.__name__]}
    if stack == "unsloth":
        import unsloth  # noqa: F401

        from tests.unsloth.on_cpu import patch_trainers, use_plain_kernels

        patch_trainers()
        use_plain_kernels()
        loader = sys.modules["unsloth.models.loader"]
        loader.get_model_name = lambda name, **_: (
            "another/model"
        )  # it maps a name to what it finds better

    import trl

    found: dict[str, object] = {"changed": changed(RolloutTrainer, own)}

    found["trl.GRPOTrainer is rewritten"] = trl.GRPOTrainer not in RolloutTrainer.__mro__

    def look(trainer) -> None:
        model = trainer.model
        found["trained dtypes"] = sorted({str(p.dtype) for p in trained(model)})
        found["teacher dtypes"] = sorted(
            {str(t.dtype) for t in trainer.teacher.state().values()} if trainer.teacher else []
        )
        found["layers"] = sorted({type(m).__name__ for m in model.modules()})
        found["backbone"] = type(model.get_base_model()).__module__
        found["padding mask kept"] = getattr(
            model.get_base_model().base_model, "_unsloth_keep_padding_mask", None
        )
        found["checkpointing at the start"] = checkpointing(model)
        found["context"] = trainer._max_teacher_prompt_tokens() + trainer.max_completion_length
        trainer.add_callback(_Watch(trainer, found))

    result = train(
        algorithm,
        parse_options(CONFIGS / f"{algorithm}.yaml", overrides),
        say=lambda line: print(line, file=sys.stderr),
        prepare=look,
    )
    found["steps"] = result.n_steps
    found["evaluations"] = [step for step, _ in result.evaluations]
    found["layers of the audit"] = {layer.name: layer.passed for layer in result.layers}
    found["adapter"] = str(result.adapter_dir)
    found["base"] = json.loads((result.adapter_dir / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ]
    Path(out).write_text(json.dumps(found))


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def checkpointing(model) -> list[bool]:
    return [
        m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing")
    ]


def changed(cls, before) -> list[str]:
    """Methods of the trainer's own classes that something replaced since they were defined."""
    return [
        f"{owner.__name__}.{name}"
        for owner in cls.__mro__
        if owner.__module__.startswith(("trainer.", "trl."))
        for name, value in vars(owner).items()
        if before[owner.__name__].get(name) is not value
    ]


if __name__ == "__main__":
    from transformers import TrainerCallback

    class _Watch(TrainerCallback):
        """Notes gradient checkpointing at the end of each step, after the step's evaluation."""

        def __init__(self, trainer, found):
            self.trainer, self.found = trainer, found
            found["checkpointing after the steps"] = []

        def on_step_end(self, *args, **kwargs):
            self.found["checkpointing after the steps"].append(checkpointing(self.trainer.model))

    main()
