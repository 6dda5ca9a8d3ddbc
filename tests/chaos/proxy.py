"""A line between programs that can be cut, and that can fall silent with everybody still connected."""

import asyncio
from contextlib import suppress
from threading import Event, Thread

CHUNK = 65_536


class Proxy:
    """Carries TCP from a loopback port of its own to another one; its verbs may be called from any thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._is_cut = False
        self._listens = Event()
        self._thread = Thread(target=self._run, daemon=True, name="proxy")
        self.port = 0

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._listens.wait()

    def stop(self) -> None:
        """Close everything and listen no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Reset every connection, and every new one, until `heal`."""
        self._tell(is_cut=True, flows=True)

    def fall_silent(self) -> None:
        """Carry nothing either way until `heal`, every connection open; new ones are taken and say nothing.

        What was sent meanwhile arrives afterwards, as after a partition of the network.
        """
        self._tell(is_cut=False, flows=False)

    def heal(self) -> None:
        """Carry again."""
        self._tell(is_cut=False, flows=True)

    def _tell(self, *, is_cut: bool, flows: bool) -> None:
        self._loop.call_soon_threadsafe(self._change, is_cut, flows)

    def _change(self, is_cut: bool, flows: bool) -> None:
        self._is_cut = is_cut
        if is_cut:
            for writer in list(self._writers):
                writer.transport.abort()
        if flows:
            self._flows.set()
        else:
            self._flows.clear()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._flows.set()
        self._listens.set()
        self._loop.run_forever()
        server.close()
        self._change(is_cut=True, flows=True)
        for pump in list(self._pumps):
            pump.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._pumps, return_exceptions=True))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = self._loop.create_task(self._pump(source, sink, pair))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: set[asyncio.StreamWriter]
    ) -> None:
        """One direction; the end of either direction ends both."""
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        for writer in pair:
            writer.close()
        self._writers -= pair
