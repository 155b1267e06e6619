"""The command line: `python -m seglib COMMAND --help` tells what each command takes."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys

import seglib
from seglib.cli.settings import HELP, TrainSettings

EXPECTED_ERRORS = (ValueError, OSError, FloatingPointError, IndexError, MemoryError)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 with the reason on stderr, 2 for usage,
    130 after Ctrl-C, 143 after SIGTERM."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    if words[:1] == ["train"]:
        words = join_values(words)
    options, rest = parser.parse_known_args(words)
    if rest and options.command != "train":
        parser.error(f"unknown: {' '.join(rest)}; see python -m seglib {options.command} --help")
    from seglib.cli import data, score, train

    commands = {
        name: getattr(module, name)
        for module, names in (
            (data, ("doctor", "download", "check", "exercises")),
            (score, ("evaluate", "predict")),
            (train, ("train",)),
        )
        for name in names
    }

    try:
        if options.command == "train":
            options.flags = read_flags(rest)
        return int(commands[options.command](options))
    except KeyboardInterrupt as error:
        print(f"stopped {error}".strip(), file=sys.stderr)
        return 128 + int(getattr(error, "number", signal.SIGINT))
    except EXPECTED_ERRORS as error:
        print(f"seglib {options.command}: {error}", file=sys.stderr)
        return 1


def join_values(words: list[str]) -> list[str]:
    """Write `--key value` as `--key=value`: argparse would take an unknown key's value for RECIPE.

    >>> join_values(["train", "a.toml", "--epochs", "12", "--resume"])
    ['train', 'a.toml', '--epochs=12', '--resume']
    """
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        awaits = last.startswith("--") and "=" not in last and last not in ("--resume", "--help")
        if awaits and not word.startswith("--"):
            joined[-1] = f"{last}={word}"
        else:
            joined.append(word)
    return joined


def read_flags(words: list[str]) -> dict[str, str]:
    """The settings among the flags, as name -> text. ValueError for anything else.

    >>> read_flags(["--epochs=12", "--zoom=0.5,2"])
    {'epochs': '12', 'zoom': '0.5,2'}
    """
    flags: dict[str, str] = {}
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ValueError(f"found {word!r}, expected --key value; are two dashes missing?")
        if not equals:
            raise ValueError(f"--{key} has no value; write --{key} VALUE")
        if key in flags:
            raise ValueError(f"--{key} is given twice; leave one out")
        flags[key] = value
    return flags


def build_parser() -> argparse.ArgumentParser:
    about = (seglib.__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="seglib", description=about)
    parser.add_argument("--version", action="version", version=f"seglib {seglib.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("doctor", help="versions, device, data sets, disk: a verdict per line")

    download = commands.add_parser("download", help="fetch a public data set")
    download.add_argument("data", help="camvid or ultrasound (streets and scans are here already)")
    download.add_argument("--root", help="folder to put it in (default: the course's data folder)")

    check = commands.add_parser("check", help="look through a folder of images and masks")
    add_data(check, "streets, scans, camvid, ultrasound or folder", split="train")
    check.add_argument("--images", help="folder of images (with --data folder)")
    check.add_argument("--masks", help="folder of masks (with --data folder)")

    train = commands.add_parser(
        "train",
        help="train a model",
        description="Train from a TOML recipe, from flags, or both; flags win. Every setting "
        "is a flag and a key of the recipe.",
        epilog="settings: " + settings_help(),
        allow_abbrev=False,
    )
    train.add_argument("recipe", nargs="?", help="TOML file of settings")
    train.add_argument("--out", required=True, help="folder for checkpoints and history")
    train.add_argument("--resume", action="store_true", help="go on from OUT/last.pt if it exists")

    evaluate = commands.add_parser("evaluate", help="score a checkpoint on a split")
    evaluate.add_argument("checkpoint")
    add_data(evaluate, "streets, scans, camvid, ultrasound or folder", split="test")
    evaluate.add_argument(
        "--per_group", "--per-group", action="store_true", help="also for each drive or patient"
    )
    evaluate.add_argument("--json", help="write the scores to this file as well")
    evaluate.add_argument("--batch_size", "--batch-size", type=int, default=8)
    evaluate.add_argument("--device", default="auto")

    predict = commands.add_parser("predict", help="label photos: a coloured overlay for each")
    predict.add_argument("checkpoint")
    predict.add_argument("images", nargs="+", help="image files, or folders of them")
    predict.add_argument("--out", required=True, help="folder for the overlays and label maps")
    predict.add_argument("--alpha", type=float, default=0.5, help="opacity of the colours, 0 to 1")
    predict.add_argument("--device", default="auto")

    commands.add_parser("exercises", help="list the lessons' exercises and what each tests")
    return parser


def settings_help() -> str:
    """The settings of a training run and their defaults, for `train --help`."""
    settings = TrainSettings()
    shown = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name != "options":
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            hint = f" ({HELP[field.name]})" if field.name in HELP else ""
            shown.append(f"--{field.name} {text or '…'}{hint}")
    return " · ".join(shown) + "; and the options of the model, as --base_channels 64"


def add_data(parser: argparse.ArgumentParser, help: str, split: str) -> None:
    """The flags that choose a data set, the same for every command."""
    parser.add_argument("--data", default="camvid", help=help)
    parser.add_argument("--root", default="", help="folder that has the data set")
    parser.add_argument("--split", default=split)
    parser.add_argument("--classes", default="", help="names of the labels 0,1,… (data folder)")
    parser.add_argument(
        "--label_map", "--label-map", default="", help="renames labels of the files, as 255:1"
    )
    parser.add_argument("--palette", default="", help="file of colours, R G B a line")
