"""What a terminal shows of what is written to it."""

import re

CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """A terminal of so many columns, which never scrolls out what was written to it.

    It knows what Rich writes: carriage returns, new lines, cursor up, erased lines, colors, and the cursor shown or
    hidden. Anything else is an error.
    """

    def __init__(self, columns=80):
        self.columns, self.lines, self.row, self.column = columns, [[]], 0, 0

    def write(self, text):
        while text:
            if control := CONTROL.match(text):
                self.control(*control.groups())
                text = text[control.end() :]
                continue
            character, text = text[0], text[1:]
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self.down()
            elif character == "\x1b":
                raise AssertionError(f"unknown: {text[:10]!r}")
            elif character != "\x03":
                self.put(character)

    def put(self, character):
        if self.column == self.columns:  # only now, as terminals do
            self.column = 0
            self.down()
        line = self.lines[self.row]
        line.extend(" " * (self.column + 1 - len(line)))
        line[self.column] = character
        self.column += 1

    def down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def control(self, private, argument, letter):
        if letter == "A":
            self.row = max(0, self.row - int(argument or 1))
        elif (letter, argument) == ("K", "2"):
            self.lines[self.row] = []
        elif letter != "m" and (private, letter) not in (("?", "h"), ("?", "l")):
            raise AssertionError(f"unknown: {private}{argument}{letter}")

    @property
    def shown(self):
        """Its lines, without spaces at their ends and empty ones at the end."""
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip().split("\n")
