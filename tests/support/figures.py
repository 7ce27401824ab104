"""Services with metrics, and the metrics as Prometheus reads them."""

from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from webtest import TestApp

from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config


class Figures(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Parsed metrics: the value of each sample by its name and labels."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        super().__init__(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        )

    def get_sum(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels."""
        return sum(
            value
            for (other, pairs), value in self.items()
            if other == name and labels.items() <= dict(pairs).items()
        )


def counting_server(directory: Path, **settings: str | int) -> Server:
    """Start gunicorn with metrics."""
    workers = int(settings.pop("workers", 1))
    directory.mkdir(exist_ok=True)
    server = gunicorn(
        directory,
        workers=workers,
        WSGI_STORE_METRICS="on",
        **{key: str(value) for key, value in settings.items()},
    )
    server.expected.append(r"was sent SIGKILL")
    return server


def scrape(server: Server) -> Figures:
    """The metrics of a server."""
    with Connection(server.port) as connection:
        answer = connection.ask(message("GET", "/metrics"))
    assert answer.status == 200, answer
    assert answer.fields["content-type"].startswith("text/plain; version=")
    return Figures(answer.body.decode())


class Counting:
    """A service in this process, and the growth of its metrics since it was made."""

    def __init__(self, config: Config) -> None:
        self.api = TestApp(create_app(replace(config, metrics=MetricsAccess.ON)))
        self._before = self._look()

    def _look(self) -> Figures:
        return Figures(self.api.get("/metrics").text)

    def told(self, name: str) -> float:
        """The current value of a metric."""
        return self._look().get_sum(name)

    def grown(self, name: str, **labels: str) -> float:
        """The growth of a metric since the service was made."""
        return self._look().get_sum(name, **labels) - self._before.get_sum(name, **labels)
