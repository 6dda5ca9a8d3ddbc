import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def operator(db: None) -> Client:
    """A browser in which the owner is signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client
