"""The command line's entry. `token` is answered here, before any option parser is imported."""

import os
import sys


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        code = _run(sys.argv[1:])
        if sys.stdout is not None:  # closed, or pythonw.exe
            sys.stdout.flush()
    except KeyboardInterrupt:  # pragma: no cover - tested in a process that a signal ends
        return 130
    except OSError as error:
        import errno

        if error.errno == errno.ENOSPC:
            sys.stderr.write(f"Standard output cannot be written to: {error.strerror}.\n")
        elif error.errno != errno.EPIPE:  # `... | head` has had enough
            raise
        # The interpreter flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(arguments: list[str]) -> int:
    profile = _plain_token(arguments)
    if profile is not None:
        from .errors import WebexLoopbackError
        from .source import get_token

        try:
            sys.stdout.write(f"{get_token(profile or None)}\n")
            return 0
        except WebexLoopbackError as error:
            from .cli import report

            return report(error)
    from .cli import run

    return run(arguments)


def _plain_token(arguments: list[str]) -> str | None:
    """Return the profile of `token [--profile NAME]`, "" for none named; None for any other command line."""
    if arguments == ["token"]:
        return ""
    if len(arguments) == 3 and arguments[0] == "token" and arguments[1] in ("--profile", "-p"):
        return arguments[2]
    return None


if __name__ == "__main__":  # pragma: no branch - the installed script imports main
    sys.exit(main())
