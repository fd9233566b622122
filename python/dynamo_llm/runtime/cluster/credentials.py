# SPDX-License-Identifier: Apache-2.0
"""Certificates and passwords for the servers and the other processes of a cluster."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.secret import Secret

Variables = dict[str, str | None]
"""Environment variables; None for those that must not be set."""


@dataclass(frozen=True)
class _Certificates:
    """The keys that all objects of ``tls`` have."""

    ca: str = ""
    """PEM file with the CA certificate that signed those of the servers or of all processes."""
    cert: str = ""
    """File with this process's certificate."""
    key: str = ""
    """File with the certificate's key, without a passphrase."""


@dataclass(frozen=True)
class Etcd(_Certificates):
    """``tls.etcd``: certificates, or a user name and a password. Dynamo sends one of the two. ``cert`` is
    required with ``ca``, even if etcd does not request it.
    """

    username: str = ""
    """etcd user name."""
    password: Secret | None = None
    """The password of ``username``."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: a key is missing or conflicts with another."""
        _check_together(self, where, ("username", "password"))
        if self.ca or self.cert or self.key:
            _check_together(self, where, ("ca", "cert", "key"))
            if self.username:
                raise InvalidConfigError(
                    f'"{where}" of the configuration has certificates and a password, but NVIDIA Dynamo '
                    f"sends only one of them: omit the password, and create an etcd user named like the "
                    f"certificate's common name"
                )

    def variables(self) -> Variables:
        """Returns Dynamo's variables, including secrets; they contain the text of the files."""
        return {
            "ETCD_AUTH_CA": _text(self.ca),
            "ETCD_AUTH_CLIENT_CERT": _text(self.cert),
            "ETCD_AUTH_CLIENT_KEY": _text(self.key),
            "ETCD_AUTH_USERNAME": self.username or None,
            "ETCD_AUTH_PASSWORD": _reveal(self.password),
        }


@dataclass(frozen=True)
class Nats(_Certificates):
    """``tls.nats``: certificates, ``cert`` only if the server requests it, and one authentication method."""

    username: str = ""
    """NATS user name."""
    password: Secret | None = None
    """The password of ``username``."""
    token: Secret | None = None
    """A token, instead of a user."""
    nkey: Secret | None = None
    """The seed of an NKey, instead of a user."""
    credentials: str = ""
    """File with a JWT and its NKey, instead of a user."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: a key is missing or conflicts with another."""
        _check_together(self, where, ("username", "password"))
        _check_together(self, where, ("cert", "key"))
        if self.cert and not self.ca:
            raise InvalidConfigError(f'"{where}.cert" of the configuration requires "{where}.ca"')
        methods = [name for name in ("username", "token", "nkey", "credentials") if getattr(self, name)]
        if len(methods) > 1:
            raise InvalidConfigError(
                f'"{where}" of the configuration has {" and ".join(methods)}; use one of them'
            )

    def variables(self) -> Variables:
        """Returns Dynamo's variables, including secrets."""
        return {
            "NATS_TLS_CA_CERT_PATH": self.ca or None,
            "NATS_TLS_CLIENT_CERT_PATH": self.cert or None,
            "NATS_TLS_CLIENT_KEY_PATH": self.key or None,
            "NATS_TLS_INSECURE": None,
            "NATS_AUTH_USERNAME": self.username or None,
            "NATS_AUTH_PASSWORD": _reveal(self.password),
            "NATS_AUTH_TOKEN": _reveal(self.token),
            "NATS_AUTH_NKEY": _reveal(self.nkey),
            "NATS_AUTH_CREDENTIALS_FILE": self.credentials or None,
        }


@dataclass(frozen=True)
class RequestPlane(_Certificates):
    """``tls.request_plane``: requests and answers over TCP. Each process both listens and connects, so each
    needs a certificate, issued for its address or for ``server_name``.
    """

    mutual: bool = True
    """Whether processes that connect to this one must present a certificate."""
    server_name: str = ""
    """The name in all certificates, if they are not issued for addresses."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: a key is missing."""
        _check_together(self, where, ("ca", "cert", "key"))
        if not self.ca:
            raise InvalidConfigError(f'"{where}" of the configuration requires "ca", "cert", and "key"')

    def variables(self) -> Variables:
        """Returns Dynamo's variables."""
        return {
            "DYN_TCP_TLS_CERT_PATH": self.cert,
            "DYN_TCP_TLS_KEY_PATH": self.key,
            "DYN_TCP_TLS_CA_CERT_PATH": self.ca,
            # Presented to any server that requests it, whether or not this process requests one.
            "DYN_TCP_TLS_CLIENT_CERT_PATH": self.cert,
            "DYN_TCP_TLS_CLIENT_KEY_PATH": self.key,
            "DYN_TCP_TLS_CLIENT_CA_CERT_PATH": self.ca if self.mutual else None,
            "DYN_TCP_TLS_SERVER_NAME": self.server_name or None,
            "DYN_TCP_TLS_INSECURE": None,
        }


_Plane = TypeVar("_Plane", Etcd, Nats, RequestPlane)


def read(kind: type[_Plane], given: Mapping[str, Any], where: str) -> _Plane:
    """Validates one object of ``tls``.

    :param where: its path in the configuration, for messages.
    :raises InvalidConfigError: an unknown key, a wrong value, or a file that cannot be used.
    """
    plane = options.read(kind, given, where)
    plane.check(where)
    _check_files(plane, where)
    return plane


def _check_together(plane: _Certificates, where: str, names: tuple[str, ...]) -> None:
    """Requires all of these keys or none."""
    missing = [name for name in names if not getattr(plane, name)]
    if missing and len(missing) < len(names):
        given = next(name for name in names if name not in missing)
        wanted = " and ".join(f'"{where}.{name}"' for name in missing)
        raise InvalidConfigError(f'"{where}.{given}" of the configuration also requires {wanted}')


def _check_files(plane: _Certificates, where: str) -> None:
    for name in ("ca", "cert", "key", "credentials"):
        if path := getattr(plane, name, ""):
            try:
                text = Path(path).read_text()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is not a text file"
                raise InvalidConfigError(
                    f'"{where}.{name}" of the configuration: cannot read "{path}": {reason}'
                ) from None
            if name == "key" and "ENCRYPTED" in text:
                raise InvalidConfigError(
                    f'"{where}.key" of the configuration: "{path}" has a passphrase; NVIDIA Dynamo needs a '
                    f"key without one"
                )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if plane.ca:
        try:
            context.load_verify_locations(plane.ca)
        except ssl.SSLError:
            raise InvalidConfigError(
                f'"{where}.ca" of the configuration: "{plane.ca}" does not contain a PEM certificate'
            ) from None
    if plane.cert:
        try:
            context.load_cert_chain(plane.cert, plane.key)
        except ssl.SSLError:
            raise InvalidConfigError(
                f'"{where}.cert" of the configuration: "{plane.cert}" does not contain a PEM certificate, '
                f'or "{plane.key}" is not its key'
            ) from None


def _reveal(secret: Secret | None) -> str | None:
    return secret.reveal() or None if secret is not None else None


def _text(path: str) -> str | None:
    return Path(path).read_text() if path else None
