"""Authlib: a session that refreshes; reading and writing the token file is left to its user, and so is the login.

Its asyncio client has a lock, its synchronous one has none.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

import json
from collections.abc import Awaitable, Callable
from typing import Any

from authlib.integrations.requests_client import OAuth2Session
from work import SETTINGS, TOKEN_FILE, read_response


def _options() -> dict[str, Any]:
    with open(TOKEN_FILE) as file:
        token = json.load(file)
    return {
        "client_id": SETTINGS["client_id"],
        "client_secret": SETTINGS["client_secret"],
        "token_endpoint": SETTINGS["token_url"],
        "token_endpoint_auth_method": "client_secret_post",
        "token": token,
    }


def prepare() -> None:
    with open(TOKEN_FILE, "w") as file:
        json.dump(read_response(), file)


def ready() -> Callable[[], str]:
    session = OAuth2Session(**_options())

    def ask() -> str:
        session.ensure_active_token(session.token)
        return session.token["access_token"]

    return ask


def ready_async() -> Callable[[], Awaitable[str]]:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    client = AsyncOAuth2Client(**_options())

    async def ask() -> str:
        await client.ensure_active_token(client.token)
        return client.token["access_token"]

    return ask
