"""The certificate for an https redirect URI: the user's own, or a self-signed one that is kept and renewed."""

import datetime
import ipaddress
import os
import ssl
import stat
import time
from collections.abc import Sequence
from typing import TypedDict

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webex_loopback import private_file
from webex_loopback.errors import ConfigurationError, TokenStoreError
from webex_loopback.wording import moment, printable

FILE = "loopback.pem"  # key and certificate, so that both are replaced at once
HOSTS = ("localhost", "127.0.0.1", "::1")

_LIFETIME = datetime.timedelta(days=363)  # browsers accept 398 days
_RENEWED_BEFORE_END = 30 * 86_400  # seconds
_REMEDY = (
    "Create a pair with `mkcert localhost 127.0.0.1 ::1` and set WEBEX_TLS_CERT and WEBEX_TLS_KEY to its files, or "
    "remove both settings to use a self-signed certificate."
)


class Description(TypedDict):
    """What a login would serve, for `doctor`."""

    path: str
    names: list[str]
    not_after: float | None  # epoch seconds; None: there is no certificate yet
    self_signed: bool
    private: bool  # whether only this user can use the key
    problem: str  # why the certificate cannot be used, or ""


def server_context(
    *, folder: str, cert: str = "", key: str = "", hosts: Sequence[str] = HOSTS, now: float | None = None
) -> ssl.SSLContext:
    """Return the TLS settings of the loopback server.

    `cert` and `key` are the paths of the user's PEM files, which must be valid for `hosts`. Without them, a self-signed
    certificate is kept in `folder` for up to a year, so that the browser's warning needs to be accepted only once.

    Raises:
        ConfigurationError: `cert` and `key` cannot be used.
        TokenStoreError: The self-signed certificate cannot be written.
    """
    now = time.time() if now is None else now
    found = describe(folder=folder, cert=cert, key=key, hosts=hosts, now=now)
    path, problem = found["path"], found["problem"]
    if not found["self_signed"]:
        if problem:
            what = f"WEBEX_TLS_CERT and WEBEX_TLS_KEY: {problem}."
            raise ConfigurationError(what, setting="WEBEX_TLS_CERT", remedy=_REMEDY)
        return _load(path, os.path.expanduser(key))
    try:
        if problem or found["not_after"] is None:
            private_file.make_private_directory(folder)
            private_file.write_private_file(path, _self_signed(now))
        return _load(path, path)
    except OSError as error:
        raise TokenStoreError(
            f"Could not write the certificate of the loopback server to {printable(path)}: {error.strerror}.",
            problem="unwritable",
            remedy="Make the directory writable, set WEBEX_TLS_CERT and WEBEX_TLS_KEY, or register a redirect URI that "
            "starts with http://127.0.0.1.",
        ) from error


def describe(
    *, folder: str, cert: str = "", key: str = "", hosts: Sequence[str] = HOSTS, now: float | None = None
) -> Description:
    """Describe what `server_context` would serve, without creating or changing a file."""
    own, now = bool(cert or key), time.time() if now is None else now
    path, key = (os.path.expanduser(one) if own else os.path.join(folder, FILE) for one in (cert, key))
    private = key_is_private(key)
    found = Description(path=path, names=[], not_after=None, self_signed=not own, private=private, problem="")
    if own and not (path and key):
        found["problem"] = f"WEBEX_TLS_{'KEY' if path else 'CERT'} is not set"
    elif own or os.path.exists(path):
        problem = printable(_problem(found, key, hosts, now))
        found["problem"] = problem if own or not problem else "the next login will replace it"
    return found


def _problem(found: Description, key: str, hosts: Sequence[str], now: float) -> str:
    """Return why a certificate cannot be used, or ""; complete its description."""
    path = found["path"]
    try:
        certificate = x509.load_pem_x509_certificate(private_file.read_small_file(path))
        found["names"], found["not_after"] = _names(certificate), certificate.not_valid_after_utc.timestamp()
        _load(path, key)
    except (OSError, ValueError) as error:
        rule = "Both must be PEM files; the key must belong to the certificate and have no passphrase"
        return f"{path} and {key} cannot be used: {error}. {rule}"
    starts, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    wanted = HOSTS if found["self_signed"] else hosts
    others = {host.strip("[]").lower() for host in wanted} - set(found["names"])
    if now < starts:
        return f"{path} is not valid before {moment(starts)}"
    if now >= ends - (_RENEWED_BEFORE_END if found["self_signed"] else 0):
        return f"{path} expired on {moment(ends)}"
    if others:
        return f"{path} is valid for {', '.join(found['names']) or 'no name'}, not for {min(others)}"
    return "others could have read its key" if found["self_signed"] and not found["private"] else ""


def key_is_private(path: str) -> bool:
    """Whether a file belongs to this user and nobody else can use it; True if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return True
    return stat.S_ISREG(status.st_mode) and private_file.is_ours(status) and not private_file.readable_by_others(status)


def _load(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key, password="")  # without a password, OpenSSL would ask on the terminal
    return context


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []  # browsers ignore the common name
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*map(str.lower, names.get_values_for_type(x509.DNSName)), *addresses]


def _self_signed(now: float) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    owner = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "webex-loopback on this computer")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost"), owner])
    # The browser's clock may be behind: at the other end of `ssh -L`, or on Windows while we run in WSL.
    starts = datetime.datetime.fromtimestamp(int(now), datetime.UTC) - datetime.timedelta(days=1)
    addresses = [x509.IPAddress(ipaddress.ip_address(host)) for host in HOSTS[1:]]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())  # Firefox refuses a second one with the same issuer and number
        .not_valid_before(starts)
        .not_valid_after(starts + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTS[0]), *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)  # digital_signature only
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
