"""pixseek: the command line. The only place that prints, exits or reads the environment.

Which commands there are is in `face.program`. A question goes to a resident helper where one runs, before
anything else is imported: so what stands at the top of this module and of `face.resident.client` costs every
question.
"""

from __future__ import annotations

import sys

from face.resident import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

EXIT_CODES = {
    "UsageError": 2,
    "IndexMissingError": 10,
    "IndexLockedError": 11,
    "EncoderError": 12,
    "IndexDamagedError": 13,
    "IndexNewerError": 13,
    "IndexStorageError": 14,
}
UNEXPECTED, USAGE, SOME_FAILED, DAMAGED, OUTPUT_FAILED = 1, 2, 3, 13, 14
STOPPED = 128
"""And the number of the signal."""


def main() -> NoReturn:
    """Run pixseek and exit with a code of the table in the README."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed (`>&-`): its number must not go to a file of the index
            setattr(sys, name, open("/dev/null", "w"))  # noqa: SIM115
    typed = sys.argv[1:]
    options_end = typed.index("--") if "--" in typed else len(typed)
    debug = "--debug" in typed[:options_end]
    arguments = [word for word in typed[:options_end] if word != "--debug"] + typed[options_end:]
    try:
        answered = None if debug else client.ask(arguments)
    except KeyboardInterrupt:
        answered = _stopped()
    if answered is not None:
        client.leave(answered)
    import gc
    import os

    # What is imported stays: to look through its 100,000 objects for garbage takes 35 ms of a short command,
    # and 170 ms more when Python ends, which looks again after each thing it takes down.
    gc.set_threshold(200_000, 20, 20)
    code = _run(arguments or ["--help"], debug=debug)
    client.start_if_wished(arguments)
    if code > STOPPED:
        # A thread may still be inside a runtime, through which Python's own way out is not safe.
        sys.stderr.flush()
        os._exit(code)
    gc.freeze()
    completing = "_PIXSEEK_COMPLETE" in os.environ
    sys.exit(code if arguments or completing else USAGE)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Return the exit code of a command, everything it printed being written."""
    code = _asked(arguments, debug=debug)
    try:
        sys.stdout.flush()
    except OSError:
        code = code or OUTPUT_FAILED
    return code


def _asked(arguments: list[str], *, debug: bool) -> int:
    from face import terminal
    from face.program import command

    if arguments and arguments[0] in client.COMMANDS:
        from face.headstart import load_numpy

        load_numpy()
    try:
        returned = command(arguments)(args=arguments, prog_name="pixseek", standalone_mode=False)
        return returned if isinstance(returned, int) else 0
    except terminal.OutputClosed:
        return 0
    except terminal.OutputFailed as error:
        terminal.note(str(error))
        return OUTPUT_FAILED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer's answer to `pixseek --help | head -1`
            return 0
        return error.code if isinstance(error.code, int) else UNEXPECTED
    except OSError as error:
        if error.filename is not None or error.errno not in terminal.OUTPUT_ERRNOS:
            return _explain(error, debug)
        terminal.drop_stdout()  # typer's own output: help and completion
        terminal.note(f"cannot write the answer: {error.strerror}")
        return OUTPUT_FAILED
    except KeyboardInterrupt:
        return _stopped()
    except Exception as error:
        return _explain(error, debug)


def _stopped() -> int:
    import signal

    from face import terminal

    terminal.note("stopped")
    return 128 + signal.SIGINT


def _explain(error: Exception, debug: bool) -> int:
    """Print one line about an error and return its exit code."""
    import typer

    from face import terminal

    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "pixseek"
        terminal.note(f"{error.format_message().rstrip('.')}; see: {command} --help")
        return error.exit_code
    for kind in type(error).__mro__:
        if kind.__name__ in EXIT_CODES and kind.__module__.partition(".")[0] in ("encoders", "indexer"):
            terminal.note(str(error))
            # A query that cannot be read also shows where.
            for line in error.pointer() if hasattr(error, "pointer") else ():
                terminal.quoted(line)
            return EXIT_CODES[kind.__name__]
    terminal.note(f"unexpected {type(error).__name__}: {error}; please report it with the output of --debug")
    return UNEXPECTED


if __name__ == "__main__":
    main()
