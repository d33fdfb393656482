"""`log_in()` and `log_out()`: from a profile's name to stored tokens, and back.

The order makes a login fast: settings, checks that need no network, the lock, the sockets, the URL, the browser. Only
then are the HTTP libraries imported, while the browser starts; hence the imports inside functions.
"""

import contextlib
import os
from collections.abc import Callable

from webex_loopback import errors
from webex_loopback.oauth.authorization import AuthorizationRequest
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.paths import data_directory, profile_name, token_file
from webex_loopback.private_file import read_small_file
from webex_loopback.secret import Secret
from webex_loopback.settings import load, require
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource, forget, hidden_locals
from webex_loopback.tokens.stores import TokenStore, open_store
from webex_loopback.tokens.stores.file import FileTokenStore

from .attempt import Attempt, LoginResult, read_holder
from .browser import Choice, Opener, find, ssh_hint
from .listener import Listener, Refusal, bind
from .paste import Keyboard
from .progress import Progress

__all__ = ["LoginResult", "log_in", "log_out"]


def log_in(
    profile: str | None = None,
    *,
    scopes: str | None = None,
    redirect_uri: str | None = None,
    timeout_seconds: float | None = None,
    open_browser: bool | Callable[[str], object] = True,
    browser: str = "",
    device: bool = False,
    force: bool = False,
    login_hint: str = "",
    prompt: str = "",
    display: Progress | None = None,
) -> LoginResult:
    """Log in and save the tokens; blocks until the user has approved or declined, or the time limit is reached.

    Opens nothing if the profile is already logged in with the same Integration and scopes and Webex accepts its token.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        scopes: Separated by spaces or commas, instead of `WEBEX_SCOPES`.
        redirect_uri: Instead of `WEBEX_REDIRECT_URI`.
        timeout_seconds: Instead of `WEBEX_LOGIN_TIMEOUT`.
        open_browser: False: only print the URL. A function is called with the URL instead, in a thread.
        browser: Command to open the URL with, instead of `WEBEX_BROWSER`; `%s` in it stands for the URL.
        device: Use the device grant (RFC 8628): approve on another device, without a redirect to this machine.
        force: Log in even if already logged in; set an unreadable token file aside.
        login_hint: Email address to fill in on Webex's page.
        prompt: `select_account` to be asked for the account, `none` never to be asked.

    Raises:
        ConfigurationError: A setting is missing or wrong; nothing has been opened.
        LoginFailed: `AuthorizationDenied` and `LoginTimeout` say more.
        TokenEndpointError, ServerUnreachable: The code was not exchanged.
        TokenStoreError: The stored token cannot be replaced, or the new one was not saved.
    """
    name = profile_name(profile)
    with hidden_locals, display or Progress() as display, contextlib.ExitStack() as stack:
        settings = load(scopes=scopes, redirect_uri=redirect_uri, login_timeout=timeout_seconds)
        attempt = Attempt(name, settings, display, force=force)
        require(settings)
        redirect_uris = [RedirectURI.parse(text) for text in settings.redirect_uris]
        _check_certificates(settings.ca_bundle)
        before = attempt.stored()
        if before and not (force or login_hint or prompt) and attempt.matches(before) and _is_accepted(attempt, before):
            return attempt.result(attempt.store.load() or before, "already")
        waited = stack.enter_context(attempt.queue())
        now = attempt.stored()
        if waited and now and now != before and attempt.matches(now, login_hint):
            return attempt.result(now, "other")
        attempt.check_writable()
        if device:
            from .device_grant import log_in_by_device

            return attempt.result(log_in_by_device(attempt), "device")
        opener = stack.enter_context(contextlib.closing(_opener(attempt, open_browser, browser)))
        return attempt.result(*_by_browser(attempt, redirect_uris, opener, login_hint, prompt))


def log_out(profile: str | None = None) -> tuple[StoredToken | None, str]:
    """Remove a profile's tokens from this machine, from every file that holds them.

    They stay valid at Webex until they expire. Returns the stored token, None if there was none or it could not be
    read, and the place of a record that could not be read, or "".

    Raises:
        TokenStoreError: The record belongs to another user, or the store does not answer.
    """
    store = open_store(profile)
    # Files may be from the time before WEBEX_TOKEN_STORE was set or changed.
    plain, encrypted = (FileTokenStore(token_file(profile) + suffix) for suffix in ("", ".encrypted"))
    places: dict[str, TokenStore] = {plain.path: plain}
    if os.path.lexists(encrypted.path):
        places[encrypted.path] = encrypted
    places[getattr(store, "path", "")] = store
    held, unreadable = None, ""
    for place in places.values():
        with hidden_locals, place.lock():  # a renewal in progress would write the record again
            try:
                held = place.load() or held
            except errors.TokenStoreError as error:
                if error.problem not in ("corrupt", "future"):
                    raise
                unreadable = str(place)
            place.delete()
    forget()
    return held, unreadable


def _check_certificates(ca_bundle: str) -> None:
    """Raise `ConfigurationError` now, before anything is opened, if a file of certificates cannot be used."""
    # Reading all of them with `ssl` takes longer than everything else up to here.
    named = map(os.environ.get, ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    for path in filter(None, (ca_bundle, *named)):
        with contextlib.suppress(OSError):
            if os.path.isdir(path) or b"-----BEGIN" in read_small_file(path, 1 << 24):
                continue
        from webex_loopback.webex.transport import ssl_context

        ssl_context(ca_bundle)


def _is_accepted(attempt: Attempt, stored: StoredToken) -> bool:
    """Whether the Webex that issued the stored token accepts it; it is renewed first if due."""
    from webex_loopback.tokens.token_request import client_for

    try:
        access_token = Secret(TokenSource(attempt.profile, store=attempt.store).get_token())
    except errors.WebexLoopbackError:
        return False
    try:
        with client_for(stored) as webex:
            webex.people_me(access_token)
    except errors.TokenEndpointError as error:
        # 403: a valid token without spark:people_read. A fault at Webex says nothing about the token.
        return error.status_code in (403, 429) or error.status_code >= 500
    except errors.WebexLoopbackError:
        return False
    return True


def _opener(attempt: Attempt, open_browser: bool | Callable[[str], object], browser: str) -> Opener:
    if callable(open_browser):
        return Opener(Choice([], attempt.say("the_browser"), ""), open_browser)
    if not open_browser:
        return Opener(Choice(None, "", "--no-browser"))
    command, origin = (browser, "--browser") if browser else (attempt.settings.browser, "WEBEX_BROWSER")
    choice = find(os.environ, command, origin=origin)
    if choice.argv is None:
        attempt.note("no_browser", reason=choice.reason)
    elif choice.skipped:
        attempt.note("skipped_browser", reason=choice.skipped, name=choice.name)
    return Opener(choice)


def _by_browser(
    attempt: Attempt, redirect_uris: list[RedirectURI], opener: Opener, login_hint: str, prompt: str
) -> tuple[StoredToken, str]:
    """Bind, print the URL, open the browser, and only then import what serves the redirect and exchanges the code."""
    settings, opens = attempt.settings, opener.choice.argv is not None
    keyboard = Keyboard(prompt="" if opens else attempt.say("paste_prompt"), on_stop=attempt.display.erase)
    bound, refusals = bind(redirect_uris)
    with contextlib.closing(bound or _unbound(attempt, refusals, keyboard)) as listener:
        redirect_uri, context = listener.redirect_uri, None
        if bound:
            attempt.announce(f"on port {redirect_uri.port}")
            if redirect_uri.secure:
                from .certificate import server_context

                cert, key, hosts = settings.tls_cert, settings.tls_key, (redirect_uri.host,)
                context = server_context(folder=data_directory(), cert=cert, key=key, hosts=hosts)
        for refusal in refusals:
            attempt.display.note(_explained(refusal))
        ends = (settings.authorize_url, settings.client_id, redirect_uri.text)
        request = AuthorizationRequest(*ends, settings.scope_list, login_hint, prompt)
        _show_url(attempt, listener, request, keyboard, opens=opens)
        opened = opener.open(listener.browser_url if bound else request.url) if opens else None

        from .code_grant import CodeGrant

        with attempt.webex() as webex:
            return CodeGrant(attempt, webex, request, listener, context, keyboard, opener, opened).run()


def _show_url(
    attempt: Attempt, listener: Listener, request: AuthorizationRequest, keyboard: Keyboard, *, opens: bool
) -> None:
    """Print the URL even if a browser is opened: it may fail to open, or be the wrong one."""
    say, hints, redirect_uri = attempt.say, [], listener.redirect_uri
    if listener.sockets and not opens:
        hints += [say("tunnel"), "  " + ssh_hint(os.environ, redirect_uri.port, host=redirect_uri.host)]
        hints += [say("elsewhere"), "  " + request.url] if keyboard.can_paste else []
    elif keyboard.can_paste:
        hints += [say("paste"), *([say("press_o")] if opens else [])]
    if listener.sockets and redirect_uri.secure and not attempt.settings.tls_cert:
        hints.append(say("self_signed"))
    attempt.display.show_url(listener.printed_url if listener.sockets else request.url, say("log_in_at"), hints)


def _explained(refusal: Refusal) -> str:
    """Say why a redirect URI cannot be used; if another profile's login uses its port, say which."""
    tokens = os.path.join(data_directory(), "tokens")
    for name in os.listdir(tokens) if os.path.isdir(tokens) else ():
        place = read_holder(os.path.join(tokens, name)) if name.endswith(".json.login") else ""
        _, _, process = place.partition(f"on port {refusal.redirect_uri.port} ")
        if process and process in refusal.text:
            return refusal.text.removesuffix(".") + f", the login of profile {name.removesuffix('.json.login')}."
    return refusal.text


def _unbound(attempt: Attempt, refusals: list[Refusal], keyboard: Keyboard) -> Listener:
    """Return a listener without sockets, whose redirect URL is to be pasted; raise if that is not possible."""
    privileged = [refusal.redirect_uri for refusal in refusals if refusal.why == "privileges"]
    # Not if another program listens: the browser would hand the code to it.
    if privileged and keyboard.can_paste:
        return Listener(privileged[0], ())
    port = 8766 if refusals[0].redirect_uri.port == 8765 else 8765
    key = "unbound_privileges" if privileged else "unbound"
    raise errors.LoginFailed(
        f"{attempt.say('unbound')} {' '.join(map(_explained, refusals))}",
        remedy=attempt.say(f"{key}.remedy", uri=f"http://127.0.0.1:{port}/callback"),
    )
