"""An agent step audits a source tree that it can read and not change; then a hostile one tries to get out.

Environment: DIR is what to audit (default: this checkout); PALISADE and GUESTS are the binary and the guests.
"""

import json
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from story import GUESTS, ROOT, Daemon, claim, conclude, heading  # noqa: E402

DIR = Path(os.environ.get("DIR") or ROOT).resolve()

# What the auditor does not look into, and how it tells text from data.
SKIPPED = {".git", "target", "node_modules", "__pycache__"}
HEAD_BYTES = 8 << 10
SCANNED_MAX_BYTES = 4 << 20
EXTENSIONS = {"Rust": {".rs"}, "Python": {".py", ".pyi", ".pyw"}, "Protocol Buffers": {".proto"}, "Go": {".go"}}

# A large tree needs more than the defaults.
ROOM = ["--fuel", "200000000000", "--timeout", "10m"]

REPORT_LINES = 60
MIB = 1 << 20


def main():
    with tempfile.TemporaryDirectory(prefix="palisade-bait-") as directory:
        bait = Path(directory)
        secret = plant(bait)
        with Daemon(mounts={"source": DIR, "bait": bait / "tree"}) as daemon:
            summary = audit(daemon)
            heading("a hostile step meets the walls")
            push(daemon, "probe.wasm", "attacker")
            reads(daemon, bait / "canary")
            writes(daemon)
            network(daemon)
            limits(daemon)
            claim(secret not in daemon.transcript(), "the canary's secret is in no output and in no log")
            again = run(daemon, "auditor", "--mount", "source:/repo", *ROOM)
            claim(again["outcome"] == "succeeded", "after all that, the daemon serves the next step")
            claim(again["output"]["files"] == summary["files"], "which finds as many files as the first")
    conclude()


def plant(bait):
    """Makes a file with a secret, and beside it a tree of which a link leads to it. Returns the secret."""
    secret = secrets.token_hex(32)
    (bait / "canary").write_text(secret)
    (bait / "tree").mkdir()
    (bait / "tree/link").symlink_to("../canary")
    return secret.encode()


def audit(daemon):
    """Runs the auditor on DIR and checks what it says. Returns its output."""
    heading(f"an agent audits {DIR.name}")
    push(daemon, "repo_auditor.wasm", "auditor")
    code, (workspace,), errors = daemon.cli("workspace", "create", "audit")
    claim(code == 0, f"there is a workspace for the report: {workspace['name']}{errors}")

    before = snapshot()
    result = run(daemon, "auditor", "--mount", "source:/repo", "--workspace", "audit", *ROOM, each=show)
    claim(result["outcome"] == "succeeded", f"the audit {result['outcome']} {result['failure'] or ''}")
    claim(snapshot() == before, "the tree is as it was")

    heading("its report")
    lines = daemon.file("audit", "report.md").decode().splitlines()
    print(*lines[:REPORT_LINES], sep="\n")
    if len(lines) > REPORT_LINES:
        print(f"… and {len(lines) - REPORT_LINES} more lines")

    heading("what it used")
    usage = result["usage"]
    print(f"{usage['fuel']:,} units of fuel, {usage['memory_peak_bytes'] / MIB:.1f} MiB of memory at most,", end=" ")
    print(f"{usage['wall_time_ms']:.0f} ms, of which {usage['cpu_time_ms']:.0f} ms on the processor\n")

    check(result["output"], json.loads(daemon.file("audit", "report.json")))
    return result["output"]


def check(summary, report):
    """Checks the auditor's output against its report and against an independent count."""
    same = ["files", "bytes", "lines", "languages", "largest", "skipped"]
    claim(all(summary[key] == report[key] for key in same), "report.json says what the step's output says")
    files = list(walk())
    claim(summary["files"] == len(files), f"files: it says {summary['files']:,}, we count {len(files):,}")
    size = sum(file.stat().st_size for file in files)
    claim(summary["bytes"] == size, f"bytes: it says {summary['bytes']:,}, we count {size:,}")
    found = {language["language"]: language for language in summary["languages"]}
    for language, extensions in EXTENSIONS.items():
        counts = [lines for file in files if file.suffix.lower() in extensions and (lines := count(file)) is not None]
        ours = f"{len(counts):,} files with {sum(counts):,} lines"
        entry = found.get(language, {"files": 0, "lines": 0})
        theirs = f"{entry['files']:,} files with {entry['lines']:,} lines"
        claim(theirs == ours, f"{language}: it says {theirs}, we count {ours}")


def walk():
    """Yields the regular files that an audit counts."""
    for directory, directories, names in os.walk(DIR):
        directories[:] = [name for name in directories if name not in SKIPPED]
        for path in (Path(directory, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


def count(file):
    """Returns the lines of a text, none if it is too large to scan. None if it is no text."""
    with open(file, "rb") as opened:
        if b"\0" in opened.read(HEAD_BYTES):
            return None
    if file.stat().st_size > SCANNED_MAX_BYTES:
        return 0
    text = file.read_bytes()
    return text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


def snapshot():
    """Returns what a change to the tree would change."""
    return {(path, stat.st_size, stat.st_mtime_ns, stat.st_mode) for path in walk() for stat in [path.stat()]}


def reads(daemon, canary):
    """Tries to read what no mount shows."""
    up = "../" * 20
    attempts = {
        "read /etc/passwd": "/etc/passwd",
        "climb to it from the mount": "/repo/../../etc/passwd",
        "read the worker's environment": "/proc/self/environ",
        "read a file beside the mount": str(canary),
        "climb to that file from the mount": f"/repo/{up}{canary}",
        "follow a link to it in a mount": "/bait/link",
    }
    result = attack(daemon, [{"read": path} for path in attempts.values()])
    stopped(result, attempts, "no such path in its sandbox")


def writes(daemon):
    """Tries to change the read-only tree, and to fill a workspace beyond its quota."""
    new = f"/repo/palisade-{secrets.token_hex(8)}"
    # Harmless if the wall did not hold: an existing file would be opened for writing and left as it is.
    existing = next((f"/repo/{path.relative_to(DIR)}" for path in walk()), new)
    attempts = {
        "create a file in the tree": {"write": {"path": new, "bytes": 1}},
        "open a file of the tree for writing": {"append": {"path": existing, "bytes": 0}},
        "create a directory in the tree": {"mkdir": f"{new}.d"},
        "delete a file of a mount": {"remove": "/bait/link"},
    }
    before = snapshot()
    result = attack(daemon, attempts.values())
    stopped(result, attempts, "the mount is read-only")
    claim(snapshot() == before, "the tree is still as it was")

    code, _, errors = daemon.cli("workspace", "create", "small", "--bytes", "1MiB")
    claim(code == 0, f"there is a workspace of 1 MiB{errors}")
    attempts = {"write 8 MiB to the workspace": {"write": {"path": "/workspace/hoard", "bytes": 8 * MIB}}}
    result = attack(daemon, attempts.values(), "--workspace", "small")
    stopped(result, attempts, "its quota is full")
    grown = result["usage"]["disk_bytes"]
    claim(0 < grown <= MIB, f"the workspace grew by {grown:,} bytes")


def network(daemon):
    """Tries to talk to somebody who listens, and to look up names."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        attempts = {
            "connect to a listener on this host": {"connect": f"127.0.0.1:{tcp.getsockname()[1]}"},
            "send it a datagram": {"udp": f"127.0.0.1:{udp.getsockname()[1]}"},
            "look up localhost": {"resolve": "localhost"},
            "look up example.com": {"resolve": "example.com"},
        }
        stopped(attack(daemon, attempts.values()), attempts, "there is no network")
        claim(silent(tcp.accept, tcp) and silent(lambda: udp.recv(1), udp), "the listeners heard nothing")


def silent(hear, listener):
    """Returns whether nothing has arrived at a listener."""
    listener.setblocking(False)
    try:
        hear()
    except BlockingIOError:
        return True
    return False


def limits(daemon):
    """Tries to use up the processor, the memory and the caller's patience."""
    result, _ = exhaust(daemon, "loop for ever with little fuel", "FUEL_EXHAUSTED", "spin", "--fuel", "50000000")
    claim(result["usage"]["fuel"] == 50_000_000, "it got its 50,000,000 units of fuel and no more")

    patient = ["--fuel", "1000000000000", "--timeout", "500ms"]
    result, code = exhaust(daemon, "loop for ever with much fuel", "TIMEOUT", "spin", *patient)
    claim(code == 6, f"exit code {code} tells a script that it was a matter of time")
    claim(result["usage"]["wall_time_ms"] < 1500, f"it was stopped after {result['usage']['wall_time_ms']:.0f} ms")

    result, _ = exhaust(daemon, "hoard memory", "MEMORY_EXHAUSTED", "grow", "--memory", "64MiB")
    peak = result["usage"]["memory_peak_bytes"]
    claim(peak <= 64 * MIB, f"it had {peak / MIB:.1f} of 64 MiB")

    exhaust(daemon, "recurse without end", "STACK_EXHAUSTED", "recurse")

    sent = []
    flood = {"print": {"text": "x" * 1000, "count": 10**9}}
    exhaust(daemon, "print without end", "STDIO_BYTES_EXCEEDED", flood, each=lambda line: sent.append(printed(line)))
    claim(sum(sent) <= MIB, f"the caller was sent {sum(sent):,} bytes of it, at most 1 MiB")


def exhaust(daemon, tried, reason, act, *options, each=None):
    """Checks that an act runs into a limit. Returns the step's result and the exit code."""
    code, lines, errors = daemon.cli("run", "attacker", "-i", "-", *options, input=told([act]), each=each)
    result = result_of("attacker", lines, errors)
    failure = result["failure"] or {"code": "nothing", "message": "it succeeded"}
    held = code != 0 and (result["outcome"], failure["code"]) == ("limit_exceeded", reason)
    claim(held, f"{tried:36} → stopped; the caller sees {failure['code']}: {failure['message']}")
    return result, code


def printed(line):
    """Returns how many bytes of standard output an event brings."""
    return len(line.get("event", {}).get("output", {}).get("data", ""))


def push(daemon, file, alias):
    """Pushes a guest."""
    code, lines, errors = daemon.cli("component", "push", str(GUESTS / file), "--alias", alias)
    is_step = code == 0 and lines[0]["kind"] == "step"
    claim(is_step, f"{file} is a step and is pushed as `{alias}`{errors}")


def run(daemon, component, *options, input=None, each=None):
    """Runs a step and returns its result."""
    _, lines, errors = daemon.cli("run", component, *options, input=input, each=each)
    return result_of(component, lines, errors)


def result_of(component, lines, errors):
    """Returns the result with which a step's messages end."""
    if not lines or "result" not in lines[-1]:
        raise RuntimeError(f"{component} has no result: {errors}")
    return lines[-1]["result"]


def show(line):
    """Prints an event of a step."""
    event = line.get("event", {})
    if "progress" in event:
        print(f"  {event['progress']['fraction']:4.0%} {event['progress']['message']}", flush=True)
    if "log" in event:
        fields = " ".join(f"{name}={value}" for name, value in event["log"]["fields"].items())
        print(f"  {event['log']['level']}: {event['log']['message']} {fields}", flush=True)


def attack(daemon, acts, *options):
    """Lets the attacker do what it is told, and returns the result."""
    mounts = ["--mount", "source:/repo", "--mount", "bait:/bait"]
    return run(daemon, "attacker", "-i", "-", *mounts, *options, input=told(acts))


def told(acts):
    """Returns the input that tells the attacker what to do."""
    return json.dumps({"acts": list(acts)}).encode()


def stopped(result, attempts, how):
    """Checks that every attempt failed, and prints why."""
    outcomes = result["output"]["outcomes"] if result["outcome"] == "succeeded" else []
    claim(len(outcomes) == len(attempts), f"attempts of the attacker: {len(outcomes)} of {len(attempts)}")
    for tried, outcome in zip(attempts, outcomes):
        what, _, reason = outcome.partition(": ")
        claim(what == "error", f"{tried:36} → {how}; the guest sees {reason}")


if __name__ == "__main__":
    main()
