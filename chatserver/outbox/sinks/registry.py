"""The registry of sinks: URL schemes, and the sink of each.

A sink's module is imported when an endpoint needs it, because it may need an extra.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..endpoints import BadEndpoint, Endpoint
from .sink import Sink


def _webhook() -> type[Sink]:
    from .webhook import Webhook  # noqa: PLC0415  see above

    return Webhook


@dataclass(frozen=True, slots=True)
class Registered:
    load: Callable[[], type[Sink]]
    extra: str = ""
    """The extra that installs what the sink's module imports."""


SINKS = {
    "http": Registered(_webhook),
    "https": Registered(_webhook),
}
"""By URL scheme."""


def sink_of(url: str) -> type[Sink]:
    """The sink for a URL. Raises BadEndpoint if its scheme is unknown or its extra is not installed."""
    scheme, separator, _ = url.partition("://")
    registered = SINKS.get(scheme.lower()) if separator else None
    if registered is None:
        *most, last = [f"{scheme}://" for scheme in SINKS]
        raise BadEndpoint(f"must start with {' or '.join([', '.join(most), last])}.")
    try:
        return registered.load()
    except ModuleNotFoundError as error:
        if not registered.extra:
            raise
        raise BadEndpoint(
            f"needs {error.name}, which is not installed: pip install 'chatserver[{registered.extra}]'."
        ) from None


def build(endpoint: Endpoint) -> Sink:
    """A new sink for an endpoint."""
    return sink_of(endpoint.url)(endpoint)
