# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VAR_DIR=/var/lib/phalanx STATIC_ROOT=/srv/static
RUN useradd --system --uid 10001 --home-dir /var/lib/phalanx phalanx \
    && install -d -o phalanx -g phalanx /var/lib/phalanx /srv/static
COPY --from=build /venv /venv
WORKDIR /srv/phalanx
COPY manage.py Procfile ./
COPY project project
COPY desk desk
COPY trading trading
COPY accounts accounts
COPY alerts alerts
COPY exchange exchange
COPY paper paper
# Pages are collected here, so that the running container writes only to VAR_DIR and /tmp.
RUN VAR_DIR=/tmp/build MODE=paper python manage.py collectstatic --noinput && rm -rf /tmp/build \
    && python -m compileall -q .
USER phalanx
STOPSIGNAL SIGTERM
CMD ["python", "-m", "project.web", "--host", "0.0.0.0"]
