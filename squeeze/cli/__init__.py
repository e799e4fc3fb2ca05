"""The `squeeze` command. Commands only parse and print; each is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from squeeze import __version__
from squeeze.cli.terminal.printing import print_line
from squeeze.cli.terminal.streams import OutputLost, die_of_broken_pipe, prepare_streams
from squeeze.errors import MissingPackage, Notice, SqueezeError, printable

# raised with a whole page as its message, since Click 8.2
HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())

# name -> one-line help, so that `squeeze --help` imports no command module (start-up < 0.3 s)
COMMANDS = {
    "demo": "Train a small model, pack it, account for its bytes and score it.",
    "config": "Show the settings that count here, and where they are from.",
    "data": "Fetch, make and check token shards; train tokenizers.",
    "train": "Train a model under a wallclock cap.",
    "pack": "Pack a checkpoint into a .sqz artifact.",
    "unpack": "Turn a .sqz artifact back into a safetensors checkpoint.",
    "inspect": "Show what a checkpoint or artifact holds.",
    "budget": "Attribute every byte of an artifact or submission.",
    "bundle": "Make a script and the modules it uses one small file that runs.",
    "submit": "Write the submission folder of a model, and run it.",
    "calibrate": "Collect calibration text and Hessians of a checkpoint.",
    "eval": "Score an artifact or checkpoint in bits per byte.",
    "stats": "Mean, spread and significance over seeds.",
    "review": "Review a submission folder by its papers, running nothing.",
    "audit": "Check a submission against every rule by running it.",
    "prove": "Code text with an artifact, decode it elsewhere, and compare.",
}


# in the errors of torch for a CPU and a GPU without memory
ALLOCATOR, GPU = "DefaultCPUAllocator", "CUDA out of memory"
# packages of the extra `full`: a ledger-only install does without them
FULL = ("numpy", "numba", "llvmlite", "torch", "safetensors", "sentencepiece")


class LazyGroup(click.Group):
    """Lists commands from the table above and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"squeeze.cli.{name}_cmd")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called. Raises UsageError with the nearest name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from squeeze.cli.parsing.values import unknown

            ctx.fail(unknown(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SQUEEZE"},
)
@click.version_option(__version__, prog_name="squeeze")
def cli() -> None:
    """Pack tiny language models under a hard byte budget, and score the file that ships.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --limit 16000000
      squeeze budget model.sqz
      squeeze eval model.sqz --tokenizer sp1024.model --val fineweb_val_000000.bin
    """


def main() -> None:
    """Run the command line; whatever ends it early becomes one line on stderr and an exit code."""
    # torch's threads spin at barriers: on cores that other processes use, too, sampling fell from
    # 1,584 to 55 tokens/s (docs/log.md). Read when torch loads, so set before any command imports it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    warnings.showwarning = partial(_show_warning, warnings.showwarning)
    sys.excepthook = partial(_show_crash, sys.excepthook)
    try:
        _check_folder()
        code = _run()
    except OutputLost as error:
        if error.reader_gone:
            die_of_broken_pipe()
        code = _told(f"squeeze: {error}", error.exit_code)
    except SqueezeError as error:
        code = _told(f"squeeze: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in FULL:
            raise
        told = MissingPackage(f"this command needs {package}, which is not installed", "full")
        code = _told(f"squeeze: {told}", told.exit_code)
    except RecursionError:
        code = _told("squeeze: something in the input is nested too deeply", 1)
    except SystemExit as end:  # of a rank whose error another one reports
        _leave_ranks(end.code if isinstance(end.code, int) else 1)
        raise
    except (MemoryError, RuntimeError) as error:
        # torch has no class of its own for memory that a CPU lacks
        text = str(error)
        if isinstance(error, RuntimeError) and not any(part in text for part in (ALLOCATOR, GPU)):
            raise
        where = " on the GPU" if GPU in text else ""
        code = _told(f"squeeze: there is not enough memory{where} for this input", 1)
    _leave_ranks(code)
    sys.exit(code)


def _check_folder() -> None:
    """Raise SqueezeError where the working folder is gone: there torch, for one, does not load."""
    try:
        os.getcwd()
    except OSError as error:
        raise SqueezeError(
            f"the working folder: {error.strerror}", fix="Change to a folder that is there."
        ) from None


def _run() -> int:
    """Return the exit code of the command; a wrong use of its options is told here."""
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.ClickException as error:
        if not isinstance(error, HELP):
            vars(error)["message"] = printable(error.message)  # declared final
        error.show()
        return error.exit_code
    except click.Abort:
        return _told("squeeze: interrupted", 1)


def _told(text: str, code: int) -> int:
    print_line(text, err=True)
    return code


def _leave_ranks(code: int) -> None:
    """End this process at once where a group of GPUs is open, as after an error of one rank.

    Python's own end would take leave of the other ranks, which wait in a sum for this one, and torchrun
    ends them only once this one has ended.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _show_crash(default: Callable[..., None], *error: Any) -> None:
    """Print the traceback of an error that nobody foresaw, and leave the other ranks."""
    default(*error)
    _leave_ranks(1)


def _show_warning(
    default: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *where: Any,
    **more: Any,
) -> None:
    """Print what squeeze itself warns of as a note, and all else as Python does."""
    if issubclass(category, Notice):
        print_line(f"note: {message}", err=True)
    else:
        default(message, category, *where, **more)
