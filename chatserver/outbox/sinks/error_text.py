"""What went wrong with a request, in a short sentence.

The texts of the libraries are not used: they name the host, which may be a secret like the rest of
the URL.
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
    62: "it is for another host",
    64: "it is for another address",
}
"""By OpenSSL's verify code."""


def error_text(error: aiohttp.ClientError | OSError) -> str:
    """What to tell people of an error, without the host or the URL."""
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
            return "its host name cannot be looked up at the moment" if again else "no such host"
        case aiohttp.ClientConnectorError(os_error=RefusedAddress() as cause):
            return str(cause)
        case aiohttp.ClientConnectorError(os_error=cause):
            return _no_connection(cause)
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without an answer"
        case aiohttp.ClientResponseError():
            return "answered what is not HTTP, or headers that are too long"
        case OSError(errno=errno.ECONNRESET | errno.EPIPE):
            return "closed the connection without an answer"
    return f"could not be posted to: {type(error).__name__}"


def _no_connection(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "refused the connection"
    if error.errno:
        return f"cannot be connected to: {os.strerror(error.errno).lower()}"
    return "cannot be connected to"
