"""An orchestrator in Python, with nothing of ours but the .proto files, drives a daemon that has one slot.

Environment: VENV is where its packages go (default: target/venv); PALISADE and GUESTS are the binary and the guests.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from story import GUESTS, ROOT, Daemon, claim, conclude, heading  # noqa: E402

VENV = Path(os.environ.get("VENV") or ROOT / "target/venv")
TIMEOUT_SECONDS = 120


def main():
    python = prepare()
    with Daemon(limits={"concurrent_steps": 1}) as daemon:
        heading("orchestrator.py talks to a daemon with one slot")
        command = [python, HERE / "orchestrator.py", daemon.address, GUESTS / "probe.wasm"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS)
        print(ran.stdout)
        claim(ran.returncode == 0, f"the orchestrator ends with exit code {ran.returncode}")
        check(ran.stdout.splitlines())
    conclude()


def prepare():
    """Makes the environment unless it has these requirements already. Returns its Python."""
    python, requirements, installed = VENV / "bin/python", HERE / "requirements.txt", VENV / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"installing {requirements.name} …", flush=True)
        venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return python


def check(lines):
    """Checks what the orchestrator printed."""
    services = next((line.split() for line in lines if line.startswith("services:")), [])
    ours = [f"palisade.v1.{name}" for name in ("Components", "Steps", "System", "Workspaces")]
    claim(set(ours) <= set(services), f"reflection lists {', '.join(ours)}")
    claim("health: SERVING" in lines, "the health check answers SERVING")

    messages = [line for line in lines if line.startswith(("accepted:", "event ", "result:"))]
    kinds = [message.partition(":")[0] for message in messages]
    expected = ["accepted", *(f"event {n}" for n in range(1, 7)), "result"]
    claim(kinds[:8] == expected, "a step is accepted, has events 1 to 6 without a gap, and one result, which is last")
    claim(kinds[8:] == ["accepted", "result"] * 2, "the others have one result, too")
    claim(any("FAILED NO_IDEA" in message for message in messages), "a step that fails has its own code: NO_IDEA")

    limit = "refused: INVALID_ARGUMENT LIMIT_INVALID field limits.fuel"
    claim(any(line.startswith(limit) for line in lines), "a negative limit is LIMIT_INVALID, and names the field")
    unknown = "refused: NOT_FOUND COMPONENT_NOT_FOUND"
    claim(any(line.startswith(unknown) for line in lines), "an unknown component is COMPONENT_NOT_FOUND")

    _, _, after = "\n".join(lines).partition("hung up: CANCELLED")
    claim(after, "hanging up cancels an endless step")
    claim("result: SUCCEEDED" in after, "which gives the only slot back: the next step runs")


if __name__ == "__main__":
    main()
