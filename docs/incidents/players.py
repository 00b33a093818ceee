"""The programs of the incidents, each with its fault: players.py NAME [ARGUMENT…]."""

import ctypes
import socket
import struct
import sys
import time

SERVER = "198.18.0.1"


def known_as(name):
    """What `ps` calls this process (PR_SET_NAME)."""
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)


def listener(port, backlog=128):
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((SERVER, port))
    listening.listen(backlog)
    return listening


def connection(port):
    for _ in range(100):
        try:
            return socket.create_connection((SERVER, port))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}")


def orders_api(port="8080"):
    """Answers, and closes; but not where the request was for a report: that path returns early."""
    known_as("orders-api")
    listening = listener(int(port))
    forgotten = []
    while True:
        peer, _ = listening.accept()
        request = peer.recv(100)
        peer.sendall(b"ok")
        if request == b"report":
            peer.recv(100)
            forgotten.append(peer)
        else:
            peer.close()


def browser(port="8080", reports="40", orders="20"):
    """Asks for orders, and for reports."""
    known_as("browser")
    for number in range(int(reports) + int(orders)):
        with connection(int(port)) as asked:
            asked.sendall(b"report" if number % 3 else b"order")
            asked.recv(100)
        time.sleep(0.02)


def busy_api(port="8080"):
    """Listens, with a queue of eight, and accepts one connection a second."""
    known_as("busy-api")
    listening = listener(int(port), 8)
    while True:
        peer, _ = listening.accept()
        time.sleep(1)
        peer.close()


def crowd(port="8080", count="60"):
    """Connects, and waits for an answer."""
    known_as("crowd")
    waiting = []
    for _ in range(int(count)):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((SERVER, int(port)))
        waiting.append(one)
        time.sleep(0.02)
    time.sleep(60)


def web_shop(port="8080"):
    """Accepts at once, and closes when it is asked to."""
    known_as("web-shop")
    listening = listener(int(port))
    while True:
        peer, _ = listening.accept()
        try:
            peer.recv(100)
        except ConnectionResetError:
            pass
        peer.close()


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def flood(port="8080", count="3000"):
    """Sends SYNs in the name of hosts that do not exist."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    target = socket.inet_aton(SERVER)
    for number in range(int(count)):
        source = struct.pack("!BBH", 198, 19, number % 65536)
        segment = struct.pack("!HHIIBBHHH", 1024 + number % 60000, int(port), number, 0, 5 << 4, 2, 65535, 0, 0)
        pseudo = source + target + struct.pack("!BBH", 0, 6, len(segment))
        segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + source + target
        raw.sendto(packet + segment, (SERVER, 0))
        time.sleep(0.0005)


def ledger(port="5432"):
    """A server that leaves it to its clients to close."""
    known_as("ledger")
    listening = listener(int(port))
    while True:
        peer, _ = listening.accept()
        peer.sendall(b"balance")
        peer.recv(100)
        peer.close()


def nightly_import(port="5432", count="1500"):
    """Opens a connection for each row, and closes it first."""
    known_as("nightly-import")
    for _ in range(int(count)):
        with connection(int(port)) as asked:
            asked.recv(100)


def caller(port="8080"):
    """Ends connections in every way: in order, by reset, refused."""
    known_as("caller")
    for _ in range(3):
        with connection(int(port)) as asked:
            asked.sendall(b"order")
            asked.recv(100)
        cut = connection(int(port))
        cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        cut.close()
        try:
            socket.create_connection((SERVER, 9999))
        except ConnectionRefusedError:
            pass
        time.sleep(0.1)


PLAYERS = {
    "orders-api": orders_api, "browser": browser, "busy-api": busy_api, "crowd": crowd, "web-shop": web_shop,
    "flood": flood, "ledger": ledger, "nightly-import": nightly_import, "caller": caller,
}

if __name__ == "__main__":
    try:
        PLAYERS[sys.argv[1]](*sys.argv[2:])
    except KeyboardInterrupt:
        pass
