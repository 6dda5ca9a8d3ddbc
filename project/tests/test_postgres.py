"""Times out of Postgres: the same moments as Django reads, in UTC."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError, connection

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="how Postgres writes its times"),
]


def _read(words: str, zone: str = "UTC") -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('timezone', %s, true)", [zone])
        cursor.execute("SELECT %s::timestamptz", [words])
        moment: datetime = cursor.fetchone()[0]
    return moment


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("2026-11-21 23:37:21+00", datetime(2026, 11, 21, 23, 37, 21, tzinfo=UTC)),
        ("2026-11-21 23:37:21.5+00", datetime(2026, 11, 21, 23, 37, 21, 500_000, tzinfo=UTC)),
        ("2026-11-21 23:37:21.000001+05:30", datetime(2026, 11, 21, 18, 7, 21, 1, tzinfo=UTC)),
        ("0044-03-15 12:00:00+00", datetime(44, 3, 15, 12, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_a_time_is_the_moment_that_was_written_whatever_the_zone_of_the_connection(
    words: str, moment: datetime, zone: str
) -> None:
    read = _read(words, zone)
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_a_time_in_a_date_style_of_the_server_is_refused_as_ever() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('datestyle', 'SQL', true)")
        cursor.execute("SELECT now()")
        with pytest.raises(NotImplementedError, match="DateStyle"):
            cursor.fetchone()


@pytest.mark.parametrize("words", ["infinity", "0044-03-15 12:00:00+00 BC"])
def test_a_time_that_python_has_no_moment_for_is_refused(words: str) -> None:
    with pytest.raises(DataError):
        _read(words)
