import hashlib
import json

from analysis.journal.lines import scan
from trainer.options.config import parse_options
from trainer.training.train import train


def test_a_run_lists_the_files_that_it_saved_with_their_hashes(config_file, hashed_grades):
    result = train("grpo", parse_options(config_file(max_steps=1)), say=lambda _: None)
    (segment,) = result.run_dir.glob("segment-*.jsonl")
    rows = [json.loads(line.row) for line in scan(segment) if line.table == "artifacts"]
    saved = {
        path.relative_to(result.run_dir).as_posix(): path.read_bytes()
        for path in result.adapter_dir.rglob("*")
        if path.is_file()
    }
    assert {row["path"]: row["sha256"] for row in rows} == {
        path: hashlib.sha256(content).hexdigest() for path, content in saved.items()
    }
    assert {row["path"]: row["n_bytes"] for row in rows} == {k: len(v) for k, v in saved.items()}
    assert {(row["kind"], row["step"]) for row in rows} == {("adapter", 1)}
    assert "adapter/adapter_model.safetensors" in saved
