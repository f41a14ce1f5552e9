"""Calls nigh.diag.v1.Diag with stock grpcio: `diag.py TARGET`, one line per check, exit code 1 when one failed.

The channel is grpcio's own in every respect; above all its authority: for a path socket that is the escaped path.
"""

import os
import sys
import threading
import time

import grpc

PROTO = os.path.join(os.path.dirname(__file__), "../../crates/nigh-cli/proto")
sys.path.insert(0, os.path.abspath(PROTO))
pb, services = grpc.protos_and_services("nigh/diag/v1/diag.proto")

MIB = 1024 * 1024
# Long enough for a loaded machine, short enough to notice a hang.
PATIENCE = 20


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def status_of(call):
    """The status that a call ends with; no exception is a failed check."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def wait_until(condition, what):
    """Asks the server again until the condition holds; each question is a call, so this is no busy loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        expect(time.monotonic() < end, what)


class Checks:
    """One method per check; the docstring is what the check shows."""

    def __init__(self, stub, channel):
        self.stub = stub
        self.channel = channel

    def unary(self):
        """unary call"""
        reply = self.stub.Echo(pb.EchoRequest(text="grüße", data=b"\0\xff"), timeout=PATIENCE)
        expect((reply.text, reply.data) == ("grüße", b"\0\xff"), f"got {reply}")

    def identity(self):
        """the server knows this process: uid and pid from the kernel"""
        who = self.stub.WhoAmI(pb.WhoAmIRequest(), timeout=PATIENCE)
        expect(who.kind == pb.WhoAmIReply.KIND_LOCAL, f"kind {who.kind}")
        expect(who.uid.id == os.geteuid() and who.gid.id == os.getegid(), f"uid {who.uid} gid {who.gid}")
        expect(who.pid.id == os.getpid(), f"pid {who.pid}")

    def server_stream(self):
        """server stream"""
        request = pb.DownloadRequest(count=100, message_bytes=1000)
        sizes = [len(reply.data) for reply in self.stub.Download(request, timeout=PATIENCE)]
        expect(sizes == [1000] * 100, f"got {sizes}")

    def client_stream(self):
        """client stream"""
        requests = (pb.UploadRequest(data=bytes(1000)) for _ in range(100))
        reply = self.stub.Upload(requests, timeout=PATIENCE)
        expect((reply.messages, reply.bytes) == (100, 100_000), f"got {reply}")

    def bidi(self):
        """both directions in turn: each request waits for the reply before it"""
        answered = threading.Semaphore(1)

        def requests():
            for number in range(20):
                expect(answered.acquire(timeout=PATIENCE), "no reply")
                yield pb.EchoRequest(text=str(number))

        texts = []
        for reply in self.stub.EchoStream(requests(), timeout=PATIENCE):
            texts.append(reply.text)
            answered.release()
        expect(texts == [str(number) for number in range(20)], f"got {texts}")

    def deadline(self):
        """a deadline ends the call and the handler"""
        before = self.cancelled()
        began = time.monotonic()
        error = status_of(lambda: self.stub.Sleep(self.sleep_request(60), timeout=0.3))
        expect(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, f"got {error.code()}")
        expect(time.monotonic() - began < 10, "it took too long")
        wait_until(lambda: self.cancelled() > before, "the handler went on")

    def cancel(self):
        """a cancelled call ends the handler"""
        before = self.cancelled()
        runs = self.stub.Counters(pb.CountersRequest()).handlers_by_method
        call = self.stub.Sleep.future(self.sleep_request(60), timeout=PATIENCE)
        started = lambda: self.stub.Counters(pb.CountersRequest()).handlers_by_method["Sleep"] > runs["Sleep"]
        wait_until(started, "the handler never began")
        expect(call.cancel(), "it was over already")
        expect(call.code() == grpc.StatusCode.CANCELLED, f"got {call.code()}")
        wait_until(lambda: self.cancelled() > before, "the handler went on")

    def cancel_stream(self):
        """a stream that its reader leaves early ends the handler"""
        before = self.cancelled()
        request = pb.DownloadRequest(count=1_000_000, message_bytes=10_000)
        call = self.stub.Download(request, timeout=PATIENCE)
        expect(next(call).index == 0, "the first message is not the first")
        call.cancel()
        wait_until(lambda: self.cancelled() > before, "the handler went on")

    def failing(self):
        """a failing call: code, message and trailers"""
        request = pb.FailRequest(code=9, message="no lück: 100%\n")
        metadata = (("x-nigh-echo-a", "b"),)
        error = status_of(lambda: self.stub.Fail(request, metadata=metadata, timeout=PATIENCE))
        expect(error.code() == grpc.StatusCode.FAILED_PRECONDITION, f"got {error.code()}")
        expect(error.details() == "no lück: 100%\n", f"got {error.details()!r}")
        expect(("x-nigh-echo-a", "b") in error.trailing_metadata(), f"got {error.trailing_metadata()}")

    def unknown_method(self):
        """a method that does not exist is UNIMPLEMENTED"""
        call = self.channel.unary_unary("/nigh.diag.v1.Diag/Nothing")
        error = status_of(lambda: call(b"", timeout=PATIENCE))
        expect(error.code() == grpc.StatusCode.UNIMPLEMENTED, f"got {error.code()}")

    def metadata(self):
        """metadata both ways, text and binary"""
        sent = (("x-nigh-echo-word", "hello"), ("x-nigh-echo-raw-bin", b"\0\xff\n"), ("x-nigh-echo-word", "again"))
        reply, call = self.stub.Echo.with_call(pb.EchoRequest(), metadata=sent, timeout=PATIENCE)
        got = [(key, value) for key, value in call.initial_metadata() if key.startswith("x-nigh-echo-")]
        expect(sorted(got, key=str) == sorted(sent, key=str), f"got {got}")

    def large(self):
        """a message of 3 MiB both ways"""
        data = os.urandom(3 * MIB)
        reply = self.stub.Echo(pb.EchoRequest(data=data), timeout=PATIENCE)
        expect(reply.data == data, "the bytes differ")

    def oversized_request(self):
        """a request over the server's limit is refused and the connection lives"""
        error = status_of(lambda: self.stub.Echo(pb.EchoRequest(data=bytes(9 * MIB)), timeout=PATIENCE))
        refused = (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        expect(error.code() in refused, f"got {error.code()}: {error.details()}")
        self.unary()

    def oversized_reply(self):
        """a reply over the client's limit is refused and the connection lives"""
        error = status_of(lambda: self.stub.Echo(pb.EchoRequest(reply_bytes=4 * MIB), timeout=PATIENCE))
        expect(error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, f"got {error.code()}: {error.details()}")
        self.unary()

    def health(self):
        """the health service says SERVING"""
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        # HealthCheckResponse { status: SERVING } on the wire.
        expect(call(b"", timeout=PATIENCE) == b"\x08\x01", "it does not")

    def concurrent(self):
        """200 calls at once on one connection"""
        calls = [self.stub.Echo.future(pb.EchoRequest(text=str(n)), timeout=PATIENCE) for n in range(200)]
        texts = [call.result().text for call in calls]
        expect(texts == [str(n) for n in range(200)], "replies went astray")

    def cancelled(self):
        return self.stub.Counters(pb.CountersRequest(), timeout=PATIENCE).handlers_cancelled

    @staticmethod
    def sleep_request(seconds):
        request = pb.SleepRequest()
        request.duration.seconds = seconds
        return request


def main(target):
    failed = 0
    # A wait for the server that is just starting; grpcio reconnects by itself.
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        checks = Checks(services.DiagStub(channel), channel)
        names = [name for name, member in vars(Checks).items() if getattr(member, "__doc__", None) and name[0] != "_"]
        for name in names:
            check = getattr(checks, name)
            try:
                check()
                print(f"ok - python {target.split(':')[0]}: {check.__doc__}", flush=True)
            except (AssertionError, grpc.RpcError) as error:
                failed += 1
                reason = str(error).replace("\n", " ")
                print(f"not ok - python {target.split(':')[0]}: {check.__doc__}: {reason}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
