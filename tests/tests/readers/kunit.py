"""What the kernel's own parser of KTAP makes of a file, as JSON: kunit.py FOLDER-OF-THE-PARSER FILE."""

import contextlib
import io
import json
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])

with open(sys.argv[2], encoding="utf-8") as file:
    lines = file.read().splitlines()
# It prints as it goes.
with contextlib.redirect_stdout(io.StringIO()):
    import kunit_parser

    if "printer" in kunit_parser.parse_run_tests.__code__.co_varnames:
        from kunit_printer import Printer

        test = kunit_parser.parse_run_tests(lines, Printer(output=io.StringIO()))
    else:
        test = kunit_parser.parse_run_tests(lines)
counts = test.counts
print(json.dumps({
    "status": test.status.name,
    "passed": counts.passed,
    "failed": counts.failed,
    "skipped": counts.skipped,
    "crashed": counts.crashed,
    "errors": counts.errors,
    "tests": [
        {
            "name": rule.name,
            "status": rule.status.name,
            "subtests": [{"name": one.name, "status": one.status.name} for one in rule.subtests],
        }
        for rule in test.subtests
    ],
}))
