"""Runs programs and their asserts by plain `python -c`, in the sandbox's own image or on this machine."""

import json
import subprocess
import sys

DRIVER = """
import json, os, resource, sys, types
import collections, dataclasses, datetime, decimal, enum, fractions, pathlib, re, uuid
for program in json.load(sys.stdin):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # What never ends, or takes all memory, ends here.
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        module = types.ModuleType("solution")
        sys.modules["solution"] = module
        outcomes = []
        try:
            for text in (*program["imports"], program["code"]):
                exec(compile(text, "<solution>", "exec"), module.__dict__)
            for text in program["asserts"]:
                try:
                    exec(compile(text, "<assert>", "exec"), module.__dict__)
                    outcomes.append("passed")
                except AssertionError:
                    outcomes.append("failed")
                except BaseException as raised:
                    outcomes.append("error")
        except BaseException as raised:
            outcomes = ["error"] * len(program["asserts"])
        os.write(write, json.dumps(outcomes).encode())
        os._exit(0)
    os.close(write)
    answer = b""
    while part := os.read(read, 65536):
        answer += part
    os.close(read)
    os.waitpid(child, 0)
    print(answer.decode() or json.dumps(["crashed"] * len(program["asserts"])), flush=True)
"""
"""What `python -c` runs: each program in a process of its own, loaded as a module that is imported."""


def outcomes(programs, image=None, hash_seed=0):
    """`passed`, `failed` (AssertionError), `error` or `crashed` of each assert of each program."""
    request = [
        {"imports": program.imports, "code": program.code, "asserts": program.asserts}
        for program in programs
    ]
    answer = output(DRIVER, image, stdin=json.dumps(request).encode(), hash_seed=hash_seed)
    return [json.loads(line) for line in answer.splitlines()]


def output(text, image=None, *, stdin=b"", hash_seed=0):
    """What `python -c TEXT` prints."""
    command = [sys.executable, "-c", text]
    environment = {"PYTHONHASHSEED": str(hash_seed)}
    if image is not None:
        options = [
            "--rm",
            "-i",
            "--network",
            "none",
            "--memory",
            "2g",
            "--env",
            f"PYTHONHASHSEED={hash_seed}",
        ]
        command = ["docker", "run", *options, "--entrypoint", "python3", image, "-c", text]
        environment = None
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        env=environment,
    )
    return done.stdout
