# The wheel is built in one image and installed in another, which has no compiler and no source.
FROM python:3.13-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir build
COPY . .
RUN python -m build --wheel --outdir /wheels
RUN python -m venv /opt/qw && /opt/qw/bin/pip install --no-cache-dir "$(echo /wheels/qw-*.whl)[data]"

FROM python:3.13-slim
RUN groupadd --system --gid 10001 qw \
 && useradd --system --uid 10001 --gid qw --home-dir /var/lib/qw --create-home qw
COPY --from=build /opt/qw /opt/qw
ENV PATH=/opt/qw/bin:$PATH PYTHONUNBUFFERED=1 QW_HOME=/var/lib/qw
USER 10001:10001
WORKDIR /var/lib/qw
VOLUME /var/lib/qw
EXPOSE 3030
STOPSIGNAL SIGTERM
# Asks the database, as what keeps a daemon from working is most often that
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=4 \
  CMD ["qw", "status", "-o", "json"]
ENTRYPOINT ["qw"]
CMD ["daemon"]
