"""A WebSocket echo server (RFC 6455) and a plain page, for tests: runs inside a sandbox.

usage: echo_server.py PORT [ADDRESS]        ADDRESS: 127.0.0.1 unless said, ::1, 0.0.0.0, :: …
GET / answers "hello from <Host>"; an upgrade on any path echoes text and binary frames.
"""

import base64
import hashlib
import socket
import socketserver
import struct
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        request = self.rfile.readline()
        headers = {}
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if not request:
            return
        if headers.get(b"upgrade", b"").lower() != b"websocket":
            body = b"hello from " + headers.get(b"host", b"nobody")
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            self.wfile.write(body)
            return
        digest = hashlib.sha1(headers[b"sec-websocket-key"] + GUID).digest()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        while self.echo_frame():
            pass

    def echo_frame(self):
        head = self.rfile.read(2)
        if len(head) < 2:
            return False
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.rfile.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        pad = (mask * (length // 4 + 1))[:length]
        data = int.from_bytes(self.rfile.read(length), "big") ^ int.from_bytes(pad, "big")
        payload = data.to_bytes(length, "big")
        if length < 126:
            size = struct.pack(">B", length)
        elif length < 65536:
            size = struct.pack(">BH", 126, length)
        else:
            size = struct.pack(">BQ", 127, length)
        if opcode == 9:
            opcode = 10  # a ping is answered by a pong
        first = (head[0] & 0xF0) | opcode  # FIN as it came: fragments are echoed as fragments
        self.wfile.write(bytes([first]) + size + payload)
        return opcode != 8


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    if ":" in address:
        Server.address_family = socket.AF_INET6
    Server((address, int(sys.argv[1])), Echo).serve_forever()
