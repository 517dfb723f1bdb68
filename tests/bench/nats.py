"""Measures the NATS plugin against async-nats, nats.go, libnats, nats-py and nats-server, all in one run and interleaved.

Called by scripts/bench, which has built everything. Absolute figures hold for this machine and moment only; the ratios are what
can be compared.
"""

import json
import subprocess
import time
import urllib.request

import common
from common import accepts, finish, free_port, interleaved, median, run, start, wait_until

SIZE = 100
# What all measurements publish to and subscribe to.
SUBJECT = "bench.t"


class NatsServer:
    """Debian's nats-server on a free port, and its monitoring on another."""

    def __init__(self):
        self.port, self.monitor = free_port(), free_port()
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(self.port), "nats-server accepts connections")
        wait_until(lambda: accepts(self.monitor), "nats-server's monitoring accepts connections")

    def subscriptions(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/connz?subs=1", timeout=10) as answer:
            connections = json.load(answer)["connections"]
        return sum(SUBJECT in connection.get("subscriptions_list", []) for connection in connections)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Served:
    """Our own server; what it shows goes to /dev/null."""

    def __init__(self, tracemq):
        self.port = free_port()
        command = [tracemq, "serve", "nats", "--bind", f"127.0.0.1:{self.port}", "--format", "raw", "--quiet"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(self.port), "tracemq serve accepts connections")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Bench(common.Report):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.peers = str(self.programs / "nats_peers")
        self.go, self.c, self.python = arguments.go, arguments.libnats, arguments.python
        self.rounds = 3 if self.quick else 5

    @classmethod
    def arguments(cls, parser):
        for name in ("--go", "--libnats", "--python"):
            parser.add_argument(name, required=True)

    def measure(self, folder):
        self.receive_from_source()
        self.receive_through_server()
        self.publish(folder)
        self.serve()
        self.section("Sizes, stripped")
        plugin = self.dist / "plugins" / "libtracemq_plugin_nats.so"
        self.row("NATS plugin", plugin.stat().st_size / 1e6, "MB")

    def subscribers(self, port, count):
        arguments = [str(port), SUBJECT, str(count)]
        sub = [self.tracemq, "sub", f"nats://127.0.0.1:{port}", SUBJECT, "--format", "raw", "-C", str(count)]
        return {
            "tracemq": sub,
            # The default drops what it can't show in time, and would wait for it here.
            "tracemq --lossless": [*sub, "--lossless"],
            "async-nats": [self.peers, "async_nats", *arguments],
            "nats.go": [self.go, *arguments],
            "libnats": [self.c, *arguments],
        }

    def receive_from_source(self):
        count = 500_000 if self.quick else 2_000_000
        source = subprocess.Popen(
            [self.peers, "source", str(count), str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = int(source.stdout.readline())
        samples = interleaved(self.subscribers(port, count), self.rounds, run)
        source.stdin.close()
        source.wait(10)
        self.section(f"Receiving from a raw source, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)
        wall = {name: median(all_of, "wall") for name, all_of in samples.items()}
        cpu = {name: median(all_of, "cpu") for name, all_of in samples.items()}
        self.at_least("speed against nats.go", wall["nats.go"] / wall["tracemq"], 1.5)
        self.at_least("speed against async-nats", wall["async-nats"] / wall["tracemq"], 3)
        self.at_most("CPU a message against nats.go", cpu["tracemq"] / cpu["nats.go"], 1)

    def receive_through_server(self):
        count = 500_000 if self.quick else 2_000_000
        server = NatsServer()

        def measure(command):
            process = start(command)
            wait_until(lambda: server.subscriptions() == 1, f"subscribed: {command}")
            began = time.monotonic()
            source = subprocess.Popen([self.peers, "publish", str(server.port), SUBJECT, str(count), str(SIZE)])
            sample = finish(process)
            sample.wall = time.monotonic() - began
            source.wait(60)
            wait_until(lambda: server.subscriptions() == 0, "the subscriber is gone")
            return sample

        samples = interleaved(self.subscribers(server.port, count), self.rounds, measure)
        server.stop()
        self.section(f"Receiving through nats-server, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)
        # "Level" within what two runs of one program differ by.
        speed = median(samples["nats.go"], "wall") / median(samples["tracemq"], "wall")
        self.at_least("speed against nats.go", speed, 0.95)

    def publish(self, folder):
        count = 200_000 if self.quick else 1_000_000
        lines = folder / "lines"
        lines.write_text(f"{'x' * SIZE}\n" * count)
        server = NatsServer()
        contenders = {
            "tracemq pub --lines": [self.tracemq, "pub", f"nats://127.0.0.1:{server.port}", SUBJECT, "--lines"],
            "nats-py": [self.python, "tests/bench/peers/nats_pub.py", str(server.port), SUBJECT],
        }

        def measure(command):
            with lines.open("rb") as stdin:
                return run(command, stdin)

        samples = interleaved(contenders, 3, measure)
        server.stop()
        self.section(f"Publishing {count:,} lines of {SIZE} bytes to nats-server", samples)
        self.rates(samples, count)
        ours, theirs = samples.values()
        self.at_least("speed against nats-py", median(theirs, "wall") / median(ours, "wall"), 5)

    def serve(self):
        servers = {"tracemq serve": Served(self.tracemq), "nats-server": NatsServer()}
        for connections, count in ((1, 500_000 if self.quick else 2_000_000), (100, 20_000 if self.quick else 100_000)):

            def measure(server):
                subscribe = [self.peers, "subscribe", str(server.port), SUBJECT, str(count), str(connections)]
                subscribers = subprocess.Popen(subscribe, stdout=subprocess.PIPE, text=True)
                subscribers.stdout.readline()
                began = time.monotonic()
                sample = run([self.peers, "publish", str(server.port), SUBJECT, str(count), str(SIZE)])
                if subscribers.wait(300) != 0:
                    raise SystemExit(f"exit status {subscribers.returncode}: {subscribe}")
                sample.wall = time.monotonic() - began
                return sample

            samples = interleaved(servers, self.rounds, measure)
            self.section(f"Servers, 1 publisher and {connections} subscribers, {count:,} messages of {SIZE} bytes", samples)
            for name, all_of in samples.items():
                self.row(f"{name}: messages delivered a second", count * connections / median(all_of, "wall"), "1/s")
            ours, theirs = samples.values()
            self.at_least("throughput against nats-server", median(theirs, "wall") / median(ours, "wall"), 0.7)
        for server in servers.values():
            server.stop()


common.main(Bench)
