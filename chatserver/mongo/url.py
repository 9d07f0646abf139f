"""The check of MONGO_URL, before anything connects."""

from __future__ import annotations

import warnings

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri


class BadUrl(ValueError):
    """The URL is not a connection string. The message says why, without a password."""


def check_url(url: str) -> None:
    """Raises BadUrl. Asks no name server."""
    try:
        with warnings.catch_warnings(action="ignore"):  # options of other drivers are no errors
            parse_uri(url.replace("mongodb+srv://", "mongodb://", 1), warn=True)
    except (PyMongoError, ValueError) as error:
        raise BadUrl(str(error)) from None
