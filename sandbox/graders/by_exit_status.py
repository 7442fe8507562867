"""The simplest grader there is: the program with its asserts is run, and exit status 0 is a pass."""

import json
import subprocess
import sys
import tempfile


def main() -> None:
    """Read a question on standard input, write the verdict to standard output."""
    question = json.load(sys.stdin)
    parts = [*question["imports"], question["code"], question["setup_code"], *question["asserts"]]
    with tempfile.NamedTemporaryFile(suffix=".py") as file:
        file.write("\n".join(parts).encode("utf-8", "surrogatepass"))
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, "-I", file.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=question["timeout_s"],
                check=False,
            )
            passed = done.returncode == 0
        except subprocess.TimeoutExpired:
            passed = False
    print(json.dumps({"passed": passed}))


if __name__ == "__main__":
    main()
