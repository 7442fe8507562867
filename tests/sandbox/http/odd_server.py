"""A server that answers what a test gives it: nothing, half, nonsense or drop by drop."""

import json
import socket
import threading
import time

INFO = {
    "protocol": 1,
    "sandbox": "odd",
    "slots": 2,
    "max_body_bytes": 1 << 20,
    "max_programs": 64,
}
PASSED = {
    "verdict": "passed",
    "trusted": True,
    **dict.fromkeys(("exception", "message", "line", "call", "expected", "got")),
}
EXECUTION = {
    "results": [PASSED],
    "cpu_ms": 1.0,
    "wall_ms": 1.0,
    "peak_memory_bytes": 1,
    "output_tail": "",
    "output_truncated": False,
    "feedback": None,
}


class OddServer:
    """Says what it is, and answers each question with the next of `answers`: bytes, or a function of the socket."""

    def __init__(self, *answers, info=INFO, tls=None):
        self.answers, self.info, self.asked = list(answers), info, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(link)
            threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def _talk(self, link):
        try:
            if self._tls is not None:
                link = self._tls.wrap_socket(link, server_side=True)
            with link, link.makefile("rb") as stream:
                while head := stream.readline():
                    n = 0
                    while line := stream.readline().strip():
                        if line.lower().startswith(b"content-length:"):
                            n = int(line.split(b":")[1])
                    body = stream.read(n)
                    if b"/v1/info" in head:
                        link.sendall(answer(self.info))
                        continue
                    self.asked.append(json.loads(body))
                    said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    if callable(said):
                        said(link)
                        return
                    link.sendall(said)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for link in (self._listener, *self._open):
            link.close()


def answer(content, status=200, *headers, length=None):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def executions(*found, sandbox="odd"):
    return answer({"sandbox": sandbox, "executions": list(found)})


RIGHT = executions(EXECUTION)


def changed(**fields):
    return executions({**EXECUTION, **fields})


def result(**fields):
    return changed(results=[{**PASSED, **fields}])


def drip(first):
    def send(link):
        link.sendall(first)
        while True:
            link.sendall(b"x")
            time.sleep(0.02)

    return send


def endless(first, part):
    def send(link):
        link.sendall(first)
        while True:
            link.sendall(part)

    return send


def hang_up(link):
    pass


NO_ANSWERS = {
    "hangs up": hang_up,
    "says nothing": lambda link: time.sleep(30),
    "drips a status": drip(b""),
    "drips headers": drip(b"HTTP/1.1 200 OK\r\nA: "),
    "drips a body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"),
    "continues without end": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "has headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "has a line without end": endless(b"HTTP/1.1 200 OK\r\n", b"A" * 4096),
    "has a body without end": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"A" * 4096),
    "has chunks without end": endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nA\r\n"
    ),
    "says it is huge": answer(b"{}", length=1 << 40),
    "says it is less than nothing": answer(b"{}", length=-5),
    "is no HTTP": b"SSH-2.0-x\r\n",
    "is cut off": lambda link: link.sendall(RIGHT[:-20]),
}
