"""Measures our speed beside that of comparable libraries: python tests/bench/run.py [--quick] [--no-peers].

The peers are installed into a virtual environment of their own, together with this project and without development
tools. Measurements are interleaved, and medians are compared. The exit code is 1 if a limit is missed.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench.libraries import LIBRARIES
from tests.bench.place import install, prepared, say
from tests.bench.sections import cached_token, cold_renewal, hot_call, login, stampedes, stores
from tests.bench.stores import available


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure our speed and that of comparable libraries.")
    parser.add_argument("--quick", action="store_true", help="one short round: shows whether it runs, not how fast")
    parser.add_argument("--no-peers", action="store_true", help="install and measure nothing but this project")
    quick = (options := parser.parse_args()).quick
    python, peers, note = (sys.executable, [], "") if options.no_peers else install([*LIBRARIES][1:])
    begin = time.monotonic()
    with prepared(python, peers) as place:
        say("logins ...")
        logins = login(place, 1 if quick else 9, 0.3 if quick else 0.8)
        place.prepare(expired=False)
        say("tokens that are valid ...")
        sections = [cached_token(place, 2 if quick else 11)]
        sections += [hot_call(place, 1 if quick else 3, 2_000 if quick else 20_000, 0.2 if quick else 2), *logins]
        say("renewals ...")
        processes = 2 if quick else 8
        sections.append(cold_renewal(place, 1 if quick else 11))
        sections += stampedes(place, 1 if quick else 5, threads=50, tasks=200, processes=processes)
        say("stores ...")
        with available(place.folder) as kinds:
            sections += stores(place, 1 if quick else 5, processes, kinds)
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} processors, {time.monotonic() - begin:.0f} s\n{note}")
    for section in sections:
        print("\n".join(section.lines()))
    limits = [value <= most for section in sections for _, value, most in section.limits]
    print(f"\n{sum(limits)} of {len(limits)} limits met.")
    return 0 if quick or all(limits) else 1


if __name__ == "__main__":
    sys.exit(main())
