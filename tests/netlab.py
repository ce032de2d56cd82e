"""An internet of one's own: network namespaces for tests of what a sandbox reaches.

    host   this process's namespace, where the server runs: uplink 203.0.113.1
    world  everything else: a process of ours that holds every address in ADDRESSES

enter() moves the calling script into a fresh network and mount namespace, whose resolver is the
world's; World() makes the other side. Nothing leaves these namespaces.
"""

import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time

MARK = "SANDPIT_NETLAB"
ID_BASE = 20000 * 65536  # apart from servers of other tests, which run outside
HOST, GATEWAY = "203.0.113.1", "203.0.113.2"
WEB, OTHER, DNS = "93.184.216.34", "93.184.216.35", "9.9.9.9"
GOOGLE_DNS = "8.8.8.8"
PRIVATE, PRIVATE_2, METADATA, CGNAT = "10.77.0.1", "192.168.77.1", "169.254.169.254", "100.100.0.1"
ADDRESSES = [WEB, OTHER, DNS, GOOGLE_DNS, PRIVATE, PRIVATE_2, METADATA, CGNAT]
NAMES = {"web.test": WEB, "other.test": OTHER, "sub.web.test": WEB, "inside.test": PRIVATE}
TCP_PORTS = (80, 8080, 9000)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def enter():
    """Run this script again in namespaces of its own, unless it is there already."""
    if os.environ.get(MARK):
        return
    os.environ[MARK] = "1"
    command = ["unshare", "--net", "--mount", sys.executable] + sys.argv
    os.execvp("unshare", command)


class World:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        run("ip", "link", "set", "lo", "up")
        run("sysctl", "-q", "net.ipv4.ping_group_range=0 2147483647")  # slirp4netns pings so
        self.process = subprocess.Popen(
            ["unshare", "--net", sys.executable, os.path.abspath(__file__), "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()  # it has its own namespace now
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns",
            str(self.process.pid))
        run("ip", "addr", "add", HOST + "/30", "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.process.stdout.readline()
        run("ip", "route", "add", "default", "via", GATEWAY)
        resolv = os.path.join(self.folder.name, "resolv.conf")
        with open(resolv, "w") as file:
            file.write(f"nameserver {DNS}\n")
        run("mount", "--bind", resolv, os.path.realpath("/etc/resolv.conf"))

    def nsenter(self, *command, **options):
        return subprocess.run(["nsenter", "--net", "--target", str(self.process.pid), *command],
                              capture_output=True, text=True, **options)

    def close(self):
        subprocess.run(["umount", os.path.realpath("/etc/resolv.conf")], check=False)
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


# --- the world's side -----------------------------------------------------------------------------


class Web(socketserver.BaseRequestHandler):
    """An HTTP answer that says where it was reached; a connection that asks "stream" gets ticks."""

    def handle(self):
        data = self.request.recv(65536)
        where = json.dumps({"at": self.request.getsockname()[0], "from": self.client_address[0]})
        if data.startswith(b"stream"):
            try:
                while True:
                    self.request.sendall(b"tick\n")
                    time.sleep(0.1)
            except OSError:
                return
        if data.startswith(b"sink"):
            while self.request.recv(1 << 20):
                pass
            return
        if data.startswith(b"source"):
            block = bytes(1 << 20)
            for _ in range(int(data.split()[1])):
                self.request.sendall(block)
            return
        body = where.encode()
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                             % (len(body), body))


def dns_answer(query):
    """The answer to one question for an A record; NXDOMAIN for what NAMES does not have."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    question = query[12 : at + 5]
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    address = NAMES.get(".".join(labels).lower())
    found = address is not None and kind == 1
    head = query[:2] + struct.pack(">HHHHH", 0x8180 if address else 0x8183, 1, int(found), 0, 0)
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(address) if found else b""
    return head + question + answer


class DnsTcp(socketserver.BaseRequestHandler):
    def handle(self):
        (length,) = struct.unpack(">H", self.request.recv(2))
        answer = dns_answer(self.request.recv(length))
        self.request.sendall(struct.pack(">H", len(answer)) + answer)


def udp(address, port, answer):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))

    def loop():
        while True:
            data, peer = sock.recvfrom(65536)
            sock.sendto(answer(data), peer)

    threading.Thread(target=loop, daemon=True).start()


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


def serve():
    print("here", flush=True)
    sys.stdin.readline()
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", GATEWAY + "/30", "dev", "down0")
    run("ip", "link", "set", "down0", "up")
    for address in ADDRESSES:
        run("ip", "addr", "add", address + "/32", "dev", "lo")
    servers = [Tcp(("0.0.0.0", port), Web) for port in TCP_PORTS]
    for address in (DNS, GOOGLE_DNS):
        servers.append(Tcp((address, 53), DnsTcp))
        udp(address, 53, dns_answer)
    for address in ADDRESSES:
        udp(address, 7, lambda data, address=address: address.encode() + b" " + data)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__" and sys.argv[1:] == ["serve"]:
    serve()
