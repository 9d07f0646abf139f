"""Requests about background jobs."""

from __future__ import annotations

from marshmallow import fields, validate

from ...chat.jobs import PageOfJobs
from .fields import MAX_PAGE, Cursor
from .parse import Request


class ListJobs(Request):
    makes = PageOfJobs
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()
