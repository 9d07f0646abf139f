"""Every line of the log is JSON, whoever writes it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.servers import ROOT

PROGRAM = """
import logging
from chatserver.observability import logs
logs.configure("info", "json", "relay")
try:
    raise ValueError('"no", said the client')
except ValueError:
    logging.getLogger("library").exception('a "quoted" text\\nof two lines, %s', "\\x00\\ud800")
"""


def test_the_line_of_a_library_has_the_form_of_ours() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=-1, check=True)
    (text,) = ran.stdout.decode().splitlines()
    line = json.loads(text)
    assert set(line) == {"logger", "event", "level", "timestamp", "process", "exception"}
    assert line["event"].startswith('a "quoted" text\nof two lines, ')
    assert (line["logger"], line["level"], line["process"]) == ("library", "error", "relay")
    assert line["timestamp"].endswith("Z")
    assert line["exception"].endswith('ValueError: "no", said the client')
