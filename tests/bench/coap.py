"""Measures the CoAP plugin's two sides against libcoap, a bare coap-lite loop and aiocoap, all in one run and interleaved.

Called by scripts/bench, which has built everything. All requests are confirmable GETs of 20 bytes. Clients are measured with
libcoap's server, servers with the bare loop, so that only what is compared differs. Absolute figures hold for this machine
and moment only; the ratios are what can be compared.
"""

import json
import os
import re
import socket
import statistics
import subprocess
from pathlib import Path

import common
from common import interleaved, wait_until

PATH, CONTENT = "bench", b"21.5 degrees celsius"
WINDOWS = (1, 8, 64)
# `tracemq bench pub` hands over its messages as `pub` does, many at once; how many requests are under way is said by
# `--nstart`. So its latencies are those of batches, and those of requests are taken from the outcomes of `pub --json`.
BATCH = ("--batch", "256", "--in-flight", "2")
OBSERVERS = 10_000
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port):
    """Whether a server answers a ping (an empty confirmable message)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.sendto(b"\x40\x00\x12\x34", ("127.0.0.1", port))
            return probe.recv(100)[0] >> 4 == 7
        except OSError:
            return False


def put(port):
    """Makes the resource."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(5)
        one.sendto(b"\x40\x03\x43\x21" + bytes([0xB0 | len(PATH)]) + PATH.encode() + b"\xff" + CONTENT, ("127.0.0.1", port))
        if one.recv(100)[1] >> 5 != 2:
            raise SystemExit(f"the server at port {port} does not take a PUT")


class Server:
    """A server that runs for the whole comparison."""

    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: answers(port), f"answers a ping: {command}", 20)

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Figures:
    """What a client says of one run, or of one for its rate and one for its latencies."""

    def __init__(self, command):
        commands = command if isinstance(command, tuple) else (command,)
        told = json.loads(self.run(commands[0]))
        self.rate = told["messages_per_second"]
        self.p50, self.p99 = told["latency_us"]["p50"], told["latency_us"]["p99"]
        for outcomes in map(self.run, commands[1:]):
            took = sorted(json.loads(line)["details"]["round_trip_ms"] * 1000 for line in outcomes.splitlines())
            self.p50, self.p99 = (took[int((len(took) - 1) * part)] for part in (0.5, 0.99))
        self.cpu = None

    @staticmethod
    def run(command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"still running after 300 s: {command}")
        if done.returncode != 0:
            raise SystemExit(f"exit status {done.returncode}: {command}\n{done.stderr}")
        return done.stdout

    def as_dict(self):
        return vars(self)


def middle(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


class Bench(common.Report):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.bare = str(self.programs / "coap_bare")
        self.python = arguments.python
        self.rounds = 3 if self.quick else 7

    @classmethod
    def arguments(cls, parser):
        parser.add_argument("--python", required=True)

    def measure(self, folder):
        self.clients()
        self.servers()
        self.observers()
        self.section("Sizes, stripped")
        self.row("CoAP plugin", (self.dist / "plugins" / "libtracemq_plugin_coap.so").stat().st_size / 1e6, "MB")

    def libcoap(self):
        port = free_port()
        server = Server(["coap-server-notls", "-A", "127.0.0.1", "-p", str(port), "-d", "10"], port)
        put(port)
        return server

    def tracemq_serve(self):
        port = free_port()
        # What it shows of each request goes to /dev/null, as a client's output does.
        command = [self.tracemq, "serve", "coap", "--bind", f"127.0.0.1:{port}", "--format", "raw", "--quiet"]
        server = Server(command, port)
        put(port)
        return server

    def aiocoap(self):
        port = free_port()
        return Server([self.python, str(Path(__file__).parent / "peers/coap_serve.py"), str(port)], port)

    def bare_client(self, port, count, window):
        return [self.bare, "get", str(port), PATH, str(count), str(window)]

    def tracemq_client(self, port, count, window):
        url = f"coap://127.0.0.1:{port}"
        get = [url, PATH, "--method", "get", "--nstart", str(window), "--json", "--quiet"]
        rate = [self.tracemq, "bench", "pub", *get, "--size", "0", "--count", str(count), *BATCH]
        latency = [self.tracemq, "pub", *get, "--empty", "--repeat", str(max(window, count // 10))]
        return rate, latency

    def clients(self):
        server = self.libcoap()
        for window in WINDOWS:
            count = self.count(window)
            url = f"coap://127.0.0.1:{server.port}/{PATH}"
            few = max(window, count // 20)
            contenders = {
                "tracemq bench pub": self.tracemq_client(server.port, count, window),
                "bare coap-lite": self.bare_client(server.port, count, window),
                "aiocoap": [self.python, str(Path(__file__).parent / "peers/coap_get.py"), url, str(few), str(window)],
            }
            samples = interleaved(contenders, self.rounds, Figures)
            self.section(f"Clients of libcoap's server, {count:,} requests, {window} in flight", samples)
            self.figures(samples)
            speed = self.ratio(samples, "tracemq bench pub", "bare coap-lite")
            self.at_least("tracemq: speed against bare coap-lite", speed, 0.95)
            self.row("tracemq: speed against aiocoap", self.ratio(samples, "tracemq bench pub", "aiocoap"), "x")
        server.stop()

    def servers(self):
        servers = {"tracemq serve": self.tracemq_serve(), "libcoap": self.libcoap(), "aiocoap": self.aiocoap()}
        for window in WINDOWS:
            count = self.count(window)

            def measure(server, window=window, count=count):
                few = count if server is not servers["aiocoap"] else count // 20
                before = server.cpu()
                figures = Figures(self.bare_client(server.port, few, window))
                figures.cpu = (server.cpu() - before) / few * 1e6
                return figures

            samples = interleaved(servers, self.rounds, measure)
            self.section(f"Servers under a bare coap-lite client, {count:,} requests, {window} in flight", samples)
            self.figures(samples)
            self.at_least("tracemq: speed against libcoap", self.ratio(samples, "tracemq serve", "libcoap"), 1)
            self.row("tracemq: speed against aiocoap", self.ratio(samples, "tracemq serve", "aiocoap"), "x")
        for name, server in servers.items():
            self.row(f"{name}: peak memory", server.peak_mib(), "MiB")
            server.stop()

    def observers(self):
        self.section(f"{OBSERVERS:,} observers of one resource, each acknowledging")
        rounds = 3 if self.quick else 10
        server = self.tracemq_serve()
        done = subprocess.run(
            [self.bare, "observe", str(server.port), PATH, str(OBSERVERS), str(rounds)],
            check=True, capture_output=True, text=True, timeout=600,
        )
        told = json.loads(done.stdout)
        self.row("registering them", told["registered_s"], "s")
        self.row("telling all of a change, median", statistics.median(told["told_s"]), "s")
        self.row("telling all of a change, slowest", max(told["told_s"]), "s")
        self.at_most("peak memory", server.peak_mib(), 64, "MiB")
        server.stop()

    def count(self, window):
        most = {1: 50_000, 8: 200_000, 64: 400_000}[window]
        return most // 5 if self.quick else most

    def figures(self, samples):
        for name, all_of in samples.items():
            self.row(f"{name}: requests a second", middle(all_of, "rate"), "1/s")
            self.row(f"{name}: round trip, median", middle(all_of, "p50"), "us")
            self.row(f"{name}: round trip, 99 of 100", middle(all_of, "p99"), "us")
            if all_of[0].cpu is not None:
                self.row(f"{name}: CPU for a million", middle(all_of, "cpu"), "s")

    def ratio(self, samples, ours, theirs):
        return middle(samples[ours], "rate") / middle(samples[theirs], "rate")


common.main(Bench)
