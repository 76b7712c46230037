"""The script of a job: text in which nothing of what a user names can run as code, but for `--setup`."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hvae_spec.errors import UserError, harmless

NOTICE = 120
"""Seconds before the end of its time at which SLURM tells a job's script."""
PACKS, GRACE = 60, 75
"""Seconds of these that packs may take to write checkpoints, and that the run may take to end before it is killed; the
rest is for the requeueing.
"""
SHORTEST = 300
"""Seconds that a job must have at least: the notice, the start of Ray, and some training."""
PLAIN = re.compile(r"[A-Za-z0-9_.@:,+=/%&|*()\[\]!^-]+")
"""What options of SLURM may consist of. Its own reader of `#SBATCH` lines knows quotes, escapes and comments."""
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d\d?))?(?::(?P<third>\d\d?))?", re.ASCII)


@dataclass(frozen=True)
class JobScript:
    """All that a job's script says."""

    name: str
    """The spec's."""
    command: str
    """The command line that the script is of."""
    forecast: str
    nodes: str
    cpus: int
    gpus: int
    """Per node."""
    seconds: int
    sbatch: Sequence[str]
    """Further options of sbatch, `--partition=gpu` and so on."""
    setup: Sequence[str]
    """Lines of code that run first."""
    variables: Mapping[str, str]
    """Of the environment."""
    folder: Path
    """The working folder of the run."""
    python: Path
    spec: Path
    results: Path
    grid: str
    """Its digest."""
    options: Sequence[str]
    """Those of the run, a word each."""
    max_requeues: int

    def text(self) -> str:
        """The script.

        Raises:
            UserError: a value has a line break or another character that is not printed.

        """
        for value in (self.name, self.command, *self.setup, *self.variables.values(), *self.options):
            check_printable(value)
        for path in (self.folder, self.python, self.spec, self.results):
            check_printable(str(path))
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return environment.get_template("job.sh.jinja").render(
            name=self.name,
            command=self.command,
            forecast=self.forecast,
            job_name=f"hvae-{self.name}",
            nodes=self.nodes,
            cpus=self.cpus,
            gpus=self.gpus,
            time=clock(self.seconds),
            sbatch=self.sbatch,
            notice=NOTICE,
            packs=PACKS,
            grace=GRACE,
            setup=self.setup,
            variables={name: shlex.quote(value) for name, value in self.variables.items()},
            folder=shlex.quote(str(self.folder)),
            python=shlex.quote(str(self.python)),
            spec=shlex.quote(str(self.spec)),
            results=shlex.quote(str(self.results)),
            grid=self.grid,
            options=[shlex.quote(option) for option in self.options],
            max_requeues=self.max_requeues,
        )


def check_printable(value: str) -> None:
    """Refuse what would end a line of the script, or hide something in it.

    Raises:
        UserError: there is such a character.

    """
    if harmless(value) != value:
        raise UserError(
            f"{harmless(value)!r}: has a line break or another character that is not printed, which a job's script "
            "cannot hold; leave it out, or rename the file"
        )


def check_option(option: str, flag: str) -> None:
    """Refuse a value of an option of SLURM that its reader of `#SBATCH` lines may take for something else.

    Raises:
        UserError: it is none of plain characters.

    """
    if not PLAIN.fullmatch(option):
        raise UserError(
            f"{flag} {harmless(option)!r}: expected letters, digits and punctuation without blanks, quotes and "
            "backslashes; write other options into the script itself"
        )


def seconds_of(text: str) -> int:
    """The seconds of a time as SLURM writes it: `90` (minutes), `90:00`, `2:00:00`, `1-12`, `1-12:30` or `1-12:30:00`.

    Raises:
        ValueError: it is none.

    """
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    days, *rest = (match[name] for name in ("days", "first", "second", "third"))
    parts = [int(part) for part in rest if part is not None]
    if days is not None:  # hours first
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:  # minutes first
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def clock(seconds: int) -> str:
    """A time as SLURM reads it, `2:00:00` or `1-12:00:00`."""
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{rest // 3600:02}{text[text.index(':') :]}" if days else text
