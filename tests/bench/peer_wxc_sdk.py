"""wxc_sdk: its Integration logs in at Webex (port 6001, /redirect, no PKCE) and keeps tokens in a YAML file.

No lock, in threads or between processes. It looks up no account.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

import os
from collections.abc import Callable
from typing import Any

import yaml
from work import SETTINGS, TOKEN_FILE, read_response
from wxc_sdk.integration import Integration
from wxc_sdk.tokens import Tokens

PORT = 6001  # is fixed


def _integration(opener: Any) -> Any:
    return Integration(
        client_id=SETTINGS["client_id"],
        client_secret=SETTINGS["client_secret"],
        scopes=SETTINGS["scopes"],
        redirect_url=f"http://localhost:{PORT}/redirect",
        auth_service=SETTINGS["authorize_url"],
        token_service=SETTINGS["token_url"],
        initiate_flow_callback=opener,
    )


def _no_login(_url: str) -> None:
    os._exit(3)  # it found no tokens, having read the file while another process wrote it


def prepare() -> None:
    tokens = Tokens.model_validate(read_response())
    with open(TOKEN_FILE, "w") as file:
        yaml.safe_dump(tokens.model_dump(mode="json"), file)


def ready() -> Callable[[], str]:
    integration = _integration(_no_login)
    return lambda: integration.get_cached_tokens_from_yml(TOKEN_FILE).access_token


def held() -> Callable[[], str]:
    integration = _integration(_no_login)
    with open(TOKEN_FILE) as file:
        tokens: Any = Tokens.model_validate(yaml.safe_load(file))

    def ask() -> str:
        integration.validate_tokens(tokens)
        return tokens.access_token

    return ask


def login() -> None:
    _integration(None).get_cached_tokens_from_yml(TOKEN_FILE, force_new=True)
