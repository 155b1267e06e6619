"""The command line: `python -m seglib COMMAND --help` tells what each command takes."""

import argparse
import os
import re
import signal
import sys
import traceback
from functools import partial
from typing import Any

import seglib
from seglib.cli import data, score, train
from seglib.cli.settings import HELP, MODEL_OPTIONS, TrainSettings, setting_names
from seglib.util.suggest import did_you_mean

EXPECTED_ERRORS = (ValueError, OSError, FloatingPointError, IndexError, MemoryError)
PATH: Any = os.path.expanduser  # (a shell leaves the ~ of --out=~/run alone)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, 1 (reason on stderr), 130 (Ctrl-C) or 143 (SIGTERM)."""
    words = join_negative(sys.argv[1:] if arguments is None else arguments)
    options, unknown = build_parser().parse_known_args(words)
    try:
        check_unknown(unknown, options.command)
        commands = vars(score) | vars(train) | vars(data)  # functions of the same names
        return int(commands[options.command](options))
    except KeyboardInterrupt as error:
        print(f"stopped {error}".strip(), file=sys.stderr)
        return 128 + int(getattr(error, "number", signal.SIGINT))
    except Exception as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        print(f"seglib {options.command}: {explained(error)}", file=sys.stderr)
        return 1


def explained(error: Exception) -> str:
    """The message of an error of ours; for any other, one line that names its type."""
    ours = type(error).__module__.partition(".")[0] in ("builtins", "seglib")
    if ours and isinstance(error, EXPECTED_ERRORS):
        return str(error)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first}; to see where it arises, repeat it with --debug"


def join_negative(words: list[str]) -> list[str]:
    """`--flag -1e-3` as `--flag=-1e-3`: argparse takes what is no plain number for a flag."""
    joined: list[str] = []
    for word in words:
        if joined and re.match(r"-[\d.]", word) and re.fullmatch(r"--[^=]+", joined[-1]):
            word = f"{joined.pop()}={word}"
        joined.append(word)
    return joined


def check_unknown(words: list[str], command: str) -> None:
    """Raise ValueError for words that no flag takes, naming the nearest one."""
    if not words:
        return
    word = words[0]
    if not word.startswith("--"):
        text = "expected --key value; are two dashes missing, or does a list hold a space?"
        raise ValueError(f"found {word!r}, {text}")
    key = word.removeprefix("--").partition("=")[0].replace("-", "_")
    if command != "train":
        raise ValueError(f"there is no flag --{key}; see python -m seglib {command} --help")
    hint = did_you_mean(key, [*setting_names(), *MODEL_OPTIONS])
    raise ValueError(f"there is no setting {key!r}{hint}")


def build_parser() -> argparse.ArgumentParser:
    debug = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    debug.add_argument("--debug", action="store_true", help="show where an error arises")
    about = str(seglib.__doc__).split("\n")[0]
    parser = argparse.ArgumentParser("seglib", description=about, parents=[debug])
    parser.add_argument("--version", action="version", version=f"seglib {seglib.__version__}")
    exact: Any = partial(argparse.ArgumentParser, allow_abbrev=False, parents=[debug])
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=exact
    )
    commands.add_parser("doctor", help="versions, device, data sets, disk: a verdict per line")
    commands.add_parser("exercises", help="list the lessons' exercises and what each tests")

    download = commands.add_parser("download", help="fetch a public data set")
    download.add_argument("data", help="camvid or ultrasound (streets and scans are here already)")
    download.add_argument("--root", help="folder to put it in (default: the course's data folder)")

    check = commands.add_parser("check", help="look through a folder of images and masks")
    add_data(check, split="train")
    check.add_argument("--images", type=PATH, help="folder of images (in place of --root)")
    check.add_argument("--masks", type=PATH, help="folder of masks (in place of --root)")

    convert = commands.add_parser("convert", help="outlines (LabelMe, CVAT, COCO) to masks")
    convert.add_argument("path", type=PATH, help="a JSON or XML file, or a folder of them")
    convert.add_argument("--images", type=PATH, help="folder of the pictures, if it is another")
    beside = "folder for the masks (default: NAME_mask.png beside NAME.jpg)"
    convert.add_argument("--out", type=PATH, help=beside)
    convert.add_argument("--classes", default="", help="names of the labels 0,1,…")
    convert.add_argument("--overwrite", action="store_true", help="replace masks that are there")

    add_train(commands)
    evaluate = commands.add_parser("evaluate", help="score a checkpoint on a split")
    ours = "a file that training wrote, or the course's own: streets, imagenet+streets"
    evaluate.add_argument("checkpoint", type=PATH, help=ours)
    add_data(evaluate, split="test")
    each = "also for each drive or patient"
    evaluate.add_argument("--per_group", "--per-group", action="store_true", help=each)
    evaluate.add_argument("--json", type=PATH, help="write the scores to this file as well")
    evaluate.add_argument("--batch_size", "--batch-size", default="8")
    evaluate.add_argument("--device", default="auto")

    predict = commands.add_parser("predict", help="label photos: a coloured overlay for each")
    predict.add_argument("checkpoint", type=PATH, help=ours)
    places, folder = "image files, folders or 'photos/*.jpg'", "for the overlays and label maps"
    predict.add_argument("images", nargs="+", type=PATH, help=places)
    predict.add_argument("--out", required=True, type=PATH, help=f"folder {folder}")
    predict.add_argument("--alpha", default="0.5", help="opacity of the colours, 0 to 1")
    predict.add_argument("--device", default="auto")
    for name in ("mean", "std"):
        for command in (evaluate, predict):
            command.add_argument(f"--{name}", help="R,G,B (0 to 1), where the checkpoint has none")
    return parser


def add_data(parser: argparse.ArgumentParser, split: str) -> None:
    """The flags that choose a data set, the same for every command."""
    default = "camvid, or folder where ROOT/SPLIT/images is"
    parser.add_argument(
        "--data", help=f"or streets, scans, ultrasound, voc, pet, …; default: {default}"
    )
    parser.add_argument("--root", type=PATH, help="folder that has the data set")
    parser.add_argument("--split", help=f"default: {split}")
    parser.add_argument("--classes", default="", help=HELP["classes"])
    parser.add_argument("--label_map", "--label-map", default="", help=HELP["label_map"])
    parser.add_argument("--palette", type=PATH, default="", help=HELP["palette"])
    parser.add_argument("--layout", help=HELP["layout"])
    parser.add_argument("--val_share", "--val-share", help=HELP["val_share"])


def add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train a model")
    train.description = (
        "Train from a TOML recipe, from flags, or both; flags win. Every setting is a flag and a "
        'key of the recipe; "none" switches off what can be.'
    )
    train.add_argument("recipe", nargs="?", type=PATH, help="TOML file of settings")
    train.add_argument("--out", required=True, type=PATH, help="folder for checkpoints and history")
    train.add_argument("--resume", action="store_true", help="go on from OUT/last.pt if it exists")
    train.add_argument("--extend", action="store_true", help="as --resume, to more epochs")
    settings = train.add_argument_group("settings, with their defaults")
    for name in setting_names():
        value = getattr(TrainSettings, name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
        hint = f"{text or '…'} {'· ' + HELP[name] if name in HELP else ''}".strip()
        add_flag(settings, name, hint)
    options = train.add_argument_group("options of the model, where it has them")
    for name in MODEL_OPTIONS:
        add_flag(options, name, None)


def add_flag(group: Any, name: str, hint: str | None) -> None:
    """--name, or --na-me; its text is in the parsed options only if it was given."""
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    group.add_argument(*spellings, action=Once, default=argparse.SUPPRESS, metavar="…", help=hint)


class Once(argparse.Action):
    """Stores a flag's text; an error if it is given twice: which one is meant?"""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        if hasattr(namespace, self.dest):
            parser.error(f"{option} is given twice; leave one out")
        setattr(namespace, self.dest, values)
