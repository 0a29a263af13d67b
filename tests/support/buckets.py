"""Buckets for tests: real servers of both services on the loopback address, behind a gate that a test can close.

service = buckets.services("gs", "s3")      # fixtures of a test file
folder = buckets.folder
"""

import socket
import threading
from contextlib import contextmanager, suppress
from email.parser import BytesParser
from functools import partial
from http import HTTPStatus
from importlib import import_module

import pytest

OPEN, SILENT, BUSY, FORBIDDEN = "open", "silent", "503 Service Unavailable", "403 Forbidden"
"""What a gate does: passes on, answers nothing, or answers with a status."""


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
            elif self._state == SILENT:
                while client.recv(65536):
                    self.requests += 1
            else:
                self.requests += bool(client.recv(65536))
                client.sendall(f"HTTP/1.1 {self._state}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
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


class Parts(BytesParser):
    """The emulator's parser of uploads, for contents that end in a carriage return.

    gcsfs ends the parts of an upload by a line feed alone. A last byte 0x0d would count as one half of that line's end.
    """

    def parsebytes(self, text, headersonly=False):
        return super().parsebytes(text.replace(b"\n--==0==", b"\r\n--==0=="), headersonly)


@contextmanager
def gcs():
    """Google's service, by gcp-storage-emulator, with the precondition of a new object, which that ignores."""
    emulator, objects = map(import_module, ("gcp_storage_emulator.server", "gcp_storage_emulator.handlers.objects"))
    insert, emulator.BytesParser = objects.insert, Parts

    def conditional(request, response, storage):
        """One request at a time is served, so that nothing comes between the look and the write."""
        name = request.query.get("name") or [request.data["meta"]["name"]]
        exists = name[0] in storage.objects.get(request.params["bucket_name"], {})
        if exists and request.query.get("ifGenerationMatch") == ["0"]:
            response.status = HTTPStatus.PRECONDITION_FAILED
        else:
            insert(request, response, storage)

    for _, methods in emulator.HANDLERS:
        methods |= {method: conditional for method, handler in methods.items() if handler is insert}
    server = emulator.create_server("127.0.0.1", 0, True, "runs")
    server.start()
    server._api._httpd.handle_error = lambda *_: None  # a client that goes away
    gate = Gate(server._api._httpd.server_address[1])

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
    from diffusion.runtime import bucket_requests

    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    bucket_requests._system.cache_clear()
    fsspec = import_module("fsspec")
    for scheme in SERVICES:
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


@contextmanager
def running(scheme):
    """A service; skips the test where its package is missing."""
    pytest.importorskip("moto")
    pytest.importorskip("gcp_storage_emulator")
    with SERVICES[scheme]() as service:
        yield service


def services(*schemes, scope="module"):
    """The fixture `service`: each in turn, started once for a scope."""

    @pytest.fixture(scope=scope, params=schemes)
    def service(request):
        with running(request.param) as service:
            yield service

    return service


@pytest.fixture
def folder(service, request, monkeypatch, tmp_path):
    """A folder for a test in the bucket of the fixture `service`, and a cache of its own."""
    from diffusion.runtime.paths import expanded

    clients(service, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return expanded(f"{service.url}/{request.node.name.partition('[')[0]}")
