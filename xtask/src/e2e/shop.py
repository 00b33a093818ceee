# What a small shop does to TCP: shop.py NAME serve PORT close|leak, or shop.py NAME call COUNT PORT...
import socket
import sys
import threading
import time

name, role = sys.argv[1:3]
with open("/proc/self/comm", "w") as comm:
    comm.write(name)


def serve(port, habit):
    server = socket.create_server(("127.0.0.1", port), backlog=128)
    kept = []
    while True:
        connection, _ = server.accept()
        while connection.recv(4096):
            connection.sendall(b"done")
        if habit == "leak":
            kept.append(connection)
        else:
            connection.close()


def call(count, ports):
    for _ in range(count):
        for port in ports:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"order")
                connection.recv(4096)
        time.sleep(0.1)


if role == "serve":
    # Whoever is started to serve ends with this scenario at the latest.
    threading.Timer(300, lambda: __import__("os")._exit(0)).start()
    serve(int(sys.argv[3]), sys.argv[4])
else:
    call(int(sys.argv[3]), [int(port) for port in sys.argv[4:]])
