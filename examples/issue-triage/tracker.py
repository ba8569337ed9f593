"""The tracker: Datasette, which somebody else built, serves a SQLite database to whoever has a token."""

import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.05

# What the token is good for, to Datasette. It lets its bearer read who reported an issue; policy does not.
ACTOR = "triage"
MAY = [
    ["--all", "view-instance"],
    ["--database", "tracker", "view-database"],
    ["--resource", "tracker", "issues", "view-table"],
    ["--resource", "tracker", "reporters", "view-table"],
    ["--resource", "tracker", "whoami", "view-query"],
    ["--resource", "tracker", "comments", "insert-row"],
]
TOKEN_SECONDS = 3_600


def install(directory):
    """Makes an environment with Datasette in it, unless it is there. Returns Datasette's program."""
    python, installed = directory / "bin/python", directory / "installed.txt"
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        print("installing Datasette …", flush=True)
        venv.create(directory, with_pip=True, clear=True)
        # Nothing is taken whose digest is not in the file.
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"]
        subprocess.run([python, "-m", "pip", "install", *options, "-r", REQUIREMENTS], check=True)
        installed.write_text(REQUIREMENTS.read_text())
    return directory / "bin/datasette"


class Tracker:
    """Datasette over a database of its own, on a free port of 127.0.0.1, for as long as the context lasts."""

    def __init__(self, program, home, **words):
        """Takes Datasette's program, a directory for database, token and log, and words for the braces of the data."""
        self._program, self._home = program, Path(home)
        self._database, self._log = self._home / "tracker.db", self._home / "datasette.log"
        self.token_file = self._home / "token"
        self._words = {"TOKEN_FILE": str(self.token_file), **words}
        # In the environment and not among the arguments, which everybody on the host can read.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DATASETTE_")}
        self._environment["DATASETTE_SECRET"] = secrets.token_hex(32)

    def __enter__(self):
        self._home.mkdir(parents=True)
        self._fill()
        self.token = self._make_token()
        command = [self._program, "serve", self._database, "--config", HERE / "data/datasette.json"]
        command += ["--default-deny", "--host", "127.0.0.1", "--port", "0"]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        # It says so once it listens.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (said := re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"Datasette does not listen:\n{self.log()}")
            time.sleep(PAUSE_SECONDS)
        self.port = int(said[1])
        self.url = f"http://127.0.0.1:{self.port}/tracker"
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self):
        """Returns what Datasette has said so far."""
        return self._log.read_text(errors="replace")

    def requests(self):
        """Returns the method, the path without its query, and the status of each request that it has answered."""
        found = re.findall(r'"(\S+) ([^\s?]+)\S* HTTP/1\.1" (\d+)', self.log())
        return [(method, path, int(status)) for method, path, status in found]

    def rows(self, query):
        """Returns what a query finds in the database, beside the server."""
        with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def get(self, path, token=None):
        """Asks as anybody could. Returns the status and the text of the answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A person's own proxy has no part in this.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(self.url + path, headers=headers)
            with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def _fill(self):
        script = (HERE / "data/tracker.sql").read_text()
        for name, word in self._words.items():
            script = script.replace(f"{{{name}}}", word)
        with closing(sqlite3.connect(self._database)) as database:
            database.executescript(script)

    def _make_token(self):
        command = [self._program, "create-token", ACTOR, "--expires-after", str(TOKEN_SECONDS)]
        command += [word for may in MAY for word in may]
        made = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, check=True)
        token = made.stdout.decode().strip()
        # The daemon refuses a file that everybody can read.
        with open(os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        return token
