"""TRL's vLLM server mode against a stand-in that speaks the endpoints of TRL 1.14's client over HTTP.

The stand-in takes the place of the server, and of the package vllm where TRL's client imports it for the transfer of
the weights over NCCL, which needs CUDA: names and shapes go over HTTP as usual, the tensors through a list.
"""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from trl.generation import vllm_client, vllm_generation

from analysis.journal.journal import segments
from analysis.journal.lines import scan
from tests.tiny_model import make_tiny_tokenizer
from trainer.endings.faults import OutsideFault
from trainer.options.config import ConfigError, parse_options
from trainer.rollouts.vllm_server import check_vllm
from trainer.training.train import train

TOKENIZER = make_tiny_tokenizer()
N_TOKENS = 6


class VllmServer:
    """What `vllm serve` answers to TRL: completions that prompt and place decide, each token at log p -2."""

    def __init__(self):
        self.asked = []
        self.sent = []
        """Of each weight update: tensors by name."""
        self.fails_at = None
        """Completion request that it refuses, from 0."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(200, server.known[self.path])

            def do_POST(self):
                content = json.loads(
                    self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}"
                )
                server.asked.append((self.path, content))
                if self.path != "/v1/completions":
                    return self._answer(200, {})
                n_before = len(server.of("/v1/completions")) - 1
                if server.fails_at is not None and n_before >= server.fails_at:
                    return self._answer(400, {"error": "out of\nmemory"})
                self._answer(200, {"choices": server.choices(content)})

            def _answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.known = {
            "/health": {},
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/get_world_size": {"world_size": 1},
        }
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def of(self, path):
        return [content for asked, content in self.asked if asked == path]

    def choices(self, content):
        return [
            self.choice(prompt, place)
            for prompt in content["prompt"]
            for place in range(content["n"])
        ]

    def choice(self, prompt, place):
        draw = random.Random(f"{prompt} {place}")
        ids = [*(draw.randrange(40, 90) for _ in range(N_TOKENS)), TOKENIZER.eos_token_id]
        names = [f"token_id:{token}" for token in ids]
        logprobs = {
            "tokens": names,
            "token_logprobs": [-2.0] * len(ids),
            "top_logprobs": [{name: -2.0} for name in names],
        }
        return {"prompt_token_ids": prompt, "token_ids": ids, "logprobs": logprobs}


class WeightTransfer:
    """In the place of vLLM's NCCL engine on the trainer's side."""

    def __init__(self, server):
        self._server = server

    def trainer_init(self, init_info):
        assert init_info["world_size"] == 2
        return SimpleNamespace(group=SimpleNamespace(store=None, socket=None))

    def trainer_send_weights(self, iterator, trainer_args):
        self._server.sent.append({name: tensor.clone() for name, tensor in iterator})


@pytest.fixture
def server(monkeypatch):
    server = VllmServer()
    for module in (vllm_client, vllm_generation):
        monkeypatch.setattr(module, "is_vllm_available", lambda *_, **__: True)
    cuda = SimpleNamespace(type="cuda", index=None)
    stands_in = {
        "torch": SimpleNamespace(device=lambda *_: cuda),
        "get_ip": lambda: "127.0.0.1",
        "NCCLWeightTransferEngine": WeightTransfer(server),
        "NCCLTrainerSendWeightsArgs": SimpleNamespace,
        "_HAS_WEIGHT_UPDATE_LIFECYCLE": True,
    }
    for name, stand_in in stands_in.items():
        monkeypatch.setattr(vllm_client, name, stand_in, raising=False)
    monkeypatch.setattr("trainer.training.plan.check_vllm", lambda options: None)
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def run(config_file, hashed_grades):
    def start(url, **changes):
        options = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": url}
        options |= {"vllm_server_timeout": 0.0, **changes}
        return train("sdpo", parse_options(config_file(**options)), say=lambda line: None)

    return start


def rows_of(run_dir, table):
    lines = (line for _, path in segments(run_dir) for line in scan(path))
    return [json.loads(line.row) for line in lines if line.table == table]


def test_a_run_trains_on_what_the_server_samples_and_sends_it_the_weights(server, run):
    result = run(server.url)
    requests = server.of("/v1/completions")
    assert len(requests) == 2, "one for each rollout batch"
    for request in requests:
        assert (request["n"], request["max_tokens"], request["temperature"]) == (4, 12, 0.7)
        assert len(request["prompt"]) == 2, "each prompt once"
    rollouts = rows_of(result.run_dir, "rollouts")
    assert len(rollouts) == 16
    sampled = [
        TOKENIZER.decode(choice["token_ids"][:-1])
        for request in requests
        for choice in server.choices(request)
    ]
    assert sorted(row["completion"] for row in rollouts) == sorted(sampled)
    assert {row["n_completion_tokens"] for row in rollouts} <= {N_TOKENS, N_TOKENS + 1}
    assert not any(row["truncated"] for row in rollouts)

    before, after = server.sent
    announced = server.of("/update_weights")[0]["update_info"]
    assert list(before) == announced["names"] and not any("lora" in name for name in before)
    assert [list(tensor.shape) for tensor in before.values()] == announced["shapes"]
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("q_proj" in name for name in moved), "the adapter is merged into what is sent"
    assert not any("norm" in name for name in moved)
    order = [path for path, _ in server.asked]
    assert order[:5] == [
        "/init_weight_transfer_engine",
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/reset_prefix_cache",
    ]


def test_a_server_that_fails_stops_the_run_which_can_go_on(server, run):
    server.fails_at = 1
    with pytest.raises(OutsideFault) as caught:
        run(server.url)
    assert "the vLLM server must answer, got Request failed: 400" in str(caught.value)
    assert "the state of step 1 is saved, `sdpo-bench train --resume" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line_and_no_run(server, run, tmp_path):
    with pytest.raises(ConfigError, match=r"the vLLM server must answer, got .*; start it with `"):
        run("http://127.0.0.1:9")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "has_vllm", "said"),
    [
        ({"vllm_mode": "server"}, False, "must have vllm installed beside sdpo-bench"),
        ({"vllm_mode": "colocate"}, False, "must have vllm installed beside sdpo-bench"),
        ({"vllm_mode": "server"}, True, "must have a CUDA device here, got a CPU"),
    ],
)
def test_vllm_where_it_cannot_work_is_refused_before_a_model_is_loaded(
    config_file, monkeypatch, changes, has_vllm, said
):
    monkeypatch.setattr("trainer.rollouts.vllm_server.find_spec", lambda name: has_vllm or None)
    monkeypatch.setattr("trainer.training.loading.load_model", None)
    options = parse_options(config_file(use_vllm=True, **changes))
    with pytest.raises(ConfigError, match=said) as caught:
        train("sdpo", options, say=lambda line: None)
    assert "\n" not in str(caught.value)


def test_without_vllm_nothing_is_asked_of_the_machine(config_file, monkeypatch):
    monkeypatch.setattr("trainer.rollouts.vllm_server.torch", None)
    check_vllm(parse_options(config_file()))
