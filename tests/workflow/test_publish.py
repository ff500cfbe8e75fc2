"""Copies of a run on a storage, through Snakemake's plugin, against an S3 on the loopback."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from project import Project

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_all_that_people_read_is_published(
    finished: Project, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="runs")
    config = (finished.folder / "workflow/configs/small.yaml").read_text()
    (finished.folder / "published.yaml").write_text(config + "publish: s3://runs/small\n")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", endpoint)
    done = finished.snakemake("published", "--configfile", "published.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    keys = {item["Key"] for item in client.list_objects_v2(Bucket="runs")["Contents"]}
    results = finished.folder / "results"
    tables = {path.relative_to(results) for path in results.glob("small/tables/*.parquet")}
    assert keys == {
        *map(str, tables),
        *(f"small/{name}" for name in ("manifests/nano-olmo.parquet", "costs.parquet")),
        "small/report.zip",
    }
    for key in keys:
        sent = client.get_object(Bucket="runs", Key=key)["Body"].read()
        assert sent == (results / key).read_bytes(), key
    with zipfile.ZipFile(results / "small/report.zip") as packed:
        packed.extractall(tmp_path)
    pages = results / "small/report"
    for page in pages.rglob("*.*"):
        assert (tmp_path / "report" / page.relative_to(pages)).read_bytes() == page.read_bytes()
    done = finished.snakemake("published", "--configfile", "published.yaml")
    assert "Nothing to be done" in done.stdout + done.stderr
