#!/usr/bin/env python3
"""Conformance cases for an MQTT 3.1.1 and 5.0 server, on raw sockets.

    run.py --port 1883 [--host 127.0.0.1] [--known FILE] [-k NAME]... [-v]

The broker must refuse SUBSCRIBE "test/nosubscribe" with 0x80 and cap the keep alive at 60 s:

    --deny-subscribe test/nosubscribe=0x80 --max-keep-alive 60

--known names the deviations that are documented, one "Class.case" a line, "#" for comments: they must fail, so
that one that is repaired is noticed. Ends with 0 when all others pass. The last line is "N passed, N failed".
"""

import argparse
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import cases_both
import cases_v5
from client import Client


def name(case):
    """"Class.case", of a case or a part of it."""
    case = getattr(case, "test_case", case)
    return f"{type(case).__name__}.{case._testMethodName}"


class Result(unittest.TextTestResult):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.started = set()

    def startTest(self, test):
        self.started.add(name(test))
        super().startTest(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--known", type=pathlib.Path)
    parser.add_argument("-k", action="append", default=[], help="run only cases with this in their name")
    parser.add_argument("-v", action="store_true", help="name each case")
    arguments = parser.parse_args()
    Client.ADDRESS = (arguments.host, arguments.port)

    known = set()
    if arguments.known:
        lines = arguments.known.read_text(encoding="utf-8").splitlines()
        known = {line.split("#")[0].strip() for line in lines} - {""}
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in arguments.k] or None
    suite = unittest.TestSuite(loader.loadTestsFromModule(module) for module in (cases_both, cases_v5))
    runner = unittest.TextTestRunner(verbosity=2 if arguments.v else 1, resultclass=Result)
    result = runner.run(suite)
    known &= result.started
    failed = {name(case) for case, _ in result.failures + result.errors}
    for case in sorted(failed & known):
        print(f"known deviation: {case}")
    for case in sorted(known - failed):
        print(f"no longer fails, remove it from {arguments.known}: {case}")
    wrong = failed ^ known
    print(f"{result.testsRun - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
