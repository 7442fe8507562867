"""Runs untrusted programs and judges what they return; knows no problem set, model or reward.

Three zones: the host (these modules, trusted), the supervisor (`guest/__main__.py` and `guest/slot.py`: our code,
inside the container) and the child (`guest/child.py`: hostile as soon as it runs a program). docs/sandbox.md has
the guarantees, what is not covered, and the test of each sentence.
A failure of ours is a `SandboxError`, never a verdict. Whoever may talk to the Docker engine is root on the host;
no container of ours holds docker.sock.

Public: `client.open_sandbox, Sandbox`, `program.Program, Execution, AssertResult, Verdict, SandboxError`,
`attack.run, load`, `grader.run`, `doctor.examine`.
"""
