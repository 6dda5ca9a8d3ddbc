from django.urls import path

from desk import stopping, views

app_name = "desk"
urlpatterns = [
    path("", views.board, name="board"),
    path("live/", views.live, name="live"),
    path("equity/", views.equity, name="equity"),
    path("choices/", views.looks, name="looks"),
    path("market/", views.market, name="market"),
    path("exposure/", views.exposure, name="exposure"),
    path("accounts/<uuid:account_id>/why/", views.why, name="why"),
    path("accounts/<uuid:account_id>/", views.account, name="account"),
    path("decisions/<uuid:decision_id>/", views.decision, name="decision"),
    path("stop/", stopping.stops, name="stops"),
    path("stop/ask/", stopping.ask, name="ask-stop"),
    path("stop/raise/", stopping.raise_halt, name="raise-halt"),
    path("stop/resume/", stopping.resume, name="resume"),
    path("positions/<uuid:position_id>/", views.position, name="position"),
]
