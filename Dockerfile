# The image of every stage: `docker build -t fleetlake .`, then `docker run fleetlake stream` and so on.
FROM python:3.12-slim AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY runtime runtime
COPY connectors connectors
COPY streams streams
COPY sinks sinks
COPY alarm_service alarm_service
COPY simulators simulators
COPY sql_server sql_server
COPY ui ui
COPY fleetlake fleetlake
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data fleetlake && install -d -o fleetlake -g fleetlake /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 FLEETLAKE_PIPELINE__DATA=/data
USER fleetlake
WORKDIR /data
VOLUME /data
ENTRYPOINT ["fleetlake"]
CMD ["--help"]
