"""The settings of webhooks: the endpoints are as configured, or the error names the wrong line."""

from __future__ import annotations

import asyncio
import tomllib
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from chatserver.commands import doctor
from chatserver.outbox.endpoints import SinkOptions, shown
from chatserver.outbox.event import TYPES
from chatserver.outbox.sinks.registry import SINKS, Registered, build
from chatserver.settings import BadSettings, Settings
from tests.support.batch_sink import BatchSink
from tests.support.command import run
from tests.support.servers import ROOT, free_port

SECRET = "a-secret-that-is-long-enough-for-production"
OLD = "the-secret-before-it-that-is-as-long-as-that"
PRODUCTION = {
    "ENV": "production",
    "AUTH_JWT_SECRET": SECRET,
    "INTERNAL_API_SECRET": SECRET,
    "WEBHOOK_SECRET": SECRET,
}
CRM = f'[crm]\nurl = "https://crm.example/chat"\nsecret = "{SECRET}"\n'


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Reads the settings of an environment. `file`: the content of WEBHOOKS_FILE."""

    def read(file: str | bytes | None = None, **env: str) -> Settings:
        if file is not None:
            path = tmp_path / "hooks.toml"
            path.write_bytes(file if isinstance(file, bytes) else file.encode())
            env["WEBHOOKS_FILE"] = str(path)
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        return Settings.from_environment()

    return read


def refused(settings, file: str | bytes | None = None, **env: str) -> str:
    with pytest.raises(BadSettings) as sentence:
        settings(file, **env)
    return str(sentence.value)


def test_without_settings_there_is_no_endpoint(settings) -> None:
    read = settings()
    assert read.webhooks == ()
    options = SinkOptions(timeout_s=10, concurrency=64, allow_link_local=False)
    assert (read.webhook_relay, read.webhook_options) == (True, options)
    assert (read.webhook_retry_first_s, read.webhook_retry_max_s) == (1, 3600)
    assert read.webhook_give_up_s == 86_400


def test_the_url_alone_is_an_endpoint_for_every_type(settings) -> None:
    read = settings(
        WEBHOOK_URL="https://user:pass@Example.com:8443/hooks?key=1",
        WEBHOOK_SECRET=f"{SECRET}, {OLD}",
    )
    (endpoint,) = read.webhooks
    assert (endpoint.name, endpoint.url) == (
        "default",
        "https://user:pass@Example.com:8443/hooks?key=1",
    )
    assert endpoint.secrets == (SECRET, OLD)
    assert endpoint.types == frozenset(TYPES)


def test_a_file_adds_endpoints(settings) -> None:
    file = f"""
        [crm]
        url = "http://10.0.0.7:8080/chat"
        secret = ["{SECRET}", "{OLD}"]
        types = ["user.online", "user.offline"]

        [a-2]
        url = "https://[2001:db8::1]/x"
        secret = "{OLD}"
    """
    read = settings(file, WEBHOOK_URL="http://127.0.0.1/hooks", **PRODUCTION)
    assert [endpoint.name for endpoint in read.webhooks] == ["default", "crm", "a-2"]
    _, crm, other = read.webhooks
    assert (crm.url, crm.secrets) == ("http://10.0.0.7:8080/chat", (SECRET, OLD))
    assert crm.types == {"user.online", "user.offline"}
    assert (other.secrets, other.types) == ((OLD,), frozenset(TYPES))


def test_default_is_a_name_like_any_other_without_the_url(settings) -> None:
    assert [endpoint.name for endpoint in settings(CRM.replace("crm]", "default]")).webhooks] == [
        "default"
    ]
    sentence = refused(settings, CRM.replace("crm]", "default]"), WEBHOOK_URL="http://a.example")
    assert "hooks.toml: [default] is the endpoint of WEBHOOK_URL" in sentence


def test_the_repr_of_the_settings_shows_no_secret(settings) -> None:
    read = settings(CRM, WEBHOOK_URL="https://user:password@a.example", WEBHOOK_SECRET=OLD)
    shown = repr(read) + repr(read.webhooks)
    for secret in (SECRET, OLD, "password"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a.example/x", "must start with http:// or https://"),
        ("a.example/x", "must start with http:// or https://"),
        ("http://", "must contain a host"),
        ("http:///hooks", "must contain a host"),
        ("https://user:the-password@/hooks", "must contain a host"),
        ("https://user:the-password@a.example:port/", "its host or port is not valid"),
        ("https://a.example:70000/", "its host or port is not valid"),
        ("https://a.example:0/", "its port must not be 0"),
        ("https://[::1/", "its host or port is not valid"),
        ("https://a..example/", "its host or port is not valid"),
        (f"https://{'a' * 64}.example/", "its host or port is not valid"),
        ("https://a.example/a b", "without spaces"),
        ("https://a.example\\@b.example/", "without spaces or backslashes"),
        (f"https://a.example/{'x' * 4096}", "at most 4096 characters"),
        ("http://169.254.169.254/latest", "its host is a cloud's metadata service"),
        ("http://169.254.7.8/", "its host is link-local"),
        ("http://[fe80::1]/", "its host is link-local"),
        ("http://2852039166/latest", "its host is a cloud's metadata service"),
        ("http://[::ffff:169.254.169.254]/", "its host is a cloud's metadata service"),
    ],
)
def test_an_unusable_url_is_refused(settings, url: str, words: str) -> None:
    sentence = refused(settings, WEBHOOK_URL=url)
    assert sentence.startswith("WEBHOOK_URL: ")
    assert words in sentence
    file = CRM.replace("https://crm.example/chat", url.replace("\\", "\\\\"))
    sentence = refused(settings, file, WEBHOOK_URL="")
    assert "hooks.toml: [crm] url: " in sentence
    assert words in sentence
    assert "the-password" not in sentence


QUEUE = '[queue]\nurl = "batch://user:the-password@one:9092,two:9092/events"\n'


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheme `batch://` exists."""
    monkeypatch.setitem(SINKS, "batch", Registered(lambda: BatchSink))


@pytest.mark.usefixtures("batch")
def test_a_registered_scheme_is_accepted_and_checked_by_its_sink(settings) -> None:
    (queue,) = settings(QUEUE).webhooks
    assert (queue.url.partition(":")[0], queue.secrets) == ("batch", ())
    assert isinstance(build(queue), BatchSink)
    assert build(replace(queue, url=queue.url.upper())), "a scheme in capitals is the same"
    assert shown(queue.url) == "batch://one:9092,two:9092/events"
    (signed,) = settings(QUEUE + f'secret = "{SECRET}"').webhooks
    assert signed.secrets == (SECRET,)
    sentence = refused(settings, QUEUE.replace("one:9092", "nowhere"))
    assert sentence.endswith("hooks.toml: [queue] url: its broker is nowhere.")
    assert "must start with http://, https:// or batch://." in refused(
        settings, QUEUE.replace("batch:", "ftp:")
    )


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = Registered(lambda: import_module("no_such_client.sink").Sink, extra="batch")
    monkeypatch.setitem(SINKS, "batch", registered)
    assert refused(settings, QUEUE).endswith(
        "hooks.toml: [queue] url: needs no_such_client, which is not installed: "
        "pip install 'chatserver[batch]'."
    )


def test_a_link_local_address_can_be_allowed(settings) -> None:
    url = "http://169.254.7.8/hooks"
    read = settings(
        CRM.replace("https://crm.example/chat", url),
        WEBHOOK_URL=url,
        WEBHOOK_ALLOW_LINK_LOCAL="true",
    )
    assert [endpoint.url for endpoint in read.webhooks] == [url, url]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("[crm", "is not valid TOML: "),
        (b"[crm]\nurl = '\xff'", "is not valid TOML: it is not UTF-8"),
        ('url = "https://a.example"', ": url is outside a table"),
        (
            '[Crm]\nurl = "https://a.example"',
            "[Crm]: a name has 1 to 32 characters: a-z, 0-9 and -",
        ),
        ('["a:b"]\n', "[a:b]: a name has"),
        (f"[{'a' * 33}]\n", "]: a name has"),
        (CRM + 'colour = "red"', "[crm] colour: unknown field; the fields are url, secret"),
        (CRM + "[crm.more]\n", "[crm] more: unknown field"),
        (f'[crm]\nsecret = "{SECRET}"', "[crm] url: is missing"),
        (CRM.replace('"https://crm.example/chat"', "7"), "[crm] url: must start with http://"),
        ('[crm]\nurl = "https://a.example"', "[crm] secret: is missing"),
        (CRM.replace(f'"{SECRET}"', "[]"), "[crm] secret: must be a non-empty string"),
        (CRM.replace(f'"{SECRET}"', '" "'), "[crm] secret: must be a non-empty string"),
        (
            CRM.replace(f'"{SECRET}"', f'["{SECRET}", 7]'),
            "[crm] secret: must be a non-empty string",
        ),
        (CRM + 'types = "message.created"', "[crm] types: must be a list"),
        (CRM + "types = []", "[crm] types: must be a list"),
        (
            CRM + 'types = ["message.new"]',
            "[crm] types: 'message.new' is not an event type. The types are",
        ),
        (CRM + 'types = [""]', "[crm] types: '' is not an event type"),
        (CRM + "types = [[]]", "[crm] types: '[]' is not an event type"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(settings, file: str | bytes, words: str) -> None:
    sentence = refused(settings, file)
    assert sentence.startswith("WEBHOOKS_FILE ")
    assert "hooks.toml" in sentence
    assert words in sentence
    assert SECRET not in sentence


def test_the_error_for_an_unknown_type_lists_the_known_ones(settings) -> None:
    sentence = refused(settings, CRM + 'types = ["message.created", "message.read"]')
    assert all(type_ in sentence for type_ in TYPES)


def test_a_missing_file_is_named(settings, tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    sentence = refused(settings, WEBHOOKS_FILE=str(missing))
    assert sentence == f"WEBHOOKS_FILE {missing} cannot be read: No such file or directory."
    assert "cannot be read" in refused(settings, WEBHOOKS_FILE=str(tmp_path))


@pytest.mark.parametrize("secret", ['"too-short-for-it"', f'["{SECRET}", "too-short-for-it"]'])
def test_production_needs_long_secrets_in_the_file(settings, secret: str) -> None:
    file = CRM.replace(f'"{SECRET}"', secret)
    assert [endpoint.name for endpoint in settings(file).webhooks] == ["crm"]
    sentence = refused(settings, file, **PRODUCTION)
    assert "[crm] secret: is too short: production needs 32 bytes or more" in sentence
    assert "too-short-for-it" not in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WEBHOOK_RELAY", "maybe"),
        ("WEBHOOK_TIMEOUT_S", "0"),
        ("WEBHOOK_TIMEOUT_S", "nan"),
        ("WEBHOOK_TIMEOUT_S", "61"),
        ("WEBHOOK_CONCURRENCY", "0"),
        ("WEBHOOK_CONCURRENCY", "1001"),
        ("WEBHOOK_CONCURRENCY", "2.5"),
        ("WEBHOOK_RETRY_FIRST_S", "0"),
        ("WEBHOOK_RETRY_MAX_S", "90000"),
        ("WEBHOOK_RETRY_MAX_S", "0.5"),  # less than the first pause
        ("WEBHOOK_GIVE_UP_S", "0"),
        ("WEBHOOK_GIVE_UP_S", "2592001"),
        ("WEBHOOK_ALLOW_LINK_LOCAL", "perhaps"),
    ],
)
def test_a_bad_value_is_refused_by_name(settings, key: str, value: str) -> None:
    assert key in refused(settings, **{key: value})


def test_the_example_is_valid_in_production(settings) -> None:
    text = (ROOT / "config" / "webhooks.example.toml").read_text()
    read = settings(text, **PRODUCTION)
    assert [endpoint.name for endpoint in read.webhooks] == list(tomllib.loads(text))
    for known in TYPES:
        assert known in text


def test_the_example_of_the_environment_has_every_key() -> None:
    text = (ROOT / "config" / "example.env").read_text()
    for key in (
        *("URL", "SECRET", "RELAY", "TIMEOUT_S", "CONCURRENCY", "RETRY_FIRST_S"),
        *("RETRY_MAX_S", "GIVE_UP_S", "ALLOW_LINK_LOCAL"),
    ):
        assert f"#WEBHOOK_{key}=" in text
    assert "#WEBHOOKS_FILE=" in text


async def test_a_bad_file_prevents_the_start_with_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "hooks.toml"
    file.write_text(CRM + "colour = 1")
    ran = await run("serve", DATA_DIR=str(tmp_path), WEBHOOKS_FILE=str(file))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"WEBHOOKS_FILE {file}: [crm] colour: ")
    assert len(ran.err.splitlines()) == 1


async def test_the_doctor_connects_to_every_endpoint(tmp_path: Path) -> None:
    receiver = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    file = tmp_path / "hooks.toml"
    urls = {
        "well": f"http://user:the-password@127.0.0.1:{port}/hooks?the-key",
        "closed": f"http://127.0.0.1:{free_port()}/hooks",
        "nowhere": "https://no-such-host.invalid/",
        "plain": f"https://127.0.0.1:{port}/",
    }
    file.write_text(
        "".join(f'[{name}]\nurl = "{url}"\nsecret = "{SECRET}"\n' for name, url in urls.items())
    )
    ran = await run(
        "doctor", DATA_DIR=str(tmp_path), WEBHOOKS_FILE=str(file), PORT="0", WS_PORT="0"
    )
    receiver.close()
    assert ran.code == 1
    found = [line for line in ran.out.splitlines() if "webhook " in line]
    assert found[0] == f"OK       webhook well: http://127.0.0.1:{port}/hooks accepts connections"
    assert "PROBLEM  webhook closed: " in found[1]
    assert "connection refused" in found[1]
    assert "the DNS has no host no-such-host.invalid" in found[2]
    assert "PROBLEM  webhook plain: " in found[3]
    for secret in ("the-password", "the-key", SECRET):
        assert secret not in ran.out + ran.err


async def test_the_doctor_refuses_an_unknown_scheme(tmp_path: Path) -> None:
    url = "kafka://user:the-password@broker:9092/"
    ran = await run("doctor", WEBHOOK_URL=url, DATA_DIR=str(tmp_path), PORT="0", WS_PORT="0")
    assert ran.code == 1
    sentence = "settings: WEBHOOK_URL: must start with http:// or https://."
    assert f"PROBLEM  {sentence}" in ran.out
    assert "the-password" not in ran.out + ran.err


@pytest.mark.usefixtures("batch")
async def test_the_doctor_asks_the_sink_of_every_endpoint(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(sink: BatchSink) -> str:
        await asyncio.Event().wait()
        return ""

    def found() -> doctor.Finding:
        return next(finding for finding in findings if finding.subject == "queue queue")

    settings(QUEUE, PORT="0", WS_PORT="0")
    findings = await doctor.examine()
    assert found() == doctor.Finding("queue queue", "is not checked")
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.1)
    monkeypatch.setattr(BatchSink, "probe", no_answer)
    findings = await doctor.examine()
    assert found().problem
    assert found().detail.startswith("batch://one:9092,two:9092/events: no answer within")


async def test_the_doctor_names_a_refused_address(tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path), "PORT": "0", "WS_PORT": "0"}
    ran = await run("doctor", WEBHOOK_URL="http://169.254.7.8/", **settings)
    assert ran.code == 1
    assert "WEBHOOK_ALLOW_LINK_LOCAL" in ran.out
