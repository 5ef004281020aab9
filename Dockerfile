# The wheel is built in one image and installed in another, which has no compiler and no source. Everything that is
# installed stands in a lock with its hash; scripts/lock writes them.
FROM python:3.13-slim AS build
WORKDIR /src
COPY deploy/build.lock deploy/runtime.lock deploy/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r deploy/build.lock \
 && python -m venv /opt/qw \
 && /opt/qw/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r deploy/runtime.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheels \
 && /opt/qw/bin/pip install --no-cache-dir --no-deps --no-index /wheels/qw-*.whl

FROM python:3.13-slim
RUN groupadd --system --gid 10001 qw \
 && useradd --system --uid 10001 --gid qw --home-dir /var/lib/qw --create-home qw
COPY --from=build /opt/qw /opt/qw
COPY --chmod=755 deploy/livez /usr/local/bin/livez
ENV PATH=/opt/qw/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 QW_HOME=/var/lib/qw
USER 10001:10001
WORKDIR /var/lib/qw
# What a container with --read-only writes is here and in /tmp, for which it needs a tmpfs.
VOLUME /var/lib/qw
EXPOSE 3030
STOPSIGNAL SIGTERM
# Asks the daemon of this container, not the database: restarting does not help against a database that is away.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 CMD ["livez"]
ENTRYPOINT ["qw"]
CMD ["daemon"]
