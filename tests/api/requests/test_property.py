"""For any input, a schema either makes a valid request or names the errors. Nothing else can happen."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatserver import json_codec
from chatserver.api.requests import conversations, jobs, messages, users, webhooks
from chatserver.api.requests.schema import Request, parse
from chatserver.errors import ValidationFailed

KINDS = sorted(Request.__subclasses__(), key=lambda kind: kind.__name__)
assert {kind.__module__ for kind in KINDS} == {
    module.__name__ for module in (conversations, jobs, messages, users, webhooks)
}

text = st.text(st.characters(codec=None), max_size=20)
"""With lone surrogates, because JSON can express them."""
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)

likely = st.sampled_from(
    [
        *(
            "",
            " ",
            "x",
            "alice",
            "direct",
            "group",
            "member",
            "self",
            "active",
            "👍",
            "👩‍👩‍👧",
            ":ok:",
            "1",
        ),
        *("https://a.example/x", "http://[", "https://\ud800/", "a\0b", "x" * 129, "x" * 10_001),
        *(0, 1, -1, 1.0, 2**53, 2**64, 10**400, math.nan, math.inf, True, None),
        *(
            [],
            {},
            ["x"],
            [1],
            [[]],
            {"$gt": ""},
            {"a": "b"},
            {"a": {}},
            {"a": 2**70},
            {"\ud800": 1},
        ),
        *([{"type": "file", "url": "https://a.example/x"}], [{"type": "file", "$where": 1}]),
    ]
)


def payloads(kind: type[Request]) -> st.SearchStrategy[Any]:
    """Nearly valid objects: mostly the right keys, with all sorts of values."""
    keys = [field.data_key for field in kind().fields.values()]
    known = st.fixed_dictionaries({}, optional={key: likely | anything for key in keys if key})
    unknown = st.dictionaries(text, scalars, max_size=1)
    return st.one_of(known, st.builds(lambda a, b: {**b, **a}, known, unknown), anything)


def fits(value: Any, kind: Any) -> bool:
    """Returns True if a value has the annotated type."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, choice) for choice in inside)
    if origin is tuple:
        return type(value) is tuple and all(fits(item, inside[0]) for item in value)
    if origin is typing.Literal:
        return value in inside
    if typing.is_typeddict(kind):
        keys = typing.get_type_hints(kind)
        return type(value) is dict and all(
            key in keys and fits(item, keys[key]) for key, item in value.items()
        )
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(key, inside[0]) for key in value)
    return type(value) is kind


def outcome(kind: type[Request], data: Any) -> Any:
    try:
        return parse(kind, data)
    except ValidationFailed as refused:
        return refused


def check(kind: type[Request], data: Any) -> None:
    made = outcome(kind, data)
    if isinstance(made, ValidationFailed):
        assert made.details, "it says what is wrong"
        for field, reasons in made.details.items():
            assert isinstance(field, str)
            assert reasons
            assert all(isinstance(reason, str) for reason in reasons)
        json_codec.encode(made.wire())  # and it can be sent
        return
    for field, annotation in typing.get_type_hints(type(made)).items():
        assert fits(getattr(made, field), annotation), (field, getattr(made, field), annotation)
    assert type(made).__dataclass_params__.frozen
    # An accepted request can be encoded, so no part of it will fail later. Rows of any type are checked later,
    # one by one.
    hints = typing.get_type_hints(type(made))
    judged = [field for field, kind in hints.items() if kind != tuple[Any, ...]]
    json_codec.encode({field: getattr(made, field) for field in judged})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_payload_is_accepted_or_refused_by_name(kind: type[Request]) -> None:
    @given(payloads(kind))
    @settings(max_examples=60, deadline=None)
    def run(data: Any) -> None:
        check(kind, data)

    run()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_unknown_key_is_refused_by_its_name(kind: type[Request]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse(kind, {"$where": 1})
    assert caught.value.details is not None
    assert "$where" in caught.value.details


@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300)
def test_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        value = json_codec.decode(data)
    except ValidationFailed:
        return
    assert value is None or isinstance(value, (bool, int, float, str, list, dict))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 60_000,
        b"\xff",
        b"",
        b'"\\ud800"',
        b"NaN",
    ],
    ids=["deep list", "deep object", "long number", "not UTF-8", "nothing", "surrogate", "NaN"],
)
def test_hostile_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        value = json_codec.decode(body)
    except ValidationFailed:
        return
    for kind in KINDS:
        check(kind, value)
        check(kind, {"content": value, "metadata": {"a": value}, "conversationId": value})
