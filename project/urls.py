from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from project.health import health, ready
from trading.api import api

urlpatterns = [
    path("", RedirectView.as_view(url="/desk/", permanent=False)),
    path("health", health),
    path("ready", ready),
    path("desk/", include("desk.urls")),
    path("api/bot/", api.urls),
    path("admin/", admin.site.urls),
]
