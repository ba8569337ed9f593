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
            again = run(daemon, "auditor", "--mount", "source:/repo")
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

    # A large tree needs more than the defaults.
    room = ["--fuel", "200000000000", "--timeout", "10m"]
    before = snapshot()
    result = run(daemon, "auditor", "--mount", "source:/repo", "--workspace", "audit", *room, each=show)
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
    claim(summary["files"] == len(files), f"it saw {len(files):,} files, and so do we")
    size = sum(file.stat().st_size for file in files)
    claim(summary["bytes"] == size, f"of {size:,} bytes, and so do we")
    found = {language["language"]: language for language in summary["languages"]}
    for language, extensions in EXTENSIONS.items():
        counts = [lines for file in files if file.suffix.lower() in extensions and (lines := count(file)) is not None]
        said = found.get(language, {"files": 0, "lines": 0})
        right = (said["files"], said["lines"]) == (len(counts), sum(counts))
        claim(right, f"{language}: {len(counts):,} files with {sum(counts):,} lines, and so do we")


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
        "read it by climbing out of the mount": "/repo/../../etc/passwd",
        "read the worker's environment": "/proc/self/environ",
        "read a file beside the mount": str(canary),
        "read it by climbing out of the mount ": f"/repo/{up}{canary}",
        "read it through a link in a mount": "/bait/link",
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
    attempts = {"write 8 MiB to it": {"write": {"path": "/workspace/hoard", "bytes": 8 * MIB}}}
    result = attack(daemon, attempts.values(), "--workspace", "small")
    stopped(result, attempts, "the workspace has a quota")


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
    def ended(tried, how, code, acts, *options, exit_code=5):
        """Checks that a limit ended a step."""
        exited, lines, _ = daemon.cli("run", "attacker", "-i", "-", *options, input=attack_input(acts))
        result = lines[-1]["result"]
        failure = result["failure"] or {"code": "nothing", "message": "it succeeded"}
        held = (exited, result["outcome"], failure["code"]) == (exit_code, "limit_exceeded", code)
        claim(held, f"{tried:36} → {how}; the caller sees {failure['code']}: {failure['message']}")
        return result["usage"], lines

    usage, _ = ended("loop for ever, little fuel", "out of fuel", "FUEL_EXHAUSTED", ["spin"], "--fuel", "50000000")
    claim(usage["fuel"] == 50_000_000, "it got its fuel, and no more")
    patient = ["--fuel", "1000000000000", "--timeout", "500ms"]
    usage, _ = ended("loop for ever, much fuel", "out of time", "TIMEOUT", ["spin"], *patient, exit_code=6)
    claim(usage["wall_time_ms"] < 1500, f"it was stopped after {usage['wall_time_ms']:.0f} of 500 ms")
    usage, _ = ended("hoard memory", "out of memory", "MEMORY_EXHAUSTED", ["grow"], "--memory", "64MiB")
    claim(usage["memory_peak_bytes"] <= 64 * MIB, f"it had {usage['memory_peak_bytes'] / MIB:.1f} of 64 MiB")
    usage, _ = ended("recurse without end", "out of stack", "STACK_EXHAUSTED", ["recurse"])
    flood = [{"print": {"text": "x" * 1000, "count": 10**9}}]
    usage, lines = ended("print without end", "cut off", "STDIO_BYTES_EXCEEDED", flood)
    heard = sum(len(line["event"]["output"]["data"]) for line in lines if "output" in line.get("event", {}))
    claim(heard == usage["stdio_bytes"] <= MIB, f"the caller was sent {heard:,} bytes of it")


def push(daemon, file, alias):
    """Pushes a guest."""
    code, lines, errors = daemon.cli("component", "push", str(GUESTS / file), "--alias", alias)
    claim(code == 0, f"{file} is pushed as `{alias}`: {lines[0]['digest'][:19]}… {lines[0]['kind']}" if lines else errors)


def run(daemon, component, *options, each=None):
    """Runs a step and returns its result."""
    _, lines, errors = daemon.cli("run", component, *options, each=each)
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
    _, lines, errors = daemon.cli("run", "attacker", "-i", "-", *mounts, *options, input=attack_input(acts))
    if not lines or "result" not in lines[-1]:
        raise RuntimeError(f"the attacker has no result: {errors}")
    return lines[-1]["result"]


def attack_input(acts):
    """Returns what the attacker is told to do."""
    return json.dumps({"acts": list(acts)}).encode()


def stopped(result, attempts, how):
    """Checks that every attempt failed, and prints why."""
    output = result["output"] or {}
    outcomes = output["outcomes"] if result["outcome"] == "succeeded" else []
    claim(len(outcomes) == len(attempts), f"the attacker tries {len(attempts)} things:")
    for tried, outcome in zip(attempts, outcomes):
        claim(outcome.startswith("error: "), f"{tried:36} → {how}; the guest sees {outcome}")


if __name__ == "__main__":
    main()
