"""What writers that were killed leave is removed, and nothing else."""

import os

from hvae_spec.records.files import remove_unfinished, write_atomically


def test_only_what_this_program_left_unfinished_is_removed(tmp_path, monkeypatch):
    left = [tmp_path / "members" / "a" / ".spec.yaml.0123abcd.tmp", tmp_path / ".grid.json.89abcdef.tmp"]
    kept = [
        tmp_path / "members" / "a" / ".mine.tmp",
        tmp_path / "other" / "members" / ".spec.yaml.0123abcd.tmp",  # of another run's folder below this one
        tmp_path / "members" / "spec.yaml.0123abcd.tmp",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "members" / ".folder.0123abcd.tmp").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: None)  # as if killed before the file has its name
        write_atomically(tmp_path / "members" / "a" / "epochs.jsonl", "x")
    assert len(list((tmp_path / "members" / "a").glob(".epochs.jsonl.*"))) == 1
    looked_at, scan = [], os.scandir
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", lambda folder: looked_at.append(os.fspath(folder)) or scan(folder))
        remove_unfinished(tmp_path, ["members", "packs"])
    # Once each, as there may be tens of thousands.
    below = [path for path in looked_at if "members" in path]
    assert sorted(below) == sorted(str(tmp_path / "members" / name) for name in ("", "a", ".folder.0123abcd.tmp"))
    assert not list((tmp_path / "members" / "a").glob(".epochs.jsonl.*"))
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    assert (tmp_path / "members" / ".folder.0123abcd.tmp").is_dir()
