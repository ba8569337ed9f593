"""A small orchestrator: pushes a component, runs steps, follows their events, and handles what goes wrong.

    python orchestrator.py unix:/run/palisade/palisade.sock probe.wasm

The component is the tests' guest `probe`: a step whose input is a list of acts.
"""

import argparse
import importlib
import itertools
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
CHUNK_BYTES = 1 << 20
# For calls that should be quick: the caller's patience. A step has a limit of its own, `limits.timeout`.
PATIENCE_SECONDS = 30

# Over a Unix socket grpcio names the socket's path as the host, which the daemon's HTTP/2 refuses as malformed:
# https://github.com/grpc/grpc/issues/38142.
CHANNEL_OPTIONS = [("grpc.default_authority", "localhost")]


def generate_stubs(directory):
    """Writes Python code for Palisade's .proto files to a directory and returns the modules by name.

    A larger program would do this when it is built.
    """
    includes = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
    outputs = [f"--python_out={directory}", f"--grpc_python_out={directory}"]
    protos = sorted(str(path) for path in PROTO.glob("palisade/v1/*.proto"))
    if protoc.main(["protoc", *includes, *outputs, *protos]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, directory)
    modules = ["components_pb2", "components_pb2_grpc", "steps_pb2", "steps_pb2_grpc"]
    return SimpleNamespace(**{name: importlib.import_module(f"palisade.v1.{name}") for name in modules})


def look_around(channel):
    """Prints what the daemon offers and whether it is well."""
    print("services:", *ProtoReflectionDescriptorDatabase(channel).get_services())
    health = health_pb2_grpc.HealthStub(channel)
    response = health.Check(health_pb2.HealthCheckRequest(service="palisade.v1.Steps"), timeout=PATIENCE_SECONDS)
    print("health:", health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def push(stubs, channel, path):
    """Pushes a component in chunks and returns its name, which is made of its digest."""
    components = stubs.components_pb2

    def requests():
        """Yields the header and then the file."""
        yield components.PushComponentRequest(header=components.PushHeader())
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield components.PushComponentRequest(chunk=chunk)

    stub = stubs.components_pb2_grpc.ComponentsStub(channel)
    component = stub.PushComponent(requests())
    print(f"pushed: {component.name}, {component.size_bytes} bytes")
    return component.name


def request(stubs, component, acts, **limits):
    """Returns a request for a step."""
    steps = stubs.steps_pb2
    payload = json.dumps({"acts": acts}).encode()
    return steps.RunStepRequest(component=component, input=payload, limits=steps.StepLimits(**limits))


def follow(stubs, responses):
    """Prints the messages of a step as they come, and returns its result: always the last one."""
    for response in responses:
        match response.WhichOneof("message"):
            case "accepted":
                print(f"accepted: {response.accepted.step}")
            case "event":
                print(f"event {response.event.sequence}: {describe(stubs, response.event)}", flush=True)
            case "result":
                result = response.result
                print(f"result: {describe_result(stubs, result)}")
    return result


def describe(stubs, event):
    """Returns an event as a line. What a guest says is quoted: it must not drive the terminal."""
    steps = stubs.steps_pb2
    match event.WhichOneof("kind"):
        case "log":
            fields = {field.key: field.value for field in event.log.fields}
            return f"{steps.LogEvent.Level.Name(event.log.level)} {event.log.message!r} {fields}"
        case "progress":
            return f"{event.progress.fraction:.0%} {event.progress.message!r}"
        case "output":
            return f"{steps.OutputChunk.Stream.Name(event.output.stream)} {event.output.data!r}"
        case newer:
            return f"{newer}, of which this program does not know yet"


def describe_result(stubs, result):
    """Returns how a step ended and what it used."""
    outcome = stubs.steps_pb2.StepResult.Outcome.Name(result.outcome)
    why = f" {result.failure.code} {result.failure.message!r}" if result.HasField("failure") else ""
    usage = result.usage
    memory = f"{usage.memory_peak_bytes / (1 << 20):.1f} MiB"
    time = f"{usage.wall_time.ToMicroseconds() / 1000:.1f} ms"
    return f"{outcome}{why}, used {usage.fuel} fuel, {memory} of memory, {time}"


def show_refusal(stub, refused):
    """Sends a request that cannot be accepted, and prints what the daemon says about it."""
    try:
        for _ in stub.RunStep(refused):
            print("accepted: unexpectedly")
    except grpc.RpcError as error:
        print(f"refused: {decode(error)}")


def decode(error):
    """Returns what a program acts on, the stable reason, and what it may show to a person."""
    reason, violations = "", []
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, bad_request = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request):
            violations = [f"field {violation.field}" for violation in bad_request.field_violations]
    return " ".join([error.code().name, reason, *violations, repr(error.details())])


def cancel(stub, endless):
    """Hangs up on a step that would never end. The daemon stops it and has its slot back."""
    responses = stub.RunStep(endless)
    for response in itertools.islice(responses, 2):
        print("before hanging up:", response.WhichOneof("message"))
    responses.cancel()
    try:
        for _ in responses:
            print("after hanging up: unexpectedly a message")
    except grpc.RpcError as error:
        print("hung up:", error.code().name)


def main():
    """Goes once through everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the daemon: unix:/path, or 127.0.0.1:port")
    parser.add_argument("component", help="path of probe.wasm")
    arguments = parser.parse_args()

    channel = grpc.insecure_channel(arguments.address, options=CHANNEL_OPTIONS)
    with channel, tempfile.TemporaryDirectory() as directory:
        stubs = generate_stubs(directory)
        stub = stubs.steps_pb2_grpc.StepsStub(channel)
        look_around(channel)
        component = push(stubs, channel, arguments.component)

        hello = [
            {"progress": {"fraction": 0.25, "message": "starting"}},
            {"log": {"message": "thinking", "count": 3}},
            {"print": {"text": "a line\n", "count": 1}},
            {"progress": {"fraction": 1.0, "message": "done"}},
        ]
        result = follow(stubs, stub.RunStep(request(stubs, component, hello, fuel=100_000_000)))
        print("output:", json.loads(result.output))

        # What the guest returns as its own error is a result, too.
        refusal = [{"fail": {"code": "NO_IDEA", "message": "nothing to say about this"}}]
        follow(stubs, stub.RunStep(request(stubs, component, refusal)))

        show_refusal(stub, request(stubs, component, [], fuel=-1))
        show_refusal(stub, request(stubs, "unknown", []))

        endless = [{"log": {"message": "working", "count": 1}}, "spin"]
        cancel(stub, request(stubs, component, endless))
        follow(stubs, stub.RunStep(request(stubs, component, ["env"])))


if __name__ == "__main__":
    main()
