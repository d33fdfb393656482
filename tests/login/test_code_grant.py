"""A login in the browser, in this process, against the sandbox; a person comes over HTTP."""

import os
import queue
import shutil
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.journeys.attack import wait_until
from tests.login.conftest import Interrupt
from tests.login.visitors import Visitor, can_bind, start
from webex_loopback import errors, get_token
from webex_loopback.login import code_grant
from webex_loopback.login.login import LoginResult, log_in
from webex_loopback.sandbox import Person, Sandbox, Visit
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex import worker

pytestmark = pytest.mark.usefixtures("redirect_uri")
posix = pytest.mark.skipif(sys.platform == "win32", reason="terminals and signals as POSIX has them")


@pytest.fixture
def register(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> Callable[[str], str]:
    """Register a redirect URI on a free port, and set it."""

    def register(pattern: str) -> str:
        uri = pattern.format(free_port())
        sandbox.redirect_uris.append(uri)
        monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
        return uri

    return register


# Where the browser comes back to


@pytest.mark.parametrize(
    "pattern",
    ["http://127.0.0.1:{}", "http://127.0.0.1:{}/a/b%20c.php", "http://127.0.0.2:{}/", "http://localhost:{}/callback"],
)
def test_a_login_by_http(pattern: str, register: Callable[[str], str], sandbox: Sandbox, store: FileTokenStore) -> None:
    register(pattern)
    sandbox.switches.latency = 0.3
    visitor, found = Visitor(), queue.Queue[StoredToken | None]()

    def open_browser(url: str) -> None:
        visitor(url)
        found.put(store.load())

    result = log_in(open_browser=open_browser)
    assert result == LoginResult(result.token, store.path, "browser")
    assert store.load() == found.get(timeout=10) == result.token  # saved before the browser shows that
    assert (result.token.account.name, result.token.account.email) == ("Alex Morgan", "alex.morgan@example.com")
    assert get_token() == result.token.access_token.get_secret_value()
    visit = visitor.visit
    assert (visit.status, "code=" in visit.url) == (200, False)
    assert "You are logged in" in visit.body
    assert "Alex Morgan" in visit.body
    assert sandbox.count("authorization_code", status=200) == 1


def test_a_self_signed_certificate_is_announced_and_kept(
    register: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = urlsplit(register("https://127.0.0.1:{}/"))
    shown: list[str] = []

    def open_browser(url: str) -> None:
        shown.append(ssl.get_server_certificate(("127.0.0.1", uri.port or 0)))
        Person().visit(url)

    log_in(open_browser=open_browser)
    log_in(open_browser=open_browser, force=True)
    assert shown[0] == shown[1]
    assert "self-signed certificate" in capsys.readouterr().err


# The exchange


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_failed_account_lookup_does_not_fail_the_login(fault: str, sandbox: Sandbox, store: FileTokenStore) -> None:
    sandbox.switches.api_faults = [fault] * 3
    visitor = Visitor()
    result = log_in(open_browser=visitor)
    assert result.token.account.email == ""
    assert store.load() == result.token
    assert "You are logged in" in visitor.visit.body


@pytest.mark.parametrize(
    ("fault", "kind", "title"),
    [
        ("empty400", errors.TokenEndpointError, "Webex rejected the token request"),
        ("500", errors.TokenEndpointError, "Webex rejected the token request"),
        ("reset", errors.ServerUnreachable, "Could not reach Webex"),
        ("html", errors.ServerUnreachable, "Could not reach Webex"),
        # Windows does not remove a folder whose lock file is open.
        pytest.param("unwritable", errors.TokenStoreError, "The tokens could not be saved", marks=posix),
    ],
)
def test_the_page_says_why_there_are_no_tokens(
    fault: str, kind: type[Exception], title: str, sandbox: Sandbox, store: FileTokenStore
) -> None:
    visitor, folder = Visitor(), Path(store.path).parent

    def open_browser(url: str) -> None:
        if fault == "unwritable":
            shutil.rmtree(folder)
            folder.write_text("")
        else:
            sandbox.switches.fault = fault
        visitor(url)

    with pytest.raises(kind):
        log_in(open_browser=open_browser)
    assert f"<h1>{title}</h1>" in visitor.visit.body
    assert sandbox.count("authorization_code") == (fault != "unwritable")  # without room, the code is not spent
    assert not os.path.exists(store.path)


# A network that does not work


def test_a_network_problem_is_shown_before_the_user_signs_in_and_ends_the_login(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("WEBEX_TOKEN_URL", f"http://127.0.0.1:{free_port()}/access_token")
    visitor = Visitor()
    begun = time.monotonic()
    with pytest.raises(errors.ServerUnreachable, match="refused"):
        log_in(open_browser=visitor)
    assert time.monotonic() - begun < 8
    assert "Webex cannot be reached" in visitor.visit.body
    assert sandbox.count("/v1/authorize") == 0
    assert "refused" in capsys.readouterr().err
    with pytest.raises(errors.ServerUnreachable):  # no browser comes: not reported as a mere timeout
        log_in(open_browser=lambda url: None, timeout_seconds=2.5)


# What Webex says no to


@pytest.mark.parametrize(
    ("person", "arguments", "error", "remedy", "page"),
    [
        ({"decision": "decline"}, {}, "access_denied", "webex-loopback login -p work", "Access was not granted"),
        ({}, {"scopes": "spark:kms spark:no"}, "invalid_scope", "spark:kms spark:no", "scope is not selected"),
        ({}, {"prompt": "none"}, "login_required", "without --prompt none", "could not complete the login"),
    ],
)
def test_each_denial_has_its_remedy(
    sandbox: Sandbox, person: Any, arguments: Any, error: str, remedy: str, page: str
) -> None:
    visitor = Visitor(**person)
    with pytest.raises(errors.AuthorizationDenied) as caught:
        log_in("work", open_browser=visitor, **arguments)
    assert caught.value.error == error
    assert remedy in caught.value.remedy
    assert page in visitor.visit.body
    assert sandbox.count("authorization_code") == 0


def test_unrelated_requests_are_reported_a_few_times(
    sandbox: Sandbox, redirect_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user has read the browser's command line, and tries to finish the login with his own account."""

    def open_browser(url: str) -> None:
        state = start(url)[0]["state"]
        for n in range(code_grant.MOST_LINES + 2):
            assert Person().visit(f"{redirect_uri}?state=foreign-{n}&code=x").status == 400
        assert Person().visit(f"{redirect_uri}?state={state}&code=x").status == 400  # without the cookie
        assert Person().visit(url).status == 410  # the URL of the command line has been used

    with pytest.raises(errors.LoginTimeout) as caught:
        log_in(open_browser=open_browser, timeout_seconds=5)
    assert caught.value.ignored == code_grant.MOST_LINES + 3
    told = capsys.readouterr().err
    assert "did not open the login link" in told
    assert "opened a second time" in told
    assert told.count("the wrong state") == code_grant.MOST_LINES
    assert sandbox.count("authorization_code") == 0


# Waiting


def test_a_browser_that_does_not_return_from_webex(sandbox: Sandbox, redirect_uri: str) -> None:
    sandbox.redirect_uris.remove(redirect_uri)
    with pytest.raises(errors.LoginTimeout, match="did not send it back within 2 s") as caught:
        log_in("work", timeout_seconds=2, open_browser=Visitor())
    assert redirect_uri in caught.value.remedy
    assert "login -p work" in caught.value.remedy


def test_a_browser_that_never_opens_the_url(redirect_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    def open_browser(url: str) -> None:
        Person().visit(f"{redirect_uri}?error=access_denied")

    with pytest.raises(errors.LoginTimeout, match=r"No browser opened the login URL within 2 s\..*: 1\.") as caught:
        log_in("work", timeout_seconds=2, open_browser=open_browser)
    assert "login -p work" in caught.value.remedy
    assert "Ignored an error without a state: access_denied" in capsys.readouterr().err


def test_if_the_browser_fails_the_user_can_open_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    login = worker.start(lambda: log_in(open_browser=lambda url: 1 / 0))
    told: list[str] = []
    wait_until(lambda: told.append(capsys.readouterr().err) or "Open the URL yourself" in "".join(told))  # type: ignore[func-returns-value]
    Person().visit(next(line.strip() for line in "".join(told).splitlines() if "/start/" in line))
    assert login.result(10).how == "browser"


# The keyboard


@posix
@pytest.mark.parametrize("wrapped", [False, True])
def test_pasting_settles_the_server_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    sandbox.switches.latency = 0.5
    master, slave = os.openpty()
    visits: queue.Queue[Visit] = queue.Queue()

    def open_browser(url: str) -> None:
        # Not by the start URL: this browser has no cookie, and is refused.
        final = Person().visit(f"{sandbox.base_url}/authorize?{urlencode(start(url)[0])}").url
        time.sleep(0.5)
        os.write(master, (f"{final[:90]}\r{final[90:]}\r" if wrapped else f"{final}\r").encode())
        wait_until(lambda: sandbox.count("authorization_code"))
        visits.put(Person().visit(url))

    with open(slave, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert log_in(open_browser=open_browser).how == "pasted"
    os.close(master)
    assert visits.get(timeout=10).status == 404  # this login has received its response


# Interruptions


@posix
@pytest.mark.parametrize(
    ("latency", "fault", "api_fault"), [(1.0, "", ""), (1.0, "500", ""), (0.0, "hang", ""), (0.0, "", "hang")]
)
def test_an_interruption_after_the_code_was_sent_waits_for_the_answer_and_tells_the_truth(
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    interrupt: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    latency: float,
    fault: str,
    api_fault: str,
) -> None:
    monkeypatch.setattr(code_grant, "ANSWER_SECONDS", 2.0)
    visitor = Visitor()

    def open_browser(url: str) -> None:
        sandbox.switches.update({"latency": latency, "fault": fault, "api_faults": [api_fault] if api_fault else []})
        threading.Thread(target=visitor, args=(url,)).start()
        wait_until(lambda: sandbox.count("/v1/people/me" if api_fault else "authorization_code"))
        interrupt()

    begun = time.monotonic()
    with pytest.raises(Interrupt):
        log_in(open_browser=open_browser)
    assert time.monotonic() - begun < 8
    told = capsys.readouterr().err
    saved = store.load() is not None
    assert saved is (not fault)
    assert ("The code has been sent. Waiting" in told) is (not api_fault)
    assert ("profile default is logged in" in told or "Saved the tokens" in told) is saved
    assert ("No tokens were saved" in told) is not saved
    assert ("You are logged in" in visitor.visit.body) is saved
    assert can_bind(redirect_uri)


@posix
@pytest.mark.parametrize("locked", [False, True])
def test_an_interruption_before_the_code_was_sent_ends_it_at_once(
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    interrupt: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    locked: bool,
) -> None:
    """Also while the lock is waited for, after which the code would be sent."""

    def open_browser(url: str) -> None:
        if not locked:
            return interrupt()
        with store.lock():
            threading.Thread(target=Person().visit, args=(url,)).start()
            time.sleep(1.5)
            interrupt()
            time.sleep(1)

    begun = time.monotonic()
    with pytest.raises(Interrupt):
        log_in(open_browser=open_browser)
    assert time.monotonic() - begun < 5
    time.sleep(1.5 if locked else 0)
    assert sandbox.count("authorization_code") == 0
    assert "code has been sent" not in capsys.readouterr().err
    assert can_bind(redirect_uri)
