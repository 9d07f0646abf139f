FROM python:3.12-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/chatserver
COPY . .
RUN /opt/chatserver/bin/pip install --no-cache-dir -c requirements.lock ".[embedded,tracing]"

FROM python:3.12-slim-bookworm
# The embedded MongoDB is linked with libcurl.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcurl4 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home chat \
    && install -d -m 0700 -o chat /data
COPY --from=build /opt/chatserver /opt/chatserver
ENV PATH=/opt/chatserver/bin:$PATH PYTHONUNBUFFERED=1 DATA_DIR=/data HOST=0.0.0.0
USER chat
WORKDIR /data
VOLUME /data
EXPOSE 3000 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD \
    ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', 3000)}/health\", timeout=2)"]
# A stop drains the clients, then finishes deliveries: give it DRAIN_S plus 15 s (docker stop --time 30).
# `docker run … chatserver relay` runs only a relay.
CMD ["chatserver", "serve"]
