import math
import re
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.journal.journal import Journal
from analysis.provenance import (
    Named,
    config_sha256,
    folder_sha256,
    git_state,
    hardware,
    new_run_id,
    package_versions,
    run_info,
)
from tests.scale import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _info(**changes):
    given_values = dict(
        kind="train",
        algorithm="sdpo",
        label="first try",
        config={"learning_rate": 5e-6},
        dataset=Named("embedded/train", "0"),
        protocol=Named("mbpp", "0"),
        sandbox="process",
    )
    return run_info(**{**given_values, **changes})


def test_a_run_id_says_what_when_and_is_unique():
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ids = {new_run_id("train", "sdpo", "First Try!", started=when) for _ in range(50)}
    assert len(ids) == 50
    assert all(
        re.fullmatch(r"train-sdpo-first-try-20260102T030405Z-[0-9a-f]{6}", name) for name in ids
    )


@settings(deadline=None, max_examples=examples(15))
@given(label=st.text())
def test_any_label_gives_a_run_that_can_be_made(tmp_path_factory, label):
    info = _info(label=label)
    Journal.create(tmp_path_factory.mktemp("p"), info).close()


@settings(deadline=None, max_examples=examples(15))
@given(config=st.dictionaries(st.text(), JSON))
def test_any_json_config_is_stored_and_hashed_the_same_in_any_order(tmp_path_factory, config):
    info = _info(config=config)
    assert info.config_sha256 == config_sha256(dict(reversed(config.items())))
    Journal.create(tmp_path_factory.mktemp("p"), info).close()


def test_a_change_of_the_config_changes_its_hash():
    assert config_sha256({"a": 1}) != config_sha256({"a": 2})


def test_what_json_cannot_hold_is_stored_as_text():
    info = _info(config={"path": Path("/x"), "nan": math.nan, "nested": {"set": {1}}})
    assert info.config["path"] == "/x"
    assert info.config["nested"] == {"set": "{1}"}


def test_the_machine_and_the_packages_are_named():
    info = _info(device={"gpu": "none"})
    assert info.hardware["gpu"] == "none"
    assert info.hardware["memory_bytes"] > 1 << 28
    assert hardware()["n_cores"] >= 1
    assert info.packages["duckdb"] == package_versions(["duckdb"])["duckdb"]
    assert package_versions(["no-such-package"]) == {}


def test_this_checkout_has_a_commit_or_is_none():
    state = git_state()
    assert (state.commit is None) == (state.dirty is None)
    assert state.commit is None or re.fullmatch("[0-9a-f]{40}", state.commit)


def test_a_folder_hash_follows_names_and_contents(tmp_path):
    assert folder_sha256(tmp_path) is None
    (tmp_path / "a.safetensors").write_bytes(b"1")
    one = folder_sha256(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"2")
    two = folder_sha256(tmp_path)
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert len({one, two, folder_sha256(tmp_path)}) == 3
