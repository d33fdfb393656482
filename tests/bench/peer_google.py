"""google-auth-oauthlib: the same shape of tool, for Google; it talks to any endpoint it is given.

Its login opens the browser first and prints the address afterwards, takes the first request for the answer,
shows success before `state` is looked at, and has no lock around a refresh. It looks up no account.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

import datetime
import json
import os
from collections.abc import Callable

from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from work import SETTINGS, TOKEN_FILE, read_response


def prepare() -> None:
    response = read_response()
    end = datetime.datetime.fromtimestamp(response["expires_at"], datetime.UTC).replace(tzinfo=None)
    user = {
        "token": response["access_token"],
        "refresh_token": response["refresh_token"],
        "expiry": f"{end.isoformat()}Z",
    }
    user |= {"client_id": SETTINGS["client_id"], "client_secret": SETTINGS["client_secret"]}
    user |= {"token_uri": SETTINGS["token_url"], "scopes": SETTINGS["scopes"]}
    with open(TOKEN_FILE, "w") as file:
        json.dump(user, file)


def ready() -> Callable[[], str]:
    read = Credentials.from_authorized_user_file(TOKEN_FILE)
    # Of the file's token_uri it takes no notice: it would refresh at Google.
    credentials = Credentials(
        read.token,
        refresh_token=read.refresh_token,
        token_uri=SETTINGS["token_url"],
        client_id=read.client_id,
        client_secret=read.client_secret,
        scopes=read.scopes,
        expiry=read.expiry,
    )

    def ask() -> str:
        if not credentials.valid:
            credentials.refresh(Request())
        return credentials.token

    return ask


def login() -> None:
    from google_auth_oauthlib.flow import InstalledAppFlow

    os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
    client = {"client_id": SETTINGS["client_id"], "client_secret": SETTINGS["client_secret"]}
    client |= {"auth_uri": SETTINGS["authorize_url"], "token_uri": SETTINGS["token_url"]}
    flow = InstalledAppFlow.from_client_config({"installed": client}, SETTINGS["scopes"])
    fetch = flow.fetch_token
    # Webex takes the client secret in the body; by itself it goes into the Basic header.
    flow.fetch_token = lambda **others: fetch(include_client_id=True, **others)
    credentials = flow.run_local_server(host="127.0.0.1", port=int(SETTINGS["port"]))
    with open(TOKEN_FILE, "w") as file:
        file.write(credentials.to_json())
