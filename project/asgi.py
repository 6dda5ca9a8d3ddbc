import os

from django.core.asgi import get_asgi_application

from project.in_time import InTime

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = InTime(get_asgi_application())
