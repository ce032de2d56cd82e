"""tests/integration/proxy_backend.py - a guest server for proxy_test.py, on raw sockets.

Each path is a behaviour. It speaks just enough HTTP to misbehave precisely.
"""

import base64
import hashlib
import json
import socket
import struct
import threading
import time

CHUNK = 256 * 1024


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Request:
    def __init__(self, stream):
        self.raw = b""
        while not self.raw.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                raise EOFError
            self.raw += line
        lines = self.raw.decode("latin-1").split("\r\n")
        self.method, self.path, _ = lines[0].split(" ", 2)
        self.fields = [line.split(": ", 1) for line in lines[1:] if line]
        self.stream = stream

    def get(self, name):
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def body(self):
        """The parts of the body as they come."""
        if self.get("transfer-encoding") == "chunked":
            while True:
                size = int(self.stream.readline().split(b";")[0], 16)
                if size == 0:
                    break
                yield self.stream.read(size)
                self.stream.readline()
            self.trailers = []
            while (line := self.stream.readline()) not in (b"\r\n", b""):
                self.trailers.append(line.decode().strip())
            return
        left = int(self.get("content-length") or 0)
        while left > 0:
            part = self.stream.read1(min(left, CHUNK))
            if not part:
                raise EOFError
            left -= len(part)
            yield part


class Backend:
    """Listens on 127.0.0.1 (or ::1) until closed. `seen` counts connections and notable events."""

    def __init__(self, family=socket.AF_INET, port=0, version="HTTP/1.1"):
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
        self.listener.listen(1024)
        self.port = self.listener.getsockname()[1]
        self.version = version
        self.seen = {}
        self.lock = threading.Lock()
        self.keep = None  # the last connection that asked to be remembered
        threading.Thread(target=self._accept, daemon=True).start()

    def note(self, what):
        with self.lock:
            self.seen[what] = self.seen.get(what, 0) + 1

    def count(self, what):
        with self.lock:
            return self.seen.get(what, 0)

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.note("connections")
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = sock.makefile("rb")
        try:
            while True:
                request = Request(stream)
                self.note("requests")
                name = "do_" + request.path.split("?")[0].strip("/").split("/")[0].replace("-", "_")
                again = getattr(self, name, self.do_echo)(sock, request)
                if again is False or request.get("connection") == "close":
                    break
        except (EOFError, OSError, ValueError):
            pass
        finally:
            stream.close()
            sock.close()

    def reply(self, sock, body, status="200 OK", extra=""):
        sock.sendall(
            f"{self.version} {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body
        )

    def do_echo(self, sock, request):
        """What arrived, as JSON."""
        digest = hashlib.sha256()
        size = 0
        for part in request.body():
            digest.update(part)
            size += len(part)
        what = {
            "raw": request.raw.decode("latin-1"),
            "path": request.path,
            "size": size,
            "sha256": digest.hexdigest(),
            "trailers": getattr(request, "trailers", []),
        }
        body = json.dumps(what).encode()
        self.reply(sock, b"" if request.method == "HEAD" else body)

    def do_small(self, sock, request):
        for _ in request.body():
            pass
        self.reply(sock, b"hello")

    def do_big(self, sock, request):
        """/big/<bytes>: that many bytes with a length."""
        size = int(request.path.split("/")[2])
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        block = bytes(range(256)) * (CHUNK // 256)
        while size > 0:
            sock.sendall(block[: min(size, CHUNK)])
            size -= min(size, CHUNK)

    def do_chunked(self, sock, request):
        """/chunked/<chunks>: chunks of 1000 bytes and a trailer."""
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n")
        for _ in range(int(request.path.split("/")[2])):
            sock.sendall(b"3e8\r\n" + b"c" * 1000 + b"\r\n")
        sock.sendall(b"0\r\nX-End: yes\r\n\r\n")

    def do_until_close(self, sock, request):
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nno length")
        return False

    def do_sse(self, sock, request):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(3):
            event = f"data: {i} {time.monotonic()}\n\n".encode()
            sock.sendall(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            time.sleep(0.2)
        sock.sendall(b"0\r\n\r\n")

    def do_wait(self, sock, request):
        """No answer; notes when the client has gone."""
        self.note("waiting")
        if sock.recv(1) == b"":
            self.note("gone")
        return False

    def do_endless(self, sock, request):
        """Sends until that fails."""
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                sock.sendall(b"e" * CHUNK)
        except OSError:
            self.note("cut")
        return False

    def do_slow_reader(self, sock, request):
        """Reads none of the body until the test says so."""
        self.note("stalled")
        self.keep = threading.Event()
        self.keep.wait(20)
        return self.do_echo(sock, request)

    def do_die(self, sock, request):
        """/die/<how>: half a response, then the end of the connection."""
        how = request.path.split("/")[2]
        if how in ("length", "reset"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif how == "chunked":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        elif how == "head":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-")
        elif how == "garbage":
            sock.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        time.sleep(0.1)
        if how == "reset":
            request.stream.close()
            reset(sock)
        return False

    def do_early(self, sock, request):
        """Answers before the body has come, and does not read it."""
        self.reply(sock, b"too much", "413 Content Too Large", "Connection: close\r\n")
        time.sleep(0.5)
        return False

    def do_continue(self, sock, request):
        if request.get("expect") == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self.do_echo(sock, request)

    def do_hints(self, sock, request):
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
                     b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n")
        self.reply(sock, b"page")

    def do_status(self, sock, request):
        """/status/<code>: no body."""
        code = request.path.split("/")[2]
        sock.sendall(f"HTTP/1.1 {code} Nothing\r\nX-Code: {code}\r\n\r\n".encode())

    def do_hop(self, sock, request):
        self.reply(sock, b"ok", extra="Connection: keep-alive, X-Private\r\nX-Private: 1\r\n"
                   "Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Public: 1\r\n")

    def do_bye(self, sock, request):
        """Answers as if it kept the connection, and closes it."""
        self.reply(sock, b"bye")
        return False

    def do_ws(self, sock, request):
        """A WebSocket that echoes frames, or any other protocol that echoes bytes."""
        key = request.get("sec-websocket-key") or ""
        accept = base64.b64encode(
            hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        ).decode()
        sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {request.get('upgrade')}\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\nfirst".encode()
        )
        while data := request.stream.read1(65536):
            sock.sendall(data)
        sock.sendall(b"after eof")
        self.note("tunnel-eof")
        return False

    def do_wrong_upgrade(self, sock, request):
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n"
                     b"Connection: Upgrade\r\n\r\n")
        return False
