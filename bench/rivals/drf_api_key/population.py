"""Make the tables and so many keys, and print the keys: python -m bench.rivals.drf_api_key.population COUNT."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command
from django.db import transaction


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.rivals.drf_api_key.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    from rest_framework_api_key.models import APIKey  # a model: after the setup alone

    with transaction.atomic():
        for number in range(int(sys.argv[1])):
            _, value = APIKey.objects.create_key(name=f"bench-{number:06}")
            print(value)


if __name__ == "__main__":
    main()
