"""The command line: ``python -m fastlstm demo``, ``bench``, ``info`` and ``cflags``."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fastlstm import bench, demo
from fastlstm._version import __version__
from fastlstm.config import compiler_flags, show_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; without a command print the help."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
    elif options.command == "info":
        show_config()
    elif options.command == "cflags":
        print(" ".join(map(_quoted, compiler_flags())))
    else:
        try:
            if options.command == "demo":
                demo.run(options.output, options.epochs, options.seed)
            else:
                bench.run(options.model, options.batch_sizes, options.steps, options.threads)
        except (OSError, ValueError) as error:
            print(f"fastlstm {options.command}: {error}", file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastlstm", description="The LSTM, fast on a CPU, under a Keras-shaped API."
    )
    parser.add_argument("--version", action="version", version=f"fastlstm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{demo,bench,info,cflags}")
    run = commands.add_parser(
        "demo",
        help="train a forecaster of the yearly sunspot numbers and draw its forecasts",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.add_argument(
        "--output",
        type=Path,
        default=Path("fastlstm-demo.png"),
        metavar="FILE.png",
        help="where the plot goes",
    )
    run.add_argument(
        "--epochs",
        type=_positive_int,
        default=demo.EPOCHS,
        metavar="N",
        help="passes over the training years",
    )
    run.add_argument("--seed", type=_seed, default=0, metavar="N", help="same seed, same result")
    measure = commands.add_parser(
        "bench",
        help="measure a saved model: size, latency per step and per batch, share of the bound",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    measure.add_argument("model", type=Path, metavar="MODEL.safetensors")
    measure.add_argument(
        "--batch-sizes",
        type=_positive_int,
        nargs="+",
        default=list(bench.BATCH_SIZES),
        metavar="N",
        help="rows in a step, sequences in a batch",
    )
    measure.add_argument(
        "--steps",
        type=_positive_int,
        default=bench.STEPS,
        metavar="N",
        help="length of the sequences of a batch, unless the model says it",
    )
    measure.add_argument(
        "--threads", type=_positive_int, default=1, metavar="N", help="that passes may use"
    )
    commands.add_parser("info", help="show version, instruction set, BLAS and threads")
    commands.add_parser(
        "cflags", help="show what a C compiler needs for fastlstm.h: cc program.c $(... cflags)"
    )
    return parser


def _quoted(flag: str) -> str:
    """A flag as a shell reads it, in quotes only where it must be.

    Quotes do not work in what ``$(...)`` puts into a command, so the letters that `shlex.quote`
    puts into quotes for not being ASCII go without.
    """
    special = re.search(r"[^\w@%+=:,./\u0080-\U0010ffff-]", flag, re.ASCII)
    return shlex.quote(flag) if special else flag


def _positive_int(text: str) -> int:
    value = _seed(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1, got 0")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, not negative, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
