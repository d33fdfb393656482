"""The errors of this package. Each has a remedy and an exit code; none shows a secret.

WebexLoopbackError            exit 1
├─ ConfigurationError         exit 2
├─ LoginRequired              exit 3
├─ LoginFailed                exit 4
│  ├─ AuthorizationDenied
│  └─ LoginTimeout, also a TimeoutError
├─ TokenEndpointError         exit 5
├─ ServerUnreachable          exit 5
└─ TokenStoreError            exit 6
"""


class WebexLoopbackError(Exception):
    """Root of all errors of this package; str() says what happened.

    Attributes:
        remedy: One or more sentences that say what to do now; never empty.
        exit_code: Exit code of the command line.
    """

    exit_code = 1
    default_remedy = "Run the command again with --debug and report what it prints."

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy or self.default_remedy
        self.add_note(self.remedy)  # so that the traceback of an uncaught error ends with the remedy

    def __reduce__(self) -> tuple[object, ...]:
        # The default calls the class with `args` alone. A required keyword would then be missing, and a
        # multiprocessing.Pool hangs when an error cannot be unpickled.
        return type(self).__new__, (type(self),), self.__dict__ | {"args": self.args}


class ConfigurationError(WebexLoopbackError):
    """A setting is missing or wrong; `setting` is its environment name, for example `WEBEX_CLIENT_ID`."""

    exit_code = 2
    default_remedy = "Run `webex-loopback doctor` to see all settings and where they come from."

    def __init__(self, message: str, *, setting: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.setting = setting


class LoginRequired(WebexLoopbackError):
    """No token, or the refresh token was rejected and the access token has expired; the user has to log in."""

    exit_code = 3
    default_remedy = "Run `webex-loopback login`."


class LoginFailed(WebexLoopbackError):
    """The login ended without tokens."""

    exit_code = 4
    default_remedy = "Run `webex-loopback login` again."


class AuthorizationDenied(LoginFailed):
    """Webex answered the authorization request with an error (RFC 6749 §4.1.2.1).

    `error` is its code, for example `access_denied`; `error_description` is Webex's own text, possibly empty.
    """

    def __init__(self, message: str, *, error: str, error_description: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.error = error
        self.error_description = error_description


class LoginTimeout(LoginFailed, TimeoutError):
    """No authorization response arrived in time; `ignored` requests did not carry this login's `state`."""

    def __init__(self, message: str, *, ignored: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.ignored = ignored


class TokenEndpointError(WebexLoopbackError):
    """The token endpoint, or another Webex endpoint, answered with an error (RFC 6749 §5.2).

    Attributes:
        status_code: The HTTP status.
        error: RFC 6749's error code, or "" if Webex sent its other kind of body (`message`, `errors[]`).
        error_description: Webex's own text, from either body.
        tracking_id: The ID that Webex support asks for, or "".
        retry_after: Seconds that the server asks to wait, or None.
        meaning: `rejected` (the refresh token or the code is no longer valid), `misconfigured` (client id, secret or
            scope is wrong), or `passing` (everything else: the same request may succeed later).
    """

    exit_code = 5
    default_remedy = "Try again in a few minutes."

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error: str = "",
        error_description: str = "",
        tracking_id: str = "",
        retry_after: float | None = None,
        meaning: str = "passing",
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status_code = status_code
        self.error = error
        self.error_description = error_description
        self.tracking_id = tracking_id
        self.retry_after = retry_after
        self.meaning = meaning


class ServerUnreachable(WebexLoopbackError):
    """No usable answer: network, DNS, proxy, TLS, a timeout, or a body that is not a token response."""

    exit_code = 5
    default_remedy = "Check the network and try again. `webex-loopback doctor` checks proxy and certificates."


class TokenStoreError(WebexLoopbackError):
    """The stored token cannot be read, trusted, locked or written.

    Attributes:
        problem: `corrupt`, `foreign` (owned by another user), `future` (a newer format), `unreadable`, `unwritable`,
            `locked`, or `unavailable` (the keyring or the database does not answer).
    """

    exit_code = 6
    default_remedy = "Run `webex-loopback doctor` to check the data directory."

    def __init__(self, message: str, *, problem: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.problem = problem
