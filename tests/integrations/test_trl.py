import pytest

from tests.integrations.conftest import ADD
from tests.tiny_model import make_tiny_model


def test_trls_own_trainer_takes_a_step_with_our_reward(tmp_path, monkeypatch):
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from evaluator import trl_reward

    model = make_tiny_model(tmp_path / "tiny")
    rows = [{"prompt": [{"role": "user", "content": "add"}], **ADD}] * 4
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=AutoTokenizer.from_pretrained(model),
        reward_funcs=[trl_reward],
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            num_generations=2,
            per_device_train_batch_size=2,
            max_completion_length=4,
            report_to="none",
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            bf16=False,
        ),
    )
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "reward" in entry)
    assert logged["rewards/trl_reward/mean"] == logged["reward"] and 0 <= logged["reward"] <= 0.3
