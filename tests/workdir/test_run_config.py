"""config.json of a run's folder: provenance."""

import json
import subprocess
import sys

import pytest

from diffusion.config import default_config
from diffusion.config.config_dict import nested
from diffusion.runtime import provenance
from diffusion.workdir import run_config
from diffusion.workdir import verify_checkpoint_manifest as manifest

RUN = run_config.Run(default_config(), (8, 8, 1), 10)


@pytest.fixture
def head(monkeypatch):
    """The revision that git reports: a list of one, which a test may change."""
    commits = ["a" * 12]
    monkeypatch.setattr(provenance, "_git", lambda command, *_: commits[0] if command == "rev-parse" else "")
    provenance.revision.cache_clear()
    yield commits
    provenance.revision.cache_clear()


def config_of(folder):
    return manifest.load(folder / "config.json")


def test_the_revision_is_read_once_a_process(head):
    """An update of the checkout during a run must not change what its results are stamped with."""
    assert provenance.stamp("1 x cpu")["revision"] == "a" * 12
    head[0] = "b" * 12
    assert provenance.stamp("1 x cpu")["revision"] == "a" * 12


def test_set_up_reads_the_revision():
    """Scripts read it before their work, not with their first result."""
    code = (
        "from diffusion.runtime import provenance, before_jax\n"
        "before_jax.configure('off')\n"
        "provenance._git = None\n"
        "print(provenance.revision())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=provenance.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout


def test_a_resumed_run_keeps_its_first_stamp_and_lists_all_revisions(head, tmp_path):
    for commit, devices in (("c", "9 x refused"), ("a", "1 x first"), ("b+", "8 x second"), ("a", "1 x first")):
        head[0] = commit
        provenance.revision.cache_clear()
        run_config.write_config(tmp_path, RUN, devices)
        if commit == "a":
            (tmp_path / "checkpoints" / "0").mkdir(parents=True, exist_ok=True)
            (tmp_path / "checkpoints" / "0" / "manifest.json").touch()
    content = config_of(tmp_path)
    assert (content["revision"], content["devices"]) == ("a", "1 x first")
    assert content["revisions"] == ["a", "b+", "a"]
    assert run_config.read_run(tmp_path) == RUN


def test_the_history_of_an_older_folder_begins_with_its_stamp(head, tmp_path):
    run_config.write_config(tmp_path, RUN, "1 x cpu")
    (tmp_path / "kept" / "5").mkdir(parents=True)
    (tmp_path / "kept" / "5" / "manifest.json").touch()
    content = config_of(tmp_path)
    del content["revisions"]
    (tmp_path / "config.json").write_text(json.dumps(manifest.with_hash(content)))
    head[0] = "b" * 12
    provenance.revision.cache_clear()
    run_config.write_config(tmp_path, RUN, "1 x cpu")
    assert config_of(tmp_path)["revisions"] == ["a" * 12, "b" * 12]


def test_a_folder_without_hash_or_format_is_refused(tmp_path):
    content = {"config": nested(RUN.config), "data": {"shape": [8, 8, 1], "classes": 10}}
    for saved, wrong in ((content, "its hash is missing"), (manifest.with_hash(content), "'folder'")):
        (tmp_path / "config.json").write_text(json.dumps(saved))
        with pytest.raises(ValueError, match=f"config.json is damaged .*{wrong}.*restore it, or give another"):
            run_config.read_run(tmp_path)
