import datetime
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from webex_loopback import certificate
from webex_loopback.errors import ConfigurationError, TokenStoreError

DAY = 86_400
BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "webex-loopback")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def kept(folder: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(folder, certificate.FILE).read_bytes())


def served(context: ssl.SSLContext, *, trust: str, name: str) -> tuple[str | None, str | None]:
    """The ALPN protocol and TLS version of a strict client's handshake."""
    client = ssl.create_default_context(cafile=trust)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    client.set_alpn_protocols(["h2", "http/1.1"])
    here, there = socket.socketpair()

    def serve() -> None:
        with there, context.wrap_socket(there, server_side=True) as wrapped:
            wrapped.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with here, client.wrap_socket(here, server_hostname=name) as wrapped:
            wrapped.sendall(b"x")
            return wrapped.selected_alpn_protocol(), wrapped.version()
    finally:
        thread.join()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_self_signed_certificate_serves_each_loopback_name(folder: str, name: str) -> None:
    context = certificate.server_context(folder=folder)
    alpn, version = served(context, trust=os.path.join(folder, certificate.FILE), name=name)
    assert (alpn, version) == ("http/1.1", "TLSv1.3")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_self_signed_certificate_is_what_browsers_ask_for(folder: str) -> None:
    now = time.time()
    certificate.server_context(folder=folder, now=now)
    made = kept(folder)
    extension = made.extensions.get_extension_for_class
    names = extension(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert extension(x509.BasicConstraints).value.ca is False
    assert extension(x509.KeyUsage).value.digital_signature is True
    assert extension(x509.KeyUsage).value.key_cert_sign is False
    assert list(extension(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.not_valid_before_utc.timestamp() == int(now) - DAY
    assert made.not_valid_after_utc - made.not_valid_before_utc == datetime.timedelta(days=363)
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


@pytest.mark.usefixtures("umask")
def test_file_and_folder_are_private_whatever_the_umask(folder: str) -> None:
    certificate.server_context(folder=folder)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(folder, certificate.FILE)).st_mode) == 0o600
    assert os.listdir(folder) == [certificate.FILE]


def test_a_umask_that_takes_everything_away_leaves_the_file_usable(folder: str) -> None:
    os.makedirs(folder, mode=0o700)
    before = os.umask(0o777)
    try:
        certificate.server_context(folder=folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(os.path.join(folder, certificate.FILE)).st_mode) == 0o600


def test_it_is_reused_until_thirty_days_before_its_end(folder: str) -> None:
    now = time.time()
    certificate.server_context(folder=folder, now=now)
    first = kept(folder).serial_number
    certificate.server_context(folder=folder, now=now + 331 * DAY)
    assert kept(folder).serial_number == first
    certificate.server_context(folder=folder, now=now + 333 * DAY)
    assert kept(folder).serial_number != first


def test_it_is_renewed_where_the_clock_was_turned_back(folder: str) -> None:
    now = time.time()
    certificate.server_context(folder=folder, now=now)
    certificate.server_context(folder=folder, now=now - 2 * DAY)
    assert kept(folder).not_valid_before_utc.timestamp() == int(now) - 3 * DAY


@pytest.mark.parametrize("content", [b"", b"\xff\x00", BROKEN.encode()])
def test_an_unreadable_file_is_replaced(folder: str, content: bytes) -> None:
    certificate.server_context(folder=folder)
    Path(folder, certificate.FILE).write_bytes(content)
    certificate.server_context(folder=folder)
    assert kept(folder).serial_number


def test_a_mismatched_pair_is_replaced(folder: str, tmp_path: Path) -> None:
    certificate.server_context(folder=folder)
    other = tmp_path / "other"
    certificate.server_context(folder=str(other))
    key, _, _ = Path(folder, certificate.FILE).read_text().partition("-----BEGIN CERTIFICATE")
    _, mark, chain = (other / certificate.FILE).read_text().partition("-----BEGIN CERTIFICATE")
    Path(folder, certificate.FILE).write_text(key + mark + chain)
    context = certificate.server_context(folder=folder)
    assert served(context, trust=os.path.join(folder, certificate.FILE), name="localhost")


def test_a_certificate_with_other_names_is_replaced(folder: str) -> None:
    certificate.server_context(folder=folder, hosts=["[::1]", "127.0.0.5"])
    path = os.path.join(folder, certificate.FILE)
    first = kept(folder).serial_number
    context = certificate.server_context(folder=folder, hosts=["127.0.0.5"])
    assert kept(folder).serial_number == first
    assert served(context, trust=path, name="127.0.0.5")
    certificate.server_context(folder=folder)
    assert kept(folder).serial_number != first


def test_a_key_that_others_could_read_is_not_used_again(folder: str) -> None:
    certificate.server_context(folder=folder)
    path = os.path.join(folder, certificate.FILE)
    first = kept(folder).serial_number
    assert certificate.key_is_private(path)
    os.chmod(path, 0o644)
    assert not certificate.key_is_private(path)
    certificate.server_context(folder=folder)
    assert kept(folder).serial_number != first
    assert certificate.key_is_private(path)


def test_a_pipe_in_its_place_is_not_waited_for(folder: str) -> None:
    os.makedirs(folder)
    os.mkfifo(os.path.join(folder, certificate.FILE), 0o600)
    certificate.server_context(folder=folder)
    assert kept(folder)


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(folder: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    os.makedirs(folder)
    path = Path(folder, certificate.FILE)
    path.symlink_to(target)
    certificate.server_context(folder=folder)
    assert target.read_text() == "precious"
    assert not path.is_symlink()
    assert kept(folder)


def test_a_place_that_cannot_be_written_is_reported_and_leaves_nothing(folder: str) -> None:
    os.makedirs(os.path.join(folder, certificate.FILE, "in the way"))
    with pytest.raises(TokenStoreError, match=r"loopback\.pem") as caught:
        certificate.server_context(folder=folder)
    assert caught.value.problem == "unwritable"
    assert os.listdir(folder) == [certificate.FILE]


def test_processes_that_create_it_at_once_all_end_with_a_working_pair(folder: str) -> None:
    program = (
        "import sys; from webex_loopback import certificate\n"
        "sys.stdin.read()\n"
        "for _ in range(5): certificate.server_context(folder=sys.argv[1]); "
        "certificate.server_context(folder=sys.argv[1], hosts=['127.0.0.9'])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, folder], stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdin
        process.stdin.close()
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    context = certificate.server_context(folder=folder)
    assert served(context, trust=os.path.join(folder, certificate.FILE), name="localhost")
    assert os.listdir(folder) == [certificate.FILE]


def test_a_pair_that_cannot_be_loaded_after_all_is_replaced(folder: str) -> None:
    # As when another process replaces the file between the two times that OpenSSL opens it.
    certificate.server_context(folder=folder)
    first = kept(folder).serial_number
    with open(os.path.join(folder, certificate.FILE), "a") as file:
        file.write(BROKEN)
    assert certificate.server_context(folder=folder)
    assert kept(folder).serial_number != first


# The user's own certificate


class Own:
    """PEM files as `mkcert` would leave them."""

    def __init__(self, folder: Path, *names: str, not_after: datetime.datetime | None = None) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(*names, not_after=not_after)
        self.cert, self.key, self.trust = (str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem"))
        Path(self.cert).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        self.authority.cert_pem.write_to_path(self.trust)


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path, "localhost", "127.0.0.1")


def refusal(
    own: Own, folder: str, *, hosts: tuple[str, ...] = ("127.0.0.1",), now: float | None = None
) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        certificate.server_context(folder=folder, cert=own.cert, key=own.key, hosts=hosts, now=now)
    assert not os.path.exists(folder)
    found = certificate.describe(folder=folder, cert=own.cert, key=own.key, hosts=hosts, now=now)
    assert found["problem"]
    assert "WEBEX_TLS_" in str(caught.value) + caught.value.remedy
    return caught.value


def test_the_users_own_certificate_is_served(own: Own, folder: str) -> None:
    context = certificate.server_context(folder=folder, cert=own.cert, key=own.key, hosts=["127.0.0.1", "LOCALHOST"])
    assert served(context, trust=own.trust, name="127.0.0.1")[0] == "http/1.1"
    assert not os.path.exists(folder)


def test_a_tilde_in_the_settings_is_the_home_folder(
    own: Own, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert certificate.server_context(folder=folder, cert="~/cert.pem", key="~/key.pem", hosts=["localhost"])


@pytest.mark.parametrize(
    ("cert", "key", "missing"),
    [("cert.pem", "", "WEBEX_TLS_KEY"), ("", "key.pem", "WEBEX_TLS_CERT")],
)
def test_one_setting_without_the_other_is_refused(folder: str, cert: str, key: str, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not") as caught:
        certificate.server_context(folder=folder, cert=cert, key=key)
    assert caught.value.setting == missing


def test_files_that_are_not_there_are_refused(own: Own, folder: str) -> None:
    os.unlink(own.key)
    assert refusal(own, folder).setting == "WEBEX_TLS_KEY"
    os.unlink(own.cert)
    error = refusal(own, folder)
    assert error.setting == "WEBEX_TLS_CERT"
    assert "No such file" in str(error)


def test_files_that_are_no_pem_are_refused(own: Own, folder: str) -> None:
    content = Path(own.key).read_text()
    Path(own.key).write_text("not a key")
    error = refusal(own, folder)
    assert error.setting == "WEBEX_TLS_KEY"
    assert error.__cause__ is None
    Path(own.key).write_text(content)
    Path(own.cert).write_text("not a certificate")
    assert refusal(own, folder).setting == "WEBEX_TLS_CERT"


def test_a_key_of_another_certificate_is_refused(own: Own, folder: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own.key = Own(tmp_path / "other", "localhost").key
    error = refusal(own, folder)
    assert error.setting == "WEBEX_TLS_KEY"
    assert "does not belong" in str(error)


def test_an_encrypted_key_is_refused_instead_of_asking_for_its_passphrase(own: Own, folder: str) -> None:
    key = serialization.load_pem_private_key(Path(own.key).read_bytes(), password=None)
    Path(own.key).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    error = refusal(own, folder)
    assert error.setting == "WEBEX_TLS_KEY"
    assert "encrypted" in str(error)


def test_a_certificate_outside_its_time_is_refused(folder: str, tmp_path: Path) -> None:
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    own = Own(tmp_path, "127.0.0.1", not_after=tomorrow)
    assert certificate.server_context(folder=folder, cert=own.cert, key=own.key, hosts=["127.0.0.1"])
    error = refusal(own, folder, now=tomorrow.timestamp())
    assert error.setting == "WEBEX_TLS_CERT"
    assert "expired on" in str(error)
    assert "not valid before 20" in str(refusal(own, folder, now=0))


def test_a_certificate_for_other_names_is_refused(own: Own, folder: str) -> None:
    error = refusal(own, folder, hosts=("localhost", "::1"))
    assert error.setting == "WEBEX_TLS_CERT"
    assert "not valid for ::1, only for localhost, 127.0.0.1" in str(error)


def test_a_certificate_without_any_name_is_refused(own: Own, folder: str) -> None:
    own.cert = own.trust  # an authority's certificate has none
    own.authority.private_key_pem.write_to_path(own.key)
    assert "no name at all" in str(refusal(own, folder))


def test_a_pair_that_openssl_refuses_is_reported(own: Own, folder: str) -> None:
    # The leaf is fine; what follows it in the chain is not.
    with open(own.cert, "a") as file:
        file.write(BROKEN)
    with pytest.raises(ConfigurationError, match="refused by OpenSSL"):
        certificate.server_context(folder=folder, cert=own.cert, key=own.key, hosts=["localhost"])


# What doctor shows


def test_describe_says_what_is_kept(folder: str) -> None:
    now = time.time()
    path = os.path.join(folder, certificate.FILE)
    nothing = certificate.describe(folder=folder)
    assert (nothing["path"], nothing["names"], nothing["not_after"], nothing["problem"]) == (path, [], None, "")
    assert not os.path.exists(folder)
    certificate.server_context(folder=folder, now=now)
    found = certificate.describe(folder=folder, now=now)
    assert found == {
        "path": path,
        "names": ["localhost", "127.0.0.1", "::1"],
        "not_after": int(now) + 362 * DAY,
        "self_signed": True,
        "private": True,
        "problem": "",
    }
    assert "new one" in certificate.describe(folder=folder, now=now + 350 * DAY)["problem"]
    os.chmod(path, 0o640)
    assert certificate.describe(folder=folder, now=now)["private"] is False
    Path(path).write_text("garbage")
    assert certificate.describe(folder=folder)["problem"]


def test_describe_says_what_the_user_set(own: Own, folder: str) -> None:
    os.chmod(own.key, 0o644)
    found = certificate.describe(folder=folder, cert=own.cert, key=own.key, hosts=["localhost"])
    assert (found["path"], found["self_signed"], found["private"]) == (own.cert, False, False)
    assert (found["names"], found["problem"]) == (["localhost", "127.0.0.1"], "")
    assert certificate.describe(folder=folder, cert=own.cert, hosts=["localhost"])["problem"]
    missing = certificate.describe(folder=folder, cert="/nowhere/cert.pem", key=own.key)
    assert missing["problem"] == "there is no such file"
