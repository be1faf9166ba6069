"""The ``mlviews`` command: run a verb, turn what it raises into a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from mlviews.cli import cli
from mlviews.cli.app import App

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.errors import MlviewsError

__all__ = ["main", "run"]

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one call and return its exit code: 0 done, 1 the answer is no, 2 wrong usage, 3 not done, 130 interrupted."""
    app = App()
    app.options["json"] = "--json" in arguments  # usage errors come before options are read
    try:
        code = cli.main(list(arguments), prog_name="mlviews", standalone_mode=False, obj=app)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone; without this, Python complains again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the last place: everything becomes a message)
        return _report(app, _for_people(error))
    return code if isinstance(code, int) else 0


def _for_people(error: Exception) -> MlviewsError:
    from mlviews.errors import BadInputError, FailedError, MlviewsError  # noqa: PLC0415

    if isinstance(error, MlviewsError):
        return error
    if isinstance(error, click.ClickException):
        where = getattr(getattr(error, "ctx", None), "command_path", "mlviews")
        known: MlviewsError = BadInputError("usage", error.format_message(), f"`{where} --help` shows the usage.")
    else:
        known = FailedError(
            "internal-error",
            f"{type(error).__name__}: {error}",
            "This is a fault of mlviews: please report it with the output of the same command and -vv.",
        )
    known.__cause__ = error
    return known


def _report(app: App, error: MlviewsError) -> int:
    from mlviews.cli.output import write_errors  # noqa: PLC0415

    write_errors(app, [error])
    return error.exit_code


if __name__ == "__main__":
    main()
