"""The web server: `python -m project.web [--host ADDRESS]`."""

import argparse

import uvicorn
from django.conf import settings

from project.asgi import application

GRACE_SECONDS = 5


def main() -> None:
    """Serve the desk until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    uvicorn.run(
        application,
        host=parser.parse_args().host,
        port=settings.WEB_PORT,
        loop="uvloop",
        lifespan="off",
        log_config=None,  # one root handler writes everything
        access_log=False,  # each request is one event of our own, without its query
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
