"""Each mistake that a user can make is answered by one line that says what must hold, what was got, what to do."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdpo_bench import main

LONGEST = 600
"""Characters of a line; a list of all data sets or runs may stand in one."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's folder with one evaluation, and files and folders that are not what they seem."""
    folder = tmp_path_factory.mktemp("mistakes")
    before = Path.cwd()
    os.chdir(folder)
    try:
        words = [
            "eval",
            "--gold",
            "--dataset",
            "embedded/test",
            "--limit",
            "2",
            "--sandbox",
            "process",
        ]
        assert CliRunner().invoke(main, words).exit_code == 0
    finally:
        os.chdir(before)
    texts = {
        "bad.yaml": "a: [1,\nb: }",
        "list.yaml": "- a\n- b\n",
        "twice.yaml": "seed: 1\nlabel: a\nseed: 2\n",
        "typo.yaml": "modle_name_or_path: x\n",
        "empty.jsonl": "",
        "plus.jsonl.gz": "no gzip",
        "answers.jsonl": "not json\n",
        "strange.jsonl": '{"task_id": 999999, "completion": "x"}\n',
        "problem.jsonl": '{"task_id": 1, "text": "no asserts"}\n',
        "weights.safetensors": "x",
        "file": "x",
        "old.duckdb": "this is no database",
        "log.txt": "epoch 1 fine\n",
        "log.csv": "task_id,passed\n1,maybe\n",
        "adapter/adapter_config.json": "{}",
        "bare/readme": "",
        "model/config.json": "{}",
        "mbpp/sanitized-mbpp.json": "[]",
        "attacks/readme": "",
        "others/torn/run.json": "{",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "latin.yaml").write_bytes("seed: 1 # f\xfcr".encode("latin-1"))
    return folder


OF_PATHS_AND_KEYS = """
train | must be given; see --help
train spdo --config sdpo | 'spdo' is not one of
train sdpo --config nope.yaml | got 'nope.yaml' (No such file or directory); name a file, or one of those shipped: 
train sdpo --config bad.yaml | must be a readable YAML file, got 'bad.yaml'
train sdpo --config latin.yaml | must be a readable YAML file, got 'latin.yaml'
train sdpo --config twice.yaml | got 'twice.yaml' ('seed' stands in lines 1 and 3, leave one)
train sdpo --config list.yaml | must hold `key: value` lines
train sdpo --config typo.yaml | got 'modle_name_or_path'; did you mean 'model_name_or_path'?
train sdpo --config . | is a directory
train sdpo --config sdpo --lerning_rate 1 | got 'lerning_rate'; did you mean 'learning_rate'?
train sdpo --config sdpo --no_such_thing_at_all | got 'no_such_thing_at_all'; see `sdpo-bench train --options`
train sdpo --config smoke-cpu --model tiny | got 'model'; did you mean 'model_name_or_path'?
train sdpo --config smoke-cpu --model_name_or_path model --lr 1e-4 | got 'lr'; did you mean 'learning_rate'?
train sdpo --config smoke-cpu --batch_size 4 | did you mean 'per_device_train_batch_size'?
train sdpo grpo --config smoke-cpu | must follow an option, got 'grpo'
train sdpo --config smoke-cpu --model_name_or_path ./nope | must be an existing folder or a hub name, got './nope'
train sdpo --config smoke-cpu --model_name_or_path weights.safetensors | got the file
train sdpo --config smoke-cpu --model_name_or_path bare | must hold config.json
train sdpo --config smoke-cpu --model_name_or_path adapter | it is an adapter
train sdpo --config smoke-cpu | model_name_or_path must name a model, got none
train sdpo --config sdpo --dataset nope.jsonl | got 'nope.jsonl'
train sdpo --config sdpo --dataset embedded/trian | got 'embedded/trian'; name one of these
train sdpo --config sdpo --eval_dataset=nope.jsonl | got 'nope.jsonl'
train sdpo --config sdpo --mbpp_dir nope | mbpp_dir must be a folder
train --resume runs/nope | which is not there; `sdpo-bench runs` lists them
train --resume bare | without experiment.json
train sdpo --config sdpo --resume runs/x | must stand alone
solve --config sdpo | must be named by --tasks or by --unsolved-by, got neither
solve --config sdpo --tasks 1 --unsolved-by gold | got both
solve --config nope.yaml --tasks 1 | must be a readable YAML file
solve --config sdpo --unsolved-by nope | got 'nope'
solve --config sdpo --unsolved-by gold --dataset embedded/test | must leave some problem unsolved
solve --tasks 1 | Missing option '--config'
gap | --model or --adapter must be given
gap --model ./nope | existing folder or a hub name
gap --adapter nope | must hold a readable adapter_config.json
gap --resume nope | readable run.json
gap --resume nope -n 4 --device cpu | got --n-samples as well
gap --model bare --n-samples 1 | not in the range
gap --model bare --temperature nan | must be a finite number, got 'nan'
gap --model bare --seed 99999999999999999999 | not in the range
eval --gold --timeout-s inf | inf is not in the range
eval --gold --timeout-s nan | must be a finite number, got 'nan'
eval --gold --timeout-s 1e-9 | is not in the range 0.001<=x<=3600.0
eval --gold --limit 1000000000000000000000 | must be at most 2147483647
regrade base --timeout-s 1e300 | is not in the range 0.001<=x<=3600.0
eval --gold --top-p nan | must be a finite number, got 'nan'
gap --model bare --feedback nope.py:f | --feedback must name a file that is there
reproduce --config sdpo --plan | must be named once, got --config
demo --config sdpo | must be named once, got --config
eval --gold --dataset embedded/test[7000] | got 7000; name others, such as 25, 
verify nope | got No such file or directory; give a folder of recorded cases
verify bare | got No such file or directory; give a folder of recorded cases
import log.csv --label x --seed 99999999999999999999 | not in the range
import log.csv --label x | got '1' and 'maybe' in row 1
restore others | no folder 'runs' in it
reproduce --configs nope | does not exist
reproduce --configs bare | must be a readable YAML file
reproduce --seeds 42;43 | 42;43
reproduce --steps 0 | not in the range
reproduce --lerning_rate 1 | did you mean 'learning_rate'?
reproduce --seed 7 --plan | use --seeds
reproduce --model_name_or_path model --plan | use --model
reproduce --lora_r=4 --lora-r 8 --plan | got lora_r 2 times (--lora_r=4, --lora-r 8)
solve --config sdpo --tasks 1 --max_steps 5 | use --budget
train sdpo --config sdpo --seed 1 --seed 2 | got seed 2 times (--seed 1, --seed 2)
train sdpo --config sdpo --use_feedback true --no_use_feedback | got use_feedback 2 times
demo contol | must be warm-start or control, got 'contol'
demo --seed 1 | use --seeds
demo --dataset problem.jsonl | use `train`
demo --lerning_rate 1 | did you mean 'learning_rate'?
eval --gold --completions answers.jsonl | one source
eval --gold --n-samples 3 | at a temperature above 0
eval --gold --dataset nope/test | must be full/SPLIT
eval --gold --dataset nope.jsonl | must be readable, got 'nope.jsonl'
eval --gold --dataset MbppPlus.jsonl.gz | download MbppPlus.jsonl.gz from release v0.2.0
train sdpo --config sdpo --dataset humaneval-plus | download HumanEvalPlus.jsonl.gz from release
eval --gold --dataset plus.jsonl.gz | ends in .gz must be whole
eval --gold --dataset empty.jsonl | empty.jsonl
eval --gold --dataset problem.jsonl | problem.jsonl
eval --gold --mbpp-dir mbpp | must have sha256
eval --gold --mbpp-dir nope | must be a folder that is there
eval --gold --limit 0 --dataset embedded/test | 0 is not in the range x>=1
eval --gold --limit two | not a valid integer
eval --adapter nope | must hold a readable adapter_config.json
eval --model ./nope | existing folder or a hub name
eval --model adapter | it is an adapter: name it by --adapter
eval --completions nope.jsonl | completions file must be there
eval --completions answers.jsonl --dataset embedded/test | answers.jsonl
eval --completions strange.jsonl --dataset embedded/test | got 999999
eval --gold --label a,b | a comma parts labels
eval --resume nope | readable run.json
eval --resume torn --runs-dir others | run.json must describe a run
eval --resume gold --limit 2 | leave it out, the run has its own
eval --gold --json nope/out.json | nope
eval --gold --runs-dir file | must be writable
eval --api-base http://127.0.0.1:9 --dataset embedded/test | must stand with --model
eval --api-base http://127.0.0.1:9 --adapter adapter | must stand without --adapter
eval --api-base http://127.0.0.1:9 --engine ray | must stand without --engine
eval --api-base 127.0.0.1:9 --model m | must begin with http:// or https://
eval --api-base http://127.0.0.1:9 --api-base http://127.0.0.1:9/ --model m | must name each server once
eval --ray-address h:1 --gold | --engine ray
eval --engine vllm --gold | must have something to sample
eval --gold --visible-tests all --protocol mbpp | named once
eval --gold --chat-template-kwargs x | must be a JSON object
eval --modle x | No such option '--modle'
compare gold | at least two sides
compare gold nope | got 'nope'
compare gold gold | different evaluations
show gold 1 | it holds 2 tasks: 
train sdpo --config sdpo --sandbox procces | did you mean 'process'?
show nope 56 | got 'nope'
sandbox attack nope | does not exist
sandbox attack attacks | attacks
sandbox ablate attacks | attacks
sandbox attack attacks --backend chroot | is not one of
sandbox up --containers 0 | not in the range
sandbox bench --rounds 1 | not in the range
sql SELEC | syntax error
sql FROM+nothing | nothing
sql CREATE+TABLE+t(x+INT) | read-only
sql + | the query is empty
sql x --file list.yaml | not both
sql --file nope.sql | No such file
sql x --format parquet | needs --output
sql FROM+runs --results old.duckdb --no-ingest | old.duckdb
sql FROM+runs --output nope/x/out.csv --format csv | nope
plots --figure nope | is not one of
plots --run nope | got 'nope'
plots --output-dir file | file
runs --json nope/x.json | name another
sandbox status --json nope/x.json | name another
report nope | got 'nope'
report --output file/report.html | file
export | Missing option '--parquet'
export --parquet file | file
restore nope | nope
restore . | sdpo-bench export
import nope.csv --label x --algorithm grpo | nope.csv
import log.txt --label x --algorithm grpo | log.txt
watch --port 70000 | not in the range
evla | No such command 'evla'
--verison | No such option '--verison'
"""
OF_THE_ENGINE = """
eval --gold --dataset embedded/test --sandbox docker | Docker
sandbox build | Docker
sandbox up | Docker
sandbox down | Docker
"""
OF_VALUES = """
--max_steps abc | see `sdpo-bench train --options`
--ema_rate 2 | ema_rate must be in range, got 2.0
--num_generations 1 | at least 2
--per_device_train_batch_size 0 | must be at least 1, got 0
--label a,b | a comma parts labels
--label two words | must follow an option, got 'words'
--support most | support must be in range, got 'most'
--report_to nowhere | got 'nowhere'
"""


def rows(text):
    found = [line.partition(" | ") for line in text.strip().splitlines()]
    return [pytest.param(words, expected, id=words) for words, _, expected in found]


def refused(words, expected):
    """A + in a word is a blank."""
    result = CliRunner().invoke(main, [word.replace("+", " ") for word in words.split(" ")])
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    # without Docker, what stands in for it is said before
    lines = [line for line in result.stderr.splitlines() if not line.startswith("sandbox: ")]
    lines = [line for line in lines if line.strip()]
    assert len(lines) == 1, result.stderr
    (line,) = lines
    assert line.startswith("Error: ") and expected in line and len(line) < LONGEST
    assert ";" in line or line.endswith("?"), "what is to be done is missing"


@pytest.mark.parametrize(("words", "expected"), rows(OF_PATHS_AND_KEYS))
def test_a_wrong_word_is_one_line_before_torch_is_imported(place, monkeypatch, words, expected):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MBPP_DIR", raising=False)
    refused(words, expected)


@pytest.mark.parametrize(("words", "expected"), rows(OF_THE_ENGINE))
def test_an_engine_that_does_not_answer_is_one_line(place, monkeypatch, words, expected):
    monkeypatch.chdir(place)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    refused(words, expected)


@pytest.mark.parametrize(("words", "expected"), rows(OF_VALUES))
def test_a_value_that_the_parser_refuses_is_one_line(place, monkeypatch, words, expected):
    monkeypatch.chdir(place)
    monkeypatch.setattr("trainer.cli.train.needs_supervisor", lambda: False)
    given = "train sdpo --config smoke-cpu --dataset embedded/train --model_name_or_path model"
    refused(f"{given} {words}", expected)
