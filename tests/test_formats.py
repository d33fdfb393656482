"""Tokens from and for other tools: what is read, what is refused, and that nothing is lost on the way."""

import json
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from webex_loopback.formats import FORMS, Form, Imported, read, write
from webex_loopback.token import DAY, Account, MalformedToken, StoredToken, TokenResponse

NOW = 1_795_000_000
ISO_IN_A_DAY = datetime.fromtimestamp(NOW + DAY, UTC).isoformat()

# As `wxc_sdk.integration` writes it.
WXC_SDK_FILE = f"""\
access_token: ZDI3MGEyYzQtNmFlNS00NDNhLWFlNzAtZGVjNjE0MGU1OGZmZWNmZDEwN2ItYTU3_PF84_1eb65fdf
expires_at: '{ISO_IN_A_DAY}'
expires_in: 1209599
refresh_token: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTEyMzQ1Njc4
refresh_token_expires_at: null
refresh_token_expires_in: 7775999
scope: spark:people_read spark:kms spark:messages_write spark:messages_read
  spark:rooms_read
token_type: Bearer
"""


def stored(**changes: Any) -> StoredToken:
    fields: dict[str, Any] = {
        "refresh_at": NOW + 3000,
        "access_token": "access-token-one",
        "issued_at": NOW - 1000,
        "expires_at": NOW + 5000,
        "refresh_token": "refresh-token-one",
        "refresh_token_issued_at": NOW - 1000,
        "refresh_token_expires_at": NOW + 90_000,
        "scopes_requested": ["spark:people_read", "spark:kms"],
        "client_id": "C" + "1" * 64,
        "client_secret": "client-secret-one",
        "token_url": "https://webexapis.com/v1/access_token",
        "api_base_url": "https://webexapis.com/v1",
        "account": Account(email="alex.morgan@example.com"),
    }
    return StoredToken.model_validate(fields | changes)


def plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def test_a_token_response_as_postman_shows_it() -> None:
    got = read(
        json.dumps(
            {
                "access_token": "AT",
                "token_type": "bearer",
                "expires_in": 1209599,
                "refresh_token": "RT",
                "refresh_token_expires_in": 7775999,
                "scope": "spark:kms spark:people_read",
                "tokenName": "Webex",
                "addTokenTo": "header",
            }
        ),
        NOW + 0.9,
    )
    assert (plain(got.access_token), plain(got.refresh_token)) == ("AT", "RT")
    assert (got.expires_at, got.refresh_token_expires_at) == (NOW + 1209599, NOW + 7775999)
    assert got.scopes == ["spark:kms", "spark:people_read"]
    assert (got.client_id, got.client_secret) == ("", None)


def test_an_access_token_alone_will_do() -> None:
    assert read('{"access_token": "AT", "refresh_token_expires_in": 5}', NOW) == Imported(SecretStr("AT"))


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        (ISO_IN_A_DAY, NOW + DAY),
        (ISO_IN_A_DAY.replace("+00:00", "Z"), NOW + DAY),
        (ISO_IN_A_DAY.replace("+00:00", "+09:00"), NOW + DAY - 9 * 3600),
        (NOW + DAY, NOW + DAY),
        (NOW + 0.5, NOW),
        ((NOW + DAY) * 1000, NOW + DAY),
        (str(NOW + DAY), NOW + DAY),
        (f"{NOW}.25", NOW),
        (NOW - DAY, NOW - DAY),
        ("2026-12-08T08:19:09", None),  # of no time zone
        ("soon", None),
        ("", None),
        (-5, None),
        (10**400, None),
        (True, None),
        ([], None),
    ],
)
def test_an_absolute_end_wins_over_a_lifetime(moment: object, end: int | None) -> None:
    text = json.dumps({"access_token": "AT", "expires_at": moment, "expires_in": 77})
    assert read(text, NOW).expires_at == end


def test_the_file_of_wxc_sdk() -> None:
    got = read(WXC_SDK_FILE, NOW)
    assert plain(got.access_token) == yaml.safe_load(WXC_SDK_FILE)["access_token"]
    assert got.expires_at == NOW + DAY
    assert got.refresh_token_expires_at == NOW + 7775999  # nothing better is in the file
    assert got.scopes == yaml.safe_load(WXC_SDK_FILE)["scope"].split()


def test_the_file_that_wxc_sdk_itself_writes() -> None:
    tokens = pytest.importorskip("wxc_sdk.tokens").Tokens(
        access_token="AT" + "x" * 2000,
        expires_in=1209599,
        refresh_token="it's_a:token=",
        refresh_token_expires_in=7775999,
        token_type="Bearer",
        scope=" ".join(f"spark-admin:some_scope_{n}" for n in range(30)),
    )
    tokens.set_expiration()
    got = read(yaml.safe_dump(json.loads(tokens.model_dump_json())), 0)  # a clock that plays no part
    assert plain(got.access_token) == tokens.access_token
    assert plain(got.refresh_token) == tokens.refresh_token
    assert got.expires_at == int(tokens.expires_at.timestamp())
    assert got.refresh_token_expires_at == int(tokens.refresh_token_expires_at.timestamp())
    assert got.scopes == tokens.scope.split()


def test_a_file_with_windows_line_ends_a_bom_and_comments() -> None:
    text = "\ufeff" + "---\n# mine\n\naccess_token: AT\n\nrefresh_token: ~\nscope:\n".replace("\n", "\r\n")
    assert read(text, NOW) == Imported(SecretStr("AT"))


def environment(*values: dict[str, Any]) -> str:
    return json.dumps({"id": "1", "name": "Webex", "values": values, "_postman_variable_scope": "environment"})


def test_a_postman_environment() -> None:
    got = read(
        environment(
            {"key": "WEBEX_ACCESS_TOKEN", "value": "AT", "type": "secret", "enabled": True},
            {"key": "refreshToken", "value": "RT", "type": "secret"},
            {"key": "client_id", "value": "C1"},
            {"key": "client_secret", "value": "S1"},
            {"key": "client-id", "value": ""},
            {"key": "access_token", "value": "old", "enabled": False},
            {"key": "expires_in", "value": "1209599"},  # counted from an unknown moment
            {"key": "expires_at", "value": str(NOW + 5)},
            {"key": "scopes", "value": "spark:kms"},
            {"key": "roomId", "value": "Y2lz"},
            {"key": 7, "value": "x"},
        ),
        NOW,
    )
    assert (plain(got.access_token), plain(got.refresh_token)) == ("AT", "RT")
    assert (got.client_id, plain(got.client_secret)) == ("C1", "S1")
    assert (got.expires_at, got.scopes) == (NOW + 5, ["spark:kms"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no token response: wrong or missing access_token"),
        ("{}", "wrong or missing access_token"),
        ("[]", "neither JSON nor"),
        ("secret-token-alone", "neither JSON nor"),
        ('{"access_token": "secret-AT"', "not a JSON object"),
        ('{"access_token": "secret-AT", "access_token": "secret-B"}', "not a JSON object"),
        ('{"access_token": "secret-AT", "accessToken": "secret-B"}', "holds access_token twice, and not the same"),
        ('{"access_token": "secret AT"}', "wrong or missing access_token"),
        ('{"access_token": "secret-AT", "token_type": "MAC"}', "wrong or missing token_type"),
        ('{"access_token": "secret-AT", "refresh_token": "secret RT"}', "a refresh_token that cannot be one"),
        ('{"access_token": "{{secret-vault}}"}', "name of a Postman variable in place of access_token"),
        (environment({"key": "access_token", "value": ""}, {"key": "refresh_token", "value": "secret"}), "no value"),
        ("access_token: secret-AT\naccess_token: secret-AT\n", "holds a name twice"),
        ("access_token: secret-AT # not yet\n", "neither JSON nor"),
        ('access_token: "secret-AT"\n', "neither JSON nor"),
        ("access_token: !!binary secret\n", "neither JSON nor"),
        ("access_token: &a secret\nrefresh_token: *a\n", "neither JSON nor"),
        ("tokens:\n  access_token: secret-AT\n", "neither JSON nor"),
        ("access_token: secret\n\n  goes on\n", "neither JSON nor"),
        ("access_token: secret: more\n", "neither JSON nor"),
        ("access_token: 'secret\n", "neither JSON nor"),
        ("access_token: sécret\n", "neither JSON nor"),
        ("access_token:\tsecret\n", "neither JSON nor"),
        ("{" + " " * (1 << 20) + "}", "too large"),
    ],
)
def test_what_is_refused_says_why_and_quotes_nothing(text: str, said: str) -> None:
    with pytest.raises(MalformedToken) as caught:
        read(text, NOW)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value).replace("client_secret", "")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_repr_shows_no_secret() -> None:
    text = '{"access_token": "hide-1", "refresh_token": "hide-2", "client_id": "C1", "client_secret": "hide-3"}'
    assert "hide" not in repr(read(text, NOW))


def test_a_record_of_what_was_read() -> None:
    response = {"access_token": "AT", "refresh_token": "RT", "expires_in": 10_000, "scope": "a b"}
    got = read(json.dumps(response), NOW)
    record = got.to_stored(
        now=NOW,
        token_url="https://webexapis.com/v1/access_token",
        api_base_url="https://webexapis.com/v1",
        client_id="C1",
        client_secret=SecretStr("S1"),
        ca_bundle="/etc/ca.pem",
    )
    assert record == StoredToken.from_response(
        TokenResponse.model_validate(
            {"access_token": "AT", "refresh_token": "RT", "expires_in": 10_000, "scope": "a b"}
        ),
        now=NOW,
        scopes_requested=["a", "b"],
        client_id="C1",
        client_secret=SecretStr("S1"),
        token_url="https://webexapis.com/v1/access_token",
        api_base_url="https://webexapis.com/v1",
        ca_bundle="/etc/ca.pem",
    )


def test_a_token_that_has_ended_is_due_at_once() -> None:
    got = read(json.dumps({"access_token": "AT", "refresh_token": "RT", "expires_at": NOW - 5}), NOW)
    record = got.to_stored(now=NOW, token_url="https://t", api_base_url="https://a")
    assert record.expired(NOW)
    assert record.refresh_at <= NOW
    assert record.missing == []


def test_a_token_without_a_refresh_token_lasts_until_its_end() -> None:
    got = read(json.dumps({"access_token": "AT", "expires_at": NOW + 900, "refresh_token_expires_in": 5}), NOW)
    record = got.to_stored(now=NOW, token_url="https://t", api_base_url="https://a", scopes_requested=["a"])
    assert record.refresh_at == NOW + 900
    assert (record.refresh_token, record.refresh_token_issued_at, record.refresh_token_expires_at) == (None,) * 3
    assert record.scopes_requested == ["a"]


@pytest.mark.parametrize(
    ("there", "client_id", "client_secret"),
    [
        ({}, "C1", "S1"),
        ({"client_id": "C1"}, "C1", "S1"),
        ({"client_id": "C2"}, "C2", ""),
        ({"client_id": "C2", "client_secret": "S2"}, "C2", "S2"),
        ({"client_id": "C1", "client_secret": "S2"}, "C1", "S2"),
        ({"client_id": 7, "client_secret": "a b"}, "C1", "S1"),
    ],
)
def test_a_secret_is_not_taken_for_another_integration(
    there: dict[str, object], client_id: str, client_secret: str
) -> None:
    record = read(json.dumps({"access_token": "AT", **there}), NOW).to_stored(
        now=NOW, token_url="https://t", api_base_url="https://a", client_id="C1", client_secret=SecretStr("S1")
    )
    assert (record.client_id, plain(record.client_secret)) == (client_id, client_secret)


# Writing


def test_json_is_a_token_response_with_what_is_left() -> None:
    text = write(stored(), "json", NOW)
    values = json.loads(text)
    assert values["expires_in"] == 5000
    assert values["refresh_token_expires_in"] == 90_000
    assert values["scope"] == "spark:people_read spark:kms"
    assert datetime.fromisoformat(values["expires_at"]).timestamp() == NOW + 5000
    assert "client-secret-one" not in text
    assert TokenResponse.from_json(text.encode()).expires_in == 5000


def test_json_of_an_ended_token_of_which_little_is_known() -> None:
    token = stored(
        expires_at=NOW - 5, refresh_token=None, refresh_token_expires_at=10**12, scopes_requested=[], account=Account()
    )
    values = json.loads(write(token, "json", NOW))
    assert values.pop("refresh_token_expires_in") == 10**12 - NOW
    assert values == {
        "access_token": "access-token-one",
        "token_type": "Bearer",
        "expires_in": 0,
        "expires_at": datetime.fromtimestamp(NOW - 5, UTC).isoformat().replace("+00:00", "Z"),
    }


def test_wxc_sdk_loads_what_is_written_for_it(tmp_path: Path) -> None:
    pytest.importorskip("wxc_sdk")
    from wxc_sdk.integration import Integration

    path = tmp_path / "tokens.yml"
    path.write_text(write(stored(expires_at=4_000_000_000), "wxc-sdk", NOW))
    integration = Integration(
        client_id="C", client_secret="S", scopes="a", redirect_url="http://localhost:6001/redirect"
    )
    tokens: Any = integration.get_cached_tokens_from_yml(str(path))
    assert tokens.access_token == "access-token-one"
    assert tokens.refresh_token == "refresh-token-one"
    assert tokens.expires_at == datetime.fromtimestamp(4_000_000_000, UTC)
    assert tokens.refresh_token_expires_in == 90_000
    assert tokens.scope == "spark:people_read spark:kms"
    assert [line.split(":")[0] for line in path.read_text().splitlines()] == sorted(yaml.safe_load(path.read_text()))


def test_wxc_sdk_loads_what_has_no_end() -> None:
    tokens = pytest.importorskip("wxc_sdk.tokens").Tokens
    text = write(stored(expires_at=None, refresh_token=None, refresh_token_expires_at=None), "wxc-sdk", NOW)
    assert tokens.model_validate(yaml.safe_load(text)).expires_at is None


def test_postman_gets_an_environment_with_its_secrets_marked() -> None:
    written = json.loads(write(stored(), "postman", NOW))
    assert written["name"] == "Webex (alex.morgan@example.com)"
    assert written["_postman_variable_scope"] == "environment"
    assert all(entry["enabled"] is True and isinstance(entry["value"], str) for entry in written["values"])
    secret = {entry["key"] for entry in written["values"] if entry["type"] == "secret"}
    assert secret == {"access_token", "refresh_token", "client_secret"}
    bare = json.loads(write(stored(account=Account(), client_secret="", refresh_token=None), "postman", NOW))
    assert bare["name"] == "Webex"
    assert not {"client_secret", "refresh_token"} & {entry["key"] for entry in bare["values"]}


@pytest.mark.parametrize("access_token", ["plain-token", "o'dd\"$(id)`id`\\;&|<>*?[a]!~#="])
def test_a_shell_reads_the_line_as_it_was_meant(access_token: str) -> None:
    line = write(stored(access_token=access_token), "env", NOW)
    assert line.startswith("WEBEX_ACCESS_TOKEN=")
    assert shlex.split(line) == [f"WEBEX_ACCESS_TOKEN={access_token}"]
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{line}printf %s "$WEBEX_ACCESS_TOKEN"'], capture_output=True, text=True, check=True
    )
    assert shell.stdout == access_token


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=120).filter(
    lambda text: not text.startswith("{{")
)


@given(
    access_token=visible,
    refresh_token=st.none() | visible,
    expires_at=st.none() | st.integers(0, 10**11 - 1),
    refresh_token_expires_at=st.none() | st.integers(0, 10**11 - 1),
    scopes=st.lists(visible, max_size=12, unique=True),
    form=st.sampled_from([form for form in FORMS if form != "env"]),
)
def test_what_is_written_is_read_back(
    access_token: str,
    refresh_token: str | None,
    expires_at: int | None,
    refresh_token_expires_at: int | None,
    scopes: list[str],
    form: Form,
) -> None:
    token = stored(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_at=expires_at,
        refresh_token_expires_at=refresh_token_expires_at if refresh_token else None,
        scopes_requested=scopes,
    )
    got = read(write(token, form, NOW), NOW)
    assert (got.access_token, got.refresh_token) == (token.access_token, token.refresh_token)
    assert (got.expires_at, got.refresh_token_expires_at) == (token.expires_at, token.refresh_token_expires_at)
    assert got.scopes == (scopes or None)
    if form == "postman":
        assert (got.client_id, got.client_secret) == (token.client_id, token.client_secret)


lines = st.lists(
    st.tuples(
        st.sampled_from(["", " ", "  "]),
        st.sampled_from(["access_token:", "access_token: ", "scope: ", "x: ", "- ", "# ", "", "'", "--- ", "---"]),
        st.text("ab '\":#-?,[]{}&*!|>%@`~=.0é\t\\", max_size=8),
    ).map("".join),
    max_size=5,
).map("\n".join)


@given(lines)
def test_what_is_accepted_means_the_same_to_yaml(text: str) -> None:
    from webex_loopback.formats import _flat_yaml

    try:
        pairs = dict(_flat_yaml(text.strip(" \t\r\n")))
    except MalformedToken:
        return
    strings: Callable[[str], Any] = lambda text: yaml.load(text, Loader=yaml.BaseLoader)  # noqa: E731
    theirs = strings(text.strip(" \t\r\n")) or {}
    assert {key: value or "" for key, value in pairs.items()} == {
        key: "" if value in ("~", "null") and pairs[key] is None else value for key, value in theirs.items()
    }
