"""Measures the Event Hubs plugin's two sides against bare fe2o3-amqp, rhea and azure-eventhub, all in one run and interleaved.

Called by scripts/bench, which has built everything. All clients are measured on `tracemq serve eventhubs`, for there is no other
server of this protocol here; what that takes itself is measured by bytes that were encoded beforehand. Absolute figures hold for
this machine and moment only; the ratios are what can be compared.
"""

import os
import subprocess
from pathlib import Path

import common
from common import accepts, free_port, interleaved, median, run, wait_until

SIZE = 1024
KEY = "SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE"


class Served:
    """Our own server; what it shows goes to /dev/null."""

    def __init__(self, tracemq, *arguments):
        self.port = free_port()
        command = [tracemq, "serve", "eventhubs", "--bind", f"127.0.0.1:{self.port}", "--hub", "hub:1"]
        command += ["--format", "raw", "--quiet", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(self.port), "tracemq serve accepts connections")
        self.connection = f"Endpoint=sb://127.0.0.1:{self.port}/;{KEY};EntityPath=hub;UseDevelopmentEmulator=true"

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Bench(common.Report):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.bare = str(self.programs / "amqp_peers")
        self.node = ["node", str(Path(__file__).with_name("eventhubs_peers.js"))]
        self.python = [arguments.python, str(Path(__file__).parent / "peers" / "eventhubs.py")]
        os.environ["NODE_PATH"] = arguments.node_modules
        self.rounds = 3 if self.quick else 5

    @classmethod
    def arguments(cls, parser):
        for name in ("--python", "--node-modules"):
            parser.add_argument(name, required=True)

    def measure(self, folder):
        self.serve(folder)
        self.receive()
        self.send()
        self.section("Sizes, stripped")
        plugin = self.dist / "plugins" / "libtracemq_plugin_eventhubs.so"
        self.row("Event Hubs plugin", plugin.stat().st_size / 1e6, "MB")

    def flood(self, server, count):
        return [self.bare, "flood", str(server.port), "hub", str(count), str(SIZE)]

    def serve(self, folder):
        count = 300_000 if self.quick else 1_000_000
        keeps = ["--retention-bytes", "64MiB"]
        servers = {
            "in memory": Served(self.tracemq, *keeps),
            "in a folder": Served(self.tracemq, *keeps, "--data-dir", str(folder / "data")),
        }
        samples = interleaved(servers, self.rounds, lambda server: run(self.flood(server, count)))
        self.section(f"tracemq serve takes {count:,} events of {SIZE} bytes in batches", samples)
        for name in servers:
            rate = count / median(samples[name], "wall")
            if name == "in memory":
                self.at_least(f"{name}: events a second", rate, 200_000, "1/s")
            else:
                self.row(f"{name}: events a second", rate, "1/s")
        for server in servers.values():
            server.stop()

    def receive(self):
        count = 50_000 if self.quick else 200_000
        server = Served(self.tracemq, "--retention-bytes", "0")
        run(self.flood(server, count + 2_000))
        port = str(server.port)
        sub = [self.tracemq, "sub", server.connection, "--partition", "0", "--position", "earliest"]
        contenders = {
            "tracemq sub": [*sub, "--format", "raw", "-C", str(count)],
            "tracemq bench sub": [
                self.tracemq, "bench", "sub", server.connection, "--partition", "0", "--position", "earliest",
                "--count", str(count), "--quiet",
            ],
            "bare fe2o3-amqp": [self.bare, "receive", port, "hub", str(count)],
            "rhea": [*self.node, "receive", port, "hub", str(count)],
            "azure-eventhub": [*self.python, "receive", server.connection, str(count)],
        }
        samples = interleaved(contenders, self.rounds, run)
        server.stop()
        self.section(f"Receiving {count:,} events of {SIZE} bytes from tracemq serve", samples)
        self.rates(samples, count)
        wall = {name: median(all_of, "wall") for name, all_of in samples.items()}
        self.at_least("tracemq sub: speed against bare fe2o3-amqp", wall["bare fe2o3-amqp"] / wall["tracemq sub"], 0.95)
        self.at_least("tracemq sub: speed against azure-eventhub", wall["azure-eventhub"] / wall["tracemq sub"], 4)
        self.at_least("tracemq sub: speed against rhea", wall["rhea"] / wall["tracemq sub"], 1.5)

    def send(self):
        count = 50_000 if self.quick else 200_000
        server = Served(self.tracemq, "--retention-bytes", "64MiB")
        port = str(server.port)
        contenders = {
            "tracemq bench pub": [
                self.tracemq, "bench", "pub", server.connection, "--partition", "0",
                "--count", str(count), "--size", str(SIZE), "--quiet",
            ],
            "bare fe2o3-amqp, batches": [self.bare, "batches", port, "hub", str(count), str(SIZE)],
            "bare fe2o3-amqp, single events": [self.bare, "singles", port, "hub", str(count), str(SIZE)],
            "rhea, single events": [*self.node, "send", port, "hub", str(count), str(SIZE)],
            "azure-eventhub, batches": [*self.python, "send", server.connection, str(count), str(SIZE)],
        }
        samples = interleaved(contenders, self.rounds, run)
        server.stop()
        self.section(f"Sending {count:,} events of {SIZE} bytes to tracemq serve", samples)
        self.rates(samples, count)
        ours = median(samples["tracemq bench pub"], "wall")
        for name, all_of in samples.items():
            if name == "bare fe2o3-amqp, batches":
                self.at_least(f"tracemq bench pub: speed against {name}", median(all_of, "wall") / ours, 0.95)
            elif name != "tracemq bench pub":
                self.row(f"tracemq bench pub: speed against {name}", median(all_of, "wall") / ours, "x")


common.main(Bench)
