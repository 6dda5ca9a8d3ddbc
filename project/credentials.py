"""The first login and token of a desk, written once to a file of its owner's."""

import os
import secrets
from io import StringIO
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import OutputWrapper

OPERATOR = "operator"
SCOPES = "read,signals:write,trade,admin"

TEXT = """\
desk: http://127.0.0.1:{port}/desk/
admin: http://127.0.0.1:{port}/admin/
login: {login}
password: {password}
api: http://127.0.0.1:{port}/api/bot/docs
api_token: {token}
flower: http://127.0.0.1:{flower_port}/
flower_login: {flower_login}
flower_password: {flower_password}
"""


def write_once(path: Path, output: OutputWrapper) -> None:
    """Make operator and token and write them down, unless this database and file already have them."""
    users = get_user_model().objects
    if path.exists() and users.filter(username=OPERATOR).exists():
        return
    password = secrets.token_urlsafe(18)
    operator, _ = users.get_or_create(
        username=OPERATOR, defaults={"is_staff": True, "is_superuser": True, "email": ""}
    )
    operator.set_password(password)
    operator.save()
    _write(
        path,
        TEXT.format(
            port=settings.WEB_PORT,
            login=OPERATOR,
            password=password,
            token=_new_token(),
            flower_port=settings.FLOWER_PORT,
            flower_login=settings.FLOWER_USER,
            flower_password=settings.FLOWER_PASSWORD,
        ),
    )
    output.write(f"login and token written to {path}")


def _new_token() -> str:
    printed = StringIO()
    call_command("create_token", name=OPERATOR, scopes=SCOPES, replace=True, stdout=printed)
    return printed.getvalue().splitlines()[-1]


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
