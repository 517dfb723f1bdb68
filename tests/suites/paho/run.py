#!/usr/bin/env python3
"""Runs the interoperability suites of Eclipse Paho against an MQTT broker.

    run.py --suite DIR --port 1883 [--host 127.0.0.1] [--minimum 35] [--only NAME]...

DIR is one of two; neither is part of this repository:
- a checkout of eclipse/paho.mqtt.testing, or its "interoperability" folder: 10 tests of 3.1.1 and 27 of 5.0;
- the unpacked source distribution of the Python package paho-mqtt from PyPI, version 2.2.0, whose
  tests/test_mqttv5.py is the 5.0 suite moved to that client:
  pip download --no-deps --no-binary :all: paho-mqtt==2.2.0

Prints one JSON object per test and a summary as the last line; ends with 0 if at least --minimum tests passed.

Each test runs in a process of its own: the suite keeps its clients in module globals, so that one failed test
would spoil those after it, and its own __main__ hands its options on to unittest, which does not know them.
The suite also waits for the wrong client's SUBACK in places; a pause after each SUBSCRIBE takes that race out.

The broker must refuse SUBSCRIBE "test/nosubscribe" with 0x80 and cap the keep alive at 60 s:

    --deny-subscribe test/nosubscribe=0x80 --max-keep-alive 60
"""

import argparse
import ast
import importlib
import json
import pathlib
import subprocess
import sys
import time
import types
import unittest

MODULES = {"client_test": "3.1.1", "client_test5": "5.0", "test_mqttv5": "5.0"}
SUBSCRIBE_PAUSE = 0.3
TOPICS = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
WILD_TOPICS = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")


def tests_of(suite, module):
    """The test methods in the order of the file, found without importing it."""
    tree = ast.parse((suite / f"{module}.py").read_text(encoding="utf-8"))
    return [
        item.name
        for cls in tree.body if isinstance(cls, ast.ClassDef) and cls.name == "Test"
        for item in cls.body if isinstance(item, ast.FunctionDef) and item.name.startswith("test")
    ]


def run_one(suite, module, test, host, port):
    """In the child: imports the suite and runs one test."""
    sys.path.insert(0, str(suite))
    if module == "test_mqttv5":
        loaded = load_distribution(suite, port)
    else:
        loaded = load_checkout(module, host, port)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(
        unittest.defaultTestLoader.loadTestsFromName(f"Test.{test}", loaded)
    )
    return 0 if result.testsRun == 1 and result.wasSuccessful() and not result.skipped else 1


def load_distribution(suite, port):
    """The suite would start a broker of its own, from a package that is not there; it gets ours instead."""
    sys.path.insert(0, str(suite.parent / "src"))
    for name in ("mqtt", "mqtt.brokers"):
        sys.modules[name] = types.ModuleType(name)
    loaded = importlib.import_module("test_mqttv5")
    loaded.Test._start_broker = classmethod(lambda cls, port_wanted=0, **_: setattr(cls, "_test_broker_port", port))
    loaded.Test.tearDownClass = classmethod(lambda cls: None)
    return loaded


def load_checkout(module, host, port):
    """Sets what the suite's __main__ would set, and takes the race out."""
    loaded = importlib.import_module(module)
    prefix = "client_test5/" if module == "client_test5" else ""
    loaded.topics = tuple(prefix + topic for topic in TOPICS)
    loaded.wildtopics = tuple(prefix + topic for topic in WILD_TOPICS)
    loaded.nosubscribe_topics = ("test/nosubscribe",)
    loaded.topic_prefix = prefix
    loaded.host, loaded.port = host, port

    client = loaded.mqtt_client.Client
    subscribe = client.subscribe

    def subscribe_and_pause(self, *args, **kwargs):
        result = subscribe(self, *args, **kwargs)
        time.sleep(SUBSCRIBE_PAUSE)
        return result

    client.subscribe = subscribe_and_pause
    return loaded


def run_in_child(arguments, module, test):
    command = [sys.executable, __file__, "--suite", str(arguments.suite), "--host", arguments.host,
               "--port", str(arguments.port), "--child", f"{module}.{test}"]
    started = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=arguments.limit, check=False)
        passed, output = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired as expired:
        passed, output = False, (expired.stdout or b"") + f"\nlimit of {arguments.limit} s".encode()
    report = {"version": MODULES[module], "test": test, "passed": passed,
              "seconds": round(time.monotonic() - started, 1)}
    if not passed:
        report["output"] = output.decode("utf-8", "replace")[-arguments.output:]
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=pathlib.Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--limit", type=float, default=60, help="seconds for one test (default 60)")
    parser.add_argument("--minimum", type=int, default=1, help="tests that must pass (default 1)")
    parser.add_argument("--only", action="append", default=[], help="run only tests with this in their name")
    parser.add_argument("--output", type=int, default=2000, help="characters kept of a failed test's output")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    places = [arguments.suite, arguments.suite / "interoperability", arguments.suite / "tests"]
    folder = next((place for place in places if any((place / f"{name}.py").is_file() for name in MODULES)), None)
    if folder is None:
        parser.error(f"--suite: no {' or '.join(name + '.py' for name in MODULES)} there")
    arguments.suite = folder.resolve()

    if arguments.child:
        module, test = arguments.child.split(".")
        return run_one(arguments.suite, module, test, arguments.host, arguments.port)

    passed, failed = 0, []
    for module in MODULES:
        if not (arguments.suite / f"{module}.py").is_file():
            continue
        for test in tests_of(arguments.suite, module):
            if arguments.only and not any(only in test for only in arguments.only):
                continue
            report = run_in_child(arguments, module, test)
            print(json.dumps(report), flush=True)
            if report["passed"]:
                passed += 1
            else:
                failed.append(f"{MODULES[module]} {test}")
    print(json.dumps({"passed": passed, "of": passed + len(failed), "minimum": arguments.minimum,
                      "failed": failed}))
    return 0 if passed >= arguments.minimum else 1


if __name__ == "__main__":
    sys.exit(main())
