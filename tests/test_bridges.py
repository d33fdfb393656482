"""Bridges to the Webex SDKs, each the real one, against the sandbox."""

import asyncio
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from webex_loopback import ConfigurationError, LoginRequired, TokenSource
from webex_loopback.bridges import as_wxc_sdk_api, webexpythonsdk_api, wxc_sdk_api, wxc_sdk_tokens
from webex_loopback.sandbox import Sandbox
from webex_loopback.store import FileTokenStore, MemoryTokenStore
from webex_loopback.token import StoredToken

with warnings.catch_warnings():  # wxc_sdk derives from aiohttp's session, which aiohttp discourages
    warnings.simplefilter("ignore", DeprecationWarning)
    as_api = pytest.importorskip("wxc_sdk.as_api")
wxc_sdk = pytest.importorskip("wxc_sdk")
webexpythonsdk = pytest.importorskip("webexpythonsdk")


def revoke(sandbox: Sandbox, token: StoredToken, store: FileTokenStore) -> None:
    """End the access token at the sandbox, long after it was issued as far as the file tells."""
    store.save(token.model_copy(update={"issued_at": int(time.time()) - 1000}))
    done = httpx.post(
        f"{sandbox.origin}/idb/oauth2/v1/revoke",
        data={"token": token.access_token.get_secret_value()},
        auth=(sandbox.client_id, sandbox.client_secret),
    )
    assert done.status_code == 200


class Asked:
    """An SDK's object, and how it says who it is."""

    def __init__(self, make: Callable[..., Any], me: Callable[[Any], str]) -> None:
        self.make = make
        self.me = me


SYNCHRONOUS = [
    pytest.param(Asked(wxc_sdk_api, lambda api: str(api.people.me().display_name)), id="wxc_sdk"),
    pytest.param(Asked(webexpythonsdk_api, lambda api: str(api.people.me().displayName)), id="webexpythonsdk"),
]


@pytest.mark.parametrize("sdk", SYNCHRONOUS)
def test_a_living_object_goes_on_when_its_token_ends(
    sdk: Asked, logged_in: StoredToken, sandbox: Sandbox, make_due: Callable[..., StoredToken]
) -> None:
    source = TokenSource()
    api = sdk.make(source)
    assert sdk.me(api) == "Alex Morgan"
    first = api.access_token
    assert first == logged_in.access_token.get_secret_value()
    make_due()
    source._hot = (0.0, 0.0, "")  # a second later
    assert sdk.me(api) == "Alex Morgan"
    assert api.access_token != first
    assert sandbox.count("refresh_token") == 1
    assert sandbox.count("/v1/people/me", status=401) == 0


@pytest.mark.parametrize("sdk", SYNCHRONOUS)
def test_a_living_object_goes_on_when_its_token_is_revoked(
    sdk: Asked, logged_in: StoredToken, sandbox: Sandbox, store: FileTokenStore
) -> None:
    api = sdk.make()
    assert sdk.me(api) == "Alex Morgan"
    revoke(sandbox, logged_in, store)
    assert sdk.me(api) == "Alex Morgan"
    assert sandbox.count("refresh_token") == 1
    assert sandbox.count("/v1/people/me", status=401) == 1


@pytest.mark.parametrize("sdk", SYNCHRONOUS)
def test_nobody_logged_in_is_said_as_everywhere(sdk: Asked, sandbox: Sandbox) -> None:
    api = sdk.make(profile="work")
    with pytest.raises(LoginRequired, match=r"work\.json"):
        sdk.me(api)


@pytest.mark.parametrize("sdk", SYNCHRONOUS)
def test_a_token_of_the_environment_is_for_the_api_of_the_settings(
    sdk: Asked, logged_in: StoredToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    monkeypatch.setenv("WEBEX_API_BASE_URL", "https://api-usgov.webex.com/v1")
    api = sdk.make()
    assert api.access_token == "a-bots-token"
    base: Any = getattr(api, "base_url", None) or api.session.ep()
    assert base.rstrip("/") == "https://api-usgov.webex.com/v1"


# With Python's -X dev, aiohttp warns of each attribute that wxc_sdk's session gives itself.
@pytest.mark.filterwarnings("ignore:Setting custom ClientSession:DeprecationWarning")
def test_the_asyncio_twin_goes_on_too(logged_in: StoredToken, sandbox: Sandbox, store: FileTokenStore) -> None:
    headers = []

    async def note(request: Any, handler: Any) -> Any:
        headers.append(request.headers["Authorization"])
        return await handler(request)

    async def ask() -> list[str]:
        async with as_wxc_sdk_api(concurrent_requests=2, middlewares=[note]) as api:
            names = [(await api.people.me()).display_name]
            await asyncio.to_thread(revoke, sandbox, logged_in, store)
            both = await asyncio.gather(api.people.me(), api.people.me())
            return [str(name) for name in (*names, *(person.display_name for person in both))]

    assert asyncio.run(ask()) == ["Alex Morgan"] * 3
    assert sandbox.count("refresh_token") == 1
    assert not any(secret in header for header in headers for secret in sandbox.secrets)


def test_fresh_tokens_for_an_object_that_the_program_makes_itself(
    logged_in: StoredToken, sandbox: Sandbox, make_due: Callable[..., StoredToken]
) -> None:
    source = TokenSource()
    tokens = wxc_sdk_tokens(source)
    with wxc_sdk.WebexSimpleApi(tokens=tokens) as api:
        api.session.BASE = sandbox.base_url
        assert api.people.me().display_name == "Alex Morgan"
        make_due()
        source._hot = (0.0, 0.0, "")
        assert api.people.me().display_name == "Alex Morgan"
    assert sandbox.count("refresh_token") == 1


def test_fresh_tokens_are_in_no_dump_and_cannot_be_set(logged_in: StoredToken) -> None:
    tokens = wxc_sdk_tokens()
    secret = logged_in.access_token.get_secret_value()
    assert tokens.access_token == secret
    assert isinstance(tokens, wxc_sdk.tokens.Tokens)
    assert secret not in f"{tokens!r} {tokens.model_dump()} {tokens.json()}"
    with pytest.raises(AttributeError):
        tokens.access_token = "another"


def test_a_user_made_base_url_is_kept(make_token: Callable[..., StoredToken]) -> None:
    source = TokenSource(store=MemoryTokenStore(make_token()))
    api = webexpythonsdk_api(source, base_url="https://gateway.example/webex/", single_request_timeout=7)
    assert (api.base_url, api.single_request_timeout) == ("https://gateway.example/webex/", 7)


def test_an_unknown_build_of_webexpythonsdk_is_refused(
    make_token: Callable[..., StoredToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __init__(self, **options: object) -> None:
            pass

    monkeypatch.setattr(webexpythonsdk, "WebexAPI", Other)
    with pytest.raises(ConfigurationError, match="built otherwise"):
        webexpythonsdk_api(TokenSource(store=MemoryTokenStore(make_token())))


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (wxc_sdk_tokens, "wxc_sdk.tokens", "wxc-sdk"),
        (wxc_sdk_api, "wxc_sdk", "wxc-sdk"),
        (as_wxc_sdk_api, "wxc_sdk.as_api", "wxc-sdk"),
        (webexpythonsdk_api, "webexpythonsdk", "webexpythonsdk"),
    ],
)
def test_a_missing_sdk_is_named_with_its_cure(
    make: Callable[..., object], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="cannot be imported") as caught:
        make()
    assert f"`pip install {package}`" in caught.value.remedy
