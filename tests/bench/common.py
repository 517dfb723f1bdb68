"""What the measurements of all plugins share: processes that tell what they took, interleaved runs, tables with targets."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


class Sample:
    """What one process took, as `measured` tells it."""

    def __init__(self, told):
        wall, cpu, peak_kib = told.split()
        self.wall, self.cpu, self.peak_kib = float(wall), float(cpu), int(peak_kib)

    def as_dict(self):
        return {"wall_s": self.wall, "cpu_s": self.cpu, "peak_kib": self.peak_kib}


# The program of that name: `main` finds it.
measured = None


def start(command, stdin=subprocess.DEVNULL):
    command = [str(measured), *command]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process, limit=300):
    try:
        told = process.communicate(timeout=limit)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"still running after {limit} s: {process.args}")
    if process.returncode != 0:
        raise SystemExit(f"exit status {process.returncode}: {process.args}")
    return Sample(told)


def run(command, stdin=subprocess.DEVNULL):
    return finish(start(command, stdin))


def interleaved(contenders, repetitions, measure):
    """Each contender once a round, so that what else the machine does hits all alike. The first round only warms up."""
    samples = {name: [] for name in contenders}
    for number in range(repetitions + 1):
        for name, contender in contenders.items():
            sample = measure(contender)
            if number:
                samples[name].append(sample)
    return samples


def median(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def wait_until(condition, what, limit=10):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {limit} s: {what}")
        time.sleep(0.002)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Report:
    """The table of one run. A plugin's measurements are a class built upon it, with a method `measure(folder)`."""

    def __init__(self, arguments):
        self.dist = Path(arguments.dist)
        self.programs = Path(arguments.programs)
        self.quick = arguments.quick
        self.tracemq = str(self.dist / "tracemq")
        self.rows = []
        self.samples = {}

    @classmethod
    def arguments(cls, parser):
        """More arguments than all have."""

    def row(self, what, value, unit, target=None, good=None):
        self.rows.append({"what": what, "value": value, "unit": unit, "target": target, "good": good})
        verdict = "" if good is None else ("ok" if good else "MISSED")
        print(f"  {what:<58} {value:>12,.2f} {unit:<8} {target or '':<10} {verdict}", flush=True)

    def at_least(self, what, value, least, unit="x"):
        self.row(what, value, unit, f">= {least:g}", value >= least)

    def at_most(self, what, value, most, unit="x"):
        self.row(what, value, unit, f"<= {most:g}", value <= most)

    def section(self, title, samples=None):
        print(f"\n{title}", flush=True)
        if samples is not None:
            self.samples[title] = {name: [one.as_dict() for one in all_of] for name, all_of in samples.items()}

    def rates(self, samples, count):
        for name, all_of in samples.items():
            self.row(f"{name}: messages a second", count / median(all_of, "wall"), "1/s")
            self.row(f"{name}: CPU for a million", median(all_of, "cpu") / count * 1e6, "s")
            self.row(f"{name}: peak memory", median(all_of, "peak_kib") / 1024, "MiB")


def main(report):
    """Runs the measurements of one plugin and writes what they found."""
    global measured
    parser = argparse.ArgumentParser()
    for name in ("--dist", "--programs", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--quick", action="store_true")
    report.arguments(parser)
    arguments = parser.parse_args()
    measured = Path(arguments.programs) / "measured"
    bench = report(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TRACEMQ_HOME"] = str(folder / "home")
        bench.measure(folder)
    missed = [row["what"] for row in bench.rows if row["good"] is False]
    document = {"quick": bench.quick, "rows": bench.rows, "samples": bench.samples}
    Path(arguments.output).write_text(json.dumps(document, indent=1))
    print(f"\n{len(missed)} of {sum(row['good'] is not None for row in bench.rows)} targets missed; all in {arguments.output}")
