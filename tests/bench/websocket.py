"""Measures the WebSocket plugin's two sides against bare tungstenite, websocat and npm's ws, all in one run and interleaved.

Called by scripts/bench, which has built everything. All messages are text without compression. Servers are measured by one
client (bare tungstenite), clients by one server (the same), so that only what is compared differs. Absolute figures hold for
this machine and moment only; the ratios are what can be compared.
"""

import os
import re
import subprocess
from pathlib import Path

import common
from common import accepts, free_port, interleaved, median, run, wait_until

SIZE = 100
# What `tracemq bench echo` keeps under way: 16 batches of 256.
WINDOW = 4096
# What a client that waits for answers might.
SMALL_WINDOW = 64
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """A server that runs for the whole comparison; it stops when its standard input ends, or by SIGTERM."""

    def __init__(self, command, stdout=subprocess.PIPE):
        # Errors of clients that come and go are no news.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.DEVNULL, text=True
        )

    def port_told(self):
        line = self.process.stdout.readline()
        found = re.search(r"(\d+)/?\s*$", line)
        if not found:
            raise SystemExit(f"no port in {line!r}: {self.process.args}")
        self.port = int(found.group(1))
        return self

    def at_port(self, port):
        self.port = port
        wait_until(lambda: accepts(port), f"listens: {self.process.args}")
        return self

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))

    def stop(self):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(10)


class Bench(common.Report):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.bare = str(self.programs / "tungstenite_echo")
        self.websocat = arguments.websocat
        self.node = ["node", str(Path(__file__).with_name("websocket_peers.js"))]
        os.environ["NODE_PATH"] = arguments.node_modules
        self.rounds = 3 if self.quick else 7

    @classmethod
    def arguments(cls, parser):
        parser.add_argument("--websocat", required=True)
        parser.add_argument("--node-modules", required=True)

    def measure(self, folder):
        self.servers()
        self.clients(folder)
        self.round_trips()
        self.sizes()

    def bare_client(self, port, count, window):
        return [self.bare, "client", str(port), str(count), str(SIZE), str(window)]

    def servers(self):
        count = 100_000 if self.quick else 300_000
        own, port = free_port(), free_port()
        websocat = [self.websocat, "-t", "-q", f"ws-l:127.0.0.1:{port}", "mirror:"]
        serve = [self.tracemq, "serve", "websocket", "--mode", "echo", "--bind", f"127.0.0.1:{own}"]
        # What it shows of each message goes to /dev/null, as a client's output does.
        serve += ["--format", "raw", "--quiet"]
        servers = {
            "tracemq serve": Server(serve, subprocess.DEVNULL).at_port(own),
            "bare tungstenite": Server([self.bare, "serve"]).port_told(),
            "websocat": Server(websocat).at_port(port),
            "npm ws": Server([*self.node, "serve"]).port_told(),
        }

        def measure(server, window):
            before = server.cpu()
            sample = run(self.bare_client(server.port, count, window))
            sample.cpu, sample.peak_kib = server.cpu() - before, server.peak_kib()
            return sample

        for window in (SMALL_WINDOW, WINDOW):
            samples = interleaved(servers, self.rounds, lambda server, window=window: measure(server, window))
            title = f"Echo servers under a bare tungstenite client, {count:,} messages of {SIZE} bytes, {window} under way"
            self.section(title, samples)
            self.rates(samples, count)
            self.ratios(samples, "tracemq serve")
        for server in servers.values():
            server.stop()

    def clients(self, folder):
        count = 100_000 if self.quick else 300_000
        server = Server([self.bare, "serve"]).port_told()
        contenders = {
            "tracemq bench echo": self.tracemq_client(server.port, count),
            "bare tungstenite": self.bare_client(server.port, count, WINDOW),
            "npm ws": [*self.node, "client", str(server.port), str(count), str(SIZE), str(WINDOW)],
        }
        samples = interleaved(contenders, self.rounds, run)
        self.section(f"Echo clients of a bare tungstenite server, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)
        self.ratios(samples, "tracemq bench echo")

        # A pipe has no window: it is compared with our pipe, lines in and lines out.
        lines = folder / "lines"
        lines.write_text(f"{'x' * SIZE}\n" * count)
        contenders = {
            "tracemq pub --lines": [self.tracemq, "pub", f"ws://127.0.0.1:{server.port}", "--lines"],
            "websocat": [self.websocat, "-t", "-q", "-", f"ws://127.0.0.1:{server.port}/"],
        }

        def measure(command):
            with lines.open("rb") as stdin:
                return run(command, stdin)

        samples = interleaved(contenders, self.rounds, measure)
        server.stop()
        self.section(f"Sending {count:,} lines of {SIZE} bytes to a bare tungstenite server", samples)
        self.rates(samples, count)
        ours, theirs = samples.values()
        self.row("speed against websocat", median(theirs, "wall") / median(ours, "wall"), "x")

    def tracemq_client(self, port, count, *flags):
        return [self.tracemq, "bench", "echo", f"ws://127.0.0.1:{port}", "--count", str(count), "--size", str(SIZE), *flags]

    def round_trips(self):
        count = 3_000 if self.quick else 10_000
        server = Server([self.bare, "serve"]).port_told()
        one_by_one = ["--batch", "1", "--in-flight", "1"]
        contenders = {
            "tracemq bench echo": self.tracemq_client(server.port, count, *one_by_one),
            "bare tungstenite": self.bare_client(server.port, count, 1),
        }
        samples = interleaved(contenders, self.rounds, run)
        server.stop()
        self.section(f"One message at a time, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)

    def ratios(self, samples, ours):
        wall = {name: median(all_of, "wall") for name, all_of in samples.items()}
        for name in wall:
            if name == "bare tungstenite":
                self.at_least(f"{ours}: speed against {name}", wall[name] / wall[ours], 0.95)
            elif name != ours:
                self.row(f"{ours}: speed against {name}", wall[name] / wall[ours], "x")

    def sizes(self):
        self.section("Sizes, stripped")
        self.row("WebSocket plugin", (self.dist / "plugins" / "libtracemq_plugin_websocket.so").stat().st_size / 1e6, "MB")


common.main(Bench)
