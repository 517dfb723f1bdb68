"""Runs Autobahn's WebSocket suite in both directions and counts what it says, group by group.

Called by the script `autobahn` beside it, which has installed the suite. The suite's fuzzing client tests `tracemq serve
websocket --mode echo`; its fuzzing server tests a program that echoes through the plugin's client. A case passes when the
suite calls it OK, NON-STRICT or INFORMATIONAL and finds the connection closed as it should be.
"""

import argparse
import collections
import json
import os
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")
WSTEST = "from autobahntestsuite import wstest; wstest.run()"
# The suite's largest messages are of 16 MiB.
MAX_MESSAGE = str(64 << 20)


class Running:
    """A process whose lines are read as they come, and which does not outlive the run."""

    def __init__(self, command, folder):
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(
            self.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines, self.tail = queue.Queue(), collections.deque(maxlen=30)
        # Nobody takes lines later, and a server shows gigabytes of messages.
        self.waited_for = True
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.tail.append(line)
            if self.waited_for:
                self.lines.put(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def line_with(self, pattern, limit=60):
        end = time.monotonic() + limit
        while True:
            try:
                found = re.search(pattern, self.lines.get(timeout=max(0.01, end - time.monotonic())))
            except queue.Empty:
                self.fail(f"did not say {pattern!r} within {limit} s")
            if found:
                self.waited_for = False
                return found.group()

    def wait(self, limit):
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.fail(f"still runs after {limit} s")
        if status != 0:
            self.fail(f"ended with status {status}")

    def fail(self, what):
        raise SystemExit(f"{' '.join(self.command)}: {what}\n{''.join(self.tail)}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, limit=60):
    end = time.monotonic() + limit
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > end or process.process.poll() is not None:
            process.fail("does not listen")
        time.sleep(0.05)


def suite(arguments, mode, folder, spec):
    """The suite's command for a specification; its reports land in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec |= {"outdir": str(folder), "cases": arguments.cases, "exclude-cases": [], "exclude-agent-cases": {}}
    file = folder / "spec.json"
    file.write_text(json.dumps(spec))
    return [arguments.python2, "-c", WSTEST, "--mode", mode, "--spec", file, "--webport", "0"]


def server_tested(arguments):
    folder = arguments.reports / "server"
    serve = [arguments.dist / "tracemq", "serve", "websocket", "--bind", "127.0.0.1:0", "--mode", "echo"]
    serve += ["--max-message-size", MAX_MESSAGE]
    with Running(serve, arguments.reports) as server:
        url = server.line_with(r"ws://127\.0\.0\.1:\d+")
        command = suite(arguments, "fuzzingclient", folder, {"servers": [{"agent": "tracemq", "url": url}]})
        with Running(command, folder) as client:
            client.wait(arguments.limit)
    return folder


def client_tested(arguments):
    folder = arguments.reports / "client"
    url = f"ws://127.0.0.1:{free_port()}"
    library = arguments.dist / "plugins" / "libtracemq_plugin_websocket.so"
    with Running(suite(arguments, "fuzzingserver", folder, {"url": url}), folder) as server:
        wait_for(int(url.rsplit(":", 1)[1]), server)
        with Running([arguments.client, library, url, "tracemq"], folder) as client:
            client.wait(arguments.limit)
        # It writes the reports when asked to, which is the client's last call.
        end = time.monotonic() + 60
        while not (folder / "index.json").exists() and time.monotonic() < end:
            time.sleep(0.1)
    return folder


def told(folder):
    results = json.loads((folder / "index.json").read_text())
    (cases,) = results.values()
    return cases


def group(case):
    number = int(case.split(".")[0])
    return {9: "9 limits", 12: "12 compression", 13: "13 compression, parameters"}.get(number, "base (1 to 7 and 10)")


def count(direction, cases):
    """Prints a line for each group, and for each case that fails; returns how many passed and failed."""
    groups, failed = collections.defaultdict(collections.Counter), []
    for name, case in cases.items():
        groups[group(name)][case["behavior"]] += 1
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD:
            failed.append(f"  {name}: {case['behavior']}, close {case['behaviorClose']}")
    for name, counts in sorted(groups.items()):
        listed = ", ".join(f"{number} {behavior}" for behavior, number in sorted(counts.items(), key=lambda one: -one[1]))
        print(f"{direction}, {name}: {sum(counts.values())} cases: {listed}")
    print("".join(f"{line}\n" for line in failed), end="")
    return len(cases) - len(failed), len(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--python2", "--dist", "--client", "--reports"):
        parser.add_argument(name, required=True, type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=7200, help="seconds for one direction")
    parser.add_argument("--only", choices=("server", "client"))
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    arguments.reports = arguments.reports.resolve()
    arguments.reports.mkdir(parents=True, exist_ok=True)
    os.environ["TRACEMQ_HOME"] = str(arguments.reports / "home")
    passed = failed = 0
    for direction, run in (("server", server_tested), ("client", client_tested)):
        if arguments.only in (None, direction):
            good, bad = count(direction, told(run(arguments)))
            passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
