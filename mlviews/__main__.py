"""The ``mlviews`` command: run a verb, turn what it raises into a message and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.cli.app import App
    from mlviews.errors import MlviewsError

INTERRUPTED = 130
_GARBAGE = 200_000  # objects, some 20 MB
_NO_HOME = "Could not determine home directory."  # `Path.expanduser`, whoever calls it


def main() -> NoReturn:
    """Run the command line and end the process; a SIGTERM, as batch systems send it, is an interrupt too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _keep_foreign_modules_out()
    # Most of what a command makes lives as long as it does: to look for garbage took a tenth of a build's time.
    gc.set_threshold(_GARBAGE)
    _fill_closed_streams()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        _give_up_stdout()
    with suppress(OSError):
        sys.stderr.flush()
    # Other threads may go on: an import or a solver would hold the process, and rattler, which still unpacks after a
    # failure and tells Python of it, would crash while Python ends, which takes 0.05 s besides.
    os._exit(code)


def _keep_foreign_modules_out() -> None:
    """Import nothing of another Python: an LCG view or Athena leaves its modules in PYTHONPATH, and its PYTHONHOME.

    Both variables stay for the programs that mlviews starts: a shell with a view gives them back.
    """
    if "PYTHONHOME" in os.environ and not sys.flags.ignore_environment:
        os.execv(sys.executable, [sys.executable, "-E", *sys.orig_argv[1:]])  # noqa: S606  (no shell)
    if not os.environ.get("PYTHONPATH") or sys.flags.ignore_environment:
        return
    from pathlib import Path  # noqa: PLC0415

    foreign = {Path(folder).absolute() for folder in os.environ["PYTHONPATH"].split(os.pathsep) if folder}
    if Path(__file__).absolute().parents[1] not in foreign:  # else mlviews itself comes from there
        sys.path[:] = [folder for folder in sys.path if Path(folder).absolute() not in foreign]


def _fill_closed_streams() -> None:
    """Give what the caller has closed (``>&-``) its number back, so that no file gets it, and Python has its streams.

    Writing to stdout then fails, as on a full disk: a result that nobody got is no success.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free is taken.
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def run(arguments: Sequence[str]) -> int:
    """Run one call and return its exit code: 0 done, 1 the answer is no, 2 wrong usage, 3 not done, 130 interrupted."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    # Here, so that Ctrl-C is seen while they are imported.
    import click  # noqa: PLC0415

    from mlviews.cli import cli  # noqa: PLC0415
    from mlviews.cli.app import App  # noqa: PLC0415

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    app = App(bare=not arguments)
    app.options["json"] = "--json" in own  # usage errors come before options are read
    try:
        code = cli.main(list(arguments) or ["--help"], prog_name="mlviews", standalone_mode=False, obj=app)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(app)
    except BrokenPipeError:
        _give_up_stdout()  # whoever read it has gone
        return 0
    except Exception as error:  # noqa: BLE001  (the last place: everything becomes a message)
        if _from_interrupt(error):
            return _interrupted(app)
        if isinstance(error, click.UsageError) and error.ctx:
            app.command = error.ctx.command_path.partition(" ")[2]
        return _report(app, _among_views(app, _for_people(error)))
    return code if isinstance(code, int) else 0


def _give_up_stdout() -> None:
    """Without this, Python complains once more when it closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _from_interrupt(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C is behind an error: up to 3.11, Python wraps what comes while it makes a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _for_people(error: Exception) -> MlviewsError:
    import click  # noqa: PLC0415

    from mlviews.errors import BadInputError, FailedError, MlviewsError  # noqa: PLC0415

    if isinstance(error, MlviewsError):
        return error
    if isinstance(error, click.ClickException):
        where = getattr(getattr(error, "ctx", None), "command_path", "mlviews")
        known: MlviewsError = BadInputError("usage", error.format_message(), f"`{where} --help` shows the usage.")
    elif isinstance(error, RuntimeError) and str(error) == _NO_HOME:
        hint = "Set HOME, or name folders without ~: --root DIR, --recipes DIR."
        known = BadInputError("user-unknown", "the user has no home folder here", hint)
    elif isinstance(error, OSError):
        known = _system_error(error)
    else:
        known = FailedError(
            "internal-error",
            f"{type(error).__name__}: {error}",
            "This is a fault of mlviews: please report it with the output of the same command and -vv.",
        )
    known.__cause__ = error
    return known


def _among_views(app: App, error: MlviewsError) -> MlviewsError:
    """Of a view that is not built, say so where there is no such view: a build could not help."""
    from mlviews.errors import NotBuiltError  # noqa: PLC0415

    return error.among(app.names()) if isinstance(error, NotBuiltError) else error


def _system_error(error: OSError) -> MlviewsError:
    from pathlib import Path  # noqa: PLC0415

    from mlviews.errors import FailedError  # noqa: PLC0415
    from mlviews.files.reading import closed_by  # noqa: PLC0415

    hint = "Check the disk and its quota; -vv shows where it happened."
    message = str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # as `os.getcwd` has it
        return FailedError("folder-gone", "the folder that you are in was deleted", "Go to another one: `cd`.")
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        hint = f"Check the permissions of {error.filename}; -vv shows where it happened."
        if closed := closed_by(Path(error.filename)):
            message += f"; {closed[0]} belongs to {closed[1]}"
            hint = f"Ask {closed[1]} to open it. On AFS and EOS, check that your token is valid."
    return FailedError("system-error", message, hint)


def _report(app: App, error: MlviewsError) -> int:
    from mlviews.errors import FailedError  # noqa: PLC0415

    try:
        app.fail(error)
    except OSError as failure:  # stdout itself: then its reader gets no envelope, but people a message
        _give_up_stdout()
        sys.stderr.write(f"error: {failure}\n")
        return FailedError.exit_code
    return error.exit_code


def _interrupted(app: App) -> int:
    from mlviews.errors import FailedError  # noqa: PLC0415

    goes_on = "To go on, type the same command again: what was downloaded stays."
    # click has ended the line of the terminal's ^C
    sys.stderr.write("interrupted\n" if app.json else f"interrupted. {goes_on}\n")
    if app.json:
        app.fail(FailedError("interrupted", "interrupted by a signal", goes_on))
    return INTERRUPTED


if __name__ == "__main__":
    main()
