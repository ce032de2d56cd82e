"""A proxy between an SDK and the Platform API that holds each answer against openapi/platform.yaml.

Plain HTTP on a free port of 127.0.0.1. It changes nothing but the addresses of the hop; a chunked
request arrives with its length. Run by run.py, in its process.
"""

import http.client
import http.server
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import openapi  # noqa: E402

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def log_message(self, format, *args):
        pass

    def read_body(self):
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return body

    def forward(self):
        proxy = self.server.owner
        body = self.read_body()
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        conn = http.client.HTTPConnection("127.0.0.1", proxy.to_port, timeout=120)
        try:
            conn.request(self.command, self.path, body or None, headers)
            answer = conn.getresponse()
            data = answer.read()
        finally:
            conn.close()
        proxy.note(self.command, self.path, answer, data)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = forward


class CheckingProxy:
    """Between a client and the API on TO_PORT. `problems` is what did not fit, each once."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.spec = openapi.Spec(openapi.source())
        self.lock = threading.Lock()
        self.problems = []
        self.count = 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.owner = self
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def note(self, method, path, answer, body):
        with self.lock:
            self.count += 1
            try:
                found = self.spec.check(method, path, answer.status, answer.headers, body)
            except Exception as error:  # the description is not understood: a fault as well
                found = [f"{method} {path}: {error!r}"]
            self.problems += [problem for problem in found if problem not in self.problems]
