"""Runs the programs of docs/apps.md; see tests/slow/apps.sh. Arguments: the headings of those to run, all by default."""

import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "apps.md"
HEADPOND = ROOT / "target" / "debug" / "headpond"
SERVER = os.environ.get("HEADPOND_TEST_POSTGRES", "")

# What stands on the page for what is somewhere else here.
API, DATABASE = "http://127.0.0.1:8080", "postgres://app@127.0.0.1/app"
# That a read of a single copy was answered 304, in Headpond's metrics.
NOT_MODIFIED = re.compile(r'^headpond_http_request_duration_seconds_count\{(?=.*route="/v1/\{source\}/\{key\}").*status="304".*\} [1-9]', re.M)
PATIENCE = 120

NEEDED = {
    "curl": [("curl", "apt-get install curl")],
    "psql": [],
    "Python": [("python3", "apt-get install python3 python3-venv")],
    "TypeScript": [("node", "apt-get install nodejs"), ("npm", "apt-get install npm")],
    "Go": [("go", "apt-get install golang-go")],
    "Rust": [("cargo", "what https://rustup.rs says")],
}


def main():
    page = PAGE.read_text()
    names = sys.argv[1:] or list(NEEDED)
    needed = [("psql", "apt-get install postgresql-client")] + [tool for name in names for tool in NEEDED[name]]
    missing = [f"{tool} is missing: {how}" for tool, how in needed if not shutil.which(tool)]
    if not SERVER:
        missing.append("HEADPOND_TEST_POSTGRES names no server: run tests/slow/apps.sh")
    if missing:
        sys.exit("\n".join(missing))
    run("cargo", "build", "--locked", cwd=ROOT)
    shared = block(page, "Use it from your app", "text")[0]
    failed = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="headpond-apps-") as directory:
            printed = LANGUAGES[name](page, Path(directory))
        own = block(page, name, "text")
        if own and os.environ.get("HEADPOND_BLESS"):
            before, after = page[: own[1]], page[own[1] + len(own[0]) :]
            page = before + printed + after
            PAGE.write_text(page)
            own = block(page, name, "text")
        expected = own[0] if own else shared
        print(f"== {name}: {'as on the page' if printed == expected else 'NOT as on the page'}\n{printed}", flush=True)
        if printed != expected:
            failed.append(f"{name} should have printed\n{expected}")
    sys.exit("\n".join(failed) or None)


def block(page, heading, language):
    """The first block of code in this language below the heading, and where it begins; None if there is none."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", blank_comments(page), re.M | re.S)
    found = re.search(rf"^```{language}\n(.*?)^```$", page[section.start(1) : section.end(1)], re.M | re.S)
    return (found[1], section.start(1) + found.start(1)) if found else None


def blank_comments(page):
    """The page with what looks like a heading within blocks of code blanked out, of the same length."""
    return re.sub(r"^```.*?^```$", lambda code: re.sub(r"#", " ", code[0]), page, flags=re.M | re.S)


def run(*command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout.decode()}")


# --- The languages


def curl(page, directory):
    return play(page, directory, ["sh", "-eu"], "curl", "sh", "program.sh", stdin=True)


def psql(page, directory):
    with world(page, directory, on_postgres=True) as here:
        here["age"]()
        command = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", here["database"]]
        return watch(command, here, program(page, "psql", "sql", here))


def python(page, directory):
    venv = directory / "venv"
    run(sys.executable, "-m", "venv", venv)
    run(venv / "bin" / "pip", "install", "--quiet", "requests")
    return play(page, directory, [venv / "bin" / "python", "-u"], "Python", "python", "program.py", on_postgres=False)


def typescript(page, directory):
    (directory / "package.json").write_text('{"type": "module"}')
    run("npm", "install", "--no-fund", "--no-audit", "pg", "tsx", "typescript", "@types/node", "@types/pg", cwd=directory)
    check = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--types", "node"]

    def prepare():
        run("node_modules/.bin/tsc", *check, "program.ts", cwd=directory)

    return play(page, directory, ["node_modules/.bin/tsx"], "TypeScript", "ts", "program.ts", prepare)


def go(page, directory):
    run("go", "mod", "init", "program", cwd=directory)
    # From Debian's package golang-github-lib-pq-dev, if it is there: some machines reach no module proxy.
    packaged = Path("/usr/share/gocode/src/github.com/lib/pq")
    if (packaged / "go.mod").exists():
        run("go", "mod", "edit", f"-replace=github.com/lib/pq={packaged}", "-require=github.com/lib/pq@v1.0.0", cwd=directory)
    else:
        run("go", "get", "github.com/lib/pq", cwd=directory)

    def prepare():
        run("go", "vet", ".", cwd=directory)
        run("go", "build", "-o", "program", ".", cwd=directory)

    return play(page, directory, ["./program"], "Go", "go", "program.go", prepare, is_compiled=True)


def rust(page, directory):
    run("cargo", "init", "--quiet", "--vcs", "none", "--name", "program", cwd=directory)
    run("cargo", "add", "--quiet", "postgres", "serde_json", "ureq", cwd=directory)
    # What it depends on is built once for all runs.
    target = ROOT / "target" / "apps"

    def prepare():
        run("cargo", "build", "--quiet", "--target-dir", target, cwd=directory)

    return play(page, directory, [target / "debug" / "program"], "Rust", "rust", "src/main.rs", prepare, is_compiled=True)


LANGUAGES = {"curl": curl, "psql": psql, "Python": python, "TypeScript": typescript, "Go": go, "Rust": rust}


def play(page, directory, command, name, language, file, prepare=None, on_postgres=True, stdin=False, is_compiled=False):
    """Writes the program into this file and runs it; what it printed. Where it follows the feed, it is run once more, and finds its
    cursor unknown: it must then read all users once more, and go on."""

    def run_it(forgets):
        with world(page, directory, on_postgres) as here:
            text = program(page, name, language, here)
            (directory / file).write_text(text)
            if prepare:
                prepare()
            here["age"]()
            arguments = [] if stdin or is_compiled else [directory / file]
            here["forgets"](forgets)
            printed = watch([*command, *arguments], here, text if stdin else None)
            with urllib.request.urlopen(f"{here['api']}/metrics") as metrics:
                if not NOT_MODIFIED.search(metrics.read().decode()):
                    sys.exit(f"{name}: no read was conditional, so none was answered 304")
            return printed

    printed = run_it(forgets=False)
    if not stdin:
        relisted, expected = run_it(forgets=True), re.sub(r"((?:there (?:is|was|may be) .*\n)+)", r"\1\1", printed)
        if relisted != expected:
            sys.exit(f"{name}, whose cursor was unknown in between, should have printed\n{expected}and printed\n{relisted}")
    return printed


def program(page, name, language, here):
    return block(page, name, language)[0].replace(API, here["shown"]).replace(DATABASE, here["database"])


def watch(command, here, text=None):
    """Runs a program, and returns what it printed."""
    process = subprocess.Popen(command, cwd=here["directory"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    if text:
        process.stdin.write(text)
    process.stdin.close()
    printed = process.stdout.read()
    timer.cancel()
    if process.wait() != 0:
        sys.exit(f"{command}: exit code {process.returncode}, after it printed\n{printed}")
    return printed


# --- What they run against


class Upstream(BaseHTTPRequestHandler):
    """Ada, Bob, who can be deleted, and Eve, of whom there is nothing but errors."""

    def do_GET(self):
        users = self.server.users
        status, name = users.get(self.path.rpartition("/")[2], (404, None))
        body = json.dumps({"name": name}, separators=(",", ":")).encode() if name else b""
        etag = f'"{name}"'
        if status == 200 and self.headers["If-None-Match"] == etag:
            status, body = 304, b""
        self.send_response(status)
        if name:
            self.send_header("ETag", etag)
            self.send_header("Content-Type", "application/json")
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Between(BaseHTTPRequestHandler):
    """Passes on what programs ask Headpond for. Before the feed is first asked for, Ada changes twice; or the feed forgets its place, as
    one does that is restored from a backup, and Ada changes before it is asked for again."""

    def do_GET(self):
        if self.path.startswith("/v1/-/changes") and self.server.before_changes:
            self.server.before_changes.pop(0)()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        try:
            answer = urllib.request.urlopen(urllib.request.Request(self.server.api + self.path, headers=headers), timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def between(api):
    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as server:
        server.api, server.before_changes = api, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def world(page, directory, on_postgres):
    """An upstream, an empty database and a Headpond, which has asked for everything once and then seen Bob go."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream, empty_database(directory, on_postgres) as database:
        upstream.users = {"ada": (200, "Ada Byron"), "bob": (200, "Bob"), "eve": (500, None)}
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        config = directory / "headpond.toml"
        config.write_text(block(page, "Use it from your app", "toml")[0])
        settings = {
            "SERVER__LISTEN": "127.0.0.1:0",
            "DATABASE__URL": database,
            "SOURCES__USERS__URL": f"http://127.0.0.1:{upstream.server_port}/users/{{key}}",
            "SOURCES__USERS__STALE_AFTER": "3s",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADPOND")}
        environment |= {f"HEADPOND__{name}": value for name, value in settings.items()}
        command = [HEADPOND, "--config", config, "--log-format", "json", "serve"]
        log = directory / "headpond.log"
        with log.open("w") as file:
            serve = subprocess.Popen(command, env=environment, cwd=directory, stderr=file)
        try:
            api = "http://" + eventually("serving", lambda: listen_address(log), serve, log)
            eventually("ready", lambda: ask(f"{api}/readyz")[0] == 200, serve, log)

            def refresh(key, wait):
                ask(f"{api}/v1/users/{key}/refresh", "POST", {"Prefer": f"wait={wait}"})

            def age():
                is_stale = lambda: ask(f"{api}/v1/users/ada")[1].get("Headpond-State") == "stale"
                eventually("stale", is_stale, serve, log)

            def change():
                for name in ["Ada King", "Ada Lovelace"]:
                    upstream.users["ada"] = (200, name)
                    refresh("ada", 10)

            def forget():
                if on_postgres:
                    run("psql", database, "--quiet", "--command", "UPDATE headpond.change SET tag = tag + 1")
                else:
                    with sqlite3.connect(directory / "app.db", timeout=10) as connection:
                        connection.execute("UPDATE headpond_change SET tag = tag + 1")
                refresh("ada", 0)  # Whoever waits for a change looks again.

            upstream.users["bob"] = (410, None)
            refresh("bob", 10)
            eventually("gone", lambda: ask(f"{api}/v1/users/bob")[0] == 410, serve, log)
            with between(api) as shown:

                def forgets(forgets):
                    shown.before_changes = [forget, change] if forgets else [change]

                address = f"http://127.0.0.1:{shown.server_port}"
                yield {"api": api, "shown": address, "database": database, "directory": directory, "age": age, "forgets": forgets}
        finally:
            serve.terminate()
            serve.wait()
            upstream.shutdown()


def listen_address(log):
    entries = (json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
    return next((entry["listen"] for entry in entries if entry.get("message") == "serving"), None)


@contextmanager
def empty_database(directory, on_postgres):
    if not on_postgres:
        for file in directory.glob("app.db*"):
            file.unlink()
        yield "sqlite://app.db"
        return
    name = f"headpond_apps_{secrets.token_hex(6)}"
    run("psql", SERVER, "--quiet", "--command", f"CREATE DATABASE {name}")
    try:
        yield urlsplit(SERVER)._replace(path=f"/{name}", query="").geturl()
    finally:
        run("psql", SERVER, "--quiet", "--command", f"DROP DATABASE {name} WITH (FORCE)")


def ask(url, method="GET", headers={}):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def eventually(what, probe, serve, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and serve.poll() is None:
        if found := probe():
            return found
        time.sleep(0.05)
    sys.exit(f"not {what}: {log.read_text()}")


main()
