"""Health, readiness and metrics in OpenAPI."""

from __future__ import annotations

from ..health import PROBES, Probe
from ..responses.response import Answer
from .json_schema import Document, Shapes

METRICS = """\
# HELP chat_users Users connected to this node.
# TYPE chat_users gauge
chat_users 2.0
"""


def probes(shapes: Shapes) -> Document:
    """Returns the operations of the probes, by path."""
    return {probe.path: {"get": _operation(shapes, probe)} for probe in PROBES}


def _operation(shapes: Shapes, probe: Probe) -> Document:
    return {
        "tags": ["operation"],
        "operationId": f"operation_{probe.handler.__name__}",
        "summary": probe.handler.__doc__,
        # Load balancers and Prometheus have no secret of ours: the network must keep outsiders away.
        "security": [],
        "responses": {
            str(status): {"description": text, "content": _content(shapes, kind)}
            for status, (text, kind) in probe.answers.items()
        },
    }


def _content(shapes: Shapes, kind: type[Answer] | None) -> Document:
    if kind is None:
        return {"text/plain": {"schema": {"type": "string"}, "example": METRICS}}
    return shapes.json(shapes.answer(kind))
