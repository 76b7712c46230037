"""A program that takes turns, for tests: it says that a step of M members takes M times as long as its settings say."""

import os
import sys

from tune.bench.turns import serve


def start(settings):
    if settings == "no start":
        raise ValueError("cannot start\nmore of it")

    def make(members):
        sys.stdout.write("this is no answer\n")
        if members == 7:
            raise MemoryError
        if members == 9:
            sys.exit("the last words")
        return lambda steps: settings * members * steps + float(os.environ.get("MORE", "0"))

    return make


if __name__ == "__main__":
    serve(start)
