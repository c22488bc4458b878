# One image for the gateway, the worker and the migrations: only the command differs.
FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home agentidp \
    && install --directory --owner agentidp --mode 700 /exports
WORKDIR /app
COPY --from=build /venv /venv
COPY alembic alembic
COPY db db
COPY gateway gateway
COPY workers workers
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 PORT=8000 ENVIRONMENT=production
USER agentidp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
CMD ["python", "-m", "gateway"]
