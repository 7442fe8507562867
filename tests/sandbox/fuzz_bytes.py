"""Coverage-guided fuzzing of everything that reads bytes across the wall; needs atheris, which pytest does not.

pip install atheris && python tests/sandbox/fuzz_bytes.py -runs=300000 -max_len=4096 -timeout=5 -rss_limit_mb=1024
"""

import sys

import atheris

with atheris.instrument_imports(include=["sandbox"]):
    from sandbox.guest import protocol
    from sandbox.judge.verdict import parse_body

TARGETS = (
    protocol.parse_request,
    protocol.parse_response,
    protocol.parse_job,
    lambda data: parse_body(data, 2),
    lambda data: parse_body(b'["load",null]\n["assert",0,null,[' + data + b"]]\n", 2),
)


def read(data):
    """One of the readers, chosen by the first byte: ProtocolError is the only exception allowed."""
    if not data:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except protocol.ProtocolError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
