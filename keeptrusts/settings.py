"""Everything that can be configured, read once from the environment (README, "Configuration").

Any variable may be given as NAME_FILE instead: the path of a file that holds the value.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv

from access import sign_in_settings
from keeptrusts import broker, logs, unfold
from keeptrusts.environment import embedded_secret
from keeptrusts.schedule import BEAT_SCHEDULE

django_stubs_ext.monkeypatch()

env = FileAwareEnv()
BASE_DIR = Path(__file__).resolve().parent.parent

# Where it runs (design: "Embedded default" and "Production"). A database of one's own means production.
DATABASE_URL = env.str("DATABASE_URL", "")
REDIS_URL = env.str("REDIS_URL", "")
EMBEDDED = not DATABASE_URL
DATA_DIR = Path(env.str("KEEPTRUSTS_DATA_DIR", "") or BASE_DIR / "var").absolute()

DEBUG = env.bool("KEEPTRUSTS_DEBUG", False)
SECRET_KEY = env.str("KEEPTRUSTS_SECRET_KEY", "")
if not SECRET_KEY:
    if not EMBEDDED:
        raise ImproperlyConfigured(
            "KEEPTRUSTS_SECRET_KEY (or KEEPTRUSTS_SECRET_KEY_FILE) is not set. With DATABASE_URL every process "
            "needs the same secret of at least 50 characters; nothing starts on a default one."
        )
    SECRET_KEY = embedded_secret(DATA_DIR)
SECRET_KEY_FALLBACKS: list[str] = env.list("KEEPTRUSTS_SECRET_KEY_FALLBACKS", [])

PUBLIC_URL = env.str("KEEPTRUSTS_PUBLIC_URL", f"http://127.0.0.1:{env.int('PORT', 8000)}").rstrip("/")
_public = urlsplit(PUBLIC_URL)
if _public.scheme not in {"http", "https"} or not _public.hostname:
    raise ImproperlyConfigured(f"KEEPTRUSTS_PUBLIC_URL must be an http or https address, not {PUBLIC_URL!r}.")
HTTPS = _public.scheme == "https"
ALLOWED_HOSTS = [_public.hostname, "127.0.0.1", "localhost", "[::1]", *env.list("KEEPTRUSTS_ALLOWED_HOSTS", [])]
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]

# How many proxies stand before the console; 0 = none, and forwarded headers are a client's claim.
TRUSTED_PROXIES = env.int("KEEPTRUSTS_TRUSTED_PROXIES", 0)
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
# On plain http browsers do not follow it, and complain of every page.
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin" if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_NAME = "keeptrusts_session"
CSRF_COOKIE_NAME = "keeptrusts_csrf"
SESSION_ENGINE = "access.session_store"
_people = sign_in_settings.read(env, embedded=EMBEDDED)
SESSION_COOKIE_AGE = int(_people.lifetime.total_seconds())
# Without a request a session ends after this; and for this long a proof of who one is counts for what is grave.
KEEPTRUSTS_SESSION_LIFETIME = _people.lifetime
KEEPTRUSTS_SESSION_IDLE = _people.idle
KEEPTRUSTS_CONFIRMED_FOR = _people.confirmed_for
# Roles that sign in with a second factor, or get no further than to where they add one.
KEEPTRUSTS_REQUIRE_MFA = _people.require_mfa
KEEPTRUSTS_OIDC = _people.provider
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        # What is not named is not loaded.
        "default-src": [NONE],
        # Alpine, which the admin theme is built on, evaluates its attributes and sets inline styles.
        "script-src": [SELF, UNSAFE_EVAL],
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        # Where htmx and the API's documentation ask.
        "connect-src": [SELF],
        "manifest-src": [NONE],
        "object-src": [NONE],
        "frame-src": [NONE],
        "worker-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

INSTALLED_APPS = [
    "keeptrusts.apps.KeeptrustsConfig",
    "operations.apps.OperationsConfig",
    "gateways.apps.GatewaysConfig",
    "webhooks.apps.WebhooksConfig",
    "usage.apps.UsageConfig",
    "keys.apps.KeysConfig",
    "access.apps.AccessConfig",
    "audit.apps.AuditConfig",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.import_export",
    "import_export",
    "keeptrusts.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    # Second factors stand on its tables and on its middleware; none of its pages is served.
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "keeptrusts.middleware.SurfaceMiddleware",
    "keeptrusts.static_files.StaticFilesMiddleware",
    "keeptrusts.middleware.CompressionMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "access.middleware.TimeZoneMiddleware",
    "access.middleware.RateLimitMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "access.guard.SessionGuard",
    "access.middleware.RefusalMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "keeptrusts.urls"
ASGI_APPLICATION = "keeptrusts.asgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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

DATABASES: dict[str, dict[str, Any]]
if EMBEDDED:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "keeptrusts.sqlite3",
            "OPTIONS": {
                # Every transaction takes the write lock at its start: a read that turns into a write later
                # cannot be waited for in SQLite, only failed.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000;",
            },
        }
    }
else:
    DATABASES = {"default": env.dj_db_url("DATABASE_URL")}
    if DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured("DATABASE_URL must be a postgresql:// address; without it SQLite is used.")
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        # A server that vanished without a word (its host is down, the network cut) is noticed within seconds, not
        # hours: meanwhile a request would hang, and a job would keep a thread of its worker.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # milliseconds
        "pool": {"min_size": 1, "max_size": env.int("KEEPTRUSTS_DATABASE_POOL", 10), "timeout": 5},
        **DATABASES["default"].get("OPTIONS", {}),
    }
    if env.bool("KEEPTRUSTS_DATABASE_POOLER", False):
        # A pooler that gives a connection for one transaction at a time, such as PgBouncer: it takes no options at the
        # start of a connection, and what is fetched between two transactions would be asked of another server process.
        DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
    else:
        # PostgreSQL compiles what it takes for a long query: that took up to 2.5 s of lists that need 30 ms without.
        DATABASES["default"]["OPTIONS"].setdefault("options", "-c jit=off -c hash_mem_multiplier=8")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if REDIS_URL:
    CACHES: dict[str, dict[str, Any]] = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            # What is kept there may be lost; nobody waits long for it. Seconds.
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

AUTH_USER_MODEL = "access.Member"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "admin/locked_out.html"
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "access.actors.client_ip"
# People type passwords and key values into the wrong field: what was typed is never kept.
AXES_USERNAME_CALLABLE = "access.sign_in.typed_username"
AXES_SENSITIVE_PARAMETERS = ["username"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

ACCOUNT_EMAIL_VERIFICATION = "none"
MFA_ADAPTER = "access.factor_adapter.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn"]
MFA_TOTP_ISSUER = "Keeptrusts"
# A passkey is both factors in one: it is asked for with its PIN or biometry, always.
MFA_WEBAUTHN_USER_VERIFICATION = "required"

UNFOLD = unfold.UNFOLD
CSRF_FAILURE_VIEW = "keeptrusts.errors.csrf_failure"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
USE_THOUSAND_SEPARATOR = True
FORMAT_MODULE_PATH = ["keeptrusts.formats"]

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "keeptrusts" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Bodies of the console and the API; the data plane has its own limit (usage batches of 5 MiB).
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "access.authentication.AccessKeyAuthentication",
        "access.authentication.ConsoleSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["access.permissions.RolePermission"],
    "DEFAULT_FILTER_BACKENDS": [
        "access.filters.VisibleFilterBackend",
        "access.filters.StrictFilterBackend",
        "access.filters.PlainSearchFilter",
        "access.filters.StableOrderingFilter",
    ],
    "DEFAULT_PAGINATION_CLASS": "access.pagination.CountedPagination",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["access.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "access.negotiation.SensibleNegotiation",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "access.schema.ApiSchema",
    "EXCEPTION_HANDLER": "access.errors.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": ["access.throttles.AccessKeyThrottle", "access.throttles.AddressThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "access_key": env.str("KEEPTRUSTS_API_RATE", "100/s"),
        "address": env.str("KEEPTRUSTS_API_ANONYMOUS_RATE", "20/s"),
    },
    "NUM_PROXIES": TRUSTED_PROXIES,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Keeptrusts management API",
    "DESCRIPTION": "Gateway keys, the groups they are scoped to, the gateways that ask about them, and the evidence.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "KeyStatus": "keys.status.KeyStatus",
        "VersionState": "keys.status.VersionState",
        "AccessKeyStatus": "access.api.AccessKeyStatus",
        "MemberState": "access.member_api.MemberState",
        "Role": "access.rules.Role",
        "BulkOutcome": "keys.bulk_api.Outcome",
        "DeliveryState": "webhooks.models.DeliveryState",
        "NoticeType": "webhooks.happenings.NoticeType",
        "ChosenType": "webhooks.happenings.CHOICES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "access.schema.describe",
    ],
}

# The audit log's checkpoints (docs/audit.md): who signs them, who believes which signature, how old the newest may be,
# and where they are copied to, outside the database.
KEEPTRUSTS_AUDIT_ORIGIN = env.str("KEEPTRUSTS_AUDIT_ORIGIN", f"{_public.netloc}/audit")
if not re.fullmatch(r"[^\s+]+", KEEPTRUSTS_AUDIT_ORIGIN):
    raise ImproperlyConfigured("KEEPTRUSTS_AUDIT_ORIGIN names the log in each checkpoint: no spaces, and no +.")
KEEPTRUSTS_AUDIT_SIGNING_KEY = env.str("KEEPTRUSTS_AUDIT_SIGNING_KEY", "")
KEEPTRUSTS_AUDIT_PUBLIC_KEYS: list[str] = env.list("KEEPTRUSTS_AUDIT_PUBLIC_KEYS", [])
KEEPTRUSTS_CHECKPOINT_SECONDS = env.int("KEEPTRUSTS_CHECKPOINT_SECONDS", 60)
if not 1 <= KEEPTRUSTS_CHECKPOINT_SECONDS <= 3_600:
    raise ImproperlyConfigured("KEEPTRUSTS_CHECKPOINT_SECONDS must be between 1 and 3600.")
KEEPTRUSTS_CHECKPOINT_FILE = Path(
    env.str("KEEPTRUSTS_CHECKPOINT_FILE", "") or DATA_DIR / "audit-checkpoints.ndjson"
).absolute()
# host:port (UDP), or the path of a socket such as /dev/log; an address that takes a POST.
KEEPTRUSTS_CHECKPOINT_SYSLOG = env.str("KEEPTRUSTS_CHECKPOINT_SYSLOG", "")
if not re.fullmatch(r"(/.+|.+:[0-9]{1,5})?", KEEPTRUSTS_CHECKPOINT_SYSLOG):
    raise ImproperlyConfigured("KEEPTRUSTS_CHECKPOINT_SYSLOG is host:port, or the path of a socket such as /dev/log.")
KEEPTRUSTS_CHECKPOINT_URL = env.str("KEEPTRUSTS_CHECKPOINT_URL", "")

# How long access keys live, days: unless something else is said, and at most; 0: no ceiling, they need not expire.
_access_key_days = env.int("KEEPTRUSTS_ACCESS_KEY_DAYS", 90)
_most_access_key_days = env.int("KEEPTRUSTS_ACCESS_KEY_MAX_DAYS", 365)
if not 1 <= _access_key_days <= (_most_access_key_days or 36_500) <= 36_500:
    raise ImproperlyConfigured(
        f"KEEPTRUSTS_ACCESS_KEY_DAYS is {_access_key_days}, and must be at least 1 and no more than "
        f"KEEPTRUSTS_ACCESS_KEY_MAX_DAYS ({_most_access_key_days}), which is 0 (no ceiling) or at most 36500."
    )
KEEPTRUSTS_ACCESS_KEY_LIFETIME = timedelta(days=_access_key_days)
KEEPTRUSTS_ACCESS_KEY_LONGEST_LIFETIME = timedelta(days=_most_access_key_days) if _most_access_key_days else None

# Lifecycle (design: "Rotation"), seconds.
KEEPTRUSTS_DEFAULT_GRACE = timedelta(seconds=env.int("KEEPTRUSTS_DEFAULT_GRACE_SECONDS", 24 * 60 * 60))
# Events kept a second and process beside the exact counts, so that a flood does not write a row each.
KEEPTRUSTS_EVENT_RATE = env.int("KEEPTRUSTS_EVENT_RATE", 50)
# How long a gateway process may decide by what it holds without asking the database again, seconds; 0: not at all.
KEEPTRUSTS_LEASE_SECONDS = env.float("KEEPTRUSTS_LEASE_SECONDS", 2.0)
KEEPTRUSTS_LONGEST_LEASE_SECONDS = 60.0
if KEEPTRUSTS_LEASE_SECONDS and not 0.5 <= KEEPTRUSTS_LEASE_SECONDS <= KEEPTRUSTS_LONGEST_LEASE_SECONDS:
    raise ImproperlyConfigured("KEEPTRUSTS_LEASE_SECONDS is 0 (nothing is held in memory), or between 0.5 and 60.")
# Keys that such a process holds at most; each takes some 600 bytes.
KEEPTRUSTS_CACHED_KEYS = env.int("KEEPTRUSTS_CACHED_KEYS", 1_000_000)
if KEEPTRUSTS_CACHED_KEYS < 1:
    raise ImproperlyConfigured(
        "KEEPTRUSTS_CACHED_KEYS must be at least 1. To hold nothing: KEEPTRUSTS_LEASE_SECONDS=0."
    )
# Gateways may report what is up to 30 days old, and the same again: what is deleted sooner would count twice.
_retention_days = env.int("KEEPTRUSTS_USAGE_RETENTION_DAYS", 35)
if _retention_days < 31:
    raise ImproperlyConfigured(
        f"KEEPTRUSTS_USAGE_RETENTION_DAYS is {_retention_days}, and must be at least 31: events are accepted for 30 "
        "days, and one that was deleted before would count a second time."
    )
KEEPTRUSTS_USAGE_RETENTION = timedelta(days=_retention_days)

# Prometheus' metrics (docs/operations.md): for who shows this token, for callers on this host, or for nobody.
KEEPTRUSTS_METRICS_TOKEN = env.str("KEEPTRUSTS_METRICS_TOKEN", "")
if 0 < len(KEEPTRUSTS_METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("KEEPTRUSTS_METRICS_TOKEN must have at least 16 characters; empty: no metrics.")
KEEPTRUSTS_METRICS_LOOPBACK = env.bool("KEEPTRUSTS_METRICS_LOOPBACK", False)
# Exports that a process sends at once. Each keeps a connection of its pool while it is read.
KEEPTRUSTS_EXPORTS_AT_ONCE = env.int("KEEPTRUSTS_EXPORTS_AT_ONCE", 4)

# Notices (docs/webhooks.md). Plain http and other networks than public ones only where an operator says so.
KEEPTRUSTS_WEBHOOK_ALLOW_HTTP = env.bool("KEEPTRUSTS_WEBHOOK_ALLOW_HTTP", False)
try:
    KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS = [
        ipaddress.ip_network(text.strip())
        for text in env.str("KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS", "").split(",")
        if text.strip()
    ]
except ValueError as error:
    raise ImproperlyConfigured(f"KEEPTRUSTS_WEBHOOK_ALLOWED_NETWORKS: networks such as 10.1.0.0/16; {error}.") from None
_notice_days = env.int("KEEPTRUSTS_NOTICE_RETENTION_DAYS", 90)
if _notice_days < 40:
    raise ImproperlyConfigured(
        f"KEEPTRUSTS_NOTICE_RETENTION_DAYS is {_notice_days}, and must be at least 40: a key of whose expiry in 30 "
        "days nothing is known any more would be warned of again."
    )
KEEPTRUSTS_NOTICE_RETENTION = timedelta(days=_notice_days)

# Mail. Without EMAIL_URL none is queued.
KEEPTRUSTS_MAIL = bool(env.str("EMAIL_URL", ""))
if KEEPTRUSTS_MAIL:
    _mail = env.dj_email_url("EMAIL_URL")
    if "EMAIL_BACKEND" not in _mail:
        # Without the address, which holds a password.
        raise ImproperlyConfigured(
            "EMAIL_URL begins with submission:// (port 587, STARTTLS) or smtp:// (smtp://…:465?ssl=true for TLS)."
        )
    EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
    EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"] or "", _mail["EMAIL_PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"] or "", _mail["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS, EMAIL_USE_SSL = _mail["EMAIL_USE_TLS"], _mail["EMAIL_USE_SSL"]
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("KEEPTRUSTS_MAIL_FROM", f"keeptrusts@{_public.hostname}")

# Celery. Redis where there is one; else a folder, which needs nothing installed.
CELERY_BROKER_URL = REDIS_URL or broker.URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
if REDIS_URL:
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "visibility_timeout": 600,
        "health_check_interval": 10,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
else:
    _queue = DATA_DIR / "queue"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_queue / "messages"),
        "data_folder_out": str(_queue / "messages"),
        "control_folder": str(_queue / "control"),
    }
    # Remote control is answered through the broker, and here nobody would ever ask.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = BEAT_SCHEDULE

# Whatever a library logs, a key value never reaches a log (design: "A secret is seen once").
try:
    logs.chosen_format()
except ValueError as _wrong:
    raise ImproperlyConfigured(str(_wrong)) from None
LOGGING_CONFIG = "keeptrusts.logs.configure"
LOGGING = logs.logging_settings(env.str("KEEPTRUSTS_LOG_LEVEL", "INFO"))
# With KEEPTRUSTS_DEBUG the page of an error shows local variables.
DEFAULT_EXCEPTION_REPORTER = "keeptrusts.debug_reports.RedactingReporter"
