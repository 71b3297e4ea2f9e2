"""A broker that says what it is told to, for what a real one never says."""

from __future__ import annotations

import socket
import threading
import time


class FakeBroker:
    """Accepts one connection after the other and answers what it is told to."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = answers
        self.heard = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with conn:
                try:
                    self.heard += conn.recv(65536)
                    for answer in self.answers:
                        conn.sendall(answer)
                        time.sleep(0.05)
                    while data := conn.recv(65536):
                        self.heard += data
                except OSError:
                    continue

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
