"""What was asked and what came out, in a few sentences."""

from analysis.frames import Frames


def question(frames: Frames) -> str:
    return "How does it depend?"


def answer(frames: Frames) -> tuple[str, ...]:
    return ("So.",)
