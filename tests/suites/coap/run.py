#!/usr/bin/env python3
"""Conformance cases for a CoAP server, on bare UDP sockets.

    run.py --port 5683 [--slow PORT/PATH] [--host 127.0.0.1] [-k NAME]... [-v]

The server must let clients make resources by PUT. With --slow, what stands at that port and path must answer a GET after
one to four seconds:

    tracemq serve coap                          and for --slow another with --resource slow=x --delay 2s
    coap-server-notls -d 100                    and --slow 5683/async?2

Ends with 0 when all pass. The last line is "N passed, N failed, N skipped".
"""

import argparse
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import cases_blocks
import cases_messages
import cases_observe
import cases_resources
from client import Client


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slow")
    parser.add_argument("-k", action="append", default=[], help="run only cases with this in their name")
    parser.add_argument("-v", action="store_true", help="name each case")
    arguments = parser.parse_args()
    Client.ADDRESS = (arguments.host, arguments.port)
    if arguments.slow:
        port, _, where = arguments.slow.partition("/")
        cases_observe.Separate.ADDRESS = (arguments.host, int(port))
        cases_observe.Separate.PATH = where

    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in arguments.k] or None
    modules = (cases_messages, cases_resources, cases_blocks, cases_observe)
    suite = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules)
    result = unittest.TextTestRunner(verbosity=2 if arguments.v else 1).run(suite)
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
