import pytest

from evaluator.integrations import rows

ADD = {
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "code": "def add(a, b):\n    return a + b",
}
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"
HALF = "```python\ndef add(a, b):\n    return 0\n```"
CHEAT = "```python\nimport os\ndef add(a, b):\n    os._exit(0)\n```"


@pytest.fixture(autouse=True)
def _process_backend(monkeypatch):
    """These tests' programs are their own; one sandbox serves all of them."""
    monkeypatch.setenv(rows.SANDBOX_VARIABLE, "process")


@pytest.fixture
def lost_sandbox(monkeypatch):
    """A sandbox that fails whatever it is asked."""
    from sandbox.program import SandboxError

    class Lost:
        def run(self, programs):
            raise SandboxError("the engine is gone")

    monkeypatch.setattr(rows, "opened", lambda name: Lost())
