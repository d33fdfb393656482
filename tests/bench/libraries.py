"""The libraries that are compared; imported in the measured process, so each imports its own when it is used.

`prepare(response)` writes a library's token file; `ready()` returns a function that returns the token, refreshed if it
has expired; `held()` the same without reading the file at each call; `ready_async()` the same for asyncio.
"""
# mypy: disable-error-code="import-not-found, import-untyped, arg-type, unused-ignore"

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

CLIENT: dict[str, Any] = {name: os.environ.get(f"WEBEX_{name.upper()}") for name in ("client_id", "client_secret")}
SCOPES = os.environ.get("WEBEX_SCOPES", "").split()
AUTHORIZE_URL, TOKEN_URL = (f"{os.environ.get('WEBEX_API_BASE_URL')}/{path}" for path in ("authorize", "access_token"))
PORT = int(os.environ.get("BENCH_PORT", "0"))
TOKEN_FILE = os.environ.get("BENCH_FILE", "")
Ask = Callable[[], str]


def _write(content: object) -> None:
    with open(TOKEN_FILE, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))


class Ours:
    def ready(self) -> Ask:
        from webex_loopback import get_token

        return get_token

    def ready_async(self) -> Callable[[], Awaitable[str]]:
        from webex_loopback import aget_token

        return aget_token


class Google:
    """google-auth-oauthlib: the same kind of tool for Google. No lock, no account lookup."""

    def prepare(self, response: dict[str, Any]) -> None:
        import datetime

        end = datetime.datetime.fromtimestamp(response["expires_at"], datetime.UTC).replace(tzinfo=None)
        user = {"token": response["access_token"], "refresh_token": response["refresh_token"]}
        _write(user | CLIENT | {"expiry": f"{end.isoformat()}Z", "scopes": SCOPES})

    def ready(self) -> Ask:
        from google.auth.transport.requests import Request
        from google.oauth2.credentials import Credentials

        credentials = Credentials.from_authorized_user_file(TOKEN_FILE)
        credentials._token_uri = TOKEN_URL  # it ignores the file's, and would refresh at Google

        def ask() -> str:
            if not credentials.valid:
                credentials.refresh(Request())
            return str(credentials.token)

        return ask

    def login(self) -> None:
        from google_auth_oauthlib.flow import InstalledAppFlow

        os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
        client = CLIENT | {"auth_uri": AUTHORIZE_URL, "token_uri": TOKEN_URL}
        flow = InstalledAppFlow.from_client_config({"installed": client}, SCOPES)
        fetch = flow.fetch_token
        # Webex expects the client secret in the body, not in a Basic header.
        flow.fetch_token = lambda **others: fetch(include_client_id=True, **others)
        _write(flow.run_local_server(host="127.0.0.1", port=PORT).to_json())


class WxcSdk:
    """wxc_sdk: logs in at Webex (always on port 6001, no PKCE), keeps tokens in a YAML file. No lock, no account."""

    def __init__(self) -> None:
        from wxc_sdk.integration import Integration

        self.integration: Any = Integration(
            **CLIENT,
            scopes=SCOPES,
            redirect_url="http://localhost:6001/redirect",
            auth_service=AUTHORIZE_URL,
            token_service=TOKEN_URL,
            # If it finds no tokens, for instance because another process is writing the file, it would log in.
            initiate_flow_callback=None if PORT else lambda _url: os._exit(3),
        )

    def prepare(self, response: dict[str, Any]) -> None:
        import yaml
        from wxc_sdk.tokens import Tokens

        _write(yaml.safe_dump(Tokens.model_validate(response).model_dump(mode="json")))

    def ready(self) -> Ask:
        return lambda: str(self.integration.get_cached_tokens_from_yml(TOKEN_FILE).access_token)

    def held(self) -> Ask:
        tokens = self.integration.get_cached_tokens_from_yml(TOKEN_FILE)

        def ask() -> str:
            self.integration.validate_tokens(tokens)
            return str(tokens.access_token)

        return ask

    def login(self) -> None:
        self.integration.get_cached_tokens_from_yml(TOKEN_FILE, force_new=True)


class HttpxAuth:
    """httpx-auth: a JSON token cache and a login. While one thread refreshes, the others would start a login."""

    def __init__(self) -> None:
        from httpx_auth import JsonTokenFileCache, OAuth2, OAuth2AuthorizationCodePKCE

        self.cache = OAuth2.token_cache = JsonTokenFileCache(TOKEN_FILE)
        options = CLIENT | {"scope": " ".join(SCOPES), "redirect_uri_domain": "127.0.0.1"}
        options["redirect_uri_port"] = PORT
        self.auth = OAuth2AuthorizationCodePKCE(AUTHORIZE_URL, TOKEN_URL, **options)

    def prepare(self, response: dict[str, Any]) -> None:
        _write({self.auth.state: [response[name] for name in ("access_token", "expires_at", "refresh_token")]})

    def ready(self) -> Ask:  # what its auth_flow does before each request
        options = {"early_expiry": 30, "on_expired_token": self.auth.refresh_token}
        return lambda: str(self.cache.get_token(self.auth.state, **options))

    def login(self) -> None:
        self.cache.get_token(self.auth.state, early_expiry=30, on_missing_token=self.auth.request_new_token)


class Authlib:
    """Authlib: sessions that refresh. Keeping the tokens is left to the program. The asyncio client has a lock."""

    def __init__(self) -> None:
        endpoint = {"token_endpoint": TOKEN_URL, "token_endpoint_auth_method": "client_secret_post"}
        self.options: dict[str, Any] = CLIENT | endpoint

    def prepare(self, response: dict[str, Any]) -> None:
        _write(response)

    def _token(self) -> Any:
        with open(TOKEN_FILE) as file:
            return json.load(file)

    def ready(self) -> Ask:
        from authlib.integrations.requests_client import OAuth2Session

        session = OAuth2Session(token=self._token(), **self.options)

        def ask() -> str:
            session.ensure_active_token(session.token)
            return str(session.token["access_token"])

        return ask

    def ready_async(self) -> Callable[[], Awaitable[str]]:
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        client = AsyncOAuth2Client(token=self._token(), **self.options)

        async def ask() -> str:
            await client.ensure_active_token(client.token)
            return str(client.token["access_token"])

        return ask


class RequestsOAuth2Client:
    """requests-oauth2client: an auth for requests that refreshes. Keeping the tokens is left to the program."""

    def prepare(self, response: dict[str, Any]) -> None:
        from requests_oauth2client import BearerToken, TokenSerializer

        names = ("access_token", "expires_in", "refresh_token")
        _write(TokenSerializer().dumps(BearerToken(**{name: response[name] for name in names})).decode())

    def ready(self) -> Ask:
        from requests_oauth2client import OAuth2AccessTokenAuth, OAuth2Client, TokenSerializer

        with open(TOKEN_FILE, "rb") as file:
            token = TokenSerializer().loads(file.read())
        auth = OAuth2AccessTokenAuth(OAuth2Client(TOKEN_URL, tuple(CLIENT.values())), token)

        def ask() -> str:
            if auth.token.is_expired(auth.leeway):
                auth.renew_token()
            return str(auth.token.access_token)

        return ask


class Msal:
    """msal: Microsoft's endpoints only, whose names it asks for at each start; an answer from memory is all it gets."""

    authority, scopes = "https://login.microsoftonline.com/common", ["User.Read"]

    def prepare(self, response: dict[str, Any]) -> None:
        import msal

        cache = msal.SerializableTokenCache()
        account = {"client_info": "eyJ1aWQiOiAiYWxleCIsICJ1dGlkIjogIm9yZyJ9"}  # {"uid": "alex", "utid": "org"}
        endpoint = f"{self.authority}/oauth2/v2.0/token"
        cache.add({"client_id": "C", "scope": self.scopes, "token_endpoint": endpoint, "response": response | account})
        _write(cache.serialize())

    def ready(self) -> Ask:
        from types import SimpleNamespace

        import msal

        cache = msal.SerializableTokenCache()
        with open(TOKEN_FILE) as file:
            cache.deserialize(file.read())
        endpoints = {f"{name}_endpoint": f"{self.authority}/oauth2/v2.0/{name}" for name in ("authorization", "token")}
        text = json.dumps(endpoints | {"issuer": self.authority})
        http = SimpleNamespace(get=lambda url, **_: SimpleNamespace(status_code=200, headers={}, text=text))
        options = {"authority": self.authority, "token_cache": cache, "http_client": http}
        application = msal.PublicClientApplication("C", instance_discovery=False, **options)
        (account,) = application.get_accounts()
        return lambda: str(application.acquire_token_silent(self.scopes, account)["access_token"])


LIBRARIES: dict[str, type[Any]] = {
    "webex-loopback": Ours,
    "google-auth-oauthlib": Google,
    "wxc_sdk": WxcSdk,
    "httpx_auth": HttpxAuth,
    "Authlib": Authlib,
    "requests_oauth2client": RequestsOAuth2Client,
    "msal": Msal,
}
