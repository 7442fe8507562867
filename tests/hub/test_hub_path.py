"""Data and model from the hub, as a user has them: fetched once, then from the cache, then without a network.

The hub is a stand-in on this machine, everything before it the real libraries. Each step is a process of its own.
With MBPP_DIR the two MBPP files are served and checked as they are pinned; without it rows of our own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.problems import mbpp
from evaluator.problems.problem import normalised_row, rows_sha256
from tests.hub.stand_in import HubStandIn
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "some-owner/tiny-model"
READ = """
import dataclasses, json, sys
from evaluator.problems import mbpp
from evaluator.sampling.model import ModelError, load_base
expected = json.loads(sys.argv[1])
for name, sha256 in expected.items():
    mbpp._SOURCES[name] = dataclasses.replace(mbpp._SOURCES[name], rows_sha256=sha256)
try:
    sets = [mbpp.load_problems(f"{name}/test") for name in expected]
    model, _ = load_base(sys.argv[2], device="cpu")
except (mbpp.DatasetError, ModelError) as error:
    sys.exit(f"refused: {error}")
print(json.dumps([[s.source, s.sha256, len(s.problems)] for s in sets] + [model.num_parameters()]))
"""
LAYOUT = """---
configs:
- config_name: full
  data_files:
  - {split: train, path: full/train-*}
  - {split: test, path: full/test-*}
  default: true
- config_name: sanitized
  data_files:
  - {split: train, path: sanitized/train-*}
  - {split: test, path: sanitized/test-*}
---
"""


def own_rows():
    """Two problems of each file's form."""
    full = {
        "text": "Write a function to double a number.",
        "code": "def double(x):\n    return 2 * x",
        "test_list": ["assert double(2) == 4", "assert double(0) == 0", "assert double(-1) == -2"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    sanitized = {
        "source_file": "own",
        "prompt": full["text"],
        "code": full["code"],
        "test_imports": [],
        "test_list": full["test_list"],
    }
    return {
        "full": [{"task_id": i, **full} for i in (11, 601)],
        "sanitized": [{"task_id": i, **sanitized} for i in (11, 602)],
    }


def real_rows():
    folder = Path(os.environ["MBPP_DIR"])
    return {
        "full": [json.loads(line) for line in (folder / "mbpp.jsonl").open()],
        "sanitized": json.loads((folder / "sanitized-mbpp.json").read_text()),
    }


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The stand-in, and the digest that each data set must have."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("hub")
    real = bool(os.environ.get("MBPP_DIR"))
    rows = real_rows() if real else own_rows()
    for name, every in rows.items():
        (folder / "mbpp" / name).mkdir(parents=True)
        # stated, not inferred: a split may have only empty lists
        lists = pyarrow.list_(pyarrow.string())
        types = {int: pyarrow.int32(), str: pyarrow.string(), list: lists}
        schema = pyarrow.schema([(key, types[type(value)]) for key, value in every[0].items()])
        for split, kept in {
            "test": [row for row in every if row["task_id"] in mbpp.SPLITS["test"]],
            "train": [row for row in every if row["task_id"] not in mbpp.SPLITS["test"]],
        }.items():
            file = folder / "mbpp" / name / f"{split}-00000-of-00001.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(kept, schema=schema), file)
    (folder / "mbpp" / "README.md").write_text(LAYOUT)
    make_tiny_model(folder / "model")
    repositories = {
        f"datasets/{mbpp.HUB_NAME}": folder / "mbpp",
        f"models/{MODEL}": folder / "model",
    }
    expected = {
        name: rows_sha256([normalised_row(row) for row in every]) for name, every in rows.items()
    }
    if real:
        pinned = {name: source.rows_sha256 for name, source in mbpp._SOURCES.items()}
        assert expected == pinned
    with HubStandIn(repositories, commit=mbpp.HUB_REVISION) as stand_in:
        yield stand_in, expected


def read(expected, home, *, before=(), model=MODEL, **environment):
    """One process that loads both data sets and the model by their names on the hub."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "MBPP_DIR"}
    return subprocess.run(
        [*before, sys.executable, "-c", READ, json.dumps(expected), model],
        env={**kept, "HF_HOME": str(home), "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def without_a_network():
    """The words before a command that take its network away; loopback as well."""
    words = ("unshare", "--map-root-user", "--net")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("unshare cannot take the network away here")
    return words


@pytest.mark.long
def test_what_was_fetched_once_is_there_offline_and_without_a_network(
    hub, tmp_path, without_a_network
):
    stand_in, expected = hub
    online = read(expected, tmp_path, HF_ENDPOINT=stand_in.url)
    assert online.returncode == 0, online.stderr[-3000:]
    found = json.loads(online.stdout)
    where = f"{mbpp.HUB_NAME}@{mbpp.HUB_REVISION}"
    assert [row[:2] for row in found[:2]] == [[where, sha256] for sha256 in expected.values()]
    assert min(row[2] for row in found[:2]) > 0 and found[2] > 10_000
    assert any(f"/resolve/{mbpp.HUB_REVISION}/" in path for path in stand_in.asked), "the pin"

    n_asked = len(stand_in.asked)
    offline = read(expected, tmp_path, HF_ENDPOINT=stand_in.url, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert json.loads(offline.stdout) == found and len(stand_in.asked) == n_asked

    # without the variable the hub's client tries for half a minute before it takes the cache
    for environment in ({"HF_HUB_OFFLINE": "1"}, {}):
        gone = read(expected, tmp_path, before=without_a_network, **environment)
        assert gone.returncode == 0, (environment, gone.stderr[-3000:])
        assert json.loads(gone.stdout) == found


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {}])
@pytest.mark.long
def test_without_cache_and_network_it_is_one_line_that_says_what_to_do(
    hub, tmp_path, without_a_network, environment
):
    done = read(hub[1], tmp_path, before=without_a_network, **environment)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "refused:" in line]
    assert len(lines) == 1 and "--mbpp-dir or MBPP_DIR" in lines[0], done.stderr
    assert lines[0] == done.stderr.splitlines()[-1]
