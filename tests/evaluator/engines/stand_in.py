"""A stand-in for a server of a model, for tests of what asks one."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from evaluator.problems.mbpp import load_problems

PROBLEMS = load_problems("embedded/test").problems


class Server:
    """An OpenAI-compatible server that plays a script: (status, headers, body), or what gives it."""

    def __init__(self):
        self.script = []
        self.requests = []
        self.dies_at = None
        """Requests after which it is gone; None lives on."""
        self.n_lost = 0
        """Requests that it died with."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((self.path, dict(self.headers), content))
                if server.dies_at is not None and len(server.requests) >= server.dies_at:
                    server.die(self.connection)
                    return
                played = server.script.pop(0) if server.script else server.usual(content)
                status, headers, body = played() if callable(played) else played
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def die(self, connection):
        """Be gone as a killed process is: this answer does not come, the next cannot even connect."""
        self.n_lost += 1
        connection.shutdown(socket.SHUT_RDWR)
        self.http.socket.close()

    def usual(self, content):
        """The reference solution of whatever problem is asked."""
        asked = content.get("prompt") or content["messages"][-1]["content"]
        (problem,) = [p for p in PROBLEMS if p.text in asked]
        text = f"```python\n{problem.reference}\n```"
        return ok(text, "prompt" in content)


def ok(text, plain=False, finish="stop"):
    choice = {"text": text} if plain else {"message": {"content": text}}
    body = {"choices": [{**choice, "finish_reason": finish}], "usage": {"completion_tokens": 9}}
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
