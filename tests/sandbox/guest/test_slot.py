import json
import os
import subprocess
import sys

from sandbox.pool.endpoint import wait_until_ready

KILLED_WHILE_IT_FORKS = """
import os, time
from sandbox.guest import __main__ as guest
fork, supervisor = os.fork, os.getpid()
def slow_fork():
    pid = fork()
    while pid == 0 and os.getppid() == supervisor:
        time.sleep(0.001)
    return pid
os.fork = slow_fork
guest.main()
"""


def test_a_slot_whose_supervisor_ended_before_it_could_ask_to_end_with_it_ends(tmp_path):
    options = json.dumps({"socket_dir": str(tmp_path), "slots": 2, "owner_uid": os.getuid()})
    supervisor = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_IT_FORKS, options],
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    wait_until_ready(tmp_path, "the supervisor")
    supervisor.kill()
    # Every slot holds the pipe until it ends.
    assert supervisor.communicate(timeout=10)[1] == b""
