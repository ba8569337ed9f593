"""What the stories share: a daemon of their own, the command line, and claims that are checked."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PALISADE = os.environ.get("PALISADE", str(ROOT / "target/debug/palisade"))
GUESTS = Path(os.environ.get("GUESTS", ROOT / "target/wasm32-wasip2/guest"))

START_SECONDS = 60
STOP_SECONDS = 30

_claims = []


def claim(condition, text):
    """Prints whether a claim holds, and remembers it."""
    _claims.append(bool(condition))
    print("✓" if condition else "✗", text, flush=True)


def conclude():
    """Prints how many claims hold, and ends the story with 1 if any does not."""
    print(f"\n{sum(_claims)} claims hold" + ("" if all(_claims) else f", {_claims.count(False)} do not"))
    sys.exit(0 if all(_claims) else 1)


def heading(text):
    """Prints the title of the next part of the story."""
    print(f"\n── {text} ──", flush=True)


class Daemon:
    """`palisade serve` with a data directory of its own, for as long as the context lasts."""

    def __init__(self, mounts=None, limits=None, policies=None, more=""):
        """Takes read-only mounts as {name: directory}, limits as in the configuration, and a directory of policies.

        `more` is TOML, tables only, that the configuration ends with.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="palisade-story-")
        self.home = Path(self._directory.name)
        self.address = None
        self._mounts = mounts or {}
        self._limits = limits or {}
        self._policies = policies
        self._more = more
        self._transcript = []

    def __enter__(self):
        config = self.home / "palisade.toml"
        config.write_text(self._config())
        with open(self.home / "log", "wb") as log:
            command = [PALISADE, "serve", "--config", str(config)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment())
        # The address is printed once the daemon serves: that is the signal.
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        self.address = self._process.stdout.readline().strip() if ready else ""
        if not self.address:
            self._process.kill()
            self._close(show_log=True)
            sys.exit("the daemon did not start")
        return self

    def __exit__(self, exception_type, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = f"nothing within {STOP_SECONDS} s"
        if exception_type is None:
            claim(code == 0, f"told to stop, the daemon ends with exit code {code}")
        self._close(show_log=exception_type is not None or not all(_claims))

    def cli(self, *args, input=None, each=None):
        """Runs the command line. Returns its exit code, the JSON lines on its standard output, and its standard error.

        `each` is called with every line as it comes.
        """
        lines = []

        def take(line):
            lines.append(json.loads(line))
            if each:
                each(lines[-1])

        code, errors = self._run(["-o", "json", *args], input, take)
        return code, lines, errors

    def plain(self, *args):
        """Runs the command line as people do. Returns its exit code, its standard output, and its standard error."""
        lines = []
        code, errors = self._run(args, None, lines.append)
        return code, b"".join(lines), errors

    def file(self, workspace, path):
        """Returns a file of a workspace, as bytes."""
        code, content, errors = self.plain("workspace", "get", workspace, path)
        if code != 0:
            raise RuntimeError(f"cannot get {path}: {errors}")
        return content

    def transcript(self):
        """Returns everything that the command line and the daemon's log have said so far, as bytes."""
        return b"".join(self._transcript) + (self.home / "log").read_bytes()

    def _run(self, args, input, take):
        command = [PALISADE, "--endpoint", self.address, *args]
        # Files instead of pipes: only one stream has to be read while the command runs.
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(input or b"")
            stdin.seek(0)
            pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": stderr}
            with subprocess.Popen(command, env=_environment(), **pipes) as process:
                for line in process.stdout:
                    self._transcript.append(line)
                    take(line)
            stderr.seek(0)
            errors = stderr.read()
        self._transcript.append(errors)
        return process.returncode, errors.decode(errors="replace")

    def _config(self):
        # A JSON text, number or path is one in TOML, too.
        lines = [f"data_dir = {json.dumps(str(self.home / 'data'))}"]
        lines += ["[listen]", f"socket = {json.dumps(str(self.home / 'palisade.sock'))}"]
        lines += ["[limits]", *(f"{name} = {json.dumps(value)}" for name, value in self._limits.items())]
        if self._policies:
            lines += ["[policy]", f"dir = {json.dumps(str(Path(self._policies).resolve()))}"]
        for name, path in self._mounts.items():
            lines += ["[[mount]]", f"name = {json.dumps(name)}", f"path = {json.dumps(str(Path(path).resolve()))}"]
        return "\n".join([*lines, self._more]) + "\n"

    def _close(self, show_log):
        if show_log:
            print("\nthe daemon's log:", (self.home / "log").read_text(errors="replace"), sep="\n", file=sys.stderr)
        self._process.stdout.close()
        self._directory.cleanup()


def _environment():
    # A person's own PALISADE_DATA_DIR or PALISADE_ENDPOINT is not the story's.
    return {name: value for name, value in os.environ.items() if not name.startswith("PALISADE_")}
