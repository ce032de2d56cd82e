#!/usr/bin/env python3
"""What sandboxes use and do, told by metrics, logs, events and webhooks, on real sandboxes: also
after they have ended, after a crash of the server, and never to another namespace."""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

METRIC = {"timestamp", "timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache",
          "diskUsed", "diskTotal"}  # fmt: skip
EVENT = {"id", "version", "type", "timestamp", "event_data", "sandbox_id", "sandbox_execution_id",
         "sandbox_template_id", "sandbox_build_id", "sandbox_team_id", "event_category",
         "event_label"}  # fmt: skip
LIFE = "sandbox.lifecycle."
SECRET = "not-a-secret-but-long-enough"
# A service that answers with the headers it was asked with.
HEADS = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("", 8123), Handler).serve_forever()
"""


def setUpModule():
    lib.need_root()


class Receiver:
    """A webhook's other end: answers with the next of STATUSES, then 200."""

    def __init__(self, statuses=()):
        self.statuses = list(statuses)
        self.calls = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append((headers, body, time.monotonic()))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def receiver(*args):
    one = Receiver(*args)
    try:
        yield one
    finally:
        one.close()


class Observe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server(args=["--sample-seconds", "1", "--webhook-private"])
        cls.server.start()
        cls.other, _ = cls.server.new_key("other")

    @classmethod
    def tearDownClass(cls):
        if cls.server.stop() != 0:
            raise AssertionError("the server ended badly")

    def get(self, path, key=None, **query):
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        reply = self.server.api("GET", path, key=key)
        self.assertEqual(reply.status, 200, f"{path}: {reply.body}")
        return reply.json

    def status(self, path, key=None, **query):
        path += "?" + urllib.parse.urlencode(query, doseq=True)
        reply = self.server.api("GET", path, key=key)
        if reply.status >= 400:
            self.assertEqual(reply.json["code"], reply.status)
        return reply.status

    def metrics(self, sandbox, **query):
        return self.get(f"/sandboxes/{sandbox.id}/metrics", **query)

    def messages(self, sandbox, **query):
        found = self.get(f"/v2/sandboxes/{sandbox.id}/logs", direction="forward", **query)["logs"]
        return [entry["message"] for entry in found]

    # --- metrics ---

    def test_metrics_show_cpu_and_memory(self):
        sandbox = self.server.create()
        sandbox.background("while :; do :; done")
        sandbox.background("head -c 150m /dev/zero | tail -c 150m | sleep 60")

        def burns():
            found = self.metrics(sandbox)
            return found if found and found[-1]["cpuUsedPct"] > 10 else None

        found = lib.wait_until("a CPU in use", 40, burns)
        last = found[-1]
        self.assertEqual(set(last), METRIC)
        self.assertEqual(last["cpuCount"], 2)
        # one of two, and what envd and the other command use; an average of two would be 100
        self.assertLess(last["cpuUsedPct"], 85)
        self.assertEqual(last["memTotal"], 1024 << 20)
        self.assertGreater(last["diskTotal"], 0)
        lib.wait_until(
            "memory in use", 20, lambda: self.metrics(sandbox)[-1]["memUsed"] > 140 << 20
        )
        lib.wait_until("some more", 10, lambda: len(self.metrics(sandbox)) > 4)
        times = [row["timestampUnix"] for row in self.metrics(sandbox)]
        self.assertEqual(times, sorted(times))
        some = self.metrics(sandbox, start=times[1], end=times[2])
        self.assertEqual([row["timestampUnix"] for row in some], times[1:3])
        both = self.get("/sandboxes/metrics", sandbox_ids=f"{sandbox.id},ineverwas")["sandboxes"]
        self.assertEqual(list(both), [sandbox.id])
        self.assertEqual(self.get("/sandboxes/metrics", key=self.other, sandbox_ids=sandbox.id),
                         {"sandboxes": {}})  # fmt: skip
        sandbox.kill()
        self.assertGreaterEqual(len(self.metrics(sandbox)), len(times))
        self.assertEqual(self.status(f"/sandboxes/{sandbox.id}/metrics", key=self.other), 404)

    def test_bad_metrics_queries(self):
        sandbox = self.server.create()
        path = f"/sandboxes/{sandbox.id}/metrics"
        self.assertEqual(self.status(path, start=10, end=9), 400)
        for value in ("x", "-1", "1e9", "", "99999999999999999999"):
            self.assertEqual(self.status(path, start=value), 400, value)
        self.assertEqual(self.status("/sandboxes/ineverwas/metrics"), 404)
        self.assertEqual(self.status("/sandboxes/I-NO/metrics"), 400)
        self.assertEqual(self.status("/sandboxes/metrics"), 400)
        many = self.server.api("GET", "/sandboxes/metrics?sandbox_ids=" + ",".join(["ia"] * 101))
        self.assertEqual(many.json["message"], "Too many sandboxes requested, maximum is 100")
        sandbox.kill()

    # --- logs ---

    def test_logs_tell_life_and_processes(self):
        sandbox = self.server.create()
        self.assertEqual(sandbox.sh("exit 3").exit_code, 3)
        wanted = ["Sandbox created", "Process started", "Process ended"]
        lib.wait_until(
            "its lines", 10, lambda: set(wanted) <= set(self.messages(sandbox, level="info"))
        )
        v1 = self.get(f"/sandboxes/{sandbox.id}/logs")
        self.assertEqual(len(v1["logs"]), len(v1["logEntries"]))
        stamps = [row["timestamp"] for row in v1["logs"]]
        self.assertEqual(stamps, sorted(set(stamps)))  # no two alike: a cursor misses none
        for row in v1["logs"]:
            line = json.loads(row["line"])
            self.assertIsInstance(line["level"], str)
            self.assertIsInstance(line["logger"], str)
        ended = [e for e in v1["logEntries"] if e["message"] == "Process ended"][0]
        self.assertEqual(ended["fields"]["exit_code"], "3")
        self.assertEqual(ended["fields"]["logger"], "process")
        self.assertNotIn("exit 3", json.dumps(v1))  # what a command is given may be secret
        sandbox.kill()
        self.assertEqual(self.messages(sandbox)[-1], "Sandbox ended")
        self.assertEqual(self.status(f"/sandboxes/{sandbox.id}/logs", key=self.other), 404)
        self.assertEqual(self.status(f"/v2/sandboxes/{sandbox.id}/logs", key=self.other), 404)

    def test_log_cursors_levels_and_search(self):
        sandbox = self.server.create()
        for _ in range(5):
            sandbox.sh("true")
        lib.wait_until(
            "its lines", 10, lambda: self.messages(sandbox).count("Process ended") == 5
        )
        path = f"/v2/sandboxes/{sandbox.id}/logs"
        every = self.get(path, direction="forward")["logs"]
        self.assertEqual(self.get(path)["logs"], every[::-1])
        pages, cursor = [], int(time.time() - 3600) * 1000
        while page := self.get(path, direction="forward", limit=3, cursor=cursor)["logs"]:
            pages += page
            stamp = page[-1]["timestamp"].rstrip("Z")
            seconds = time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
            cursor = int(seconds) * 1000 + int(stamp[20:23]) + 1
        self.assertEqual(pages, every)
        self.assertEqual(set(self.messages(sandbox, search="ocess star")), {"Process started"})
        self.assertEqual(self.messages(sandbox, search="OCESS"), [])
        self.assertEqual(self.messages(sandbox, level="error"), [])
        self.assertEqual(self.get(path, limit=0)["logs"], [])
        for bad in ({"limit": 1001}, {"limit": -1}, {"cursor": "x"}, {"direction": "up"},
                    {"level": "loud"}, {"search": "x" * 257}):  # fmt: skip
            self.assertEqual(self.status(path, **bad), 400, bad)
        self.assertEqual(self.status("/v2/sandboxes/ineverwas/logs"), 404)
        sandbox.kill()

    # --- events ---

    def test_events_of_a_life(self):
        sandbox = self.server.create(metadata={"who": "me"})
        self.server.api("POST", f"/sandboxes/{sandbox.id}/timeout", {"timeout": 100})
        self.server.api("POST", f"/sandboxes/{sandbox.id}/pause", {})
        self.server.api("POST", f"/sandboxes/{sandbox.id}/connect", {"timeout": 100})
        sandbox.kill()
        path = f"/events/sandboxes/{sandbox.id}"
        found = self.get(path, orderAsc="true")
        self.assertEqual([e["type"] for e in found],
                         [LIFE + x for x in ("created", "updated", "paused", "resumed", "killed")])  # fmt: skip
        for event in found:
            self.assertEqual(set(event), EVENT)
            self.assertEqual(event["version"], "v2")
            self.assertEqual(event["event_data"]["sandbox_metadata"], {"who": "me"})
        self.assertEqual(len({e["id"] for e in found}), 5)
        runs = [e["sandbox_execution_id"] for e in found]
        self.assertEqual(runs[0], runs[2])
        self.assertNotEqual(runs[2], runs[3])
        execution = found[-1]["event_data"]["execution"]
        self.assertEqual((execution["vcpu_count"], execution["memory_mb"]), (2, 1024))
        self.assertEqual(found[-1]["event_data"]["x-sandpit-reason"], "killed")
        self.assertEqual(self.get(path), found[::-1])
        self.assertEqual(self.get(path, limit=2, offset=1, orderAsc="true"), found[1:3])
        kinds = [LIFE + "created", LIFE + "killed"]
        self.assertEqual([e["type"] for e in self.get(path, types=kinds, orderAsc="true")], kinds)
        self.assertIn(found[0]["id"],
                      [e["id"] for e in self.get("/events/sandboxes", limit=100)])  # fmt: skip
        self.assertEqual(self.get("/events/sandboxes", key=self.other), [])
        self.assertEqual(self.status(path, key=self.other), 404)
        for bad in ({"limit": 0}, {"limit": 101}, {"offset": -1}, {"types": "x"}, {"orderAsc": 2}):
            self.assertEqual(self.status("/events/sandboxes", **bad), 400, bad)

    # --- webhooks ---

    def hook(self, url, **fields):
        body = {"name": "a hook", "url": url, "events": [LIFE + "created", LIFE + "killed"],
                "signatureSecret": SECRET}  # fmt: skip
        return self.server.api("POST", "/events/webhooks", {**body, **fields})

    def test_a_webhook_gets_signed_events_in_order(self):
        with receiver() as end:
            made = self.hook(end.url)
            self.assertEqual(made.status, 201, made.body)
            hook = made.json
            self.assertEqual(set(hook), {"id", "teamId", "name", "createdAt", "enabled", "url",
                                         "events"})  # fmt: skip
            sandbox = self.server.create()
            self.server.api("POST", f"/sandboxes/{sandbox.id}/timeout", {"timeout": 100})
            sandbox.kill()
            lib.wait_until("two calls", 10, lambda: len(end.calls) == 2)
            kinds = []
            for headers, body, _ in end.calls:
                kinds.append(json.loads(body)["type"])
                digest = hashlib.sha256(SECRET.encode() + body).digest()
                self.assertEqual(headers["e2b-signature"],
                                 base64.b64encode(digest).decode().rstrip("="))  # fmt: skip
                self.assertEqual(headers["e2b-signature-version"], "v1")
                self.assertEqual(headers["e2b-webhook-id"], hook["id"])
                self.assertEqual(headers["content-type"], "application/json")
            self.assertEqual(kinds, [LIFE + "created", LIFE + "killed"])
            self.assertEqual(len({h["e2b-delivery-id"] for h, _, _ in end.calls}), 2)
            path = f"/events/webhooks/{hook['id']}"
            self.assertEqual(self.get(path), hook)
            self.assertIn(hook, self.get("/events/webhooks"))
            self.assertEqual(self.get("/events/webhooks", key=self.other), [])
            self.assertEqual(self.server.api("GET", path, key=self.other).status, 404)
            off = self.server.api("PATCH", path, {"enabled": False})
            self.assertEqual((off.status, off.json["enabled"]), (200, False))
            self.server.create().kill()
            for verb in ("PATCH", "DELETE"):
                reply = self.server.api(verb, path, {}, key=self.other)
                self.assertEqual(reply.status, 404)
            self.assertEqual(self.server.api("DELETE", path).status, 200)
            self.assertEqual(self.server.api("DELETE", path).status, 404)
            self.assertEqual(len(end.calls), 2)
            with open(os.path.join(self.server.state, "db", "journal.db"), "rb") as file:
                self.assertNotIn(SECRET.encode(), file.read())

    def test_bad_webhooks(self):
        for fields in ({"url": "ftp://a.example/"}, {"url": "http://u:p@a.example/"}, {"url": ""},
                       {"url": "no url"}, {"url": "http://" + "a" * 3000}, {"events": []},
                       {"events": ["sandbox.exploded"]}, {"events": "x"}, {"name": ""},
                       {"name": "x" * 129}, {"signatureSecret": ""}, {"signatureSecret": 5},
                       {"enabled": "yes"}):  # fmt: skip
            url = fields.pop("url", "http://127.0.0.1:9/")
            reply = self.hook(url, **fields)
            self.assertEqual((reply.status, reply.json["code"]), (400, 400), (url, fields))
        for body in ("", "[]", '{"name":"x"}', '{"name":"a","name":"b"}', "{"):
            self.assertEqual(self.server.api("POST", "/events/webhooks", body).status, 400, body)
        self.assertEqual([h for h in self.get("/events/webhooks") if h["name"] != "a hook"], [])
        self.assertEqual(self.server.api("GET", "/events/webhooks/nonsense").status, 404)

    # --- teams ---

    def test_team_metrics(self):
        sandbox = self.server.create()
        team = self.get("/events/sandboxes")[0]["sandbox_team_id"]
        found = self.get(f"/teams/{team}/metrics")
        self.assertEqual(set(found[-1]), {"timestamp", "timestampUnix", "concurrentSandboxes",
                                          "sandboxStartRate"})  # fmt: skip
        self.assertGreaterEqual(found[-1]["concurrentSandboxes"], 1)
        for metric in ("concurrent_sandboxes", "sandbox_start_rate"):
            most = self.get(f"/teams/{team}/metrics/max", metric=metric)
            self.assertGreater(most["value"], 0)
        self.assertEqual(self.status(f"/teams/{team}/metrics/max", metric="x"), 400)
        self.assertEqual(self.status(f"/teams/{team}/metrics", start=2, end=1), 400)
        self.assertEqual(self.status(f"/teams/{team}/metrics", key=self.other), 403)
        sandbox.kill()


    # --- traces, Prometheus, the operators' command ---

    def test_a_trace_goes_through(self):
        trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        parent = f"00-{trace}-{span}-01"
        made = self.server.api("POST", "/v2/sandboxes", {"templateID": "base"},
                               headers={"traceparent": parent})  # fmt: skip
        self.assertEqual(made.headers["X-E2B-Trace-ID"], trace)
        sandbox = lib.Sandbox(self.server, made.json)
        with open(self.server.log) as file:
            lines = [json.loads(line) for line in file if trace in line]
        created = [x for x in lines if x["msg"] == "sandbox created"][0]  # said on a worker
        request = [x for x in lines if x["msg"] == "request"][0]
        self.assertEqual(created["sandbox_id"], sandbox.id)
        self.assertEqual(created["request_id"], request["request_id"])
        self.assertEqual(created["request_id"], made.headers["X-Request-Id"])
        for bad in ("", "00-" + "0" * 32 + f"-{span}-01", "x" * 500, f"ff-{trace}-{span}-01"):
            reply = self.server.api("GET", f"/sandboxes/{sandbox.id}", headers={"traceparent": bad})
            self.assertRegex(reply.headers["X-E2B-Trace-ID"], "^[0-9a-f]{32}$")
            self.assertNotEqual(reply.headers["X-E2B-Trace-ID"], trace)
        sandbox.write("/tmp/heads.py", HEADS)
        sandbox.background("exec python3 /tmp/heads.py")

        def heard():
            conn = lib.Http(self.server.traffic_port)
            reply = conn.request("GET", "/", None, {"Host": sandbox.host(8123),
                                                    "traceparent": parent})  # fmt: skip
            conn.close()
            return reply.body.decode() if reply.status == 200 else None

        self.assertIn(f"traceparent: {parent}", lib.wait_until("an answer", 20, heard).lower())
        sandbox.kill()

    def test_prometheus(self):
        sandbox = self.server.create()
        sandbox.kill()
        reply = self.server.ops("GET", "/metrics")
        self.assertEqual(reply.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        text = reply.body.decode()
        kinds, values = parse_prometheus(text)
        for name in ("sandpit_sandbox_create_duration_seconds", "sandpit_http_requests_total",
                     "sandpit_http_request_duration_seconds", "sandpit_sandboxes",
                     "sandpit_build_info", "sandpit_events_total", "sandpit_journal_bytes",
                     "sandpit_webhook_deliveries_total", "sandpit_sandbox_log_lines_total",
                     "sandpit_proxy_requests_total"):  # fmt: skip
            self.assertIn(name, kinds)
        self.assertGreater(values[("sandpit_sandbox_create_duration_seconds_count", "")], 0)
        route = 'listener="api",method="POST",route="/v2/sandboxes"'
        self.assertGreater(values[("sandpit_http_requests_total", route + ',code="201"')], 0)
        self.assertGreater(
            values[("sandpit_http_request_duration_seconds_count", route)], 0)
        self.assertNotIn(sandbox.id, text)
        promtool = shutil.which("promtool")
        if promtool:
            done = subprocess.run([promtool, "check", "metrics"], input=reply.body,
                                  capture_output=True, check=False)  # fmt: skip
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))

    def test_the_operator_s_commands(self):
        sandbox = self.server.create()
        sandbox.sh("true")
        env = {**os.environ, **self.server.dev_env("dev-plain.env")}

        def run(*words, code=0):
            done = subprocess.run([os.path.join(self.server.out, "sandpit"), "sandbox", *words],
                                  env=env, capture_output=True, timeout=60)  # fmt: skip
            self.assertEqual(done.returncode, code, done)
            return done.stdout.decode()

        lib.wait_until("its lines", 10, lambda: "Process ended" in run("logs", sandbox.id))
        rows = [json.loads(line) for line in run("logs", "--json", sandbox.id).splitlines()]
        self.assertEqual(rows[0]["message"], "Sandbox created")
        self.assertEqual(run("logs", sandbox.id, "--level", "error"), "")
        lib.wait_until("figures", 10, lambda: json.loads(run("metrics", sandbox.id, "--json")))
        self.assertIn("CPU %", run("metrics", sandbox.id))
        run("logs", code=2)
        run("logs", sandbox.id, "--level", "loud", code=2)
        run("logs", "i" + "z" * 20, code=1)
        follow = subprocess.Popen([os.path.join(self.server.out, "sandpit"), "sandbox", "logs", "-f",
                                   sandbox.id], env=env, stdout=subprocess.PIPE)  # fmt: skip
        sandbox.kill()
        for line in follow.stdout:
            if b"Sandbox ended" in line:
                break
        follow.kill()
        follow.wait()
        follow.stdout.close()


def parse_prometheus(text):
    """Types by name and values by (name, labels) of text format 0.0.4; AssertionError when a rule
    of it is broken."""
    kinds, helped, values, last = {}, set(), {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            last = line.split(" ")[2]
            assert last not in helped, f"{last} twice"
            helped.add(last)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == last and name not in kinds, line
            assert kind in ("counter", "gauge", "histogram"), line
            assert (kind == "counter") == name.endswith("_total"), line
            kinds[name] = kind
            continue
        found = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)*)\})? (\S+)', line)
        assert found, line
        name, labels, value = found[1], (found[2] or "").rstrip(","), float(found[3])
        base = name if name in kinds else re.sub("_(bucket|sum|count)$", "", name)
        assert base == last and base in kinds, f"{line} outside of its group"
        assert (name, labels) not in values, f"{line} twice"
        values[(name, labels)] = value
    for (name, labels), value in values.items():
        if name.endswith("_bucket"):
            rest = re.sub(',?le="[^"]*"$', "", labels)
            assert value <= values[(name[:-7] + "_count", rest)], (name, labels)
    return kinds, values


class Crash(unittest.TestCase):
    def test_what_was_kept_is_there_after_a_crash(self):
        """Metrics, logs, events and a delivery that was under way outlive kill -9."""
        args = ["--sample-seconds", "1", "--webhook-private"]
        with lib.Server(args=args) as server, receiver([500]) as end:
            body = {"name": "n", "url": end.url, "events": [LIFE + "created"],
                    "signatureSecret": SECRET}  # fmt: skip
            self.assertEqual(server.api("POST", "/events/webhooks", body).status, 201)
            sandbox = server.create()
            gone = server.create()
            gone.kill()
            sandbox.sh("true")
            lib.wait_until("first calls", 10, lambda: len(end.calls) >= 2)
            path = f"/v2/sandboxes/{sandbox.id}/logs?direction=forward"

            def words():
                return [e["message"] for e in server.api("GET", path).json["logs"]]

            lib.wait_until("its lines", 10, lambda: "Process ended" in words())
            before = words()
            server.kill9()
            server.start()
            self.assertEqual(words()[: len(before)], before)
            sandbox.conn.close()
            sandbox.sh("true")  # its envd is heard by the new server
            lib.wait_until("a new line", 10, lambda: words().count("Process ended") == 2)
            self.assertEqual(words().count("Sandbox created"), 1)
            events = server.api("GET", f"/events/sandboxes/{gone.id}").json
            self.assertEqual([e["type"] for e in events], [LIFE + "killed", LIFE + "created"])
            lib.wait_until("samples", 10, lambda: server.api(
                "GET", f"/sandboxes/{sandbox.id}/metrics").json)  # fmt: skip
            # the one that was answered with 500 comes a second time, 10 s after the first
            lib.wait_until("another try", 20, lambda: len(end.calls) >= 3)
            ids = [headers["e2b-delivery-id"] for headers, _, _ in end.calls]
            again = ids.index(ids[-1])
            self.assertLess(again, len(ids) - 1)
            self.assertGreater(end.calls[-1][2] - end.calls[again][2], 9.5)

    def test_webhooks_stay_outside_unless_told(self):
        with lib.Server() as server:
            for url in ("http://127.0.0.1:1/", "http://localhost/", "http://[::1]/",
                        "http://10.1.2.3/", "http://169.254.169.254/latest", "http://0x7f000001/",
                        "http://[::ffff:127.0.0.1]/"):  # fmt: skip
                body = {"name": "n", "url": url, "events": [LIFE + "created"],
                        "signatureSecret": SECRET}  # fmt: skip
                reply = server.api("POST", "/events/webhooks", body)
                self.assertEqual(reply.status, 400, url)


if __name__ == "__main__":
    unittest.main(verbosity=2)
