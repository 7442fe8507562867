"""Records where a run's numbers come from: ids, code, packages, machine and configuration."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from analysis.journal.journal import StoreError
from analysis.records import Artifact, RunInfo, storable

PACKAGES = (
    "sdpo-bench torch transformers trl peft accelerate datasets unsloth bitsandbytes tokenizers "
    "safetensors numpy docker duckdb pydantic scipy"
).split()
"""Distributions whose versions are stored where they are installed."""

_DIFF_BYTES = 200_000
"""A diff is cut to this length: a stray data file must not fill run.json."""


@dataclass(frozen=True)
class GitState:
    """State of the checkout that holds this code; all None outside one."""

    commit: str | None
    dirty: bool | None
    diff: str | None


class Content(Protocol):
    """What a run depends on and is told apart by: a problem set, a prompt form."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def sha256(self) -> str:
        """Of its content."""


class Named(NamedTuple):
    """A `Content` of which no more is known."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """The weights that answer or are trained."""

    model: str
    """Name or folder."""
    model_sha256: str | None = None
    """See `folder_sha256`; None where the model is no folder."""
    adapter: str | None = None
    """Folder of a LoRA adapter on it."""


def weights_of(model: str, adapter: str | None = None) -> Weights:
    """Describe a model's weights, by name or folder, and the adapter on it. OSError: a file is unreadable."""
    folder = Path(model)
    return Weights(model, folder_sha256(folder) if folder.is_dir() else None, adapter)


def run_info(
    *,
    kind: Literal["train", "eval"],
    label: str,
    config: Mapping[str, Any],
    dataset: Content,
    protocol: Content,
    sandbox: str,
    weights: Weights | None = None,
    algorithm: str | None = None,
    seed: int | None = None,
    device: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> RunInfo:
    """Describe a run that starts now on this machine with this code.

    Args:
        kind: train or eval.
        label: what a person calls the run.
        config: the whole resolved configuration; what JSON cannot hold is stored as its text.
        dataset: the problem set.
        protocol: the prompt form.
        sandbox: backend and image.
        weights: what answers or is trained; None where no model does.
        algorithm: of a training run.
        seed: of sampling, data order and initialisation.
        device: what the caller knows of its accelerator, e.g. `{"gpu": "H100"}`; merged into
            hardware, since this package never imports torch.
        own: what a person brought, by RunInfo's names: reward, feedback, chat template and their sha256.
    """
    started = datetime.now(UTC)
    plain = plain_config(config)
    git = git_state()
    return RunInfo(
        run_id=new_run_id(kind, algorithm, label, started=started),
        kind=kind,
        algorithm=algorithm,
        label=label,
        created_at=started.isoformat(timespec="milliseconds"),
        config=plain,
        config_sha256=config_sha256(plain),
        seed=seed,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        sandbox=sandbox,
        git_commit=git.commit,
        git_dirty=git.dirty,
        git_diff=git.diff,
        packages=package_versions(),
        hardware={**hardware(), **(device or {})},
        **({} if weights is None else asdict(weights)),
        **(own or {}),
    )


def check_label(label: str) -> str:
    """Return a label that a person gave, as one by which its run can be looked up.

    Raises:
        StoreError: it is empty or too long, begins or ends with a blank, begins with `-`, or holds a comma,
            which parts labels, or a character that cannot be seen or typed.
    """
    wrong = next((what for what, is_so in _LABEL_FAULTS if is_so(label)), None)
    if wrong is not None:
        shown = ascii(label[:60]) + ("..." if len(label) > 60 else "")
        raise StoreError(
            f"a label must be 1 to {_LONGEST_LABEL} visible characters by which `compare` can find its run, "
            f"got {shown} ({wrong}); choose another"
        )
    return label


_LONGEST_LABEL = 100
_LABEL_FAULTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("empty", lambda label: not label.strip()),
    ("too long", lambda label: len(label) > _LONGEST_LABEL),
    ("a comma parts labels", lambda label: "," in label),
    ("a leading - begins an option", lambda label: label.startswith("-")),
    (
        "a character that cannot be seen",
        lambda label: any(not char.isprintable() for char in label),
    ),
    ("a blank at its end", lambda label: label != label.strip()),
)


def new_run_id(
    kind: str, algorithm: str | None, label: str, *, started: datetime | None = None
) -> str:
    """Return `<kind>-<algorithm>-<label>-<UTC stamp>-<random>`, a plain file name.

    The random part keeps two runs of one name that start in one second apart.
    """
    stamp = (started or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    words = [_slug(part) for part in (kind, algorithm or "", label)]
    return "-".join([word for word in words if word] + [stamp, secrets.token_hex(3)])


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration as JSON holds it: keys as text, other types as their text."""
    keyed = {str(key): value for key, value in config.items()}
    plain: dict[str, Any] = json.loads(json.dumps(storable(keyed), default=str))
    return plain


def config_sha256(config: Mapping[str, Any]) -> str:
    """Return the sha256 of the canonical JSON: sorted keys, no spaces, UTF-8."""
    canonical = json.dumps(
        plain_config(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content. OSError: it could not be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str | None:
    """Return the sha256 over names and contents of the *.safetensors; None for none. OSError: one is unreadable."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest() if files else None


def artifact_records(run_dir: Path, folder: Path, *, kind: str, step: int | None) -> list[Artifact]:
    """Return a row for each file of a folder within the run's folder. OSError: one could not be read."""
    return [
        Artifact(
            path=path.relative_to(run_dir).as_posix(),
            kind=kind,
            step=step,
            n_bytes=path.stat().st_size,
            sha256=file_sha256(path),
        )
        for path in sorted(path for path in folder.rglob("*") if path.is_file())
    ]


def git_state() -> GitState:
    """Return commit, dirtiness and diff of the checkout this file stands in."""
    root = Path(__file__).resolve().parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    # An installed package can lie inside some other project's checkout; that commit says nothing.
    if commit is None or _git(root, "ls-files", "--error-unmatch", "sdpo_bench.py") is None:
        return GitState(None, None, None)
    status = _git(root, "status", "--porcelain")
    diff = (_git(root, "diff", "HEAD") or "")[:_DIFF_BYTES] if status else None
    return GitState(commit.strip(), bool(status), diff or None)


def package_versions(names: list[str] | None = None) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    versions = ((name, _version(name)) for name in names or PACKAGES)
    return {name: version for name, version in versions if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    """Looked up once: a process keeps the packages that it imported, and ten milliseconds a package add up."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Return cpu, cores, memory (bytes), platform and Python of this machine."""
    return {
        "cpu": _cpu_model(),
        "n_cores": os.cpu_count(),
        "n_usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    """Name of the processor; `platform.processor()` is empty on most Linux systems."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match[1] if match else platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    """Output of one git command; None where it fails or git is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _slug(text: str) -> str:
    """Return the text as part of a file name, at most 40 characters."""
    plain = re.sub(r"[^a-z0-9.]+|\.{2,}", "-", text.lower())
    return re.sub(r"-+", "-", plain).strip("-.")[:40].rstrip("-.")
