"""Kill a grid that runs one pack after another, let the same command go on, and compare what is there bit for bit.

`writes` kills it once before each of its file operations below the results folder, `random` at random moments with
SIGKILL, one to four times in a row, and `chain` at operation 1, 2, 3, ... of its starts, until it gets through. Every
child is a fork of this process. Nothing but times may differ, and nothing may be left over.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.operations import Operations
from tests.faults.outcome import Outcome, write
from tests.faults.trials import (
    KILLED,
    SPECS,
    differences,
    draw_once,
    lines,
    prepare,
    renew,
    run,
    run_spec,
    say,
    snapshot,
    start,
    wait,
)

MEANING = "the same command then ends with the same exit code and bit for bit as undisturbed, but for times"


@dataclass(frozen=True)
class Scenario:
    """What is killed, and what was there before."""

    words: str
    """What the kills fall into."""
    spec: str = "mini"
    before: tuple[str, ...] | None = None
    """Options of the run that came before; None if there was none."""
    options: tuple[str, ...] = ()
    """Further options of the command that is killed."""
    elsewhere: bool = False
    """Whether the run before had another results folder, which the command takes records from."""
    with_report: bool = False


SCENARIOS = {
    "grid": Scenario("a serial run of two phases"),
    "tiny": Scenario("a serial run of three shapes", "tiny"),
    "evaluation": Scenario(
        "evaluating finished members again", before=(), options=("--set", "evaluation.iw_samples=30")
    ),
    "extension": Scenario("training finished members further", before=(), options=("--set", "training.epochs=5")),
    "report": Scenario("the report of a finished grid", before=(), with_report=True),
    "losing": Scenario("a pack that loses members", "losing"),
    "retraining": Scenario(
        "training finished members again", before=(), options=("--retrain", "--set", "evaluation.every=1")
    ),
    "adoption": Scenario("taking records from another folder", before=(), elsewhere=True),
}


class Campaign:
    """Trials of one scenario, in a scratch folder."""

    def __init__(self, scenario: Scenario, scratch: Path) -> None:
        self.scenario = scenario
        self.root, self.log, self.names = scratch / "results", scratch / "log", scratch / "names"
        self.scratch, self.state = scratch, None if scenario.before is None else scratch / "state"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        prepare(with_report=scenario.with_report, cache=scratch / "cache")
        spec, options = SPECS / f"{scenario.spec}.yaml", scenario.options
        if self.state is not None:
            code = run(run_spec(spec, self.state, *(scenario.before or ())), self.log)
            if code:
                raise SystemExit(f"the run before ended with {code}: {lines(self.log)}")
            if scenario.with_report:
                draw_once(self.state)
            if scenario.elsewhere:
                options, self.state = ("--records", str(self.state)), None
        self.command = run_spec(spec, self.root, *options)
        renew(self.root, self.state)
        began = time.monotonic()
        self.code = run(self.command, self.log, Operations(self.root), self.names)
        self.seconds = time.monotonic() - began
        if self.code not in (0, 3):
            raise SystemExit(f"undisturbed, it ends with {self.code}: {lines(self.log)}")
        self.expected = snapshot(self.root)
        self.operations = self.names.read_text().splitlines()
        self.trials = self.survived = self.kills = 0
        say(f"undisturbed: exit code {self.code}, {self.seconds:.2f} s, {len(self.operations)} operations")

    def judge(self, killed_at: str) -> None:
        """Let a killed run go on, and compare."""
        code = run(self.command, self.log)
        self.trials += 1
        unlike = differences(self.expected, snapshot(self.root))
        if code == self.code and not unlike:
            self.survived += 1
        else:
            say(f"LOST, killed at {killed_at}: exit code {code}, unlike: {unlike[:4]} [{lines(self.log)}]")
            shutil.copytree(self.root, self.scratch / f"lost-{self.trials}", dirs_exist_ok=True)
        if self.trials % 50 == 0:
            say(f"{self.trials} trials, {self.kills} kills, {self.survived} survived")

    def die_at(self, number: int) -> bool:
        """Start the command and let it die before an operation. Whether it got that far."""
        code = run(self.command, self.log, Operations(self.root, number))
        self.kills += code == KILLED
        return code == KILLED

    def writes(self, first: int, step: int, count: int | None) -> None:
        """One trial for every operation, or for every `step`-th from number `first` on, `count` at most."""
        for number in range(first, len(self.operations) + 1, step)[:count]:
            renew(self.root, self.state)
            self.die_at(number)
            self.judge(f"operation {number}, {self.operations[number - 1]}")

    def random(self, count: int, seed: int) -> None:
        """`count` trials with kills at random moments, which `seed` decides."""
        source = random.Random(seed)
        for number in range(count):
            renew(self.root, self.state)
            for _ in range(source.choice((1, 1, 2, 4))):
                child = start(self.command, self.log)
                time.sleep(source.uniform(0.02, self.seconds))
                os.kill(child, signal.SIGKILL)
                self.kills += wait(child) == -signal.SIGKILL
            self.judge(f"random moments, trial {number + 1}")

    def chain(self) -> None:
        """One trial: death at operation 1, 2, 3, ... of its starts, until it gets through."""
        renew(self.root, self.state)
        number = 1
        while self.die_at(number):
            number += 1
        self.judge(f"operations 1 to {number}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument("mode", choices=("writes", "random", "chain"))
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm/kill"), help="folder to work in, made anew")
    parser.add_argument("--first", type=int, default=1, help="writes: number of the first operation")
    parser.add_argument("--step", type=int, default=1, help="writes: every how many operations")
    parser.add_argument("--count", type=int, help="trials at most (random: 100 by default)")
    parser.add_argument("--seed", type=int, default=0, help="random: decides the moments")
    parser.add_argument("--write", action="store_true", help="replace this campaign's row in docs/faults")
    options = parser.parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    campaign = Campaign(scenario, options.scratch)
    if options.mode == "writes":
        campaign.writes(options.first, options.step, options.count)
        how = "before a file operation"
    elif options.mode == "random":
        campaign.random(options.count or 100, options.seed)
        how = "at random moments (SIGKILL)"
    else:
        campaign.chain()
        how = f"{campaign.kills} times in a row"
    lost = campaign.trials - campaign.survived
    say(f"{campaign.trials} trials, {campaign.kills} kills: {campaign.survived} survived, {lost} lost")
    if options.write:
        given = sys.argv[1:] if arguments is None else arguments
        command = " ".join(["python -m tests.faults.kill", *(word for word in given if word != "--write")])
        injected = f"{scenario.words} is killed {how}"
        row = Outcome(injected, campaign.trials, campaign.survived, lost, MEANING, command)
        write(f"kill_{options.mode}_{options.scenario}", [row])
    shutil.rmtree(options.scratch / "results", ignore_errors=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
