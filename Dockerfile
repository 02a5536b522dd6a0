# The commands and the server on a CPU, at the versions and hashes that the tests run with.
#
#   docker build --build-arg TORCH_INDEX=URL -t sspl .
#
# URL is what the selector on pytorch.org prints behind --index-url for pip and CPU.
FROM python:3.11-slim AS build
ARG TORCH_INDEX
ENV PATH=/opt/sspl/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sspl
WORKDIR /build
COPY constraints.txt constraints-hashed.txt constraints-hashed-torch.txt ./
COPY tools/hashes.py tools/
RUN pip install --no-deps --index-url "${TORCH_INDEX:?give --build-arg TORCH_INDEX=URL}" \
    --report torch.json -c constraints.txt torch
COPY LICENSE README.md pyproject.toml setup.py ./
COPY src src
RUN pip install --report setuptools.json -c constraints.txt setuptools
RUN pip install --no-build-isolation --report packages.json -c constraints.txt '.[faces,export,serve]'
RUN for report in torch setuptools packages; do python tools/hashes.py --check $report.json || exit; done

FROM python:3.11-slim
COPY --from=build /opt/sspl /opt/sspl
ENV PATH=/opt/sspl/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 sspl
USER sspl
WORKDIR /home/sspl
EXPOSE 8000
# Of `serve`; any answer will do, also that another host name is asked for.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); exit(c.getresponse().status >= 500)"]
ENTRYPOINT ["sspl"]
CMD ["--help"]
