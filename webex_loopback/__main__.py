"""The command line's entry. `token` is answered here, before any option parser is imported."""

import sys


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:]
    profile = _plain_token(arguments)
    if profile is not None:
        from .errors import WebexLoopbackError
        from .source import get_token

        try:
            token = get_token(profile or None)
        except WebexLoopbackError:
            pass  # the command line below comes to the same error, and reports it
        else:
            try:
                sys.stdout.write(f"{token}\n")
                sys.stdout.flush()
            except BrokenPipeError:
                sys.stderr.close()  # or the interpreter would complain at its end
                return 1
            return 0
    from .cli import run

    return run(arguments)


def _plain_token(arguments: list[str]) -> str | None:
    """Return the profile of `token [--profile NAME]`, "" for none named; None for any other command line."""
    if arguments == ["token"]:
        return ""
    if len(arguments) == 3 and arguments[0] == "token" and arguments[1] in ("--profile", "-p"):
        return arguments[2]
    return None


if __name__ == "__main__":
    sys.exit(main())
