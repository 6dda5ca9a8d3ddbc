import subprocess
import sys

import pytest

from bench import postgres
from bench.stage import POSTGRES, ROOT, Stage


@pytest.mark.skipif(postgres.binaries() is None, reason="no Postgres on this machine")
def test_a_postgres_of_the_stage_is_durable_and_goes_with_it() -> None:
    with Stage(POSTGRES) as stage:
        stage.start_database()
        script = (
            "import os, dj_database_url, psycopg\n"
            "told = dj_database_url.parse(os.environ['DATABASE_URL'])\n"
            "place = {'host': told['HOST'], 'port': told['PORT'], 'dbname': told['NAME']}\n"
            "with psycopg.connect(user=told['USER'], **place) as one:\n"
            "    for name in ('fsync', 'synchronous_commit', 'full_page_writes'):\n"
            "        print(one.execute(f'SHOW {name}').fetchone()[0])\n"
        )
        asked = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=stage.environment(0),
            capture_output=True,
            text=True,
            check=True,
        )
        place = stage.place

    assert asked.stdout.split() == ["on", "on", "on"]
    assert not place.exists()
