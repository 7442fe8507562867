"""What a run left behind, read from its folder."""

import json
from collections import defaultdict
from functools import cached_property

from safetensors.torch import load_file

from analysis.journal.lines import scan


class Finished:
    """Its rows by table, and its final weights."""

    def __init__(self, result):
        self.result = result
        self.layers = result.layers
        self.rows = defaultdict(list)
        for segment in sorted(result.run_dir.glob("segment-*.jsonl")):
            for line in scan(segment):
                self.rows[line.table].append(json.loads(line.row))

    @cached_property
    def weights(self):
        return load_file(next(self.result.adapter_dir.glob("*model.safetensors")))

    def metric(self, name):
        return [row["value"] for row in self.rows["metrics"] if row["name"] == name]


def passed(rollout):
    return rollout["correctness"] == 1.0
