"""Mutated specs and `--set` values, and what the reader of specs makes of them.

    python -m tests.faults.fuzz_spec --trials 2000

Every trial spoils one of the shipped specs, at its characters or at its values, or sets something on it. It is survived
if the spec is read, or refused with problems that all stand in the text, within the time limit, with no file written,
and if every suggestion, put where it is made, removes the fault; every tenth is read twice, and must end alike. Trials
run in forked processes, so that one that hangs or crashes is seen. A trial is its number and the seed: `--only NUMBER`
shows it.
"""

import argparse
import copy
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import yaml

from hvae_spec.errors import Problem, SpecError
from hvae_spec.reading import load, loads
from hvae_spec.spec.suggest import known_keys
from tests.faults.outcome import Outcome, write

SPECS = Path(__file__).parents[2] / "specs"
TIME_LIMIT = 10
"""Seconds of a core that a trial may take. The slowest takes two."""
SILENCE = 300
"""Seconds after which a process that has reported nothing hangs, however busy the machine is."""
CHUNK = 500
"""Trials that one process runs, one after another."""
KINDS = ("characters", "structure", "structure", "override")

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 1e-300, 1e-50, 1e308, float("inf"), float("nan"), 10**18, 10**30, 2**31,
    2**63, -(2**63), "", "x", "0", "1e-3", "null", "é", "\u202e", "\x00", "a" * 5000, "0-4", "1, 2", "1_000",
    "yes", "no", "12e4567", "1.10", "２０", "“x”", "a\u00a0b", " VAE", "NA", "nan", "基线",
    "training.epochs: 3", "vae", "ladder", "adam", "own", "mnist", "digits", "norb", "/dev/zero", "../../x",
    "<script>", "$(id)", "{{7*7}}", "%s%n", 1.5, 1.0, 4.0, 1e3, -0.0, 0.1, "~", "~nosuchuser/x", [], {}, [[]],
    [{}], [None], {"a": 1}, {"": ""}, [1, 2, 3], [0] * 300, ["1", "2"], {"é": {}, "e\u0301": {}},
    {"dataset": "own", "own": {"name": "x", "file": "/etc/passwd", "range": [0, 1]}}, {"leaky_relu": 0.1},
    {"tanh": 1}, {"elu": 1}, {"adam": {"lr": 1e-3}}, {"units": 4, "mlp": [8]}, [{"units": 4, "mlp": [8]}],
    "layer", {"batch": {"heads": False}}, {"vamp": 5}, {"realnvp": {"blocks": 2}}, "mixture",
]  # fmt: skip
PATHS = [
    "training.epochs", "training.batch_size", "training.optimizer", "training.optimizer.adam.lr",
    "training.optimizer.adam.eps", "training.first_phase", "training.lr_decay", "training.clip_norm",
    "objective.warm_up", "objective.mc_samples", "objective.iw_samples", "model.inference", "model.layers",
    "model.nonlinearity", "model.batch_norm", "model.layers.0.units", "model.layers[0].units", "data",
    "model.norm", "model.prior", "model.prior.vamp", "training.schedule",
    "data.dataset", "data.own", "data.own.file", "data.train_images", "model", "grid", "grid.depth",
    "grid.seeds", "grid.axes", "grid.variants", "grid.variants.A", "grid.exclude", "evaluation.every",
    "evaluation.iw_samples", "evaluation.memory_gib", "name", "profiles", "base", "epochs", "model.warm_up",
    "modle.inferenc", "training.epoch", "trainig.epochs", "objective.warmup", "data.datset",
]  # fmt: skip
TOKENS = [
    ":", "-", "[", "]", "{", "}", ",", "&a ", "*a", "!!python/object:os.system", "!x", "<<: *a", "|", ">", "#",
    "'", '"', "\t", "\n", "\n\n", "  ", "? ", "---\n", "...\n", "%YAML 1.1\n", "\u2028", "\x85", "\ufeff",
    "\x07", "0x", "0o8", ".inf", ".nan", "1e999", "9" * 500, "~", "null", "@", "`", "\u00a0", "\u3000",
    "\u200b", "：", "，", "“", "”", "２", "−", "_", "%",
]  # fmt: skip
DROP = object()


@dataclass(frozen=True)
class Trial:
    """A spec as text, or a shipped file with overrides."""

    text: str = ""
    path: Path | None = None
    overrides: tuple[str, ...] = ()

    def problems(self) -> list[Problem]:
        """What is wrong with it."""
        try:
            if self.path is None:
                loads(self.text)
            else:
                load(self.path, self.overrides)
        except SpecError as error:
            str(error).encode()
            return error.problems
        return []


@cache
def _grids() -> list[Path]:
    """The shipped specs of one grid each."""
    return [path for path in sorted(SPECS.glob("*.yaml")) if "grids:" not in path.read_text()]


@cache
def _sources() -> list[tuple[str, Any]]:
    """The shipped specs that build on no other, each as text and as plain dictionaries and lists."""
    texts = [path.read_text() for path in _grids()]
    return [(text, yaml.safe_load(text)) for text in texts if "base:" not in text]


def trial(seed: int, number: int) -> Trial:
    """The trial of a number."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choice(KINDS)
    if kind == "override":
        overrides = tuple(_override(rng) for _ in range(rng.choice((1, 1, 2))))
        return Trial(path=rng.choice(_grids()), overrides=overrides)
    text, tree = rng.choice(_sources())
    return Trial(_of_characters(rng, text) if kind == "characters" else _of_values(rng, copy.deepcopy(tree)))


def _of_characters(rng: random.Random, text: str) -> str:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place, kind = rng.randrange(len(text) + 1), rng.random()
        if kind < 0.25:
            limit = rng.choice((0x80, 0x300, 0xD800))
            text = text[:place] + chr(rng.randrange(limit)) + text[place + 1 :]
        elif kind < 0.4:
            text = text[:place] + text[place + rng.randrange(1, 20) :]
        elif kind < 0.7:
            text = text[:place] + rng.choice(TOKENS) + text[place:]
        elif kind < 0.85:
            start, end = sorted((place, rng.randrange(len(text) + 1)))
            text = text[:place] + text[start : min(end, start + 200)] + text[place:]
        else:
            lines = text.split("\n")
            one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[one]
            text = "\n".join(lines)
    return text


def _of_values(rng: random.Random, tree: Any) -> str:
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        path, kind = rng.choice(list(_points(tree))), rng.random()
        odd = copy.deepcopy(rng.choice(ODD))
        node = _at(tree, path)
        if kind < 0.45:
            tree = _put(tree, path, odd)
        elif kind < 0.55:
            tree = _put(tree, path, DROP)
        elif kind < 0.7:
            tree = _put(tree, path, copy.deepcopy(_at(tree, rng.choice(list(_points(tree))))))
        elif kind < 0.85 and isinstance(node, dict):
            node[rng.choice((rng.choice(PATHS), rng.choice(PATHS).rsplit(".")[-1]))] = odd
        elif kind < 0.85 and isinstance(node, list):
            node.append(odd)
        elif isinstance(tree, dict) and isinstance(grid := tree.setdefault("grid", {}), dict):
            _spoil_grid(rng, grid)
    return str(yaml.safe_dump(tree, allow_unicode=rng.random() < 0.5, default_flow_style=rng.random() < 0.3))


def _spoil_grid(rng: random.Random, grid: dict[str, Any]) -> None:
    odd, kind, path = copy.deepcopy(rng.choice(ODD)), rng.random(), rng.choice(PATHS)
    name, section = str(rng.choice(ODD))[:30], "axes" if kind < 0.4 else "variants"
    if kind < 0.8 and not isinstance(grid.setdefault(section, {}), dict):
        grid[section] = {}
    if kind < 0.4:
        grid["axes"][path] = [copy.deepcopy(rng.choice(ODD)) for _ in range(rng.randrange(4))]
    elif kind < 0.8:
        grid["variants"][name] = {path: odd}
    else:
        key = rng.choice([*PATHS, "variant", "depth", "varaint"])
        grid["exclude"] = [{key: rng.choice((odd, rng.choice(["VAE", "VAE+B", "vae", 1, 9, "1"])))}]


def _override(rng: random.Random) -> str:
    path = rng.choice(PATHS)
    if rng.random() < 0.3:
        path = "".join(rng.choice(".[]=:{}'\"ab01 \t\né\x00") for _ in range(rng.randrange(12)))
    value = "".join(rng.choice("[]{}:,-#&*!|>'\"%@`0123.eE \t\nabc\x00\u2028") for _ in range(rng.randrange(30)))
    if rng.random() < 0.6:
        dumped = yaml.safe_dump(rng.choice(ODD), default_flow_style=True, allow_unicode=rng.random() < 0.5)
        value = dumped.strip().removesuffix("...").strip()
    return path + rng.choice(("=", "=", "=", ":", "")) + value


def _points(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values of a tree."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in items:
        yield from _points(child, (*path, key))


def _at(tree: Any, path: Sequence[Any]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Any, path: Sequence[Any], value: Any) -> Any:
    """A tree with another value at a path, or without it."""
    if not path:
        return {} if value is DROP else value
    node = _at(tree, path[:-1])
    if value is DROP:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


def faults(attempt: Trial, *, twice: bool = True) -> list[str]:
    """In what a trial is not survived. Whether it is read alike when it is read `twice` costs as much again."""
    found = attempt.problems()
    lines = ["not alike when it is read again"] * (twice and attempt.problems() != found)
    for problem in found:
        if not _stands_in_the_text(problem, attempt):
            lines.append(f"stands nowhere: {problem}")
        for suggestion in filter(None, problem.suggestion.split(" or ")):
            trouble = trouble_with(suggestion, problem, attempt, found)
            if trouble:
                lines.append(f"a suggestion that is not valid, {suggestion!r} ({trouble}), of {problem}")
    return lines


def _stands_in_the_text(problem: Problem, attempt: Trial) -> bool:
    place = problem.place
    if not 1 <= place.column <= len(place.text) + 1:
        return False
    if attempt.path is None:
        lines = yaml_lines(attempt.text.removeprefix("\ufeff"))
        return 1 <= place.line <= len(lines) and place.text == lines[place.line - 1]
    return place.source.startswith("--set ") or str(SPECS) in place.source


def yaml_lines(text: str) -> list[str]:
    """The lines of a text as YAML counts them."""
    for end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        text = text.replace(end, "\n")
    return text.split("\n")


KEYS = ("unknown key", "is not a field of the spec", "is no factor of the grid")
"""Words of messages about keys."""


def trouble_with(suggestion: str, problem: Problem, attempt: Trial, found: Sequence[Problem]) -> str:
    """Why a suggestion is not valid; empty if it is: the text with it is read without the fault, and as YAML if it was.

    Args:
        suggestion: one of the alternatives that the problem suggests.
        problem: the problem that makes it.
        attempt: the spec that has the problem.
        found: all problems of that spec.

    """
    is_key = any(words in problem.message for words in KEYS) or problem.message.startswith(
        ("grid.variants: ", "profiles: ")
    )
    is_pair = suggestion.endswith("}") and is_key
    if is_key and not is_pair and "." in suggestion and "unknown key" in problem.message:
        return "" if _is_field(suggestion) else "no field of the spec"
    edited = _edited(suggestion, problem, attempt, is_key=is_key)
    if edited is None:
        return ""
    for other in edited.problems():
        if other.place.text in attempt.overrides:
            continue  # of another override, which is as it was
        here = (other.place.line, other.place.column) == (problem.place.line, problem.place.column)
        # Where a path is mistaken in two of its words, the other is reported next.
        named = is_key and repr(suggestion.rsplit(".", maxsplit=1)[-1]) not in other.message
        if here and _subject(other) == _subject(problem) and (not named or other.message == problem.message):
            return f"then {other}"
        if other.kind == "unreadable" and not any(one.kind == "unreadable" for one in found):
            return f"then {other}"
    return ""


def _subject(problem: Problem) -> str:
    """What a message is about: a kind of key, or a field."""
    return next((words for words in KEYS if words in problem.message), problem.message.partition(": ")[0])


def _is_field(path: str) -> bool:
    *section, key = path.split(".")
    return key in known_keys(tuple(section))


def _edited(suggestion: str, problem: Problem, attempt: Trial, *, is_key: bool) -> Trial | None:
    """The trial with a suggestion in place of what it is for; None where that is not in a text at hand."""
    if attempt.path is None:
        text = attempt.text.removeprefix("\ufeff")
        changed = _replaced(text, problem, suggestion, is_key=is_key)
        return None if changed is None else Trial(changed)
    for number, override in enumerate(attempt.overrides):
        if problem.place.text == override and problem.place.source.startswith("--set "):
            dotted, equals, value = override.partition("=")
            if problem.place.column == 1:
                changed = _with_key(dotted, suggestion, problem) + equals + value
            else:
                padded = _replaced(" " * (len(dotted) + 1) + value, problem, suggestion, is_key=is_key)
                changed = None if padded is None else dotted + equals + padded[len(dotted) + 1 :]
            if changed is None:
                return None
            overrides = (*attempt.overrides[:number], changed, *attempt.overrides[number + 1 :])
            return Trial(path=attempt.path, overrides=overrides)
    return None


def _with_key(dotted: str, new: str, problem: Problem) -> str:
    """The path of an override with a suggested key in place of the unknown one, or a suggested path in its place."""
    unknown = re.match(r"unknown key '(.*?)'(?: in (.*))?", problem.message)
    if unknown is None:
        return new
    return new + dotted.strip().removeprefix(".".join(filter(None, (unknown[2], unknown[1]))))


def _replaced(text: str, problem: Problem, new: str, *, is_key: bool) -> str | None:
    """A text with another key or value in the place of a problem, or another pair in place of both; None if none of the
    kind begins there.
    """
    best: tuple[int, int] | None = None
    for node, value in _nodes(yaml.compose(text, yaml.SafeLoader)):
        mark = node.start_mark
        here = (mark.line + 1, mark.column + 1) == (problem.place.line, problem.place.column)
        if here and (value is not None) == is_key:
            last = value if value is not None and new.endswith("}") else node
            best = (mark.index, last.end_mark.index)
    if best is None or "&" in text[slice(*best)]:
        return None
    start, end = best
    # The end of a block is where the next thing begins.
    while end > start and text[end - 1].isspace():
        end -= 1
    return text[:start] + new + text[end:]


def _nodes(node: Any, value: Any = None) -> Iterator[tuple[yaml.Node, yaml.Node | None]]:
    """All nodes below one, a key with its value; values after what they are in."""
    if node is None:
        return
    yield node, value
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield from _nodes(key, child)
            yield from _nodes(child)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _nodes(child)


def check(seed: int, number: int) -> list[str]:
    """In what the trial of a number is not survived, exceptions and files that it wrote among it."""
    signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
    try:
        lines = faults(trial(seed, number), twice=number % 10 == 0)
    except Exception:
        lines = [traceback.format_exc()]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return lines + [f"wrote {name}" for name in os.listdir()]


def _end(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {TIME_LIMIT} seconds of a core")


def _serve(seed: int, first: int, last: int, results: Connection) -> None:
    """Run trials in an empty folder, and send what came of each as it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(first, last):
            results.send((number, check(seed, number)))
        os.chdir("/")
    results.close()


class Worker:
    """A process that runs the trials of a range, and is replaced when one hangs or crashes."""

    def __init__(self, seed: int, first: int, last: int) -> None:
        self.seed, self.next, self.last = seed, first, last
        self.start()

    def start(self) -> None:
        """Run what is left of the range in a process of its own."""
        self.results, sender = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_serve, args=(self.seed, self.next, self.last, sender))
        self.process.start()
        self.since = time.monotonic()
        sender.close()

    def receive(self) -> tuple[int, list[str]]:
        """What came of the next trial; it has ended, or the process has."""
        try:
            number, lines = self.results.recv()
        except EOFError:
            return self.lose("the process ended")
        self.next, self.since = number + 1, time.monotonic()
        return number, lines

    def lose(self, reason: str) -> tuple[int, list[str]]:
        """Give up the trial that is running, and go on with the one after it."""
        self.process.kill()
        self.process.join()
        number = self.next
        self.next += 1
        if self.next < self.last:
            self.start()
        return number, [reason]

    @property
    def is_done(self) -> bool:
        """Whether all of its trials have ended."""
        return self.next >= self.last


def campaign(trials: int, seed: int, workers: int, report: Callable[[int, list[str]], None]) -> int:
    """Run trials 0, 1, ... Returns how many were lost.

    Args:
        trials: how many.
        seed: of all of them.
        workers: processes at a time.
        report: called with the number of a lost trial and what was wrong.

    """
    ranges = [(first, min(first + CHUNK, trials)) for first in range(0, trials, CHUNK)]
    active: list[Worker] = []
    lost = 0
    while ranges or active:
        while ranges and len(active) < workers:
            active.append(Worker(seed, *ranges.pop(0)))
        ready = wait([worker.results for worker in active], timeout=1)
        for worker in active:
            if worker.results in ready:
                number, lines = worker.receive()
            elif time.monotonic() - worker.since > SILENCE:
                number, lines = worker.lose(f"no word for {SILENCE} seconds")
            else:
                continue
            if lines:
                lost += 1
                report(number, lines)
        for worker in [worker for worker in active if worker.is_done]:
            worker.process.join()
            active.remove(worker)
    return lost


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 if a trial was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_spec", description="Read mutated specs.")
    parser.add_argument("--trials", type=int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="show one trial, and run it in this process")
    parser.add_argument("--write", action="store_true", help="write docs/faults/specs.json")
    options = parser.parse_args(arguments)
    if options.only is not None:
        attempt = trial(options.seed, options.only)
        sys.stdout.write(f"{attempt.path or ''} {attempt.overrides}\n{attempt.text}\n")
        for line in faults(attempt):
            sys.stdout.write(f"{line}\n")
        return 0
    causes: Counter[str] = Counter()

    def report(number: int, lines: list[str]) -> None:
        causes[lines[0].strip().split("\n")[-1][:100]] += 1
        sys.stdout.write(f"--- trial {number}\n" + "\n".join(lines) + "\n")
        sys.stdout.flush()

    lost = campaign(options.trials, options.seed, options.workers, report)
    sys.stdout.write(f"{options.trials} trials, {lost} lost\n")
    for cause, count in causes.most_common():
        sys.stdout.write(f"{count:>6}  {cause}\n")
    if options.write:
        outcome = Outcome(
            injected="Shipped specs mutated at their characters and values, and arbitrary `--set` values",
            trials=options.trials,
            survived=options.trials - lost,
            lost=lost,
            meaning="read, or refused with problems that all stand in the text, in time, without a traceback "
            "or a file; every suggestion removes its fault where it stands",
            command=f"python -m tests.faults.fuzz_spec --trials {options.trials} --seed {options.seed}",
        )
        write("specs", [outcome])
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
