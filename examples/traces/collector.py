"""A collector that somebody else built, rotel, prints what it receives; this reads what it prints."""

import os
import re
import socket
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
PATIENCE_SECONDS = 30
PAUSE_SECONDS = 0.05

FIELD = re.compile(r"(?: {4})?(Trace ID|Parent ID|ID|Name|Kind|Start time|Status code) *: ?(.*)")
EVENT = re.compile(r" +-> Name: (.*)")
ATTRIBUTE = re.compile(r" +-> ([\w.]+): (\w+)\((.*)\)")


@dataclass
class Span:
    """A span as the collector printed it."""

    resource: dict
    fields: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)
    events: list = field(default_factory=list)

    name = property(lambda self: self.fields["Name"])
    trace = property(lambda self: self.fields["Trace ID"])
    id = property(lambda self: self.fields["ID"])
    parent = property(lambda self: self.fields["Parent ID"])
    kind = property(lambda self: self.fields["Kind"].removeprefix("SPAN_KIND_"))
    start_ns = property(lambda self: int(self.fields["Start time"]))
    status = property(lambda self: self.fields["Status code"].removeprefix("STATUS_CODE_"))


class Collector:
    """rotel, for as long as the context lasts. It listens on this host and keeps nothing but what it prints."""

    def __init__(self, program, output):
        """Takes the program, and the file that it prints to."""
        self._output = Path(output)
        self._port, http_port = _free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self._port}"
        receive = ["--otlp-grpc-endpoint", f"127.0.0.1:{self._port}", "--otlp-http-endpoint", f"127.0.0.1:{http_port}"]
        show = ["--debug-log", "traces", "--debug-log", "metrics", "--debug-log-verbosity", "detailed"]
        self._command = [program, "start", *receive, "--exporter", "blackhole", *show]

    def __enter__(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "ROTEL_"))}
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=environment)
        if not _eventually(self._answers):
            self.__exit__()
            sys.exit(f"the collector does not listen:\n{self.printed()}")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def printed(self):
        """Returns everything that it printed so far."""
        return self._output.read_text(errors="replace")

    def wait_for(self, count):
        """Waits until it has printed so many spans, and metrics: it prints them a moment after it took them."""
        _eventually(lambda: len(self.spans()) >= count and self.metrics())

    def spans(self):
        """Returns the spans that it printed. The last one is whole once the collector has ended."""
        return _parse_spans(self.printed())

    def metrics(self):
        """Returns the names of the metrics that it printed."""
        return set(re.findall(r"Descriptor:\n +-> Name: (\S+)", self.printed()))

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_SECONDS).close()
        except OSError:
            return False
        return True


def install(directory):
    """Makes an environment with the collector in it, unless it is there. Returns the collector's program."""
    python, installed = directory / "bin/python", directory / "installed.txt"
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        print(f"installing {REQUIREMENTS.read_text().strip()} …", flush=True)
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        installed.write_text(REQUIREMENTS.read_text())
    (program,) = directory.glob("lib/python3*/site-packages/rotel/rotel-agent")
    ran = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode != 0:
        sys.exit(f"rotel does not run here: {ran.stdout}It needs the system's libpython of this Python's version.")
    return program


def _parse_spans(text):
    spans, resource, span = [], {}, None
    for line in text.splitlines():
        if line.startswith(("ResourceSpans #", "ResourceMetrics #")):
            resource, span = {}, None
        elif line.startswith("Span #"):
            span = Span(resource)
            spans.append(span)
        elif span and (found := FIELD.fullmatch(line)):
            span.fields[found[1]] = found[2]
        elif span and (found := EVENT.fullmatch(line)):
            span.events.append({"name": found[1]})
        elif found := ATTRIBUTE.fullmatch(line):
            # A resource's attributes come first, a span's next, its events' last.
            into = resource if span is None else span.events[-1] if span.events else span.attributes
            into[found[1]] = _value(found[2], found[3])
    return spans


def _value(kind, text):
    match kind:
        case "Int":
            return int(text)
        case "Slice":
            return re.findall(r"Str\((.*?)\)", text)
        case _:
            return text


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _eventually(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
    return holds
