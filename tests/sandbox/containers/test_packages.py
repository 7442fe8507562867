import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.cli import sandbox
from sandbox.containers import image, packages
from sandbox.pool.endpoint import described
from sandbox.pool.pool import Pool
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import honest, verdicts

ROOT = Path(packages.__file__).parents[2]


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with a wheel of our own, the only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_pack-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_pack.py", "def double(x):\n    return 2 * x\n")
        info = "tiny_pack-1.5.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-pack\nVersion: 1.5\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_name_says_what_is_in_the_image():
    facts = {"image": "sha256:1 guest 2", "python": "3.13.5"}
    with_two = {**facts, "packages": ["numpy==2.4.6", "six==1.17.0"]}
    assert described(with_two) == "sha256:1 guest 2 Python 3.13.5 with numpy==2.4.6, six==1.17.0"
    assert described({**facts, "packages": []}) == "sha256:1 guest 2 Python 3.13.5"
    assert described({"image": ""}) == described({}) == "of another owner"


def test_a_tag_holds_any_packages():
    assert packages.tag_of(["numpy==2.4.6"]) == "numpy-2.4.6"
    long = packages.tag_of([f"some_package{i}==1!{i}.0+local" for i in range(40)])
    assert len(long) == 100 and "+" not in long and "!" not in long


def test_packages_that_pip_does_not_find_are_one_line(wheels, tmp_path):
    with pytest.raises(
        SandboxError, match=r"pip must find wheels of nosuch for Python 3.13 on x86_64"
    ) as raised:
        packages._install(["nosuch"], tmp_path / "target", version="3.13", machine="x86_64")
    assert "\n" not in str(raised.value) and "check the names" in str(raised.value)


@pytest.mark.parametrize(
    "name", ["--index-url=http://127.0.0.1", pytest.param("-r/etc/passwd", marks=pytest.mark.slow)]
)
def test_a_package_is_no_option_of_pip(wheels, tmp_path, name):
    with pytest.raises(SandboxError, match="pip must find wheels"):
        packages._install([name], tmp_path / "target", version="3.13", machine="x86_64")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_and_the_command_pass_packages_on(monkeypatch):
    command = [
        "make",
        "--no-print-directory",
        "-n",
        "-o",
        ".venv/.installed",
        "sandbox",
        "PACKAGES=numpy six>=1.16",
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.endswith('sandbox build --packages "numpy six>=1.16"\n')
    command[-1] = "PACKAGES="
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.endswith("sandbox build \n")
    built = []
    monkeypatch.setattr(image, "build", lambda **options: built.append(options["packages"]) or "id")
    for arguments in ([], ["--packages", "numpy six>=1.16"]):
        assert CliRunner().invoke(sandbox, ["build", *arguments]).exit_code == 0
    assert built == [[], ["numpy", "six>=1.16"]]


def test_where_an_image_is_only_wanted_to_be_there_the_one_with_packages_stays(monkeypatch):
    monkeypatch.setattr("sandbox.containers.docker_backend.answers", lambda: True)
    monkeypatch.setattr(image, "find_current", lambda: "sha256:with numpy")
    monkeypatch.setattr(image, "build", lambda **_: "sha256:bare")
    assert CliRunner().invoke(sandbox, ["build", "--if-docker"]).output == "sha256:with numpy\n"
    assert CliRunner().invoke(sandbox, ["build"]).output == "sha256:bare\n"


@pytest.mark.slow
@pytest.mark.docker
def test_programs_import_the_packages_of_their_image_and_no_others(wheels):
    from sandbox.containers.docker_backend import DockerEndpoint, engine

    code = "import tiny_pack\ndef f(x):\n    return tiny_pack.double(x)\n"
    program = Program(code, ("assert f(1) == 2",), ("f",))
    bare = image.current_image()
    with engine() as client:
        built, contents = packages.add_packages(client, client.images.get(bare), ["tiny-pack"])
    assert contents == ["tiny-pack==1.5"]
    assert built.labels[packages.PACKAGES_LABEL] == "tiny-pack==1.5"
    for name, verdict in ((built.id, "passed"), (bare, "error")):
        endpoint = DockerEndpoint(slots=1, number=0, image=name)
        with Pool("docker", [endpoint], memory_bytes=512 << 20) as pool:
            assert verdicts(pool.run([program, *honest()])) == [verdict, "passed"]
        said = described(endpoint.facts)
        assert said.startswith(f"{name} guest {image.source_digest()[:12]} Python 3.")
        # the image below may have packages of its own
        assert ("tiny_pack==1.5" in endpoint.facts["packages"]) == (name == built.id)
        assert ("tiny_pack==1.5" in said) == (name == built.id)
    with engine() as client:
        client.images.remove(built.id)
