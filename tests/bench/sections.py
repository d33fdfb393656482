"""What is measured: one function per kind of work, with its limits."""

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

from .place import OURS, Place, say
from .table import NANOSECOND, Row, Section, interleaved

GOOGLE = "google-auth-oauthlib"
LOGINS = (OURS, GOOGLE, "wxc_sdk", "httpx_auth")  # they also keep the token file themselves
GET_TOKEN = "from webex_loopback import get_token; get_token()"
MODULES = f"import sys; before = set(sys.modules); {GET_TOKEN}; print(*sorted({{*sys.modules}} - before), sep=', ')"


def cached_token(place: Place, rounds: int) -> Section:
    """A fresh process that gets a valid token from the file."""
    commands: dict[str, tuple[list[str], Mapping[str, str]]] = {
        "get_token()": (place.code(GET_TOKEN), place.environ),
        "webex-loopback token": ([place.command, "token"], place.environ),
        "python -c pass": (place.code("pass"), place.environ),
    }
    if gh := shutil.which("gh"):  # GitHub's tool, if Debian's package is installed
        place.write("hosts.yml", b"github.com: {user: alex, oauth_token: gho_0}")
        commands["gh auth token"] = ([gh, "auth", "token"], place.environ | {"GH_CONFIG_DIR": place.folder})
    for peer in place.libraries[1:]:
        commands[peer] = (place.uses(peer, "ready()()"), place.environ_of(peer))
    section = Section("Cached token, fresh process")
    section.rows = interleaved(rounds, {name: partial(_time, place, *command) for name, command in commands.items()})
    section.limit_ratio("get_token()", "python -c pass", 1.3)
    section.limit_ratio("webex-loopback token", "python -c pass", 2.5)
    section.limit_ratio("webex-loopback token", "gh auth token", 0.55)
    section.notes.append(f"Modules loaded for a cached token: {place.run(place.code(MODULES), place.environ).strip()}")
    return section


def hot_call(place: Place, rounds: int, calls: int, seconds: float) -> Section:
    """A call in a process that has a valid token in memory."""
    names = {"one": "get_token()", "eight": "get_token(), 8 threads", "async": "await aget_token()"}
    rows = {name: Row(name) for name in (*names.values(), "time.time() < expiry", *place.libraries[1:])}
    found: dict[str, list[float]] = {"leaves": [], "stats": [], "environment": []}
    for _ in range(rounds):
        report = json.loads(place.run(_work(place, f"hot_ours(5, {calls}, {seconds})"), place.environ_of(OURS)))
        for key, values in report.items():
            (found[key] if key in found else rows[names.get(key, "time.time() < expiry")].values).extend(values)
        for peer in place.libraries[1:]:
            rows[peer].values += json.loads(place.run(_work(place, f"hot({peer!r}, 5)"), place.environ_of(peer)))
    section = Section("Hot call, token in memory", NANOSECOND, [*rows.values()])
    section.limit_ratio("get_token()", "time.time() < expiry", 2.5)
    section.limit_ratio("get_token(), 8 threads", "get_token()", 1.3)
    section.limit_ratio("await aget_token()", "get_token()", 2)
    section.limit("calls of aget_token() that left the loop", statistics.median(found["leaves"]), 0)
    # One per second: the calls may begin within one second and end within another.
    section.limit(f"os.stat calls in {seconds:g} s of calls", max(found["stats"]), seconds + 1)
    section.limit(f"environment lookups in {seconds:g} s of calls", max(found["environment"]), seconds + 1)
    return section


def login(place: Place, rounds: int, thinking_seconds: float) -> list[Section]:
    """From the command to the browser, and from the redirect to the tokens in the file."""
    moments: dict[str, list[tuple[float, float]]] = {name: [] for name in place.libraries if name in LOGINS}
    for number in range(-1, rounds):
        for name in [*moments]:
            try:
                moment = place.log_in(name, thinking_seconds)
            except RuntimeError as error:
                if name == OURS:
                    raise
                say(str(error))
                del moments[name]
                continue
            if number >= 0:
                moments[name].append(moment)
    parts = (("process start to browser opened", 0.7), ("redirect to tokens on disk, TLS", 0.25))
    sections = []
    for part, (title, most) in enumerate(parts):
        sections.append(Section(f"Login: {title}"))
        sections[-1].rows = [Row(name, [moment[part] for moment in moments[name]]) for name in moments]
        sections[-1].limit_ratio(OURS, GOOGLE, most)
    return sections


def cold_renewal(place: Place, rounds: int) -> Section:
    """A fresh process that has to refresh an expired token, from its start to its end."""
    contents = _expired(place)

    def spend(name: str) -> float:
        place.write(place.file_of(name), contents[name])
        return _time(place, _ask(place, name), place.environ_of(name))

    section = Section("Cold renewal: fresh process, expired token, TLS")
    section.rows = interleaved(rounds, {name: partial(spend, name) for name in contents})
    section.limit_ratio(OURS, GOOGLE, 1.0)
    return section


def stampedes(place: Place, rounds: int, *, threads: int, tasks: int, processes: int) -> list[Section]:
    """Many ask at once, and the token has expired: from the start of the first process to the end of the last one."""
    contents = _expired(place)
    kinds: list[tuple[str, list[str], Callable[[str], list[list[str]]]]] = [
        (f"{threads} threads", [*contents], lambda name: [_work(place, f"threads({name!r}, {threads})")]),
        (f"{tasks} tasks", [OURS, "Authlib"], lambda name: [_work(place, f"tasks({name!r}, {tasks})")]),
        (f"{processes} processes", [*LOGINS], lambda name: [_ask(place, name)] * processes),
    ]
    sections = []
    for title, able, commands in kinds:
        section = Section(f"Stampede, expired token, {title}", rows=[Row(name) for name in able if name in contents])
        worst = {row.name: (0, 0) for row in section.rows}
        for row in section.rows * rounds:
            place.write(place.file_of(row.name), contents[row.name])
            seconds, *counts = _at_once(place, commands(row.name), place.environ_of(row.name))
            row.values.append(seconds)
            worst[row.name] = max(worst[row.name][0], counts[0]), max(worst[row.name][1], counts[1])
            row.note = "refreshes: {}, failures: {}".format(*worst[row.name])
        section.limit("refreshes made by ours", worst[OURS][0], 1)
        section.limit("calls of ours that failed", worst[OURS][1], 0)
        sections.append(section)
    sections[-1].limit_ratio(OURS, GOOGLE, 1.0)
    return sections


def stores(place: Place, rounds: int, processes: int, kinds: dict[str, dict[str, str]]) -> list[Section]:
    """Our other stores beside the file: a valid token in a fresh process, and a stampede with an expired one."""
    single = Section("Cached token, fresh process, by store")
    many = Section(f"Stampede, expired token, {processes} processes, by store")
    for name, environ in kinds.items():
        environ = place.environ | environ
        one, all_of_them, most = Row(name), Row(name), 0
        try:
            for _ in range(rounds):
                place.run(_work(place, "keep(1_000_000)"), environ)
                one.values.append(_time(place, place.code(GET_TOKEN), environ))
                place.run(_work(place, "keep(-10)"), environ)
                seconds, *counts = _at_once(place, [place.code(GET_TOKEN)] * processes, environ)
                all_of_them.values.append(seconds)
                most = max(most, sum(counts))
        except RuntimeError as error:
            single.notes.append(f"{name} is skipped: {str(error).strip().splitlines()[-1]}")
            continue
        single.rows.append(one)
        many.rows.append(all_of_them)
        many.limit(f"refreshes and failures, {name}", most, 1)
    return [single, many]


def _expired(place: Place) -> dict[str, bytes]:
    """Return the token file of each library that can refresh at the sandbox, with an expired token."""
    contents = place.prepare(expired=True)
    return {name: content for name, content in contents.items() if name != "msal"}  # which refreshes at Microsoft


def _ask(place: Place, name: str) -> list[str]:
    return place.code(GET_TOKEN) if name == OURS else place.uses(name, "ready()()")


def _work(place: Place, code: str) -> list[str]:
    return place.code(f"from tests.bench import work; work.{code}")


def _time(place: Place, command: list[str], environ: Mapping[str, str]) -> float:
    begin = time.perf_counter()
    place.run(command, environ)
    return time.perf_counter() - begin


def _at_once(place: Place, commands: list[list[str]], environ: Mapping[str, str]) -> tuple[float, int, int]:
    """Run commands at the same time; return the seconds, the refreshes at the server, and the failures."""
    place.sandbox.switches.latency = 0.05
    before, begin = place.sandbox.count("refresh_token"), time.perf_counter()
    started = [place.start(command, environ) for command in commands]
    try:
        failures = sum(process.communicate(timeout=60) and process.returncode for process in started)
    finally:
        for process in started:
            process.kill()
        place.sandbox.switches.latency = 0
    return time.perf_counter() - begin, place.sandbox.count("refresh_token") - before, failures
