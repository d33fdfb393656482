"""Tokens from and for other tools: what is read, what is refused, and that nothing is lost on the way."""

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Token
from webex_loopback.cli.formats import WITH_REFRESH_TOKEN, Imported, _flat_yaml, read, write
from webex_loopback.oauth.token_response import MalformedToken, TokenResponse
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import DAY, StoredToken

NOW = 1_795_000_000
IN_A_DAY = datetime.fromtimestamp(NOW + DAY, UTC).isoformat()

# As `wxc_sdk.integration` writes it.
WXC_SDK_FILE = f"""\
access_token: ZDI3MGEyYzQtNmFlNS00NDNhLWFlNzAtZGVjNjE0MGU1OGZmZWNmZDEwN2ItYTU3_PF84_1eb65fdf
expires_at: '{IN_A_DAY}'
expires_in: 1209599
refresh_token: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTEyMzQ1Njc4
refresh_token_expires_at: null
refresh_token_expires_in: 7775999
scope: spark:people_read spark:kms spark:messages_write spark:messages_read
  spark:rooms_read
token_type: Bearer
"""


def stored(**changes: Any) -> Token:
    fields: dict[str, Any] = {"issued_at": NOW - 1000, "refresh_at": NOW + 3000, "expires_at": NOW + 5000}
    fields |= {"refresh_token_expires_at": NOW + 90_000, "scopes_requested": ["spark:people_read", "spark:kms"]}
    secrets = {
        name: Secret(f"{name.replace('_', '-')}-one") for name in ("access_token", "refresh_token", "client_secret")
    }
    return StoredToken(**(fields | secrets | {"client_id": "C" + "1" * 64} | changes))


def read_json(**values: object) -> Imported:
    return read(json.dumps({"access_token": "AT", **values}).encode(), NOW)


def postman(*values: dict[str, Any]) -> bytes:
    return json.dumps({"id": "1", "values": values, "_postman_variable_scope": "environment"}).encode()


def test_a_token_response_as_postman_shows_it() -> None:
    lifetimes = {"expires_in": 1209599, "refresh_token_expires_in": 7775999}
    got = read_json(refresh_token="RT", scope="a b", token_type="bearer", **lifetimes)
    assert (got.access_token, got.refresh_token) == (Secret("AT"), Secret("RT"))
    assert (got.expires_at, got.refresh_token_expires_at) == (NOW + 1209599, NOW + 7775999)
    assert (got.kind, got.scopes, got.client_id, got.client_secret) == ("a token response", ["a", "b"], "", None)


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        (IN_A_DAY, NOW + DAY),
        (IN_A_DAY.replace("+00:00", "Z"), NOW + DAY),
        (NOW + 0.5, NOW),
        ((NOW + DAY) * 1000, NOW + DAY),
        ("2026-12-08T08:19:09", None),  # no time zone
        ("soon", None),
        (-5, None),
        (10**400, None),
        ([], None),
    ],
)
def test_an_absolute_expiry_wins_over_a_lifetime(moment: object, end: int | None) -> None:
    assert read_json(expires_at=moment, expires_in=77).expires_at == end


@pytest.mark.parametrize("encode", [str.encode, lambda text: text.encode("utf-8-sig"), lambda t: t.encode("utf-16")])
def test_the_file_of_wxc_sdk(encode: Callable[[str], bytes]) -> None:
    expected = yaml.safe_load(WXC_SDK_FILE)
    got = read(encode("---\n# mine\n" + WXC_SDK_FILE.replace("\n", "\r\n")), NOW)
    assert got.access_token == Secret(expected["access_token"])
    assert (got.expires_at, got.refresh_token_expires_at) == (NOW + DAY, NOW + 7775999)
    assert got.scopes == expected["scope"].split()


def test_a_postman_environment() -> None:
    values = {"refreshToken": "RT", "client_id": "C1", "client_secret": "S1", "client-id": "", 7: "x", "roomId": "Y2lz"}
    values |= {"expires_at": str(NOW + 5), "scopes": "spark:kms"}
    values |= {"refresh_token_expires_in": "7775999"}  # counted from an unknown moment
    access = {"key": "WEBEX_ACCESS_TOKEN", "value": "AT", "type": "secret", "enabled": True}
    disabled = {"key": "access_token", "value": "old", "enabled": False}
    got = read(postman(access, disabled, *({"key": key, "value": value} for key, value in values.items())), NOW)
    assert (got.kind, got.access_token, got.refresh_token) == ("a Postman environment", Secret("AT"), Secret("RT"))
    assert (got.client_id, got.client_secret) == ("C1", Secret("S1"))
    assert (got.expires_at, got.refresh_token_expires_at, got.scopes) == (NOW + 5, None, ["spark:kms"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "access_token"),
        (b"secret-token-alone", "neither JSON nor"),
        (b"\xff\xfesecret", "neither JSON nor"),
        (b'{"access_token": "secret-AT"', "not valid JSON"),
        (b'[{"access_token": "secret-AT"}]', "not a JSON object"),
        (b'{"access_token": "secret AT"}', "access_token"),
        (b'{"access_token": "secret-AT", "refresh_token": "secret RT"}', "refresh_token"),
        (b'{"access_token": "{{secret-vault}}"}', "Postman variable instead of a value in access_token"),
        (postman({"key": "access_token", "value": ""}, {"key": "refresh_token", "value": "secret"}), "no (initial)"),
        (b"access_token: secret-AT # not yet\n", "neither JSON nor"),
        (b'access_token: "secret-AT"\n', "neither JSON nor"),
        (b"tokens:\n  access_token: secret-AT\n", "neither JSON nor"),
    ],
)
def test_a_refusal_says_why_and_quotes_nothing(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedToken) as caught:
        read(data, NOW)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_token_response_states_the_time_that_is_left() -> None:
    values = json.loads(write("token-response", "access-token-one", stored(), NOW))
    assert (values["expires_in"], values["refresh_token_expires_in"]) == (5000, 90_000)
    assert values["scope"] == "spark:people_read spark:kms"
    assert datetime.fromisoformat(values["expires_at"]).timestamp() == NOW + 5000
    assert TokenResponse.from_json(json.dumps(values).encode()).expires_in == 5000
    assert "client-secret-one" not in json.dumps(values)


def test_wxc_sdk_loads_what_is_written_for_it(tmp_path: Path) -> None:
    integration = pytest.importorskip("wxc_sdk.integration").Integration(
        client_id="C", client_secret="S", scopes="a", redirect_url="http://localhost:6001/redirect"
    )
    path = tmp_path / "tokens.yml"
    path.write_text(write("wxc-sdk", "it's-one", stored(expires_at=4_000_000_000), NOW))
    assert read(path.read_bytes(), NOW).access_token == Secret("it's-one")
    tokens: Any = integration.get_cached_tokens_from_yml(str(path))
    assert (tokens.access_token, tokens.refresh_token) == ("it's-one", "refresh-token-one")
    assert tokens.expires_at == datetime.fromtimestamp(4_000_000_000, UTC)
    assert (tokens.refresh_token_expires_in, tokens.scope) == (90_000, "spark:people_read spark:kms")
    assert [line.split(":")[0] for line in path.read_text().splitlines()] == sorted(yaml.safe_load(path.read_text()))


def test_postman_gets_an_environment_with_its_secrets_marked() -> None:
    written = json.loads(write("postman", "access-token-one", stored(), NOW))
    assert written["_postman_variable_scope"] == "environment"
    assert all(entry["enabled"] is True and isinstance(entry["value"], str) for entry in written["values"])
    secret = {entry["key"] for entry in written["values"] if entry["type"] == "secret"}
    assert secret == {"access_token", "refresh_token", "client_secret"}
    bare = json.loads(write("postman", "access-token-one", None, NOW))
    assert [entry["key"] for entry in bare["values"]] == ["access_token"]


@pytest.mark.parametrize("access_token", ["plain-token", "o'dd\"$(id)`id`\\;&|<>*?[a]!~#="])
def test_a_shell_reads_the_line_as_intended(access_token: str) -> None:
    assert shlex.split(write("env", access_token, stored(), NOW)) == [f"WEBEX_ACCESS_TOKEN={access_token}"]


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=120).filter(
    lambda text: not text.startswith("{{")
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    access_token=visible,
    refresh_token=st.none() | visible.map(Secret),
    expires_at=st.none() | st.integers(NOW, NOW + 10**9),
    scopes=st.lists(st.sampled_from(["spark:kms", "spark:people_read", "meeting:schedules_read"]), unique=True),
    form=st.sampled_from(WITH_REFRESH_TOKEN),
)
def test_what_is_written_can_be_read_again(
    access_token: str, refresh_token: Secret | None, expires_at: int | None, scopes: list[str], form: str
) -> None:
    token = stored(
        access_token=Secret(access_token), refresh_token=refresh_token, expires_at=expires_at, scopes_requested=scopes
    )
    got = read(write(form, access_token, token, NOW).encode(), NOW)
    assert (got.access_token, got.refresh_token) == (token.access_token, token.refresh_token)
    assert (got.expires_at, got.scopes) == (expires_at, scopes or None)
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
@example("x:  [a]")
def test_yaml_reads_the_same_from_every_accepted_file(text: str) -> None:
    try:
        pairs = dict(_flat_yaml(text.strip()))
    except MalformedToken:
        return
    theirs = yaml.load(text.strip(), Loader=yaml.BaseLoader) or {}
    assert pairs == {key: "" if value in ("~", "null") and not pairs[key] else value for key, value in theirs.items()}
