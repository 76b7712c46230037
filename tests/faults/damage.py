"""Damage each file of a results folder, run the same command again, and read what is there.

The folder is that of a finished grid, or of one that was killed at a file operation. Each file is cut to nothing, cut
to half, filled with zeros, and removed; files of rows also lose a line in their middle. A trial has survived if no
command shows a traceback, exit codes are as they should be, nothing of the other members is changed, and either
everything is as if nothing had been damaged, or the file is named with what fixes it.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.faults.operations import Operations
from tests.faults.outcome import Outcome, write
from tests.faults.trials import KILLED, SPECS, differences, prepare, renew, run, run_spec, say, snapshot

MEANING = (
    "no traceback; the exit code says so; other members are as they were; all ends as undisturbed, or the file is "
    "named with what fixes it"
)
CAN_BE_DELETED = "optimizer.safetensors"
"""A file whose loss costs no result: a longer training has to start anew."""
PACK = "pack"
"""What a training's result says of the members that it was trained with, which may be others if some are damaged."""
REMEDIES = ("delete", "run tune.run again", "rewritten", "rows are used", "goes on", "go on", "starts over", "anew")
"""Words of what fixes damage, or of what is done about it."""
FOUND = 1
"""Exit code of a command that has found a damaged record."""


def removed(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def without_a_line(path: Path) -> None:
    """Leave out a line from the middle of the file."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :]))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut to nothing": lambda path: path.write_bytes(b""),
    "cut to half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "filled with zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "removed": removed,
    "without a line": without_a_line,
}


def read_all(root: Path) -> Callable[[], int]:
    """A command that reads a results folder as notebooks do: all frames, every model and gallery."""

    def command() -> int:
        import analysis
        import hvae_spec
        from hvae_spec.errors import UserError

        frames = analysis.load(root)
        faults = list(frames.faults)
        for folder in frames.members.query("status == 'finished'")["folder"]:
            for load in (hvae_spec.load_record, hvae_spec.load_gallery):
                try:
                    load(folder)
                except UserError as error:
                    faults.append(str(error))
        for fault in faults:
            say(fault)
        return FOUND if faults else 0

    return command


def files(root: Path) -> Iterator[Path]:
    """The files of a results folder, but for locks."""
    yield from (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith("lock"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.damage", description=__doc__)
    parser.add_argument("state", choices=("finished", "killed"), help="of the grid whose files are damaged")
    parser.add_argument("--at", type=int, default=200, help="killed: before which file operation")
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm/damage"), help="folder to work in, made anew")
    parser.add_argument("--write", action="store_true", help="replace this campaign's row in docs/faults")
    options = parser.parse_args(arguments)
    trials, lost = campaign(options.scratch, options.at if options.state == "killed" else None)
    say(f"{trials} trials: {trials - lost} survived, {lost} lost")
    if options.write:
        given = sys.argv[1:] if arguments is None else arguments
        command = " ".join(["python -m tests.faults.damage", *(word for word in given if word != "--write")])
        injected = f"a file of a {options.state} grid is cut, zeroed, removed, or loses a line"
        write(f"damage_{options.state}", [Outcome(injected, trials, trials - lost, lost, MEANING, command)])
    shutil.rmtree(options.scratch, ignore_errors=True)
    return 1 if lost else 0


def campaign(scratch: Path, at: int | None) -> tuple[int, int]:
    """All trials; how many there were, and how many were lost.

    Args:
        scratch: folder to work in, made anew.
        at: the file operation before which the grid is killed; None: it finishes.

    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    prepare(with_report=False, cache=scratch / "cache")
    import hvae_spec.model  # noqa: F401

    root, state, log = scratch / "results", scratch / "state", scratch / "log"
    command = run_spec(SPECS / "mini.yaml", root)
    if run(command, log) != 0:
        raise SystemExit(f"undisturbed, the grid fails: {log.read_text()}")
    expected = snapshot(root, PACK)
    if at is not None:
        renew(root, None)
        if run(command, log, Operations(root, at)) != KILLED:
            raise SystemExit(f"the grid has fewer than {at} file operations")
    shutil.copytree(root, state)
    trials = lost = 0
    for source in files(state):
        name = source.relative_to(state)
        for words, damage in DAMAGES.items():
            if words == "without a line" and source.suffix != ".jsonl":
                continue
            renew(root, state)
            damage(root / name)
            code = run(command, log)
            said = log.read_text(errors="replace")
            read_code = run(read_all(root), log)
            said_by_reader = log.read_text(errors="replace")
            trials += 1
            fault = _fault(root, name, expected, (code, said), (read_code, said_by_reader))
            if fault:
                lost += 1
                say(f"LOST, {name} {words}: {fault}")
    return trials, lost


def _fault(root: Path, name: Path, expected: dict[str, str], ran: tuple[int, str], read: tuple[int, str]) -> str:
    """What is wrong with the end of a trial; empty if nothing is."""
    (code, said), (read_code, said_by_reader) = ran, read
    words = said + said_by_reader
    if "Traceback" in words:
        return f"a traceback [{words[-600:]}]"
    unlike = differences(expected, snapshot(root, PACK))
    strangers = [other for other in unlike if not _depends(other, name) and not (code and other.startswith("packs/"))]
    if strangers:
        return f"others are changed: {strangers[:3]}"
    if (code, read_code) == (0, 0) and all(other.endswith(CAN_BE_DELETED) for other in unlike):
        return ""
    if name.name not in words or not any(remedy in words for remedy in REMEDIES):
        return f"not named; exit codes {code} and {read_code}; unlike: {unlike[:3]} [{said[-300:]}]"
    is_result_whole = name.suffix == ".jsonl" or not unlike
    return "" if code == (0 if is_result_whole else FOUND) else f"exit code {code} [{said[-300:]}]"


def _depends(other: str, name: Path) -> bool:
    """Whether a file may be another one for damage to a file: it is of the same member, or of the one that starts from
    it, which has the same seed.
    """
    seed = next((seed for seed in ("-s0-", "-s1-") if seed in str(name)), "")
    return other == name.as_posix() or (bool(seed) and other.startswith("members/") and seed in other)


if __name__ == "__main__":
    sys.exit(main())
