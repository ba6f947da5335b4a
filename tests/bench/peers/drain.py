#!/usr/bin/env python3
"""drain.py PORT CERT KEY COUNT_FILE: the upstream of the peers: takes TLS connections and counts lines.

A zlib stream (rsyslog's compression.mode=stream:always) is told by its first byte. After each read the number of
lines so far is written to COUNT_FILE, eight bytes, so that the benchmark can wait for the last one.
"""
import mmap
import socket
import ssl
import struct
import sys
import threading
import zlib


def serve(connection, context, count, lock):
    inflate = None
    first = True
    try:
        with context.wrap_socket(connection, server_side=True) as stream:
            while data := stream.recv(1 << 18):
                if first and data[:1] == b"\x78":
                    inflate = zlib.decompressobj()
                first = False
                if inflate:
                    data = inflate.decompress(data)
                lines = data.count(b"\n")
                with lock:
                    count[:8] = struct.pack("<Q", struct.unpack("<Q", count[:8])[0] + lines)
    except (OSError, ssl.SSLError, zlib.error) as error:
        print(f"drain: {error}", file=sys.stderr, flush=True)


def main():
    port, cert, key, count_file = sys.argv[1:]
    with open(count_file, "w+b") as file:
        file.write(bytes(8))
        file.flush()
        count = mmap.mmap(file.fileno(), 8)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    lock = threading.Lock()
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, context, count, lock), daemon=True).start()


if __name__ == "__main__":
    main()
