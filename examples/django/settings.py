"""A small project: an order is stored with the task that confirms it, or neither is."""

import os

SECRET_KEY = "for this example only"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["orders", "qw.contrib.django"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "shop"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
    }
}
TASKS = {
    "default": {
        "BACKEND": "qw.contrib.django.QwBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"max_retries": 5, "timeout": 60},
    }
}
