"""A service that knows LISTEN_FDS and nothing of nigh: tells its pid to whoever connects to descriptor 3.

Arguments: ready (says READY=1), gate=PATH (only when that can be read), log=PATH (notes USR1 and USR2 there),
stray (leaves a process behind), store (keeps a counter with the supervisor), exit=N (ends at once), fds (tells which
descriptors it has), mute (feeds no watchdog), alive (feeds it once per connection).
"""
import os
import select
import signal
import socket
import subprocess
import sys

options = dict((word + "=").split("=")[:2] for word in sys.argv[1:])


def notify(text, files=()):
    name = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(name)
        socket.send_fds(out, [text.encode()], list(files)) if files else out.send(text.encode())


if "exit" in options:
    sys.exit(int(options["exit"]))
assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID"
ourselves = os.pidfd_open(os.getpid())
assert int(os.environ["LISTEN_PIDFDID"]) == os.fstat(ourselves).st_ino, "LISTEN_PIDFDID"
os.close(ourselves)
count = int(os.environ["LISTEN_FDS"])
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == count, names
assert "NIGH_PARENT" not in os.environ

starts = 1
if "store" in options:
    kept = [3 + place for place, name in enumerate(names) if name == "state"]
    if kept:
        starts = int(os.pread(kept[0], 20, 0)) + 1
    state = kept[0] if kept else os.memfd_create("state")
    os.pwrite(state, str(starts).encode(), 0)
    if not kept:
        notify("FDSTORE=1\nFDNAME=state", [state])
if "stray" in options:
    stray = subprocess.Popen(["sleep", "1000"], start_new_session=True, close_fds=True)
if "gate" in options:
    open(options["gate"]).read()

wake, waker = socket.socketpair()
wake.setblocking(False)
waker.setblocking(False)
signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda *_: None)
listener = socket.socket(fileno=3)
assert listener.getblocking(), "a socket that waits was promised"
listener.setblocking(False)
if "ready" in options:
    notify("READY=1\nSTATUS=listens on %d" % count)

stops = False
while not stops:
    readable, _, _ = select.select([listener, wake], [], [])
    if wake in readable:
        for number in wake.recv(100):
            if number == signal.SIGTERM:
                stops = True
            elif number in (signal.SIGUSR1, signal.SIGUSR2):
                with open(options["log"], "a") as log:
                    log.write("%d\n" % number)
    elif listener in readable:
        try:
            caller, _ = listener.accept()
        except BlockingIOError:
            continue
        told = os.getpid()
        if "fds" in options:
            told = sorted(int(n) for n in os.listdir("/proc/self/fd"))
        if "store" in options:
            told = starts
        if "stray" in options:
            told = stray.pid
        if "alive" in options:
            notify("WATCHDOG=1")
        caller.setblocking(True)
        caller.sendall(str(told).encode())
        caller.close()
