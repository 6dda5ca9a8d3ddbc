"""The stream of a venue whose streams are not spoken: it connects nowhere and is never up."""

import asyncio
from collections.abc import AsyncGenerator

from exchange.stream_events import UserEvent
from exchange.streams import Session, UserStream


class SilentStream(UserStream):
    """Nothing is told, and nothing is proven alive: the account is known by polling alone."""

    def __init__(self, session: Session) -> None:
        """The session is never asked for."""
        super().__init__(session, "", spread=0.0, ping_seconds=0.0)

    async def _connection_events(self) -> AsyncGenerator[UserEvent]:
        await asyncio.get_running_loop().create_future()
        yield  # type: ignore[misc]  # what makes a generator of it
