"""What can go wrong, as one small tree; each error says what to do next and how the command exits.

WebexLoopbackError            exit 1   str() = what happened; .remedy = what to do
├─ ConfigurationError         exit 2   a setting is missing or wrong; .setting
├─ LoginRequired              exit 3   no token, or the refresh token is dead
├─ LoginFailed                exit 4
│  ├─ AuthorizationDenied              .error, .error_description (RFC 6749 §4.1.2.1)
│  └─ LoginTimeout (also TimeoutError) .ignored: requests that were not this login's
├─ TokenEndpointError         exit 5   .status_code, .error, .error_description, .tracking_id
├─ ServerUnreachable          exit 5   no usable answer; the original is chained
└─ TokenStoreError            exit 6   unreadable, wrong owner, lock timeout

No message, argument or repr holds a secret.
"""


class WebexLoopbackError(Exception):
    """Root of all errors of this package.

    Attributes:
        remedy: One or more sentences that say what to do now; never empty.
        exit_code: What the command line exits with.
    """

    exit_code = 1
    default_remedy = "Run the command again with --debug and report what it prints."

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy or self.default_remedy
        # Where nobody catches it, the traceback ends with what to do.
        self.add_note(self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException's own way calls the class with `args` alone: a keyword that is missing then would hang
        # the pool of processes (`multiprocessing.Pool`) that the error was to come back from.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[WebexLoopbackError], args: tuple[object, ...], attributes: dict[str, object]) -> object:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigurationError(WebexLoopbackError):
    """A setting is missing or wrong; `setting` is its environment name, for instance `WEBEX_CLIENT_ID`."""

    exit_code = 2
    default_remedy = "Run `webex-loopback doctor` to see which settings were found, and where."

    def __init__(self, message: str, *, setting: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.setting = setting


class LoginRequired(WebexLoopbackError):
    """There is no token, or its refresh token is dead: only a person can go on, by logging in."""

    exit_code = 3
    default_remedy = "Run `webex-loopback login`."


class LoginFailed(WebexLoopbackError):
    """The login came to an end without tokens."""

    exit_code = 4
    default_remedy = "Run `webex-loopback login` again."


class AuthorizationDenied(LoginFailed):
    """Webex answered the authorization request with an error (RFC 6749 §4.1.2.1).

    Attributes:
        error: For instance `access_denied` or `invalid_scope`.
        error_description: Webex's words, possibly empty.
    """

    def __init__(self, message: str, *, error: str, error_description: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.error = error
        self.error_description = error_description


class LoginTimeout(LoginFailed, TimeoutError):
    """Nothing that belongs to this login came back in time.

    Attributes:
        ignored: How many requests reached the callback without this login's `state`.
    """

    def __init__(self, message: str, *, ignored: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.ignored = ignored


class TokenEndpointError(WebexLoopbackError):
    """The token endpoint (or another of Webex's) answered with an error (RFC 6749 §5.2).

    Attributes:
        status_code: The HTTP status.
        error: RFC 6749's error code, or "" where Webex sent its other body (`message`, `errors[]`).
        error_description: Webex's words, from either body.
        tracking_id: What Webex's support asks for, or "".
        retry_after: Seconds that the server asks to wait, or None.
    """

    exit_code = 5
    default_remedy = "Try again; if it stays so, give the tracking id to Webex support."

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error: str = "",
        error_description: str = "",
        tracking_id: str = "",
        retry_after: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after
        self.status_code = status_code
        self.error = error
        self.error_description = error_description
        self.tracking_id = tracking_id


class ServerUnreachable(WebexLoopbackError):
    """No usable answer came: network, DNS, proxy, TLS, a time limit, or a body that is no token response."""

    exit_code = 5
    default_remedy = "Check the network, then try again; `webex-loopback doctor` looks at proxy and certificates."


class TokenStoreError(WebexLoopbackError):
    """The token file cannot be read, trusted, locked or written.

    Attributes:
        problem: `corrupt`, `foreign` (another user's), `future` (a newer format), `unreadable`, `unwritable`
            or `locked`.
    """

    exit_code = 6
    default_remedy = "Run `webex-loopback doctor` to see what is wrong with the state folder."

    def __init__(self, message: str, *, problem: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.problem = problem
