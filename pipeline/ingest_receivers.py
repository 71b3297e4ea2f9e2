"""Receivers in processes of their own, sharing a subscription: they hand over, the one writer commits.

A receiver process runs the same client as a receiver thread would. It sends each run of messages with a
number through a pipe; the writer answers with that number once they are on disk, and only then are they
acknowledged. If either side dies, the broker still has everything that was not.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import random
import signal
import struct
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

import msgspec
import numpy as np

from connectors.inbox import Inbox, Received
from connectors.mqtt_link import Backoff, Link, LinkStatus
from connectors.mqtt_settings import MqttSettings
from models.frame import Frame

from . import logs

_LOG = logging.getLogger("chargestream.ingest")

ClientName = Literal["paho", "lean"]

_RUN: Final = struct.Struct("<cQI")
_RUN_MARK: Final = b"M"
_STATUS: Final = b"S"
_QUIET: Final = b"Q"
_CLOSE: Final = b"C"
_ACK: Final = struct.Struct("<cQ")
_ACK_MARK: Final = b"A"
_FULL_POLL_S: Final = 0.01
_JOIN_S: Final = 5.0


def make_receiver(client: ClientName, settings: MqttSettings, inbox: Inbox) -> Link:
    """Return the receiver that ``mqtt.client`` names, not started."""
    if client == "lean":
        from connectors.mqtt_fast import LeanReceiver

        return LeanReceiver(settings, inbox)
    from connectors.mqtt_receiver import Receiver

    return Receiver(settings, inbox)


# -- in the receiver process ---------------------------------------------------------------------------


def receive(
    conn: Connection, client: ClientName, settings: MqttSettings, max_bytes: int, log: tuple[str, Any]
) -> None:
    """Run one receiver until the writer says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the writer decides
    logs.setup(settings.client_id, *log)
    inbox = Inbox(lambda: 0, max_bytes)
    receiver = make_receiver(client, settings, inbox)
    waiting: dict[int, Received] = {}
    over = threading.Event()
    quiet = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(conn, receiver, inbox, waiting, over, quiet), daemon=True, name="listener"
    )
    receiver.start()
    listener.start()
    number = 0
    status_at = 0.0
    with contextlib.suppress(OSError):
        while not over.is_set():
            inbox.wait(0.2)
            for received in inbox.take()[0]:
                number += 1
                waiting[number] = received
                head = _RUN.pack(_RUN_MARK, number, len(received.mids))
                conn.send_bytes(head + received.mids.tobytes() + received.frame.encode())
            if quiet.is_set() and not inbox.messages:
                quiet.clear()
                conn.send_bytes(_QUIET)
            if time.monotonic() >= status_at:
                status_at = time.monotonic() + 0.5
                conn.send_bytes(_STATUS + msgspec.msgpack.encode(receiver.status()))
    receiver.close(_JOIN_S)


def _listen(
    conn: Connection,
    receiver: Link,
    inbox: Inbox,
    waiting: dict[int, Received],
    over: threading.Event,
    quiet: threading.Event,
) -> None:
    """Carry out what the writer says."""
    try:
        while True:
            data = conn.recv_bytes()
            if data[:1] == _ACK_MARK:
                receiver.ack(waiting.pop(_ACK.unpack(data)[1]))
            elif data == _QUIET:
                receiver.quiesce(_JOIN_S)
                quiet.set()
                inbox.wake()
            else:
                break
    except (EOFError, OSError):
        _LOG.warning("the ingest process is gone: ending, unacknowledged messages stay with the broker")
    over.set()
    inbox.wake()


# -- in the writer's process ---------------------------------------------------------------------------


class ProcessReceiver:
    """A receiver process, seen from the writer; started again when it dies.

    Parameters
    ----------
    make : callable
        Starts the process on its end of a pipe.
    name : str
        For messages.
    inbox : Inbox
        Where its messages go.
    """

    def __init__(
        self, make: Callable[[Connection], multiprocessing.process.BaseProcess], name: str, inbox: Inbox
    ) -> None:
        self._make, self._name, self._inbox = make, name, inbox
        self._status = LinkStatus()
        self._life = 0
        self._conn: Connection | None = None
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._quiet = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the receiver process."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process and the thread that reads from it."""
        self._thread.start()

    def ack(self, received: Received) -> None:
        """Let the process acknowledge, unless it is another one by now."""
        life, number = divmod(received.generation, 1 << 48)
        if life == self._life:
            self._send(_ACK.pack(_ACK_MARK, number))
        else:
            self._status.stale_acks += int(np.count_nonzero(received.mids))

    def quiesce(self, timeout_s: float) -> None:
        """Stop reading; what was read is in the inbox on return."""
        if self._send(_QUIET):
            self._quiet.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Let the process send its acknowledgements and end."""
        self._closing.set()
        self._send(_CLOSE)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def status(self) -> LinkStatus:
        """Return the counters the process last reported."""
        return self._status

    def _send(self, data: bytes) -> bool:
        with self._sending:
            if self._conn is None:
                return False
            try:
                self._conn.send_bytes(data)
            except OSError:  # the process died: its thread notices
                return False
            return True

    def _run(self) -> None:
        backoff = Backoff(0.2, 10.0, random.Random())
        while not self._closing.is_set():
            self._life += 1
            ours, theirs = multiprocessing.Pipe()
            process = self._process = self._make(theirs)
            theirs.close()
            with self._sending:
                self._conn = ours
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._take(ours.recv_bytes())
                    backoff.reset()
            with self._sending:
                self._conn = None
                ours.close()
            self._status.connected = False
            self._quiet.set()
            process.join(_JOIN_S)
            if process.is_alive():
                process.kill()
                process.join()
            if not self._closing.is_set():
                _LOG.error(
                    "receiver process %s ended with code %s: starting it again", self._name, process.exitcode
                )
                self._closing.wait(backoff.next_s())

    def _take(self, data: bytes) -> None:
        mark = data[:1]
        if mark == _STATUS:
            stale = self._status.stale_acks
            self._status = msgspec.msgpack.decode(data[1:], type=LinkStatus)
            self._status.stale_acks += stale
        elif mark == _QUIET:
            self._quiet.set()
        else:
            _, number, count = _RUN.unpack_from(data)
            mids = np.frombuffer(data, np.uint16, count, _RUN.size)
            frame = Frame.decode(data[_RUN.size + 2 * count :])
            while self._inbox.full and not self._closing.is_set():
                time.sleep(_FULL_POLL_S)  # the pipe fills, the process stops reading
            self._inbox.put(Received(frame, mids, self._life << 48 | number, self))


def process_receiver(
    client: ClientName, settings: MqttSettings, inbox: Inbox, max_bytes: int, log: tuple[str, Any]
) -> ProcessReceiver:
    """Return a receiver in a process of its own, not started."""
    # Spawned, not forked: this process has threads.
    context = multiprocessing.get_context("spawn")

    def make(conn: Connection) -> multiprocessing.process.BaseProcess:
        process = context.Process(
            target=receive,
            args=(conn, client, settings, max_bytes, log),
            name=settings.client_id,
            daemon=True,
        )
        process.start()
        return process

    return ProcessReceiver(make, settings.client_id, inbox)
