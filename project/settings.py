"""Every setting of the desk, in one file. What the environment may say is listed in `.env.example`."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import dj_database_url
from kombu import Exchange, Queue
from redis import Redis

from project.clock import Clock, ReplayClock, SystemClock
from project.contradictions import (
    refuse_broken_key_pair,
    refuse_default_secrets,
    refuse_paper_outside_paper,
    refuse_play_with_real_money,
    refuse_shared_ports,
    refuse_staged_cascade,
)
from project.env import Environment, read_env_file, read_networks
from project.environment_accounts import PREFIX as ACCOUNT_PREFIX
from project.environment_accounts import read_accounts, read_experimental_venues
from project.secret_files import kept_key_pair, kept_token
from project.trading_rules import LIMIT_PREFIX, read_gate_off, read_limits, read_protections

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(os.environ, read_env_file(Path(os.environ.get("ENV_FILE", BASE_DIR / ".env"))))
env.env_str("ENV_FILE")

# ── what this desk is ────────────────────────────────────────────────────────
MODE = env.env_choice("MODE", "paper", ("paper", "testnet", "live"))
LIVE, PAPER = MODE == "live", MODE == "paper"
PROCESS_ROLE = env.env_choice("PROCESS_ROLE", "all", ("all", "web", "worker"))
OPENS_CREDENTIALS = PROCESS_ROLE != "web"
DEBUG = env.env_bool("DEBUG", default=False)
VAR_DIR = Path(env.env_str("VAR_DIR", str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)

# ── where it is reached ──────────────────────────────────────────────────────
WEB_PORT = env.env_int("WEB_PORT", 8000, low=1, high=65535)
FLOWER_PORT = env.env_int("FLOWER_PORT", 5555, low=1, high=65535)
PAPER_PORT = env.env_int("PAPER_PORT", 18080, low=1, high=65535)
VALKEY_PORT = env.env_int("VALKEY_PORT", 6390, low=1, high=65535)
SITE_URL = env.env_str("SITE_URL", f"http://127.0.0.1:{WEB_PORT}").rstrip("/")
HTTPS = SITE_URL.startswith("https://")
ALLOWED_HOSTS = sorted({"127.0.0.1", "localhost", "[::1]", urlsplit(SITE_URL).hostname or "localhost"})
CSRF_TRUSTED_ORIGINS = [SITE_URL]
TRUSTED_PROXIES = env.env_int("TRUSTED_PROXIES", 1 if HTTPS else 0, low=0, high=10)
"""How many proxies of ours add to X-Forwarded-For: a sender's address is read behind them, nobody's else."""
TRADINGVIEW_ADDRESSES = read_networks(
    env, "TRADINGVIEW_ADDRESSES", "52.89.214.238,34.212.75.30,54.218.53.128,52.32.178.7"
)
"""Where alerts may come from: the addresses TradingView publishes."""
TRADINGVIEW_ALERTS_PER_MINUTE = env.env_int("TRADINGVIEW_ALERTS_PER_MINUTE", 60, low=1, high=10_000)
"""Alerts of a webhook in a minute after which it enters nothing; closes and cancels are always taken."""

# ── secrets: kept under VAR_DIR outside live, told explicitly in live ────────
SECRET_KEY = env.env_secret("SECRET_KEY")
VALKEY_PASSWORD = env.env_secret("VALKEY_PASSWORD")
FLOWER_USER = env.env_str("FLOWER_USER", "operator")
FLOWER_PASSWORD = env.env_secret("FLOWER_PASSWORD")
HPKE_PUBLIC_KEY = env.env_secret("HPKE_PUBLIC_KEY")
HPKE_PRIVATE_KEY = env.env_secret("HPKE_PRIVATE_KEY")
REDIS_URL = env.env_secret("REDIS_URL")
DATABASE_URL = env.env_secret("DATABASE_URL")
EMBEDDED_VALKEY = not REDIS_URL

if LIVE:
    refuse_default_secrets(
        env,
        required={"SECRET_KEY": SECRET_KEY, "HPKE_PUBLIC_KEY": HPKE_PUBLIC_KEY},
        passwords={
            "VALKEY_PASSWORD": VALKEY_PASSWORD,
            "FLOWER_PASSWORD": FLOWER_PASSWORD,
            "DATABASE_URL": urlsplit(DATABASE_URL).password,
            "REDIS_URL": urlsplit(REDIS_URL).password,
        },
    )
    if REDIS_URL and not urlsplit(REDIS_URL).password:
        env.fault("REDIS_URL has no password, refused when MODE=live")
refuse_broken_key_pair(env, HPKE_PUBLIC_KEY, HPKE_PRIVATE_KEY, opens=OPENS_CREDENTIALS)
if not LIVE:
    if not HPKE_PUBLIC_KEY:
        pair = kept_key_pair(VAR_DIR / "keys")
        HPKE_PUBLIC_KEY, HPKE_PRIVATE_KEY = pair.public, pair.private
    SECRET_KEY = SECRET_KEY or kept_token(VAR_DIR / "keys" / "django_secret.key")
if not OPENS_CREDENTIALS:
    HPKE_PRIVATE_KEY = ""
VALKEY_PASSWORD = VALKEY_PASSWORD or kept_token(VAR_DIR / "keys" / "valkey_password.key")
FLOWER_PASSWORD = FLOWER_PASSWORD or kept_token(VAR_DIR / "keys" / "flower_password.key")
REDIS_URL = REDIS_URL or f"redis://:{quote(VALKEY_PASSWORD, safe='')}@127.0.0.1:{VALKEY_PORT}/0"

# ── trading ──────────────────────────────────────────────────────────────────
LIMITS = read_limits(env, MODE)
if env.env_bool("RUNNER", default=False):
    LIMITS = replace(LIMITS, runner=True)
GATE_OFF = read_gate_off(env, MODE)
PROTECTIONS = read_protections(env)
ROUTE_POLICY = env.env_choice("ROUTE_POLICY", "all", ("all", "cascade"))
STAGED = env.env_bool("STAGED", default=False)
"""Canary accounts go first, the rest once they are acknowledged; a request may say otherwise."""
HOUSE_ACCOUNT = env.env_str("HOUSE_ACCOUNT")
EXIT_POLICY = env.env_choice("EXIT_POLICY", "adaptive", ("adaptive", "signal", "fixed"))
DEMO_SIGNALS = env.env_bool("DEMO_SIGNALS", default=PAPER)
PAPER_ACCOUNTS = env.env_int("PAPER_ACCOUNTS", 20, low=0, high=10_000)
PAPER_SEED = env.env_int("PAPER_SEED", 7, low=0, high=2**31)
EMBEDDED_PAPER_EXCHANGE = PAPER and not env.env_str("PAPER_EXCHANGE_URL")
PAPER_EXCHANGE_URL = env.env_str("PAPER_EXCHANGE_URL", f"http://127.0.0.1:{PAPER_PORT}").rstrip("/")
PAPER_ADMIN_SECRET = env.env_secret("PAPER_ADMIN_SECRET")
ENVIRONMENT_ACCOUNTS = read_accounts(env, MODE, with_secrets=OPENS_CREDENTIALS)
EXPERIMENTAL_VENUES = read_experimental_venues(env)
"""Exchanges not yet tried against their testnets that this desk takes accounts of all the same."""
EGRESS = env.env_str("EGRESS", "default")
"""Names the address this process is seen from: processes of one name share one rate budget."""
WEIGHT_LIMIT_PER_MINUTE = env.env_int(
    "WEIGHT_LIMIT_PER_MINUTE", 6000 if EMBEDDED_PAPER_EXCHANGE else 2400, low=0, high=1_000_000
)
"""Futures request weight of this address; spot has its own in proportion. 0 holds nothing back.

An embedded paper exchange allows what the venue's own demonstration allows."""
LONGEST_ID_PREFIX = 8
ALERT_URLS = tuple(env.env_secret("ALERT_URLS").split())
"""Where alerts are delivered: apprise addresses apart by blanks. They carry tokens and count as secrets."""

DESK_ID_PREFIX = env.env_str("DESK_ID_PREFIX", "px")
if not (DESK_ID_PREFIX.isascii() and DESK_ID_PREFIX.isalnum() and len(DESK_ID_PREFIX) <= LONGEST_ID_PREFIX):
    env.fault(f"DESK_ID_PREFIX={DESK_ID_PREFIX!r} is not one to {LONGEST_ID_PREFIX} letters or digits")

clock_name = env.env_choice("CLOCK", "system", ("system", "replay"))
CLOCK: Clock = SystemClock()
if clock_name == "replay":
    CLOCK = ReplayClock(Redis.from_url(REDIS_URL, socket_timeout=2, socket_connect_timeout=2))

refuse_paper_outside_paper(
    env,
    MODE,
    {"PAPER_EXCHANGE_URL": bool(env.env_str("PAPER_EXCHANGE_URL")), "CLOCK=replay": clock_name == "replay"},
)
refuse_play_with_real_money(env, MODE, {"DEMO_SIGNALS": DEMO_SIGNALS, "DEBUG": DEBUG})
refuse_staged_cascade(env, is_staged=STAGED, route_policy=ROUTE_POLICY)
refuse_shared_ports(
    env,
    {"WEB_PORT": WEB_PORT, "FLOWER_PORT": FLOWER_PORT, "PAPER_PORT": PAPER_PORT, "VALKEY_PORT": VALKEY_PORT},
)

# ── Django ───────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "project",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_celery_beat",
    "django_htmx",
    "ninja",  # its API page then comes from our own address, not from somebody else's
    "alerts",
    "accounts",
    "trading",
    "desk",
]
MIDDLEWARE = [
    "project.middleware.TraceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "project.middleware.ContentSecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["project.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.env_str("STATIC_ROOT", str(VAR_DIR / "static")))
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
WHITENOISE_USE_FINDERS = True
WHITENOISE_KEEP_ONLY_HASHED_FILES = False

# ── database ─────────────────────────────────────────────────────────────────
DATABASE_POOL_MAX = env.env_int("DATABASE_POOL_MAX", 16, low=0, high=200)
if DATABASE_URL:
    database = dict(dj_database_url.parse(DATABASE_URL))
else:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(VAR_DIR / "phalanx.sqlite3")}
if str(database["ENGINE"]).endswith("sqlite3"):
    database["OPTIONS"] = {
        "timeout": 20,
        # One writer at a time, told at BEGIN: a transaction never fails halfway for want of the lock.
        "transaction_mode": "IMMEDIATE",
        # FULL: with NORMAL a power cut may take back an order row whose request has left.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
    # Whole-system tests share the test database with worker processes: it is a file, never memory.
    database["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
else:
    database["ENGINE"] = "project.postgres"
    # A pooled connection that died with a database restart is noticed before it is used.
    database["CONN_HEALTH_CHECKS"] = True
    if DATABASE_POOL_MAX:
        database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": DATABASE_POOL_MAX, "timeout": 10}}
DATABASES = {"default": database}

# ── identity, sessions, headers ──────────────────────────────────────────────
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "/desk/"
SESSION_COOKIE_NAME = "desk_session"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "desk_csrf"
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SECURE = HTTPS
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(health|ready)$"]  # asked by the supervisor next door, not through the proxy
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

UNFOLD = {
    "SITE_TITLE": "Phalanx",
    "SITE_HEADER": "Phalanx",
    "SITE_SUBHEADER": "Execution desk",
    "SITE_URL": "/desk/",
    "SITE_SYMBOL": "shield",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/desk/mark.svg"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "project.branding.mode_badge",
    "SIDEBAR": {"show_search": True, "show_all_applications": True},
}

# ── Celery: reasons in docs/adr/0001 ─────────────────────────────────────────
BROKER_VISIBILITY_SECONDS = env.env_int("BROKER_VISIBILITY_SECONDS", 300, low=5, high=3600)
QUEUES = ("orders", "exits", "lookups", "monitor", "default")
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_TRANSPORT = "project.broker:Transport"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": BROKER_VISIBILITY_SECONDS,  # the worst redelivery; the same in every process
    "unacked_restore_interval": min(5, BROKER_VISIBILITY_SECONDS / 5),
    "unacked_restore_throttle": 1,  # the default restores only every 100 s
    # Who dies while looking for abandoned messages leaves its lock: by default nobody looks for 300 s.
    "unacked_mutex_expire": 5,
    "socket_timeout": 5,  # without it a dead connection hangs the worker for ever
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
    "max_connections": 100,  # the default of 10 starves concurrent acknowledgements
    "global_keyprefix": "desk:",
    "client_name": "desk",
}
CELERY_IMPORTS = ("project.worker",)
CELERY_WORKER_CONSUMER = "project.consumer:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_ACKS_ON_FAILURE = True  # a failing message must not loop: the rows decide what is done again
CELERY_TASK_ACKS_ON_TIMEOUT = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TRACK_STARTED = False
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]  # pickle would run code for whoever can write to the broker
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 3,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.5,
}
CELERY_TASK_QUEUES = [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in QUEUES]
CELERY_TASK_ROUTES = {
    "trading.tasks.submit_exits": {"queue": "exits"},
    "trading.tasks.attend_positions": {"queue": "exits"},
    "trading.tasks.act_on_signals": {"queue": "exits"},
    "trading.tasks.cancel_orders": {"queue": "exits"},
    "trading.tasks.resolve_orders": {"queue": "lookups"},
    "trading.tasks.refresh_orders": {"queue": "lookups"},
    "trading.tasks.submit_entries": {"queue": "orders"},
    "trading.tasks.offer_allocations": {"queue": "orders"},
    "trading.tasks.decide": {"queue": "orders"},
    "trading.tasks.monitor_accounts": {"queue": "monitor"},
    "trading.tasks.sweep": {"queue": "monitor"},
    "trading.tasks.prepare_symbols": {"queue": "monitor"},
    "accounts.tasks.verify_account": {"queue": "monitor"},
    "alerts.tasks.deliver_alerts": {"queue": "default"},
}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_DEFAULT_EXCHANGE = "default"
CELERY_TASK_DEFAULT_ROUTING_KEY = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = False  # a misspelt queue raises instead of parking its messages unread
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # True kills a half-sent order
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 40.0
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = (
    False  # no countdown is longer than a sweep: nothing idle to save
)
CELERY_WORKER_ETA_TASK_LIMIT = 100
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 30
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "project.beat:LeaderScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_BEAT_CRON_STARTING_DEADLINE = 60
CELERY_BEAT_SYNC_EVERY = 0
DJANGO_CELERY_BEAT_TZ_AWARE = True

# ── logs ─────────────────────────────────────────────────────────────────────
LOGGING_CONFIG = "project.logging.configure"
LOGGING = {
    "level": env.env_choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
    "as_json": env.env_bool("LOG_JSON", default=True),
    "secrets": (
        SECRET_KEY,
        VALKEY_PASSWORD,
        FLOWER_PASSWORD,
        HPKE_PRIVATE_KEY,
        PAPER_ADMIN_SECRET,
        *ALERT_URLS,
        *(secret for account in ENVIRONMENT_ACCOUNTS for secret in account.secrets),
    ),
}

env.refuse(prefixes=(LIMIT_PREFIX, ACCOUNT_PREFIX))
