"""The command line: ``luthier tune|worker|build|run|bench|tasks|show|report|log|cache``.

This file holds the grammar of the commands and what happens to errors; the commands are in :mod:`.cli_model`,
:mod:`.cli_tasks`, :mod:`.cli_log` and so on, which are imported when they are asked for, so that ``--help`` is quick.

Exit codes: 0 done; 1 a defect of Luthier; 2 the request cannot be carried out as given (one line on standard error says
why, and nothing was written); 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO, TypeAlias

from . import __version__
from .accuracy import ACCURACIES
from .cli_values import count, duration, fraction, input_file, seed, shape, with_negative_values
from .errors import Error, InternalError

INTERRUPTED = 130
_HOW_TO_REPORT = (
    "this is a defect of Luthier; please report it with what stands above, the model, the files that "
    f"LUTHIER_DUMP=<directory> makes, and versions: luthier {__version__}, Python {sys.version.split()[0]}"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``argv`` defaults to the process's arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files and of nodes need not be text that it can encode
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(with_negative_values(sys.argv[1:] if argv is None else argv))
    module, function = arguments.command
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            command: Callable[[argparse.Namespace], None] = getattr(
                importlib.import_module(module, __package__), function
            )
            command(arguments)
            sys.stdout.flush()
        except Error as error:
            return _complain(str(error), 2)
        except BrokenPipeError:  # the reader (head, less) has gone; the interpreter's own flush must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _complain(f"{where}{error.strerror or error}", 2)
        except MemoryError:
            return _complain("out of memory; build with a smaller input (--shape) or on a larger machine", 2)
        except KeyboardInterrupt:
            return _complain("interrupted", INTERRUPTED)
        except InternalError as error:
            return _complain(f"{error} -- {_HOW_TO_REPORT}", 1)
        except Exception:
            traceback.print_exc()
            return _complain(_HOW_TO_REPORT, 1)
    return 0


def _complain(message: str, code: int) -> int:
    print(f"luthier: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"luthier: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"luthier: error: {message} (see: {self.prog} --help)\n")


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # argparse has no public name for it


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="luthier", description="Compile ONNX models to native CPU code, tuned on this machine.")
    parser.add_argument("--version", action="version", version=f"luthier {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_tune(commands)
    _add_worker(commands)
    _add_build(commands)
    _add_run(commands)
    _add_bench(commands)
    _add_tasks(commands)
    _add_show(commands)
    _add_report(commands)
    _add_log(commands)
    _add_cache(commands)
    return parser


def _command(commands: Commands, name: str, module: str, text: str, function: str = "") -> _Parser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=(module, function or name))
    return parser


def _add_model(parser: argparse.ArgumentParser, *, artifact: bool = False) -> None:
    what = "an ONNX file, or the name of a model that comes with onnx (light_resnet50)"
    parser.add_argument(
        "model",
        metavar="MODEL|ARTIFACT" if artifact else "MODEL",
        help=f"{what}; or a saved .luthier file" if artifact else what,
    )
    parser.add_argument("--threads", type=count, metavar="N", help="threads to run with (default: the cores)")
    parser.add_argument(
        "--shape", type=shape, action="append", default=[], metavar="NAME=1,3,224,224",
        help="shape of an input; needed where the model leaves a dimension open",
    )  # fmt: skip
    _add_accuracy(parser)


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accuracy", choices=ACCURACIES,
        help="exact: no algorithm that rounds differently, such as Winograd's (default: fast)",
    )  # fmt: skip


def _add_log_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", metavar="FILE", help="tuning log to take schedules from (default: untuned schedules)")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="store_true",
        help="say for each task where its schedule is from: which record of the log, or why none serves",
    )  # fmt: skip


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", metavar="NAME", default="host", help="CPU to make code for: host, x86-64-v3, ... (default: host)"
    )


def _add_tune(commands: Commands) -> None:
    parser = _command(commands, "tune", ".cli_tune", "search for fast schedules on this machine and keep them in a log")
    _add_model(parser)
    parser.add_argument("--log", metavar="FILE", help="log to extend or create (default: MODEL.tuning.db here)")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--budget", type=duration, metavar="TIME", help="time to spend: 90s, 10m, 1h30m (default: 10m)")
    limit.add_argument("--trials", type=count, metavar="N", help="candidates to measure, instead of a time")
    parser.add_argument(
        "--stop-below", type=fraction, metavar="FRACTION", default=0.01,
        help="stop early when more trials can be expected to gain less; 0: use all the time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--task", metavar="PATTERN", help="only tasks whose name or key matches (conv2d*, *3x3*)")
    parser.add_argument("--search", metavar="NAME", default="evolutionary", help="search method (default: %(default)s)")
    parser.add_argument(
        "--cost-model", metavar="NAME", default="xgboost", help="what guides the search (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="makes proposals repeatable (default: 0)")
    _add_explain(parser)
    fleet = parser.add_argument_group("which machine to tune for, and where to measure")
    fleet.add_argument(
        "--target", metavar="NAME",
        help="what to tune for: host, x86-64-v3, ... or the first digits of the hash of a worker's target (default: "
        "this machine; with --workers, what most of them are)",
    )  # fmt: skip
    fleet.add_argument(
        "--workers", metavar="dask://HOST:PORT",
        help="measure on the workers of a dask scheduler (luthier worker), and not on this machine",
    )  # fmt: skip
    fleet.add_argument(
        "--any-target", action="store_true",
        help="use workers of other targets too, if they can run the code; their times count as the target's",
    )  # fmt: skip
    fleet.add_argument(
        "--fallback", action="store_true", help="measure on this machine when no worker is left (default: end then)"
    )


def _add_worker(commands: Commands) -> None:
    parser = _command(commands, "worker", ".cli_fleet", "measure on this machine for tuning sessions on other ones")
    parser.add_argument("scheduler", metavar="dask://HOST:PORT", help="the fleet's scheduler (dask scheduler)")
    parser.add_argument("--name", metavar="NAME", help="name of this worker in messages and logs (default: the host's)")
    parser.add_argument("--threads", type=count, metavar="N", help="most threads to measure with (default: the cores)")
    _add_target(parser)
    parser.add_argument(
        "--machine", metavar="NAME",
        help="workers with one name take turns (default: all on this host); give several to those that share no core",
    )  # fmt: skip


def _add_build(commands: Commands) -> None:
    parser = _command(commands, "build", ".cli_model", "compile a model to one file that runs without its ONNX file")
    _add_model(parser)
    _add_log_option(parser)
    _add_explain(parser)
    _add_target(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="artifact to write (default: MODEL.luthier here)")


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", ".cli_model", "run a model once and print or save its outputs")
    _add_model(parser, artifact=True)
    _add_log_option(parser)
    _add_explain(parser)
    parser.add_argument(
        "--input", type=input_file, action="append", default=[], metavar="NAME=FILE.npy",
        help="value of an input, or one FILE.npz with all of them (default: seeded random values)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE.npz", help="file to write the outputs to")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the random inputs (default: 0)")


def _add_bench(commands: Commands) -> None:
    parser = _command(commands, "bench", ".cli_bench", "measure a model's latency, side by side with other engines")
    _add_model(parser, artifact=True)
    _add_log_option(parser)
    _add_explain(parser)
    parser.add_argument(
        "--against", metavar="NAMES", default="", help="engines to compare: onnxruntime,openvino,mnn,ncnn"
    )
    parser.add_argument(
        "--rounds", type=count, metavar="N", help="measurements of each (default: 20; for a profile, some seconds)"
    )
    profile = parser.add_argument_group("where the time goes")
    profile.add_argument(
        "--profile", action="store_true",
        help="print a line for each kernel; with --against, also layer by layer beside onnxruntime or openvino",
    )  # fmt: skip
    profile.add_argument("--sort", choices=("order", "time"), help="order of the kernels (default: of execution)")
    profile.add_argument(
        "--trace", metavar="FILE", help="profile, and write one run for chrome://tracing or ui.perfetto.dev"
    )
    profile.add_argument("--json", metavar="FILE", help="also write the profile as JSON")


def _add_tasks(commands: Commands) -> None:
    parser = _command(
        commands, "tasks", ".cli_tasks", "list the distinct kernels of a model and what a log knows of them"
    )
    _add_model(parser)
    _add_log_option(parser)
    parser.add_argument("--measure", action="store_true", help="also measure each task's default schedule now")


def _add_show(commands: Commands) -> None:
    parser = _command(commands, "show", ".cli_tasks", "print the code of one task at one level")
    _add_model(parser)
    _add_log_option(parser)
    parser.add_argument(
        "--task", required=True, metavar="K", help="number, key or name of a task (luthier tasks MODEL)"
    )
    _add_target(parser)
    parser.add_argument(
        "--level", choices=("te", "schedule", "loops", "llvm", "asm"), default="schedule", help="default: %(default)s"
    )


def _add_report(commands: Commands) -> None:
    parser = _command(commands, "report", ".cli_report", "write one HTML page about what a tuning log holds")
    parser.add_argument("file", metavar="LOG", help="the log")
    parser.add_argument("-o", "--output", metavar="FILE.html", help="page to write (default: LOG.html here)")
    parser.add_argument(
        "--model", metavar="MODEL", help="only this model's tasks, each weighed by how often the model runs it"
    )
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="NAME=1,3,224,224",
        help="as the model was tuned with",
    )
    _add_accuracy(parser)
    parser.add_argument("--task", metavar="PATTERN", help="only tasks whose name or key matches (conv2d*, *3x3*)")
    parser.add_argument(
        "--target", metavar="NAME", help="machine: its hash (luthier log info) or CPU (default: that with most records)"
    )
    parser.add_argument(
        "--code", type=count, default=16, metavar="N", help="tasks whose code is shown, most time first (default: 16)"
    )


def _add_log(commands: Commands) -> None:
    log = commands.add_parser("log", help="inspect and maintain tuning logs", description="Inspect and maintain logs.")
    actions = log.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, text: str) -> _Parser:
        parser = _command(actions, name, ".cli_log", text, f"log_{name}")
        parser.add_argument("file", metavar="FILE", help="the log")
        return parser

    action("info", "say what a log holds")
    stats = action("stats", "print gains, noise and failures of every task, and what else there is to count")
    stats.add_argument("--task", metavar="PATTERN", help="only tasks whose name or key matches")
    listing = action("list", "print a line for every record")
    listing.add_argument("--task", metavar="PATTERN", help="only tasks whose name or key matches")
    best = action("best", "print the best record of every task")
    best.add_argument("--task", metavar="PATTERN", help="only tasks whose name or key matches")
    export = action("export", "write a log as JSON lines")
    export.add_argument("-o", "--output", metavar="FILE.jsonl", help="file to write (default: FILE with .jsonl)")
    for name, text in (
        ("import", "add exported records to a log"),
        ("merge", "add the records of other logs to a log"),
    ):
        adding = action(name, text)
        adding.add_argument("sources", nargs="+", metavar="SOURCE", help="file to read; it is not changed")
    prune = action("prune", "drop failures and all but the best records of every task, and its default's")
    prune.add_argument("--keep", type=count, default=20, metavar="N", help="records to keep of a task (default: 20)")


def _add_cache(commands: Commands) -> None:
    text = "look at the cache of object code (LUTHIER_CACHE), or empty it"
    cache = commands.add_parser("cache", help=text, description=f"{text[0].upper()}{text[1:]}.")
    actions = cache.add_subparsers(metavar="ACTION", required=True)
    _command(
        actions, "info", ".cli_cache", "say where the cache is, what it holds and how large it may grow", "cache_info"
    )
    _command(actions, "clear", ".cli_cache", "remove everything that is in the cache", "cache_clear")


if __name__ == "__main__":
    sys.exit(main())
