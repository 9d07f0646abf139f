"""Requests about background jobs."""

from __future__ import annotations

from marshmallow import fields, validate

from ...chat.jobs import PageOfJobs
from .schema import MAX_PAGE, Cursor, Request


class ListJobs(Request):
    makes = PageOfJobs
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()
