"""Buckets for tests: real servers of both services on the loopback address, behind a gate that a test can close."""

import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module

OPEN, BUSY, SILENT = "open", "busy", "silent"
"""What a gate does: passes on, answers 503, or answers nothing."""


class Gate:
    """A relay of TCP connections to a server; `state` may be changed at any time, which ends all connections."""

    def __init__(self, port):
        self._target, self._state = ("127.0.0.1", port), OPEN
        self._connections, self.requests = set(), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def state(self):
        return self._state

    @state.setter
    def state(self, state):
        self._state = state
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        self.state = SILENT

    def _accept(self):
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client):
        self._connections.add(client)
        with client, suppress(OSError):
            if self._state == OPEN:
                with socket.create_connection(self._target) as server:
                    self._connections.add(server)
                    back = threading.Thread(target=_relay, args=(server, client), daemon=True)
                    back.start()
                    _relay(client, server)
                    back.join()
                    self._connections.discard(server)
            elif self._state == BUSY:
                self.requests += bool(client.recv(65536))
                client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                while client.recv(65536):
                    self.requests += 1
        self._connections.discard(client)


def _relay(source, target):
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Service:
    """A running service with the bucket `runs`: `url`, `gate`, and the environment of its clients."""

    def __init__(self, scheme, gate, environment, drop, put):
        self.url, self.gate, self.environment, self.drop, self._put = f"{scheme}://runs", gate, environment, drop, put

    def fill(self, files):
        """Puts {name: content} into the bucket, past the network."""
        for name, content in files.items():
            self._put(name, content)


@contextmanager
def gcs():
    """Google's service, by gcp-storage-emulator."""
    server = import_module("gcp_storage_emulator.server").create_server("127.0.0.1", 0, True, "runs")
    server.start()
    server._api._httpd.handle_error = lambda *_: None  # a client that goes away
    gate, objects = Gate(server._api._httpd.server_address[1]), import_module("gcp_storage_emulator.handlers.objects")

    def put(name, content):
        about = objects._make_object_resource("", "runs", name, "application/octet-stream", str(len(content)))
        storage = server._storage
        storage.objects.setdefault("runs", {})[name] = objects._checksums(content, about)
        storage._store.write_bytes(storage._object_path("runs", name), content)

    environment = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{gate.port}",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks for the kind of a bucket, which the emulator does not know
    }
    try:
        yield Service("gs", gate, environment, server.wipe, put)
    finally:
        gate.close()
        server.stop()


@contextmanager
def s3():
    """Amazon's service, by moto."""
    server = import_module("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    gate = Gate(server.get_host_and_port()[1])
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    backend = import_module("moto.backends").get_backend("s3")["123456789012"]["aws"]
    backend.reset()  # it is one in a process
    backend.create_bucket("runs", "us-east-1")
    try:
        yield Service("s3", gate, environment, backend.reset, partial(backend.put_object, "runs"))
    finally:
        gate.close()
        server.stop()


SERVICES = {"gs": gcs, "s3": s3}


def clients(service, monkeypatch):
    """Makes this process and those that it starts clients of a service."""
    from diffusion.runtime import object_store

    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    object_store._system.cache_clear()
    fsspec = import_module("fsspec")
    for scheme in SERVICES:
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


def folder(scheme, request):
    """A folder in a bucket of a service that runs as long as a test."""
    from diffusion.runtime.paths import expanded

    service = SERVICES[scheme]()
    made = request.node.service = service.__enter__()
    request.addfinalizer(lambda: service.__exit__(None, None, None))
    clients(made, request.getfixturevalue("monkeypatch"))
    return expanded(f"{made.url}/run")
