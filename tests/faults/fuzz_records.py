"""Damage files of a finished results folder at random, and read it as notebooks, reports and plans do.

Values of JSON and YAML become others of any kind, or go; files are cut, bytes replaced. A trial has survived if the
only errors are those that name a file with its remedy, and if what is read, but for the times in learning curves, is
what was written or is known to be damaged.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.faults.outcome import Outcome, write
from tests.faults.trials import SPECS, prepare, run, run_spec, say

MEANING = "no traceback, within 10 s; what is read is as it was written, or the file is named with what fixes it"
SECONDS = 10
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, "", "x", "<script>", "nan", "Infinity", "\u00e9" * 300),
    *([], {}, [1], [[1]], [None], {"a": 1}, [[[[]]]]),
)
BYTES = (
    *(b"NaN", b"Infinity", b"1e999", b"[" * 3000, b'{"a":' * 3000, b"\x00", b"\xff\xfe", b"9" * 5000, b'"\\ud800"'),
    *(b"null", b"[]", b"{}", b"\n\n", b"\r", b"\xe2\x80\xa8"),
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a tree."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A tree with another value at a path; `...` takes it out."""
    if not path:
        return None if value is ... else value
    node = tree
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


def damaged(path: Path, content: bytes, source: random.Random) -> bytes:
    """The content of a file with damage of a random kind."""
    kind = source.random()
    if path.suffix != ".safetensors" and kind < 0.65 and content.strip():
        if path.suffix == ".yaml":
            trees = [yaml.safe_load(content)]
        else:
            trees = [json.loads(line) for line in (content.splitlines() if path.suffix == ".jsonl" else [content])]
        number = source.randrange(len(trees))
        place = source.choice(list(places(trees[number])))
        trees[number] = replaced(trees[number], place, source.choice([*VALUES, ...]))
        if path.suffix == ".yaml":
            return yaml.safe_dump(trees[0]).encode()
        return b"".join(json.dumps(tree).encode() + b"\n" for tree in trees)
    start = source.randrange(len(content) + 1)
    if kind < 0.75:
        return content[:start]
    if kind < 0.9:
        return content[:start] + source.choice(BYTES) + content[start + source.randrange(30) :]
    flipped = bytearray(content)
    for _ in range(source.choice((1, 3, 20)) if content else 0):
        flipped[source.randrange(len(flipped))] = source.randrange(256)
    return bytes(flipped)


def read(root: Path) -> tuple[str, str]:
    """What a results folder holds, as text, and what is said of damage."""
    import analysis
    import hvae_spec
    from analysis.figures.galleries import damaged_galleries
    from analysis.report import _table_sets
    from hvae_spec.errors import UserError
    from hvae_spec.records.layout import Record

    try:
        frames = analysis.load(root)
    except UserError as error:
        return "", str(error)
    faults = [*frames.faults, *damaged_galleries(frames)]
    # The digest of the curves leaves out their times, so that it is the same whenever the training is.
    epochs = frames.epochs.drop(columns=["seconds", "ms_per_step"], errors="ignore")
    texts = [frame.to_csv() for frame in (frames.members, epochs, frames.units, frames.bounds)]
    if faults:  # else tables are made of the same frames as ever
        texts += [table_set.tidy.to_csv() for table_set in _table_sets(frames)]
    for row in frames.members.query("status == 'finished'").to_dict("records"):
        record = Record(Path(row["folder"]))
        faults += record.damaged_arrays(*record.outcome(row["digest"]))
        for load in (hvae_spec.load_record, hvae_spec.load_gallery):
            try:
                load(row["folder"])
            except UserError as error:
                faults.append(str(error))
    return "\n".join(texts), "\n".join(faults)


def _stop(*_: object) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def trial(path: Path, root: Path, expected: str) -> str:
    """Read a folder in which a file is damaged. What is wrong with that; empty if nothing is."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        found, said = read(root)
    except Exception:
        return traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if path.name in said or found == expected:
        return ""
    return f"other numbers, and {path.name} is not named: {said[:300]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_records", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="trials")
    parser.add_argument("--seed", type=int, default=0, help="decides what is damaged, and how")
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm/fuzz"), help="folder to work in, made anew")
    parser.add_argument("--write", action="store_true", help="replace this campaign's row in docs/faults")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.scratch, ignore_errors=True)
    options.scratch.mkdir(parents=True)
    prepare(with_report=False, cache=options.scratch / "cache")
    root, log = options.scratch / "results", options.scratch / "log"
    if run(run_spec(SPECS / "mini.yaml", root), log) != 0:
        raise SystemExit(f"the grid fails: {log.read_text()}")
    signal.signal(signal.SIGPROF, _stop)
    source = random.Random(options.seed)
    expected, _ = read(root)
    endings = (".json", ".jsonl", ".yaml", ".safetensors")
    by_name: dict[str, list[Path]] = {}
    for path in sorted((root / "members").rglob("*")):
        if path.suffix in endings and path.name != "index.json":
            by_name.setdefault(path.name, []).append(path)
    lost = 0
    for number in range(1, options.count + 1):
        path = source.choice(by_name[source.choice(sorted(by_name))])
        content = path.read_bytes()
        path.write_bytes(damaged(path, content, source))
        fault = trial(path, root, expected)
        if fault:
            lost += 1
            say(f"LOST, trial {number}, {path.relative_to(root)}: {fault} [{path.read_bytes()[:200]!r}]")
        path.write_bytes(content)
        if number % 500 == 0:
            say(f"{number} trials, {lost} lost")
    survived = options.count - lost
    say(f"{options.count} trials: {survived} survived, {lost} lost")
    if options.write:
        given = sys.argv[1:] if arguments is None else arguments
        command = " ".join(["python -m tests.faults.fuzz_records", *(word for word in given if word != "--write")])
        injected = "a file of a record with other values, other bytes, or cut, is read"
        write("fuzz_records", [Outcome(injected, options.count, survived, lost, MEANING, command)])
    shutil.rmtree(options.scratch, ignore_errors=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
