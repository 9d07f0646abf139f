"""Describes the error of a request in a few words.

The libraries' own texts are not used: they contain the host, which may be secret like the rest of the
URL.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final

import aiohttp

from .ssrf_guard import RefusedAddress

CERTIFICATES: Final = {
    10: "it has expired",
    18: "it is self-signed",
    19: "its issuer is not trusted",
    20: "its issuer is not trusted",
    62: "it was issued for another host",
    64: "it was issued for another address",
}
"""By OpenSSL's verify code."""


def error_text(error: aiohttp.ClientError | OSError) -> str:
    """A description of the error for people, without the host or the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            code = getattr(cause, "verify_code", 0)
            return f"TLS: its certificate is refused: {CERTIFICATES.get(code, f'code {code}')}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            cause = getattr(error, "os_error", error)
            reason = getattr(cause, "reason", None) or type(cause).__name__
            return f"TLS failed: {reason.lower().replace('_', ' ')}"
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            again = cause.errno == socket.EAI_AGAIN
            return "its host name cannot be resolved at the moment" if again else "no such host"
        case aiohttp.ClientConnectorError(os_error=RefusedAddress() as cause):
            return str(cause)
        case aiohttp.ClientConnectorError(os_error=cause):
            return _no_connection(cause)
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without an answer"
        case aiohttp.ClientResponseError():
            return "did not answer in HTTP, or with headers that are too long"
        case OSError(errno=errno.ECONNRESET | errno.EPIPE):
            return "closed the connection without an answer"
    return f"request failed: {type(error).__name__}"


def _no_connection(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "refused the connection"
    if error.errno:
        return f"connection failed: {os.strerror(error.errno).lower()}"
    return "connection failed"
