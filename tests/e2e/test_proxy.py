"""Through a proxy: one tunnel by CONNECT for plain and encrypted upstreams, with a login or without."""
import base64
import socket
import threading

import pytest
from harness import event, until


class ConnectProxy:
    """Answers CONNECT as it is told and carries bytes; keeps the heads that it was sent."""

    def __init__(self, login=None):
        self.login, self.heads, self.listener = login, [], socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            got = client.recv(4096)
            if not got:
                return
            head += got
        self.heads.append(head.decode())
        wanted = self.login and "Proxy-Authorization: Basic " + base64.b64encode(self.login.encode()).decode()
        if wanted and wanted not in self.heads[-1]:
            client.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        host, port = head.split()[1].decode().rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
        threading.Thread(target=self.pump, args=(server, client), daemon=True).start()
        self.pump(client, server)

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


@pytest.fixture
def connect_proxy():
    made = []

    def make(login=None):
        made.append(ConnectProxy(login))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def send(agent, count):
    assert agent.post([event(n) for n in range(count)]).json() == {"accepted": count}


@pytest.mark.parametrize("tls", [False, True])
def test_a_tunnel_carries_plain_and_encrypted_upstreams(world, connect_proxy, tls):
    sink, proxy = world.sink(tls=tls), connect_proxy()
    agent = world.agent({"up": sink.output("http", proxy=f"http://127.0.0.1:{proxy.port}")})
    send(agent, 20)
    agent.settled()
    sink.check(unique=20)
    assert proxy.heads and all(head.startswith("CONNECT ") for head in proxy.heads)
    assert all(f":{sink.port} HTTP/1.1" in head for head in proxy.heads)


def test_the_proxys_login_is_its_alone_and_is_read_again(world, connect_proxy):
    sink, proxy = world.sink(tls=True), connect_proxy("user:right word")
    word = world.dir / "word"
    word.write_text("wrong")
    agent = world.agent({"up": sink.output("http", proxy=f"http://user:${{file:{word}}}@127.0.0.1:{proxy.port}")}).explain("up")
    send(agent, 5)
    until(lambda: "407" in str(agent.status()), "the proxy's refusal is shown")
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "which holds the output")
    assert agent.ledger("up")["pending"] == 5
    word.write_text("right word")
    agent.settled()
    sink.check(unique=5)
    assert all("Authorization: Bearer" not in head for head in proxy.heads)
