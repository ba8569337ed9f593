"""What an agent did, as a trace: a collector that somebody else built receives it, and it agrees with the journal.

Environment: PALISADE and GUESTS are the binary and the guests. The collector is kept in target/traces.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from collector import Collector, install  # noqa: E402
from story import GUESTS, ROOT, Daemon, claim, conclude, heading  # noqa: E402

# The tests' tool under three names, with three effects.
TOOLS = {"note.add": "append", "note.count": "read", "note.burn": "destroy"}

# In the arguments, where no policy looks.
CANARY = "canary-4711"
COUNT = {"call": {"name": "note.count", "arguments": {"queue": CANARY}}}
ACTS = [
    {"call-tool": {"name": "note.add", "arguments": {"act": COUNT}}},
    {"call-tool": {"name": "note.burn", "arguments": {"queue": CANARY}}},
]

TREE = """\
palisade.v1.Steps/RunStep
  invoke_agent clerk
    execute_tool note.add
      execute_tool note.count
    execute_tool note.burn"""

METRICS = ["palisade.steps", "palisade.host_calls", "palisade.step.duration", "palisade.journal.commit.duration"]


def main():
    program = install(ROOT / "target/traces")
    with tempfile.TemporaryDirectory(prefix="palisade-traces-") as directory:
        policies = Path(directory, "policies")
        policies.mkdir()
        with Collector(program, Path(directory, "output")) as collector:
            records = tell(collector, policies)
            collector.wait_for(len(TREE.splitlines()))
        # Both have ended: everything was sent, and everything was printed.
        spans, metrics, printed = collector.spans(), collector.metrics(), collector.printed()
    heading("what the collector received")
    check_tree(spans)
    by_name = {span.name: span for span in spans}
    check_allowed(by_name, records)
    check_denied(by_name["execute_tool note.burn"], spans)
    check_journal(spans, records)
    claim(CANARY not in printed, "no argument and no result is in what the collector received")
    claim(metrics >= set(METRICS), f"it has metrics, too: {', '.join(METRICS)}")
    conclude()


def tell(collector, policies):
    """Runs the agent on a daemon that sends its traces to the collector. Returns the journal's records."""
    # What a person has set for other programs is not the story's.
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    heading(f"a daemon that sends its traces to {collector.endpoint}")
    with Daemon(policies=policies) as daemon:
        prepare(daemon, policies)
        heading("the agent calls a tool, which calls another one; then one that it must not call")
        run(daemon)
        _, records, _ = daemon.cli("audit", "list", "--all")
    return records


def prepare(daemon, policies):
    """Registers the tools and the agent, and puts the policies in force."""
    steps = [["component", "push", str(GUESTS / "probe.wasm"), "--alias", "probe"]]
    for name, effect in TOOLS.items():
        version = ["--version", "1", "--effect", effect]
        steps.append(["tool", "register", str(GUESTS / "probe_tool.wasm"), "--name", name, *version])
    steps.append(["agent", "register", str(HERE / "clerk.toml")])
    ran = [daemon.cli(*step) for step in steps]
    # Policies are checked against the tools, which have to be there.
    shutil.copy(HERE / "clerk.cedar", policies)
    ran.append(daemon.cli("policy", "reload"))
    failed = [errors for code, _, errors in ran if code != 0]
    claim(not failed, f"three tools, an agent and its policies are there{''.join(failed)}")


def run(daemon):
    """Runs the agent, and checks what it was told."""
    code, lines, errors = daemon.cli("run", "agents/clerk", "--input", json.dumps({"acts": ACTS}))
    results = [line["result"] for line in lines if "result" in line]
    outcomes = results[0]["output"]["outcomes"] if code == 0 and results else [errors, errors]
    print(*outcomes, sep="\n")
    claim(outcomes[0].startswith("ok: "), "the allowed call has a result")
    claim("POLICY_FORBIDS" in outcomes[1] and "no-destroying" in outcomes[1], "the denied one has a reason")


def check_tree(spans):
    """Prints the spans as a tree, and checks it."""

    def lines(parent, depth):
        """Returns the names below a span, in the order in which they began."""
        children = sorted((span for span in spans if span.parent == parent), key=lambda span: span.start_ns)
        return [line for span in children for line in ["  " * depth + span.name, *lines(span.id, depth + 1)]]

    tree = "\n".join(lines("", 0))
    print(tree)
    claim(tree == TREE, "each span is where it belongs: the call, the step, its tools, a tool's tool")
    if tree != TREE:
        conclude()
    traces, senders = {span.trace for span in spans}, {span.resource.get("service.name") for span in spans}
    claim(len(traces) == 1 and senders == {"palisade"}, f"it is one trace, of {', '.join(map(str, senders))}")
    kinds = {span.name: span.kind for span in spans}
    claim(kinds.get("palisade.v1.Steps/RunStep") == "SERVER", "which begins where the caller's call comes in")


def check_allowed(by_name, records):
    """Checks what the spans of the allowed calls say."""
    step = by_name["invoke_agent clerk"].attributes
    claim(
        (step["gen_ai.agent.name"], step["gen_ai.agent.version"], step["palisade.outcome"]) == ("clerk", "1", "succeeded"),
        f"the step's span names the agent, and how it ended: {step['palisade.outcome']}",
    )
    for name in ["note.add", "note.count"]:
        said = by_name[f"execute_tool {name}"].attributes
        intent = next(r for r in records if r["kind"] == "intent" and r["body"]["tool"] == f"{name}@1")
        body = intent["body"]
        expected = {
            "gen_ai.tool.name": name,
            "palisade.tool.effect": TOOLS[name],
            "palisade.tool.digest": body["digest"],
            "palisade.arguments.digest": body["arguments"],
            "palisade.decision": "allow",
            "palisade.policy.ids": ["tools"],
            "palisade.policy.revision": body["decision"]["revision"],
            "palisade.journal.sequence": intent["sequence"],
        }
        found = {key: said.get(key) for key in expected}
        claim(found == expected, f"{name}: allowed by {found['palisade.policy.ids']}, record {intent['sequence']}")
        claim(said.get("palisade.usage.fuel", 0) > 0, f"{name}: it used {said.get('palisade.usage.fuel')} fuel")


def check_denied(span, spans):
    """Checks what the span of the denied call says."""
    said, events = span.attributes, span.events
    claim(
        (span.status, said.get("error.type"), said.get("palisade.decision")) == ("ERROR", "POLICY_FORBIDS", "deny"),
        f"{said['gen_ai.tool.name']}: {said.get('palisade.decision')}, {said.get('error.type')}",
    )
    claim(said.get("palisade.policy.ids") == ["no-destroying"], "its span names the policy that forbids it")
    reasons = [event for event in events if event["name"] == "palisade.denial"]
    claim(len(reasons) == 1 and "no-destroying" in reasons[0]["palisade.denial.text"], "and has the reason as an event")
    claim(all(other.parent != span.id for other in spans), "and no child: nothing ran")


def check_journal(spans, records):
    """Checks that journal and trace name each other."""
    told = [record for record in records if record["kind"] in ("step", "intent", "outcome", "denial", "result")]
    places = {(span.trace, span.id) for span in spans}
    claim(
        len(told) == 7 and all((record["trace"], record["span"]) in places for record in told),
        f"each of the journal's {len(told)} records of the step names its span",
    )
    numbers = {record["sequence"]: record["span"] for record in told}
    named = [span for span in spans if span.kind == "INTERNAL"]
    claim(
        all(numbers.get(span.attributes.get("palisade.journal.sequence")) == span.id for span in named),
        f"each of the {len(named)} spans below the call names its record",
    )


if __name__ == "__main__":
    main()
