"""`login_status()`: what programs learn about a login."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import Make
from webex_loopback import ConfigurationError, TokenStoreError, login_status
from webex_loopback.tokens.record import ServiceApp
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex.account import Account


def test_it_has_account_scopes_lifetimes_and_place(save: Make, store: FileTokenStore) -> None:
    app = ServiceApp(org_id="O", app_id="A", using="admin")
    requested = ["spark:people_read", "spark:kms"]
    token = save(scope=["spark:kms"], scopes_requested=requested, service_app=app, account=Account("Alex", "a@x", "7"))
    assert (status := login_status())
    assert (status.profile, status.store, status.service_app) == ("default", store.path, app)
    assert (status.account_name, status.account_email, status.account_id) == ("Alex", "a@x", "7")
    assert (status.scopes_requested, status.scopes_granted) == (tuple(requested), ("spark:kms",))
    assert (status.scopes_missing, status.can_renew) == (("spark:people_read",), True)
    assert (status.client_id, status.api_base_url) == (token.client_id, token.api_base_url)
    now = datetime.now(UTC)
    assert now - status.issued_at < timedelta(minutes=1)
    assert status.expires_at
    assert status.issued_at < status.refresh_at < status.expires_at < now + timedelta(days=14)
    assert status.refresh_token_expires_at == status.issued_at + timedelta(seconds=7_775_999)


def test_it_is_frozen_and_has_no_secrets(save: Make) -> None:
    token, status = save(), login_status()
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.profile = "other"  # type: ignore[misc, union-attr]
    held = [value for value in (token.access_token, token.refresh_token, token.client_secret) if value]
    assert not any(secret.get_secret_value() in repr(status) for secret in held)


def test_unknown_moments_are_none_and_impossible_ones_the_end_of_the_calendar(save: Make) -> None:
    save(expires_in=None, refresh_token=None, refresh_token_expires_in=5)
    assert (status := login_status())
    assert (status.expires_at, status.refresh_token_expires_at, status.can_renew) == (None, None, False)
    save(expires_in=10**12 - 10**10, age=10**11)
    assert (status := login_status())
    assert status.expires_at
    assert (status.issued_at.year, status.expires_at.year) == (1, 9999)


def test_without_a_login_or_with_one_that_cannot_be_read(store: FileTokenStore, save: Make) -> None:
    assert login_status() is None
    with pytest.raises(ConfigurationError):
        login_status("../x")
    save()
    with open(store.path, "w") as file:
        file.write("{")
    with pytest.raises(TokenStoreError):
        login_status()
