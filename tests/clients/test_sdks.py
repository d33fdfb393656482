"""The Webex SDKs, each the real one, against the sandbox."""

import asyncio
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Make, Patch, raised, revoke
from webex_loopback import ConfigurationError, LoginRequired, MemoryTokenStore, TokenSource
from webex_loopback.clients.pytest_plugin import Clock
from webex_loopback.clients.webexpythonsdk import webexpythonsdk_api
from webex_loopback.clients.wxc_sdk import as_wxc_sdk_api, wxc_sdk_api, wxc_sdk_tokens
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken

with warnings.catch_warnings():  # wxc_sdk derives from aiohttp's session, which aiohttp discourages
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("wxc_sdk.as_api")
wxc_sdk = pytest.importorskip("wxc_sdk")
webexpythonsdk = pytest.importorskip("webexpythonsdk")

API: dict[Callable[..., Any], Callable[[Any], str]] = {
    wxc_sdk_api: lambda api: str(api.people.me().display_name),
    webexpythonsdk_api: lambda api: str(api.people.me().displayName),
}
each_sdk = pytest.mark.parametrize("make", API)


@pytest.fixture
def reject(sandbox: Sandbox, logged_in: StoredToken, make_due: Make) -> Callable[[], None]:
    """End the stored access token at the sandbox; make it old enough to be renewed after a 401."""
    return lambda: revoke(sandbox, make_due(left=9000, refresh_at=int(time.time()) + 5000).access_token)


@each_sdk
def test_an_object_outlives_the_expiry_of_its_token(
    make: Any, logged_in: StoredToken, sandbox: Sandbox, make_due: Make, webex_clock: Clock
) -> None:
    api = make(TokenSource(clock=webex_clock))
    assert API[make](api) == "Alex Morgan"
    assert api.access_token == logged_in.access_token.get_secret_value()
    make_due()
    webex_clock.move(2)  # memory is trusted for a second
    assert API[make](api) == "Alex Morgan"
    assert api.access_token != logged_in.access_token.get_secret_value()
    assert sandbox.count("refresh_token") == 1
    assert sandbox.count("/v1/people/me", status=401) == 0


@each_sdk
def test_an_object_outlives_the_revocation_of_its_token(
    make: Any, reject: Callable[[], None], sandbox: Sandbox
) -> None:
    api = make()
    assert API[make](api) == "Alex Morgan"
    reject()
    assert API[make](api) == "Alex Morgan"
    assert sandbox.count("refresh_token") == 1
    assert sandbox.count("/v1/people/me", status=401) == 1


@each_sdk
def test_without_a_login_no_object_is_created(make: Any, sandbox: Sandbox) -> None:
    assert "login -p work" in raised(LoginRequired, make, profile="work").remedy


@each_sdk
def test_a_token_of_the_environment_is_for_the_api_of_the_settings(
    make: Any, logged_in: StoredToken, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    monkeypatch.setenv("WEBEX_API_BASE_URL", "https://api-usgov.webex.com/v1")
    api = make()
    assert api.access_token == "a-bots-token"
    assert (getattr(api, "base_url", "") or api.session.ep()).rstrip("/") == "https://api-usgov.webex.com/v1"


@each_sdk
def test_a_found_file_does_not_choose_where_a_token_goes(make: Any, make_token: Make, monkeypatch: Patch) -> None:
    Path("config.env").touch(mode=0o600)
    Path("config.env").write_text("WEBEX_API_BASE_URL=https://attacker.example/v1\n", encoding="utf-8")
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    without_api = MemoryTokenStore(make_token(api_base_url=""))  # from a version that did not note it
    for source in (None, TokenSource(store=without_api)):
        with pytest.raises(ConfigurationError, match=r"config\.env"):
            make(source)


# With Python's -X dev, aiohttp warns about each attribute that wxc_sdk's session gives itself.
@pytest.mark.filterwarnings("ignore:Setting custom ClientSession:DeprecationWarning")
def test_the_asyncio_object_outlives_its_token_too(reject: Callable[[], None], sandbox: Sandbox) -> None:
    headers = []

    async def note(request: Any, handler: Any) -> Any:
        headers.append(request.headers["Authorization"])
        return await handler(request)

    async def ask() -> list[str]:
        async with as_wxc_sdk_api(concurrent_requests=2, middlewares=[note]) as api:
            people = [await api.people.me()]
            await asyncio.to_thread(reject)
            people += await asyncio.gather(api.people.me(), api.people.me())
            return [str(person.display_name) for person in people]

    assert asyncio.run(ask()) == ["Alex Morgan"] * 3
    assert sandbox.count("refresh_token") == 1
    assert not any(secret in header for header in headers for secret in sandbox.secrets)


def test_tokens_for_an_object_that_the_program_creates_are_in_no_dump(logged_in: StoredToken, sandbox: Sandbox) -> None:
    tokens = wxc_sdk_tokens()
    with wxc_sdk.WebexSimpleApi(tokens=tokens) as api:
        api.session.BASE = sandbox.base_url
        assert api.people.me().display_name == "Alex Morgan"
    assert isinstance(tokens, wxc_sdk.tokens.Tokens)
    assert logged_in.access_token.get_secret_value() == tokens.access_token
    assert tokens.access_token not in f"{tokens!r} {tokens.model_dump()} {tokens.model_dump_json()}"
    with pytest.raises(AttributeError):
        tokens.access_token = "another"


def test_the_sdks_own_options_are_passed_on(make_token: Make) -> None:
    source = TokenSource(store=MemoryTokenStore(make_token()))
    api = webexpythonsdk_api(source, base_url="https://gateway.example/webex/", single_request_timeout=7)
    assert (api.base_url, api.single_request_timeout) == ("https://gateway.example/webex/", 7)


def test_an_unsupported_version_of_webexpythonsdk_is_refused(make_token: Make, monkeypatch: Patch) -> None:
    monkeypatch.setattr(webexpythonsdk, "WebexAPI", type("Other", (), {"__init__": lambda _self, **_options: None}))
    with pytest.raises(ConfigurationError, match="not supported"):
        webexpythonsdk_api(TokenSource(store=MemoryTokenStore(make_token())))


@pytest.mark.parametrize(
    ("make", "module"),
    [(wxc_sdk_tokens, "wxc_sdk.tokens"), (as_wxc_sdk_api, "wxc_sdk.as_api"), (webexpythonsdk_api, "webexpythonsdk")],
)
def test_a_missing_sdk_is_named_with_its_remedy(make: Callable[..., object], module: str, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    remedy = raised(ConfigurationError, make).remedy
    assert f"`pip install {module.split('.', maxsplit=1)[0].replace('_', '-')}`" in remedy
