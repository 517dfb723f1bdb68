"""Measures the MQTT plugin against mosquitto's clients and a bare rumqttc program, all in one run and interleaved.

Called by scripts/bench, which has built everything. Prints a table of medians and ratios with the targets, and writes all
samples as JSON. Absolute figures hold for this machine and moment only; the ratios are what can be compared.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import common
from common import accepts, finish, free_port, interleaved, median, run, start, wait_until

SIZE = 100


class Mosquitto:
    """A broker on a free port, told to keep all messages."""

    def __init__(self, folder):
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            "user root\nallow_anonymous true\nmax_queued_messages 0\nlog_type error\nlog_type subscribe\n"
            f"log_dest file {self.log}\nlistener {self.port} 127.0.0.1\n"
        )
        self.process = subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL)
        self.seen = 0
        wait_until(lambda: accepts(self.port), "mosquitto accepts connections")

    def forget_subscriptions(self):
        self.seen = self.log.stat().st_size if self.log.exists() else 0

    def subscribed(self):
        with self.log.open("rb") as log:
            log.seek(self.seen)
            return b" bench/t" in log.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Bench(common.Report):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.client_only = Path(arguments.client_only)

    @classmethod
    def arguments(cls, parser):
        parser.add_argument("--client-only", required=True)

    def measure(self, folder):
        self.sizes()
        self.start_up(folder)
        self.receive_raw()
        self.receive_through_mosquitto(folder)
        self.publish(folder)
        self.boundary()
        self.flood()

    def sub(self, version, port, topic, qos, count):
        target = f"mqtt://127.0.0.1:{port}"
        flags = ["--protocol-version", version, "--qos", qos, "--format", "raw", "-C", str(count)]
        return [self.tracemq, "sub", target, topic, *flags]

    def subscribers(self, port, topic, qos, count):
        rumqttc = str(self.programs / "rumqttc_sub")
        ours = {f"tracemq {version}": self.sub(version, port, topic, qos, count) for version in ("3.1.1", "5.0")}
        bare = {f"rumqttc {version}": [rumqttc, version, str(port), topic, qos, str(count)] for version in ("3.1.1", "5.0")}
        mosquitto = {
            f"mosquitto_sub {version}": ["mosquitto_sub", "-p", str(port), "-t", topic, "-q", qos, "-C", str(count), "-V", name]
            for version, name in (("3.1.1", "mqttv311"), ("5.0", "mqttv5"))
        }
        return ours | bare | mosquitto

    def receive_raw(self):
        count = 200_000 if self.quick else 1_000_000
        feeder = subprocess.Popen(
            [self.programs / "feeder", "raw", str(count), str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = int(feeder.stdout.readline())
        samples = interleaved(self.subscribers(port, "#", "0", count), 3 if self.quick else 5, run)
        feeder.stdin.close()
        feeder.wait(10)
        self.section(f"Receiving from the feeder, QoS 0, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)
        wall = {name: median(all_of, "wall") for name, all_of in samples.items()}
        cpu = {name: median(all_of, "cpu") for name, all_of in samples.items()}
        for version in ("3.1.1", "5.0"):
            ours, bare, theirs = (f"{name} {version}" for name in ("tracemq", "rumqttc", "mosquitto_sub"))
            self.at_least(f"{version}: speed against rumqttc", wall[bare] / wall[ours], 1.5)
            self.at_least(f"{version}: speed against mosquitto_sub", wall[theirs] / wall[ours], 5)
            self.at_most(f"{version}: CPU a message against rumqttc", cpu[ours] / cpu[bare], 1)

    def receive_through_mosquitto(self, folder):
        count = 30_000 if self.quick else 100_000
        broker = Mosquitto(folder)
        feed = [self.programs / "feeder", "acknowledged", str(broker.port), "bench/t", str(count), str(SIZE)]

        def measure(command):
            broker.forget_subscriptions()
            process = start(command)
            wait_until(broker.subscribed, f"subscribed: {command}")
            began = time.monotonic()
            source = subprocess.Popen(feed)
            sample = finish(process)
            sample.wall = time.monotonic() - began
            source.wait(60)
            return sample

        samples = interleaved(self.subscribers(broker.port, "bench/t", "1", count), 3 if self.quick else 5, measure)
        broker.stop()
        self.section(f"Receiving through mosquitto, QoS 1, {count:,} messages of {SIZE} bytes", samples)
        self.rates(samples, count)
        for version in ("3.1.1", "5.0"):
            ours, bare = samples[f"tracemq {version}"], samples[f"rumqttc {version}"]
            # "Level" within what two runs of one program differ by.
            self.at_least(f"{version}: speed against rumqttc", median(bare, "wall") / median(ours, "wall"), 0.95)
            self.at_most(f"{version}: CPU a message against rumqttc", median(ours, "cpu") / median(bare, "cpu"), 1.1)

    def publish(self, folder):
        count = 30_000 if self.quick else 100_000
        lines = folder / "lines"
        lines.write_text(f"{'x' * SIZE}\n" * count)
        broker = Mosquitto(folder)
        for qos in ("0", "1"):
            contenders = {
                "tracemq pub --lines": [self.tracemq, "pub", f"mqtt://127.0.0.1:{broker.port}", "t", "--lines", "--qos", qos],
                "mosquitto_pub -l": ["mosquitto_pub", "-p", str(broker.port), "-t", "t", "-l", "-q", qos],
            }

            def measure(command):
                with lines.open("rb") as stdin:
                    return run(command, stdin)

            samples = interleaved(contenders, 3 if self.quick else 5, measure)
            self.section(f"Publishing to mosquitto, QoS {qos}, {count:,} lines of {SIZE} bytes", samples)
            self.rates(samples, count)
            ours, theirs = samples.values()
            self.row("speed against mosquitto_pub", median(theirs, "wall") / median(ours, "wall"), "x")
        broker.stop()

    def start_up(self, folder):
        broker = Mosquitto(folder)
        contenders = {
            "tracemq --version": [self.tracemq, "--version"],
            # Its status is 1 when it is asked for help.
            "mosquitto_sub --help": ["sh", "-c", "mosquitto_sub --help; exit 0"],
            "sh": ["sh", "-c", "exit 0"],
            "tracemq pub": [self.tracemq, "pub", f"mqtt://127.0.0.1:{broker.port}", "t", "x", "--qos", "1"],
            "mosquitto_pub": ["mosquitto_pub", "-p", str(broker.port), "-t", "t", "-m", "x", "-q", "1"],
        }
        samples = interleaved(contenders, 11 if self.quick else 41, run)
        broker.stop()
        self.section("Start-up and one message at QoS 1", samples)
        for name, all_of in samples.items():
            self.row(f"{name}: time", median(all_of, "wall") * 1e3, "ms")
            self.row(f"{name}: peak memory", median(all_of, "peak_kib") / 1024, "MiB")
        wall = {name: median(all_of, "wall") for name, all_of in samples.items()}
        help_alone = wall["mosquitto_sub --help"] - wall["sh"]
        self.at_most("tracemq --version against mosquitto_sub --help", wall["tracemq --version"] / help_alone, 1)
        self.at_most("one pub against mosquitto_pub", wall["tracemq pub"] / wall["mosquitto_pub"], 2)

    def boundary(self):
        command = [self.programs / "boundary", self.programs / "examples/libmaker.so"]
        command += ["1000000", "3"] if self.quick else []
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        self.section("The boundary: a plugin that makes messages up, a host that counts them")
        self.samples["boundary"] = figures
        for one in figures["results"]:
            size = f"{one['payload_bytes']} bytes"
            self.row(f"{size}: through the plugin", one["plugin_messages_per_second"], "1/s")
            self.row(f"{size}: through a channel, one by one", one["channel_messages_per_second"], "1/s")
            self.at_least(f"{size}: plugin against channel", one["ratio"], 4)
            allocations = one["host_allocations_per_message"] + one["plugin_allocations_per_message"]
            # A batch of 256 may cost a few: a message must not cost one.
            self.at_most(f"{size}: allocations a message, both sides", allocations, 0.1, "")

    def flood(self):
        seconds = 10 if self.quick else 60
        feeder = subprocess.Popen(
            [self.programs / "feeder", "raw", str(1 << 62), str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = int(feeder.stdout.readline())
        reader, writer = os.pipe()
        sub = subprocess.Popen(self.sub("5.0", port, "#", "0", 1 << 40), stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)
        peak, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            status = Path(f"/proc/{sub.pid}/status").read_text()
            peak = max(peak, int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]))
            time.sleep(0.1)
        sub.send_signal(signal.SIGINT)
        os.close(reader)
        sub.wait(10)
        feeder.stdin.close()
        feeder.wait(10)
        self.section(f"{seconds} s of a flood into a stopped reader")
        self.at_most("peak memory", peak / 1024, 64, "MiB")

    def sizes(self):
        self.section("Sizes, stripped")
        plugin = "libtracemq_plugin_mqtt.so"
        self.at_most("host", (self.dist / "tracemq").stat().st_size / 1e6, 4, "MB")
        self.at_most("MQTT plugin", (self.dist / "plugins" / plugin).stat().st_size / 1e6, 8, "MB")
        self.at_most("MQTT plugin without serving", (self.client_only / plugin).stat().st_size / 1e6, 3.5, "MB")


common.main(Bench)
